//! One order: from an account to a certificate, and what the CA says of when to renew one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, ExternalAccountKey, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use sluicegate_config::object::ours::{AcmeChallenge, AcmeIssuer, ExternalAccountBinding};
use sluicegate_model::tls::acme::{ALPN, Acme, Answered};
use sluicegate_model::tls::{Certificate, provider};
use sluicegate_model::unix::seconds;
use tokio::sync::Mutex;

use super::client::Client;
use super::kept::{Folder, Kept};
use super::problem::{Failure, Reason};
use super::schedule::Timing;

/// The largest file of a key, in bytes.
const LARGEST_KEY: u64 = 64 << 10;
/// How often a CA is asked how an order does: after this time, and then after half as much again each time, unless the CA says when.
const POLL: Duration = Duration::from_millis(250);

/// An issuer, as orders need it.
pub(crate) struct Issuer {
    pub(crate) given: AcmeIssuer,
    pub(crate) name: Arc<str>,
    /// Is held while an account is looked for and made, so that there is only one.
    account: Mutex<()>,
}

/// What all orders share.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) acme: Arc<Acme>,
    pub(crate) folder: Folder,
    pub(crate) timing: Timing,
}

/// A certificate that was issued, which is kept already.
pub(crate) struct Issued {
    pub(crate) kept: Kept,
    pub(crate) certificate: Arc<Certificate>,
}

impl Issuer {
    pub(crate) fn new(given: AcmeIssuer) -> Self {
        Self { name: given.name.as_str().into(), given, account: Mutex::default() }
    }

    fn client(&self, desk: &Desk) -> Result<Client, Failure> {
        Client::new(self.given.ca_file.as_deref().map(Path::new), desk.timing.request)
    }

    /// The account at the CA. Each order opens it anew, and so asks for the CA's directory of today.
    async fn account(&self, client: &Client, desk: &Desk) -> Result<Account, Failure> {
        let _alone = self.account.lock().await;
        let (folder, name, directory) = (desk.folder.clone(), self.name.clone(), self.given.directory.clone());
        let builder = || Account::builder_with_http(Box::new(client.clone()));
        let known = blocking(move || folder.load_account(&name, &directory)).await?;
        if let Some(known) = known {
            return Ok(builder().from_credentials(known).await?);
        }
        let contact = self.given.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let agreed = self.given.terms_of_service_agreed;
        let account = NewAccount { contact: &contact, terms_of_service_agreed: agreed, only_return_existing: false };
        let external = self.given.external_account_binding.as_ref().map(external).transpose()?;
        let (account, credentials) = builder().create(&account, self.given.directory.clone(), external.as_ref()).await?;
        tracing::info!(issuer = &*self.name, directory = self.given.directory, "an account was made at an ACME CA");
        let (folder, name, directory) = (desk.folder.clone(), self.name.clone(), self.given.directory.clone());
        stored(blocking(move || folder.save_account(&name, &directory, credentials)).await?)?;
        Ok(account)
    }

    /// The ways in which a name is validated, the one for the attempt with this number first.
    fn challenges(&self, attempt: u32) -> Vec<AcmeChallenge> {
        let mut ways = self.given.challenges.clone().unwrap_or_else(|| AcmeChallenge::ALL.to_vec());
        let by = attempt as usize % ways.len().max(1);
        ways.rotate_left(by);
        ways
    }

    /// Orders a certificate for a name, in the place of one that is there. `attempt`: how many orders for it have failed in a row.
    pub(crate) async fn order(&self, name: &str, replaced: Option<&Kept>, attempt: u32, desk: &Desk) -> Result<Issued, Failure> {
        let client = self.client(desk)?;
        let made = tokio::time::timeout(desk.timing.order, self.place(name, replaced, attempt, &client, desk)).await;
        let made = made.unwrap_or_else(|_| Err(Failure::new(Reason::Timeout, "the order was not done in time")));
        made.map_err(|failure| failure.after(client.wait()))
    }

