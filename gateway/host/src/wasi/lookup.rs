//! `wasi:sockets`, of which only the look-up of names exists. The name must be among the plugin's allowed hosts, whatever the port, as a look-up carries data
//! out, too.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::egress::Network as Reach;
use super::{Wasi, Work};
use crate::bindings::discovery::wasi::sockets::network::{self, ErrorCode, IpAddress};
use crate::bindings::discovery::wasi::sockets::{instance_network, ip_name_lookup};

/// How long one look-up may take. The resolver's own time-out is often longer.
pub(super) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest number of addresses of one name; further ones are left out.
const MAX_ADDRESSES: usize = 256;

/// The network, of which there is one. It can only look up names.
pub struct Network;

/// The addresses of a name, once they have come.
pub struct Addresses {
    work: Option<Work<Result<VecDeque<IpAddr>, ErrorCode>>>,
    found: Result<VecDeque<IpAddr>, ErrorCode>,
}

impl Addresses {
    fn take(&mut self, ended: Option<Result<VecDeque<IpAddr>, ErrorCode>>) {
        self.work = None;
        self.found = ended.unwrap_or(Err(ErrorCode::Unknown));
    }
}

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        if let Some(work) = &mut self.work {
            let ended = work.ended().await;
            self.take(ended);
        }
    }
}

/// Looks a name up, within [`LOOKUP_TIMEOUT`].
pub(super) async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, ErrorCode> {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    match tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port))).await {
        Err(_) => Err(ErrorCode::Timeout),
        Ok(Err(_)) => Err(ErrorCode::NameUnresolvable),
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
            if found.is_empty() { Err(ErrorCode::NameUnresolvable) } else { Ok(found) }
        }
    }
}

impl network::Host for Wasi {}

impl network::HostNetwork for Wasi {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl instance_network::Host for Wasi {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<Network>> {
        Ok(self.table.push(Network)?)
    }
}

impl ip_name_lookup::Host for Wasi {
    fn resolve_addresses(&mut self, _: Resource<Network>, name: String) -> wasmtime::Result<Result<Resource<Addresses>, ErrorCode>> {
        if self.egress.network == Reach::Offline {
            self.kept_offline = true;
            return Ok(Err(ErrorCode::AccessDenied));
        }
        if !self.egress.may_look_up(&name) {
            self.refusals.tell(format!("a look-up of {name:?}, which is not among the plugin's capabilities.allowedHosts"));
            return Ok(Err(ErrorCode::AccessDenied));
        }
        let Ok(permit) = self.connections.clone().try_acquire_owned() else { return Ok(Err(ErrorCode::NewSocketLimit)) };
        let work = Work::spawn(async move {
            let _permit = permit;
            // Each address counts once, whatever kinds of sockets the resolver lists it for.
            let mut addresses = VecDeque::new();
            for found in look_up(&name, 0).await? {
                if !addresses.contains(&found.ip()) {
                    addresses.push_back(found.ip());
                }
            }
            Ok(addresses)
        });
        Ok(Ok(self.table.push(Addresses { work: Some(work), found: Ok(VecDeque::new()) })?))
    }
}

impl ip_name_lookup::HostResolveAddressStream for Wasi {
    fn resolve_next_address(&mut self, stream: Resource<Addresses>) -> wasmtime::Result<Result<Option<IpAddress>, ErrorCode>> {
        let addresses = self.table.get_mut(&stream)?;
        if let Some(work) = &mut addresses.work {
            match work.poll() {
                Some(ended) => addresses.take(ended),
                None => return Ok(Err(ErrorCode::WouldBlock)),
            }
        }
        Ok(match &mut addresses.found {
            Err(code) => Err(*code),
            Ok(left) => Ok(left.pop_front().map(lower)),
        })
    }

    fn subscribe(&mut self, stream: Resource<Addresses>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, stream)
    }

    fn drop(&mut self, stream: Resource<Addresses>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

fn lower(ip: IpAddr) -> IpAddress {
    match ip {
        IpAddr::V4(ip) => IpAddress::Ipv4(ip.octets().into()),
        IpAddr::V6(ip) => IpAddress::Ipv6(ip.segments().into()),
    }
}
