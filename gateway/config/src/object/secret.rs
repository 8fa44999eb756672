//! Secrets: their fields, and the certificate of a Secret of type `kubernetes.io/tls`, which is read once for each version of the object.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use sluicegate_model::tls::{Certificate, Wrong};

/// The type of Secrets that hold a certificate.
pub const TLS_TYPE: &str = "kubernetes.io/tls";

/// A Secret.
#[derive(Deserialize)]
#[serde(from = "v1::Secret")]
pub struct Secret {
    metadata: ObjectMeta,
    name: String,
    type_: Option<String>,
    data: BTreeMap<String, ByteString>,
    certificate: OnceLock<Result<Arc<Certificate>, Wrong>>,
}

impl From<v1::Secret> for Secret {
    /// `stringData` counts before `data`, as an API server merges them.
    fn from(given: v1::Secret) -> Self {
        let mut data = given.data.unwrap_or_default();
        data.extend(given.string_data.into_iter().flatten().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        let meta = given.metadata;
        let name = format!("{}/{}", meta.namespace.as_deref().unwrap_or("default"), meta.name.as_deref().unwrap_or_default());
        Self { metadata: meta, name, type_: given.type_, data, certificate: OnceLock::new() }
    }
}

impl Secret {
    /// The Secret's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    /// The Secret's type: `Opaque` unless it names another.
    pub fn type_(&self) -> &str {
        self.type_.as_deref().unwrap_or("Opaque")
    }

    /// The content of a field.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.data.get(name).map(|bytes| bytes.0.as_slice())
    }

    /// The certificate and its key, or what is wrong with them.
    pub fn certificate(&self) -> Result<&Arc<Certificate>, &Wrong> {
        let read = || {
            let field = |name| self.field(name).ok_or_else(|| Wrong { field: name, what: "Required value".to_owned() });
            Certificate::from_pem(&self.name, field("tls.crt")?, field("tls.key")?).map(Arc::new)
        };
        self.certificate.get_or_init(read).as_ref()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}", self.name)
    }
}
