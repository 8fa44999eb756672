//! Look-ups of DNS records, with the time that each may be kept, which `wasi:sockets` does not tell. The resolver is NLnet Labs' (`domain`). It is made anew
//! for each look-up, so that a changed `resolv.conf` counts at once. Only the guest caches, and is told for how long it may.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, Name, ParsedName, Question as Asked, ToName as _};
use domain::rdata::{A, Aaaa, Soa, Srv};
use domain::resolv::StubResolver;
use domain::resolv::stub::conf::{ResolvConf, ServerConf, Transport};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::egress::Network;
use super::lookup::LOOKUP_TIMEOUT;
use super::{Wasi, Work};
use crate::bindings::discovery::sluicegate::plugin::names::{self, Answer, Data, Failure, Location, Question, RecordType};

/// The largest number of questions of one look-up.
const MAX_QUESTIONS: usize = 64;
/// How many of them are asked at once.
const AT_ONCE: usize = 16;
/// The largest number of servers of one look-up.
const MAX_SERVERS: usize = 8;
/// The largest number of answers to one question; further ones are left out.
const MAX_ANSWERS: usize = 256;
/// How long one server is waited for before the next is asked as well.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

type Answers = Vec<Result<Vec<Answer>, Failure>>;

/// Questions that are being asked.
pub struct LookUp {
    work: Option<Work<Answers>>,
    found: Option<Answers>,
}

impl LookUp {
    fn ended(&mut self, answers: Option<Answers>) {
        self.work = None;
        self.found = answers;
    }
}

#[async_trait]
impl Pollable for LookUp {
    async fn ready(&mut self) {
        if let Some(work) = &mut self.work {
            let ended = work.ended().await;
            self.ended(ended);
        }
    }
}

impl names::Host for Wasi {
    fn ask(&mut self, questions: Vec<Question>, servers: Vec<String>) -> wasmtime::Result<Result<Resource<LookUp>, Failure>> {
        if self.egress.network == Network::Offline {
            self.kept_offline = true;
            return Ok(Err(Failure::Denied));
        }
        if questions.len() > MAX_QUESTIONS || servers.len() > MAX_SERVERS {
            return Ok(Err(Failure::Failed(format!("asked more than {MAX_QUESTIONS} questions, or more than {MAX_SERVERS} servers"))));
        }
        // Each question is judged by itself: what a server says (the targets of SRV records) is not the operator's fault.
        let allowed = |question: Question| {
            if self.egress.may_look_up(&question.name) {
                return Some(question);
            }
            self.refusals.tell(format!("a look-up of {:?}, which is not among the plugin's capabilities.allowedHosts", question.name));
            None
        };
        let questions: Vec<Option<Question>> = questions.into_iter().map(allowed).collect();
        let servers: Result<Vec<SocketAddr>, Failure> = servers.iter().map(|server| self.server(server)).collect();
        let servers = match servers {
            Ok(servers) => servers,
            Err(failure) => return Ok(Err(failure)),
        };
        let Ok(permit) = self.connections.clone().try_acquire_owned() else { return Ok(Err(Failure::Busy)) };
        let work = Work::spawn(async move {
            let _permit = permit;
            ask(questions, servers).await
        });
        Ok(Ok(self.table.push(LookUp { work: Some(work), found: None })?))
    }
}

impl Wasi {
    fn server(&self, server: &str) -> Result<SocketAddr, Failure> {
        let address: SocketAddr = server.parse().map_err(|_| Failure::Failed(format!("{server:?} is not an address and a port")))?;
        let refused = self.egress.allows(&address.ip().to_string(), address.port()).err().or_else(|| self.egress.prohibits(address));
        match refused {
            None => Ok(address),
            Some(reason) => {
                self.refusals.tell(reason);
                Err(Failure::Denied)
            }
        }
    }
}

impl names::HostLookUp for Wasi {
    fn subscribe(&mut self, look_up: Resource<LookUp>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, look_up)
    }

    fn take(&mut self, look_up: Resource<LookUp>) -> wasmtime::Result<Option<Answers>> {
        let look_up = self.table.get_mut(&look_up)?;
        if let Some(ended) = look_up.work.as_mut().and_then(Work::poll) {
            look_up.ended(ended);
        }
        Ok(look_up.found.take())
    }

    fn drop(&mut self, look_up: Resource<LookUp>) -> wasmtime::Result<()> {
        self.table.delete(look_up)?;
        Ok(())
    }
}

