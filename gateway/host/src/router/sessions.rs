//! Session persistence of rules. The contract's record of a rule has no place for it, so it is read from the configuration itself, where that has a
//! list `rules` in the order of the table's, as `rules` has, once the router has taken it.

use serde::Deserialize;
use sluicegate_model::duration;
use sluicegate_model::route::Rule;
use sluicegate_model::session::{Carrier, Session, default_name};

const FIELD: &str = "\"sessionPersistence\"";

#[derive(Deserialize)]
struct Config {
    rules: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    session_persistence: Option<Persistence>,
}

/// HTTPRoute's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Persistence {
    session_name: Option<String>,
    absolute_timeout: Option<String>,
    idle_timeout: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    cookie_config: Option<CookieConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CookieConfig {
    lifetime_type: Option<String>,
}

/// Adds what one element of the configuration's list says of sessions to its rule.
pub(crate) fn add_to(rule: &mut Rule, written: &str) -> Result<(), String> {
    // Most have none, and are not read once more.
    let read = || serde_json::from_str::<Written>(written).ok()?.session_persistence;
    if let Some(session) = written.contains(FIELD).then(read).flatten() {
        rule.session = Some(Box::new(session.of(rule)?));
    }
    Ok(())
}

/// Adds what the configuration says of sessions to the rules.
pub(crate) fn add(config: &str, rules: &mut [Rule]) -> Result<(), String> {
    if !config.contains(FIELD) {
        return Ok(());
    }
    let Some(written) = serde_json::from_str::<Config>(config).ok().filter(|config| config.rules.len() == rules.len()) else {
        return Ok(());
    };
    for (i, (rule, written)) in rules.iter_mut().zip(written.rules).enumerate() {
        let session = written.session_persistence.map(|session| session.of(rule)).transpose();
        rule.session = session.map_err(|error| format!("rules[{i}].sessionPersistence: {error}"))?.map(Box::new);
    }
    Ok(())
}

impl Persistence {
    fn of(self, rule: &Rule) -> Result<Session, String> {
        let own = || {
            let services: Vec<String> = rule.backends.iter().map(|backend| backend.service.to_string()).collect();
            default_name(&services.join(" "))
        };
        let name = self.session_name.unwrap_or_else(own);
        let carrier = match self.kind.as_deref() {
            None | Some("Cookie") => {
                let permanent = self.cookie_config.and_then(|config| config.lifetime_type).is_some_and(|kind| kind == "Permanent");
                Carrier::cookie(name, permanent)?
            }
            Some("Header") => Carrier::header(&name)?,
            Some(other) => return Err(format!("the type {other:?} is neither Cookie nor Header")),
        };
        let time =
            |text: Option<String>| text.map(|text| duration::parse(&text).ok_or_else(|| format!("{text:?} is not a duration"))).transpose();
        // `0s` is no limit, as in time-outs.
        let (absolute, idle) = (time(self.absolute_timeout)?, time(self.idle_timeout)?);
        Ok(Session { carrier, absolute: absolute.filter(|time| !time.is_zero()), idle: idle.filter(|time| !time.is_zero()) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use http::HeaderName;

    use super::*;

    fn of(session: &str) -> Result<Option<Session>, String> {
        let mut rules = [Rule::default(), Rule::default()];
        add(&format!("{{\"rules\": [{{}}, {{\"sessionPersistence\": {session}}}]}}"), &mut rules)?;
        assert_eq!(rules[0].session, None);
        let mut alone = Rule::default();
        add_to(&mut alone, &format!("{{\"sessionPersistence\": {session}}}"))?;
        assert_eq!(alone.session, rules[1].session);
        Ok(rules[1].session.take().map(|session| *session))
    }

    #[test]
    fn sessions_are_read_from_the_configuration() {
        let cookie = |name: &str, permanent| Carrier::Cookie { name: name.to_owned(), permanent };
        let seconds = |n| Some(Duration::from_secs(n));
        let plain = of("{}").unwrap().unwrap();
        assert!(matches!(&plain.carrier, Carrier::Cookie { name, permanent: false } if name.starts_with("sluicegate-session-")));
        assert_eq!((plain.absolute, plain.idle), (None, None));
        let full = of("{\"sessionName\": \"s\", \"absoluteTimeout\": \"1h30m\", \"idleTimeout\": \"10s\", \
                       \"cookieConfig\": {\"lifetimeType\": \"Permanent\"}}");
        assert_eq!(full, Ok(Some(Session { carrier: cookie("s", true), absolute: seconds(5_400), idle: seconds(10) })));
        let header = of("{\"type\": \"Header\", \"sessionName\": \"X-Session\", \"idleTimeout\": \"0s\"}");
        assert_eq!(
            header,
            Ok(Some(Session { carrier: Carrier::Header(HeaderName::from_static("x-session")), absolute: None, idle: None }))
        );
        assert_eq!(of("null"), Ok(None));
        for wrong in [
            "{\"type\": \"Header\", \"sessionName\": \"a b\"}",
            "{\"sessionName\": \"a b\"}",
            "{\"type\": \"Query\"}",
            "{\"idleTimeout\": \"soon\"}",
        ] {
            assert!(of(wrong).unwrap_err().starts_with("rules[1].sessionPersistence: "), "{wrong}");
        }
    }

    #[test]
    fn other_routers_have_words_of_their_own() {
        let mut rules = [Rule::default()];
        for config in ["{\"sessionPersistence\": 1}", "{\"rules\": [], \"x\": \"sessionPersistence\"}", "\"sessionPersistence\""] {
            assert_eq!(add(config, &mut rules), Ok(()), "{config}");
        }
        assert_eq!(rules[0].session, None);
    }
}
