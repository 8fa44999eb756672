//! Certificates that a listener asks an ACME issuer for, by the option [`OPTION`] of its `tls.options`: the names, and what is wrong with the request.
//!
//! The names are those of the listener and of the routes that are attached to it, never what clients ask for. Each gets a certificate of its own, so that a
//! route whose name the CA refuses costs no other route its certificate.

use sluicegate_model::tls::acme::Ask;

use super::compile::Compiler;
use super::gateways::Holder;
use super::references::{Referent, Refused};
use super::routes::Attached;
use super::*;
use crate::object::{error, warning};

/// The option by which a listener names an issuer.
pub const OPTION: &str = "sluicegate.dev/acme-issuer";
/// What the keys of this gateway's options begin with.
const OURS: &str = "sluicegate.dev/";

/// The issuers of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcmeIssuers {
    /// The issuers of these names.
    Named(Vec<String>),
    /// There are none, as objects come from an API server: many gateways serve them, and each would order certificates for itself.
    InCluster,
}

impl Default for AcmeIssuers {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

/// The host names that can be validated, and those that cannot.
#[derive(Default)]
struct Names {
    exact: BTreeSet<String>,
    wildcards: BTreeSet<String>,
}

impl Names {
    /// Those of a listener, or else of the routes that are attached to it.
    fn of(hostname: Option<&str>, routes: &[Attached]) -> Self {
        let mut names = Self::default();
        match hostname.filter(|hostname| !hostname.starts_with('*')) {
            Some(exact) => _ = names.exact.insert(exact.to_owned()),
            None => routes.iter().flat_map(|(_, hostnames)| hostnames.iter()).for_each(|name| {
                let names = if name.starts_with('*') { &mut names.wildcards } else { &mut names.exact };
                names.insert(name.clone());
            }),
        }
        names
    }

    /// Drops those for which one of these certificates is there.
    fn without(mut self, given: &[Arc<Certificate>]) -> Self {
        self.exact.retain(|name| given.iter().all(|certificate| certificate.fits(name) == 0));
        self.wildcards.retain(|name| given.iter().all(|certificate| !certificate.names().contains(name)));
        self
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }
}

/// The issuer that a listener names.
pub(super) fn issuer<'l>(holder: Holder<'l>, i: usize) -> Option<&'l str> {
    holder.listeners.get(i)?.tls.as_ref()?.options.as_ref()?.get(OPTION).map(String::as_str)
}

impl Compiler<'_> {
    /// What the listener with index `i` asks an issuer for, besides the certificates that are given. None: nothing.
    pub(super) fn acme(
        &mut self,
        holder: Holder<'_>,
        i: usize,
        routes: &[Attached],
        hostname: Option<&str>,
        given: &[Arc<Certificate>],
    ) -> Option<Arc<Ask>> {
        let (object, path) = (holder.object, format!("spec.listeners[{i}].tls.options"));
        self.unknown_options(holder, i, &path);
        let issuer = issuer(holder, i)?;
        let refusal = match &self.settings.acme {
            AcmeIssuers::Named(names) if names.iter().any(|name| name == issuer) => None,
            AcmeIssuers::Named(names) => {
                let hint = match names.as_slice() {
                    [] => "acme.issuers of the SluicegateConfiguration, which has none".to_owned(),
                    names => format!("one of: {}", names.join(", ")),
                };
                Some((format!("Not found: {issuer:?}: there is no such issuer in acme.issuers"), hint))
            }
            AcmeIssuers::InCluster => Some((
                "certificates by ACME are for gateways whose objects come of files; in a cluster each gateway would order its own"
                    .to_owned(),
                "certificateRefs with a Secret, which cert-manager orders and renews".to_owned(),
            )),
        };
        if let Some((what, hint)) = refusal {
            let message = format!("{path}[{OPTION}]: {what}");
            self.part.faults.push(error(&object.origin, &object.key, &path, message.clone(), Some(hint)));
            self.refused.push(Refused { of: Referent::Certificate, refusal: Refusal::new(Reason::InvalidCertificateRef, message) });
            return None;
        }
        let all = Names::of(hostname, routes);
        if all.is_empty() {
            let what = "no certificate is ordered: neither the listener nor a route that is attached to it has an exact host name";
            let hint = Some("hostname of the listener, or hostnames of its routes".to_owned());
            self.part.faults.push(warning(&object.origin, &object.key, &path, format!("{path}[{OPTION}]: {what}"), hint));
        }
        let names = all.without(given);
        if !names.wildcards.is_empty() {
            let wildcards = names.wildcards.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let what = format!("no certificate is ordered for {wildcards}: HTTP-01 and TLS-ALPN-01 do not validate wildcards");
            let hint = Some("exact host names; or a Secret in certificateRefs, which may come from DNS-01".to_owned());
            self.part.faults.push(warning(&object.origin, &object.key, &path, format!("{path}[{OPTION}]: {what}"), hint));
        }
        if names.exact.is_empty() {
            return None;
        }
        Some(Arc::new(Ask {
            issuer: issuer.into(),
            names: names.exact.into_iter().collect(),
            object: object.key.to_string(),
            listener: holder.listeners.get(i).map(|listener| listener.name.clone()).unwrap_or_default(),
            place: Some(object.origin.place(&path)),
        }))
    }

    /// Warns of options that look like this gateway's and are not.
    fn unknown_options(&mut self, holder: Holder<'_>, i: usize, path: &str) {
        let options = holder.listeners.get(i).and_then(|listener| listener.tls.as_ref()?.options.as_ref());
        let unknown = options.into_iter().flat_map(|options| options.keys()).filter(|key| key.starts_with(OURS) && *key != OPTION);
        for key in unknown {
            let (object, message) = (holder.object, format!("{path}[{key}]: Unsupported value: this gateway has no such option"));
            self.part.faults.push(warning(&object.origin, &object.key, path, message, Some(OPTION.to_owned())));
        }
    }
}