    async fn place(&self, name: &str, replaced: Option<&Kept>, attempt: u32, client: &Client, desk: &Desk) -> Result<Issued, Failure> {
        let account = self.account(client, desk).await?;
        let identifiers = [Identifier::Dns(name.to_owned())];
        let mut order = match self.new_order(&account, &identifiers, replaced).await {
            Ok(order) => order,
            Err(error) => {
                if Failure::is(&error, "accountDoesNotExist") {
                    let (folder, name) = (desk.folder.clone(), self.name.clone());
                    stored(blocking(move || folder.remove_account(&name)).await?)?;
                }
                return Err(error.into());
            }
        };
        self.validate(&mut order, name, attempt, desk).await?;
        let key = KeyPair::generate().map_err(made)?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(made)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(made)?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&polls(desk)).await?;
        let kept = Kept::new(name.to_owned(), self.given.directory.clone(), chain, key.serialize_pem());
        let certificate = self.examine(&kept)?;
        let (folder, issuer, saved) = (desk.folder.clone(), self.name.clone(), kept.clone());
        if let Err(failure) = stored(blocking(move || folder.save(&issuer, &saved)).await?) {
            // It is served nevertheless: the CA has counted it.
            tracing::warn!(
                issuer = &*self.name,
                name,
                error = failure.message,
                "an issued certificate could not be kept; a restart orders another one"
            );
        }
        Ok(Issued { kept, certificate: Arc::new(certificate) })
    }

    async fn new_order(&self, account: &Account, names: &[Identifier], replaced: Option<&Kept>) -> Result<Order, Error> {
        let order = || match self.given.profile.as_deref() {
            None => NewOrder::new(names),
            Some(profile) => NewOrder::new(names).profile(profile),
        };
        // RFC 9773 §5: a CA may spare renewals its rate limits. What cannot be replaced, as it was already, is ordered like a new one.
        if let Some(id) = replaced.filter(|kept| kept.directory == self.given.directory).and_then(identify) {
            match account.new_order(&order().replaces(id)).await {
                Err(Error::Unsupported(_)) => {}
                Err(error @ Error::Api(_)) if !is_about_replacing(&error) => return Err(error),
                Err(Error::Api(_)) => {}
                other => return other,
            }
        }
        account.new_order(&order()).await
    }

    /// Has the CA validate the name, and waits until the order is ready.
    async fn validate(&self, order: &mut Order, name: &str, attempt: u32, desk: &Desk) -> Result<(), Failure> {
        let mut answered: Vec<Answered> = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                other => {
                    return Err(Failure::new(Reason::NotValidated, format!("the CA has an authorization of the name that is {other:?}")));
                }
            }
            let offered = |way: &AcmeChallenge| authorization.challenges.iter().any(|challenge| challenge.r#type == kind(*way));
            let Some(way) = self.challenges(attempt).into_iter().find(offered) else {
                return Err(Failure::new(Reason::NotValidated, "the CA offers none of the challenges that the issuer may use"));
            };
            let Some(mut challenge) = authorization.challenge(kind(way)) else { continue };
            let authorization = challenge.key_authorization();
            answered.push(match way {
                AcmeChallenge::Http01 => desk.acme.answer_http(name, &challenge.token, authorization.as_str()),
                AcmeChallenge::TlsAlpn01 => desk.acme.answer_tls(name, &proof(name, authorization.digest().as_ref())?),
            });
            tracing::debug!(issuer = &*self.name, name, challenge = ?way, "the CA is told that its challenge is answered");
            challenge.set_ready().await?;
        }
        match order.poll_ready(&polls(desk)).await? {
            OrderStatus::Ready => Ok(()),
            status => Err(refusal(order).await.unwrap_or_else(|| Failure::new(Reason::Refused, format!("the order is {status:?}")))),
        }
    }

    fn examine(&self, kept: &Kept) -> Result<Certificate, Failure> {
        let wrong = |what: String| Failure::new(Reason::BadCertificate, what);
        let certificate = kept.certificate(&self.name).map_err(|error| wrong(error.to_string()))?;
        if certificate.fits(&kept.name) < 2 {
            return Err(wrong(format!("the CA has issued a certificate for {:?}", certificate.names())));
        }
        if certificate.not_after() <= i64::try_from(seconds()).unwrap_or(i64::MAX) {
            return Err(wrong("the CA has issued a certificate that has run out; is the clock of this machine right?".to_owned()));
        }
        Ok(certificate)
    }

    /// When the CA suggests to renew a certificate (RFC 9773 §4): the beginning and end of a window, in seconds since 1970, and after how much time to ask
    /// again. `None`: the CA suggests nothing.
    pub(crate) async fn suggested(&self, kept: &Kept, desk: &Desk) -> Result<Option<(i64, i64, Duration)>, Failure> {
        let Some(id) = Some(kept).filter(|kept| kept.directory == self.given.directory).and_then(identify) else { return Ok(None) };
        let client = self.client(desk)?;
        let account = self.account(&client, desk).await?;
        match account.renewal_info(&id).await {
            Ok((info, again)) => {
                let window = info.suggested_window;
                Ok(Some((window.start.unix_timestamp(), window.end.unix_timestamp(), again)))
            }
            Err(Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(Failure::from(error).after(client.wait())),
        }
    }
}

