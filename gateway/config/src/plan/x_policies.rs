//! The settings that the XBackendTrafficPolicy of a Service makes (GEP-3388, GEP-1619).

use sluicegate_model::session::{Carrier, Session, default_name};
use sluicegate_model::settings::Budget;

use super::compile::Compiler;
use super::policies::{best, rank};
use super::*;
use crate::object::{Body, CookieLifetime, RetryConstraint, SessionKind, SessionPersistence, XBackendTrafficPolicy, error};

/// The settings of an XBackendTrafficPolicy.
#[derive(Default)]
pub(super) struct Constraints {
    pub(super) budget: Option<Budget>,
    pub(super) session: Option<Session>,
}

impl<'a> Compiler<'a> {
    /// The policy that counts for a Service: the oldest, then the first by name (GEP-713).
    pub(super) fn x_backend_policy(&self, service: &Object) -> Option<(&'a Arc<Object>, &'a XBackendTrafficPolicy)> {
        let policies = self.policies("Service", &service.key.namespace, &service.key.name).filter_map(|object| match &object.body {
            Body::XBackendTrafficPolicy(policy) => Some((object, &**policy)),
            _ => None,
        });
        best(policies.filter_map(|(object, policy)| {
            let fits = policy.spec.target_refs.iter().any(|t| t.kind == "Service" && t.group.is_empty() && t.name == service.key.name);
            fits.then(|| (rank(object, 0), (object, policy)))
        }))
    }

    pub(super) fn constraints(&mut self, policy: Option<(&Arc<Object>, &XBackendTrafficPolicy)>, service: &ServiceRef) -> Constraints {
        let Some((object, policy)) = policy else { return Constraints::default() };
        let budget = policy.spec.retry_constraint.as_ref().map(budget);
        let session = policy.spec.session_persistence.as_ref().and_then(|given| {
            let made = session(given, service);
            if let Err(wrong) = &made {
                let path = "spec.sessionPersistence.sessionName";
                self.part.faults.push(error(&object.origin, &object.key, path, format!("{path}: {wrong}"), None));
            }
            made.ok()
        });
        Constraints { budget, session }
    }
}

fn budget(constraint: &RetryConstraint) -> Budget {
    let default = Budget::default();
    let RetryConstraint { budget, min_retry_rate } = constraint;
    Budget {
        percent: budget.percent.unwrap_or(default.percent),
        interval: budget.interval.map_or(default.interval, |interval| interval.0),
        // GEP-3388 has no limit of tries under way.
        least: u32::MAX,
        rate: (min_retry_rate.count.unwrap_or(default.rate.0), min_retry_rate.interval.map_or(default.rate.1, |interval| interval.0)),
    }
}

fn session(given: &SessionPersistence, service: &ServiceRef) -> Result<Session, String> {
    let name = given.session_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| default_name(&service.to_string()));
    let carrier = match given.kind {
        SessionKind::Header => Carrier::header(&name)?,
        SessionKind::Cookie => {
            let lifetime = given.cookie_config.as_ref().map(|config| config.lifetime_type);
            Carrier::cookie(name, lifetime == Some(CookieLifetime::Permanent))?
        }
    };
    // `0s` means that there is no limit, as in time-outs.
    Ok(Session { carrier, absolute: given.absolute_timeout.map(|time| time.0).filter(|time| !time.is_zero()), idle: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(given: serde_json::Value) -> Result<Session, String> {
        let given: SessionPersistence = serde_json::from_value(given).expect("read");
        session(&given, &ServiceRef { namespace: "a".to_owned(), name: "b".to_owned(), port: 80 })
    }

    #[test]
    fn a_session_is_what_the_policy_says() {
        let cookie = |name: &str, permanent| Carrier::Cookie { name: name.to_owned(), permanent };
        let hour = Some(Duration::from_secs(3_600));
        let given = serde_json::json!({"sessionName": "s", "absoluteTimeout": "1h", "cookieConfig": {"lifetimeType": "Permanent"}});
        assert_eq!(made(given), Ok(Session { carrier: cookie("s", true), absolute: hour, idle: None }));
        let own = made(serde_json::json!({"absoluteTimeout": "0s"})).expect("a session");
        assert!(matches!(&own.carrier, Carrier::Cookie { name, permanent: false } if name.starts_with("sluicegate-session-")));
        assert_eq!(own.absolute, None);
        let header = made(serde_json::json!({"type": "Header", "sessionName": "X-S"})).expect("a session");
        assert_eq!(Ok(header.carrier), Carrier::header("x-s"));
        assert!(made(serde_json::json!({"sessionName": "a b"})).is_err_and(|wrong| wrong.contains("\"a b\"")));
    }
}
