//! The fields of `wasi:http`: header and trailer fields, bounded in size.

use http::header::{CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use wasmtime::component::Resource;

use super::Wasi;
use crate::bindings::discovery::wasi::http::types::{HeaderError, HostFields};

/// The largest size of all names and values together, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Fields of a request, a response or a guest's own making.
#[derive(Clone, Default)]
pub struct Fields {
    pub(super) map: HeaderMap,
    /// Whether they cannot be changed, as those of a request or response.
    pub(super) immutable: bool,
    bytes: usize,
}

impl Fields {
    pub(super) fn of(map: HeaderMap) -> Self {
        let bytes = map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        Self { map, immutable: true, bytes }
    }

    fn append(&mut self, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        if self.immutable {
            return Err(HeaderError::Immutable);
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderError::InvalidSyntax)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| HeaderError::InvalidSyntax)?;
        // Framing, the connection and the host are the gateway's to set.
        let ours = [CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE];
        if ours.contains(&name) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings") {
            return Err(HeaderError::Forbidden);
        }
        let bytes = self.bytes + name.as_str().len() + value.len();
        if bytes > MAX_BYTES || self.map.try_append(name, value).is_err() {
            return Err(HeaderError::Forbidden);
        }
        self.bytes = bytes;
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), HeaderError> {
        if self.immutable {
            return Err(HeaderError::Immutable);
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderError::InvalidSyntax)?;
        let gone: usize = self.map.get_all(&name).iter().map(|value| name.as_str().len() + value.len()).sum();
        self.bytes -= gone;
        self.map.remove(&name);
        Ok(())
    }
}

impl HostFields for Wasi {
    fn new(&mut self) -> wasmtime::Result<Resource<Fields>> {
        Ok(self.table.push(Fields::default())?)
    }

    fn from_list(&mut self, entries: Vec<(String, Vec<u8>)>) -> wasmtime::Result<Result<Resource<Fields>, HeaderError>> {
        let mut fields = Fields::default();
        for (name, value) in entries {
            if let Err(error) = fields.append(&name, &value) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(self.table.push(fields)?))
    }

    fn get(&mut self, fields: Resource<Fields>, name: String) -> wasmtime::Result<Vec<Vec<u8>>> {
        let fields = self.table.get(&fields)?;
        Ok(fields.map.get_all(&name).iter().map(|value| value.as_bytes().to_vec()).collect())
    }

    fn has(&mut self, fields: Resource<Fields>, name: String) -> wasmtime::Result<bool> {
        Ok(self.table.get(&fields)?.map.contains_key(&name))
    }

    fn set(&mut self, fields: Resource<Fields>, name: String, values: Vec<Vec<u8>>) -> wasmtime::Result<Result<(), HeaderError>> {
        let fields = self.table.get_mut(&fields)?;
        let mut changed = fields.clone();
        let set = changed.remove(&name).and_then(|()| values.iter().try_for_each(|value| changed.append(&name, value)));
        if set.is_ok() {
            *fields = changed;
        }
        Ok(set)
    }

    fn delete(&mut self, fields: Resource<Fields>, name: String) -> wasmtime::Result<Result<(), HeaderError>> {
        Ok(self.table.get_mut(&fields)?.remove(&name))
    }

    fn append(&mut self, fields: Resource<Fields>, name: String, value: Vec<u8>) -> wasmtime::Result<Result<(), HeaderError>> {
        Ok(self.table.get_mut(&fields)?.append(&name, &value))
    }

    fn entries(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Vec<(String, Vec<u8>)>> {
        let fields = self.table.get(&fields)?;
        Ok(fields.map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect())
    }

    fn clone(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Resource<Fields>> {
        let fields = Fields { immutable: false, ..self.table.get(&fields)?.clone() };
        Ok(self.table.push(fields)?)
    }

    fn drop(&mut self, fields: Resource<Fields>) -> wasmtime::Result<()> {
        self.table.delete(fields)?;
        Ok(())
    }
}
