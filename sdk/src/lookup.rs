//! Look-ups of host names, for discovery plugins.

use std::net::IpAddr;

use crate::http::Error;

/// Returns the addresses of a host. Its name must be among the `Plugin` object's `capabilities.allowedHosts`, with or without a port. An address is returned as
/// it is. Natively, [`testing::resolves`](crate::testing::resolves) says what is found.
///
/// # Errors
/// The host may not be looked up, or has no addresses.
#[cfg(target_arch = "wasm32")]
pub fn resolve(host: &str) -> Result<Vec<IpAddr>, Error> {
    use crate::bindings::discovery::wasi::sockets::instance_network::instance_network;
    use crate::bindings::discovery::wasi::sockets::ip_name_lookup::resolve_addresses;
    use crate::bindings::discovery::wasi::sockets::network::{ErrorCode, IpAddress};
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let error = |code| match code {
        ErrorCode::AccessDenied => Error::Refused(host.to_owned()),
        ErrorCode::NewSocketLimit => Error::Busy,
        _ => Error::Unresolved(host.to_owned()),
    };
    let stream = resolve_addresses(&instance_network(), host).map_err(error)?;
    stream.subscribe().block();
    let mut found = Vec::new();
    while let Some(address) = stream.resolve_next_address().map_err(error)? {
        found.push(match address {
            IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
            IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
        });
    }
    Ok(found)
}

/// Returns the addresses of a host, as [`testing::resolves`](crate::testing::resolves) has them.
///
/// ```
/// use sluicegate_sdk::{http::Error, resolve};
/// assert_eq!(resolve("127.0.0.1").unwrap(), [std::net::IpAddr::from([127, 0, 0, 1])]);
/// assert_eq!(resolve("nowhere.example"), Err(Error::Unresolved("nowhere.example".into())));
/// ```
///
/// # Errors
/// The host has no addresses.
#[cfg(not(target_arch = "wasm32"))]
pub fn resolve(host: &str) -> Result<Vec<IpAddr>, Error> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    crate::testing::resolved(host)
}