fn is_about_replacing(error: &Error) -> bool {
    // A CA that does not find the certificate, or finds it replaced, says so in one of these ways (RFC 9773 §5).
    ["alreadyReplaced", "malformed", "conflict", "unauthorized"].iter().any(|type_| Failure::is(error, type_))
}

/// Why a CA holds an order invalid: what it says of the challenges.
async fn refusal(order: &mut Order) -> Option<Failure> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let authorization = authorization.refresh().await.ok()?;
        let error = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = error {
            return Some(Failure { reason: Reason::NotValidated, ..Failure::of(problem) });
        }
    }
    None
}

fn polls(desk: &Desk) -> RetryPolicy {
    RetryPolicy::new().initial_delay(POLL).backoff(1.5).timeout(desk.timing.order)
}

fn kind(way: AcmeChallenge) -> ChallengeType {
    match way {
        AcmeChallenge::Http01 => ChallengeType::Http01,
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

/// The TLS configuration that answers a challenge of the type TLS-ALPN-01 (RFC 8737 §3): a certificate that its own key has signed, for this one name, with the
/// digest of the key authorization in it.
fn proof(name: &str, digest: &[u8]) -> Result<Arc<ServerConfig>, Failure> {
    let key = KeyPair::generate().map_err(made)?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(made)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(made)?;
    let config = ServerConfig::builder_with_provider(provider().clone()).with_safe_default_protocol_versions().map_err(made)?;
    let key = provider().key_provider.load_private_key(PrivatePkcs8KeyDer::from(key.serialize_der()).into()).map_err(made)?;
    // `with_single_cert` would refuse it, as it does not know the critical extension.
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate.der().clone()], key));
    let mut config = config.with_no_client_auth().with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
    // No session of it is resumed.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The name by which a CA knows a certificate that it has issued (RFC 9773 §4.1).
fn identify(kept: &Kept) -> Option<CertificateIdentifier<'static>> {
    let certificate = kept.certificate("").ok()?;
    CertificateIdentifier::try_from(certificate.key().cert.first()?).ok().map(CertificateIdentifier::into_owned)
}

fn external(given: &ExternalAccountBinding) -> Result<ExternalAccountKey, Failure> {
    let wrong = |what: String| Failure::new(Reason::Storage, format!("externalAccountBinding.keyFile {}: {what}", given.key_file));
    let text = sluicegate_control::acme::read(Path::new(&given.key_file), LARGEST_KEY).map_err(|error| wrong(error.to_string()))?;
    let text = text.trim_ascii();
    // Some CAs show it with padding.
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let key = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong("it is not base64url (RFC 4648 §5)".to_owned()))?;
    Ok(ExternalAccountKey::new(given.key_id.clone(), &key))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::new(Reason::Storage, error.to_string()))
}

fn stored(outcome: std::io::Result<()>) -> Result<(), Failure> {
    outcome.map_err(|error| Failure::new(Reason::Storage, format!("the state folder: {error}")))
}

fn made(error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::BadCertificate, format!("no key or request could be made: {error}"))
}