/// Asks all questions that are allowed, some at once. Those that are not answered within [`LOOKUP_TIMEOUT`] have timed out.
async fn ask(questions: Vec<Option<Question>>, servers: Vec<SocketAddr>) -> Answers {
    let resolver = Arc::new(resolver(&servers));
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut answers: Answers =
        questions.iter().map(|asked| Err(if asked.is_some() { Failure::Timeout } else { Failure::Denied })).collect();
    let mut asked = JoinSet::new();
    for (at, question) in questions.into_iter().enumerate().filter_map(|(at, question)| Some((at, question?))) {
        let (resolver, turns) = (resolver.clone(), turns.clone());
        asked.spawn(async move {
            // The semaphore is never closed.
            let _turn = turns.acquire().await;
            (at, answer(&resolver, &question).await)
        });
    }
    let all = async {
        while let Some(ended) = asked.join_next().await {
            if let Ok((at, answer)) = ended {
                answers[at] = answer;
            }
        }
    };
    let _ = tokio::time::timeout(LOOKUP_TIMEOUT, all).await;
    answers
}

fn resolver(servers: &[SocketAddr]) -> StubResolver {
    let mut conf = match servers {
        [] => ResolvConf::default(),
        _ => {
            let mut conf = ResolvConf::new();
            conf.servers = servers.iter().map(|server| ServerConf::new(*server, Transport::UdpTcp)).collect();
            conf
        }
    };
    conf.options.timeout = LOOKUP_TIMEOUT;
    conf.servers.iter_mut().for_each(|server| server.request_timeout = SERVER_TIMEOUT);
    StubResolver::from_conf(conf)
}

async fn answer(resolver: &StubResolver, question: &Question) -> Result<Vec<Answer>, Failure> {
    let failed = |what: &dyn std::fmt::Display| Failure::Failed(what.to_string());
    let name = Name::<Vec<u8>>::from_str(&question.name).map_err(|e| failed(&format!("{:?} is no name: {e}", question.name)))?;
    let rtype = match question.record_type {
        RecordType::A => Rtype::A,
        RecordType::Aaaa => Rtype::AAAA,
        RecordType::Srv => Rtype::SRV,
    };
    let answer = match resolver.query(Asked::new_in(name, rtype)).await {
        Ok(answer) => answer.into_message(),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Err(Failure::Timeout),
        Err(error) => return Err(failed(&error)),
    };
    match answer.header().rcode() {
        Rcode::NOERROR => read(&answer, rtype).map_err(|error| failed(&format!("the answer is not to be understood: {error}")))?,
        Rcode::NXDOMAIN => Err(Failure::Missing(negative(&answer))),
        other => Err(Failure::Failed(format!("the server says {other}"))),
    }
}

/// The records of the type, for the name that the aliases lead to.
fn read(message: &Message<Bytes>, rtype: Rtype) -> Result<Result<Vec<Answer>, Failure>, domain::base::wire::ParseError> {
    let Some(canonical) = message.canonical_name() else { return Ok(Err(Failure::Failed("the aliases lead nowhere".to_owned()))) };
    let (mut found, mut ttl) = (Vec::new(), u32::MAX);
    for record in message.answer()? {
        let record = record?;
        if record.rtype() != rtype && record.rtype() != Rtype::CNAME {
            continue;
        }
        ttl = ttl.min(seconds(record.ttl().as_secs()));
        if record.rtype() != rtype || !record.owner().name_eq(&canonical) || found.len() == MAX_ANSWERS {
            continue;
        }
        let data = match rtype {
            Rtype::A => record.to_record::<A>()?.map(|r| Data::Address(r.data().addr().to_string())),
            Rtype::AAAA => record.to_record::<Aaaa>()?.map(|r| Data::Address(r.data().addr().to_string())),
            _ => record.to_record::<Srv<ParsedName<Bytes>>>()?.map(|r| {
                let srv = r.data();
                let (priority, weight, port) = (srv.priority(), srv.weight(), srv.port());
                Data::Location(Location { priority, weight, port, target: srv.target().to_string() })
            }),
        };
        found.extend(data);
    }
    if found.is_empty() {
        return Ok(Err(Failure::Missing(negative(message))));
    }
    Ok(Ok(found.into_iter().map(|data| Answer { data, ttl }).collect()))
}

/// How long it holds that there is nothing: the smaller of the SOA record's own time and its last field (RFC 2308 §5).
fn negative(message: &Message<Bytes>) -> Option<u32> {
    let records = message.authority().ok()?;
    let soa = records.limit_to::<Soa<ParsedName<Bytes>>>().flatten().next()?;
    Some(seconds(soa.ttl().as_secs()).min(seconds(soa.data().minimum().as_secs())))
}

/// A record's time. If its highest bit is set, it counts as 0 (RFC 2181 §8).
fn seconds(ttl: u32) -> u32 {
    if ttl > i32::MAX.cast_unsigned() { 0 } else { ttl }
}
