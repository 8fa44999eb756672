//! What becomes of TLS, by its server name; and whether TLS is spoken with endpoints.

use sluicegate_model::snapshot::{EndpointTls, Hosts, ServicePort, TlsHost};
use sluicegate_model::tls::{Demand, Verify};

use super::{Asked, End, Story};

/// Explains by the server name that a client would ask for, which is the URL's host.
pub(super) fn explain<'h>(asked: &Asked, hosts: &'h Hosts<TlsHost>, story: &mut Story) -> Result<&'h TlsHost, End> {
    let found = hosts.find(&asked.host);
    let found = found.ok_or_else(|| End(format!("no handshake: no host name of this listener takes the server name {:?}", asked.host)))?;
    let name = found.hostname.as_deref().unwrap_or("*");
    story.say("host", format!("server name {:?} is taken by {name:?}, of {} here", asked.host, hosts.iter().len()));
    let Some(server) = found.server() else {
        story.say("tls", "passed through to the endpoint as it is");
        return Ok(found);
    };
    let settings = &server.settings;
    if server.config.is_none() {
        return Err(End("no handshake: the listener has no usable certificate, or no authorities for its clients'".to_owned()));
    }
    story.say("tls", format!("ended here: {}", settings.versions));
    for certificate in &settings.certificates {
        let fits = if certificate.fits(&asked.host) > 0 { "" } else { ", which do not fit the name" };
        story.say("", format!("Secret {}, for {}{fits}", certificate.from(), certificate.names().join(", ")));
    }
    if let Some(acme) = &server.acme {
        if settings.certificates.is_empty() && !acme.asks_for(&asked.host) {
            return Err(End(format!("no handshake: no certificate is ordered for the server name {:?}", asked.host)));
        }
        story.say("", format!("the ACME issuer {:?} is asked for {}", acme.ask.issuer, acme.ask.names.join(", ")));
    }
    match settings.client.as_ref().map(|c| c.demand) {
        None => {}
        Some(Demand::Required) => story.say("", "the client must show a certificate"),
        Some(Demand::Optional) => story.say("", "the client may show a certificate"),
        Some(Demand::Fallback) => story.say("", "the client may show a certificate; a bad one counts as none"),
    }
    Ok(found)
}

/// How TLS is spoken with a service's endpoints, if it is.
pub(super) fn endpoints(service: &ServicePort, story: &mut Story) {
    match &service.tls {
        EndpointTls::Off => {}
        EndpointTls::On(tls) => {
            let name = tls.settings.sni.as_ref().map_or("no server name", |name| name.as_ref());
            let verified = match &tls.settings.verify {
                Verify::Signed { names, .. } if names.is_empty() => "verified by that name",
                Verify::Signed { .. } => "verified by subjectAltNames",
                Verify::Nothing => "not verified",
            };
            story.say("tls", format!("to endpoints: {name}, {verified}"));
        }
        EndpointTls::Untold => {
            story.say("tls", "to endpoints: nobody says how to verify them; only clients' own TLS goes there (502 endpoint-tls)")
        }
        EndpointTls::Broken => story.say("tls", "to endpoints: its rules are broken, and nothing goes there (502 endpoint-tls)"),
    }
}
