//! Discovery `dns`: the endpoints that DNS says, by A and AAAA records (RFC 1035, RFC 3596) or by SRV records (RFC 2782), asked again when the
//! first of the answers' times to live is over.
//!
//! If a name does not exist or has no such record, that is an answer (RFC 2308): there are no endpoints. While no server answers, or a server fails, the last
//! good set of endpoints stays.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::names::{Failure, Query, Question, Record, RecordType};
use sluicegate_sdk::{Ask, Discovery, Next, Reply, Service};
use sluicegate_targets::Interval;

mod read;

use read::Target;

/// After how long servers are asked again after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How long the answer holds that there are no records, if the server does not say.
const NOTHING: Duration = Duration::from_secs(30);
/// The longest time to live. Longer ones are cut to it.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The configuration of `dns`: what to ask for, and which servers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// An absolute name, such as `web.example.com` or `_http._tcp.example.com`. It must be among the `capabilities.allowedHosts` of the `Plugin`
    /// object, as must the targets of SRV records.
    pub name: String,
    /// The type of the records that name the endpoints.
    #[serde(default, rename = "type")]
    pub kind: Kind,
    /// The port of the endpoints. SRV records have ports of their own.
    pub port: Option<u16>,
    /// The servers to ask, such as `10.0.0.10:53`, which must be allowed as well. Without them, the system's servers are asked.
    #[serde(default)]
    pub servers: Vec<String>,
    /// The shortest time between two queries, whatever the time to live; at least 1s.
    #[serde(default = "one_second")]
    pub min_interval: Interval,
    /// Which SRV records count, by their priority.
    #[serde(default)]
    pub priorities: Priorities,
    /// The name of the service port that the endpoints serve. Without it, they serve all ports.
    pub port_name: Option<String>,
}

fn one_second() -> Interval {
    Interval(Duration::from_secs(1))
}

/// The type of the records that name the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Kind {
    /// A and AAAA records.
    #[default]
    Addresses,
    /// A records only.
    A,
    /// AAAA records only.
    #[serde(rename = "AAAA")]
    Aaaa,
    /// SRV records, and the addresses of their targets.
    #[serde(rename = "SRV")]
    Srv,
}

/// Which SRV records count, by their priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Priorities {
    /// The records of the lowest number count.
    #[default]
    Lowest,
    /// All records count. Endpoints carry their rank, 0 being the first, in the label `sluicegate.dev/priority`, which the balancer `priority` reads.
    All,
}

/// The endpoints of one service.
#[derive(Debug)]
pub struct Dns {
    config: Config,
    /// The targets of the SRV records, while their addresses are asked for.
    targets: Vec<Target>,
    /// How long the records hold that were found so far.
    holds: Duration,
}

impl Discovery for Dns {
    type Config = Config;
    const ASKS: bool = true;

    fn open(_: &Service, config: Config) -> Result<Self, String> {
        match (config.kind, config.port) {
            (Kind::Srv, Some(_)) => return Err("port: SRV records have their own".to_owned()),
            (Kind::Addresses | Kind::A | Kind::Aaaa, None | Some(0)) => {
                return Err("port: must be between 1 and 65535, inclusive".to_owned());
            }
            _ => {}
        }
        if let Some(wrong) = config.servers.iter().find(|server| server.parse::<SocketAddr>().is_err()) {
            return Err(format!("servers: `{wrong}` must be an address and a port, such as 10.0.0.10:53"));
        }
        if config.min_interval.0 < Duration::from_secs(1) {
            return Err("minInterval: must be at least 1s".to_owned());
        }
        Ok(Self { config, targets: Vec::new(), holds: RETRY })
    }

    fn concerns(&self, _: &Service, _: &sluicegate_sdk::Object) -> bool {
        false
    }

    fn refresh(&self) -> Option<Duration> {
        Some(self.holds.clamp(self.config.min_interval.0, LONGEST.max(self.config.min_interval.0)))
    }

    fn ask(&mut self, _: &Service) -> Option<Ask> {
        (self.targets, self.holds) = (Vec::new(), LONGEST);
        let types: &[RecordType] = match self.config.kind {
            Kind::Addresses => &[RecordType::A, RecordType::Aaaa],
            Kind::A => &[RecordType::A],
            Kind::Aaaa => &[RecordType::Aaaa],
            Kind::Srv => &[RecordType::Srv],
        };
        Some(self.question(types.iter().map(|ty| Question::new(&self.config.name, *ty)).collect()))
    }

    fn answered(&mut self, _: &Service, reply: Reply) -> Result<Next, String> {
        let Reply::Names(answers) = reply else { return Err("an answer that was not asked for".to_owned()) };
        let next = self.take(answers);
        if next.is_err() {
            self.holds = RETRY;
        }
        next
    }
}

impl Dns {
    fn question(&self, questions: Vec<Question>) -> Ask {
        Ask::Names(Query { questions, servers: self.config.servers.clone() })
    }

    fn take(&mut self, answers: Vec<Result<Vec<Record>, Failure>>) -> Result<Next, String> {
        if !self.targets.is_empty() {
            let targets = std::mem::take(&mut self.targets);
            // There are two questions for each target.
            let mut found = Vec::new();
            for (target, answers) in targets.iter().zip(answers.chunks(2)) {
                found.push(self.addresses(&target.name, answers)?);
            }
            return Ok(Next::Endpoints(read::located(&self.config, &targets, &found)));
        }
        let name = self.config.name.clone();
        match (self.config.kind, self.config.port) {
            (Kind::Srv, _) => {
                let mut records = Vec::new();
                for answer in answers {
                    records.extend(self.records(&name, answer)?);
                }
                self.targets = read::targets(&self.config, records)?;
                if self.targets.is_empty() {
                    return Ok(Next::Endpoints(Vec::new()));
                }
                let both = |target: &Target| [RecordType::A, RecordType::Aaaa].map(|ty| Question::new(&target.name, ty));
                Ok(Next::Ask(self.question(self.targets.iter().flat_map(both).collect())))
            }
            (_, port) => {
                let addresses = self.addresses(&name, &answers)?;
                Ok(Next::Endpoints(read::plain(&self.config, port.unwrap_or_default(), addresses)))
            }
        }
    }

    /// The addresses of a name. If one of the questions fails, none are returned: otherwise one kind of address would take all traffic.
    fn addresses(&mut self, name: &str, answers: &[Result<Vec<Record>, Failure>]) -> Result<Vec<std::net::IpAddr>, String> {
        let mut records = Vec::new();
        for answer in answers {
            records.extend(self.records(name, answer.clone())?);
        }
        read::addresses(records)
    }

    /// The records of one answer. How long they hold is noted.
    fn records(&mut self, name: &str, answer: Result<Vec<Record>, Failure>) -> Result<Vec<Record>, String> {
        let (records, holds) = match answer {
            Ok(records) => {
                let holds = records.iter().map(|record| record.ttl).min().map_or(LONGEST, |ttl| Duration::from_secs(ttl.into()));
                (records, holds)
            }
            Err(Failure::Missing(seconds)) => (Vec::new(), seconds.map_or(NOTHING, |seconds| Duration::from_secs(seconds.into()))),
            Err(failure) => return Err(format!("{name}: {failure}")),
        };
        self.holds = self.holds.min(holds);
        Ok(records)
    }
}

sluicegate_sdk::export_discovery!(Dns);

#[cfg(test)]
mod tests;
