//! Requests as they are answered, for recordings and for who watches live: the answer's content is their lines, until a time, a size or a number is reached or the
//! client goes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde::Deserialize;
use sluicegate_model::escape;
use sluicegate_model::requests::{
    Begin, ClientMask, Dropped, End, Fields, Filter, Line, Mask, QueryMask, StatusFilter, USUAL_HEADERS, VERSION, Wanted, Watch, network,
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::View;
use crate::plugins::Refused;

/// How often workers' samples are collected, as workers wake nobody.
const LOOK: Duration = Duration::from_millis(20);
/// How long after its end a session is held for a client that does not read.
const SLACK: Duration = Duration::from_secs(5);
/// The size of a piece of the answer, in bytes.
const PIECE: usize = 64 << 10;
/// How many header fields may be named.
const MOST_NAMES: usize = 64;

/// What may be asked for, with its defaults. Lists are separated by commas.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Asked {
    seconds: u64,
    every: u64,
    rate: u64,
    bytes: u64,
    count: u64,
    headers: Option<String>,
    hash: String,
    client: String,
    query: String,
    connections: bool,
    host: Option<String>,
    path: Option<String>,
    method: Option<String>,
    status: Option<String>,
    service: Option<String>,
    rule: Option<String>,
    from: Option<String>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            seconds: 10,
            every: 1,
            rate: 5_000,
            bytes: 64 << 20,
            count: 10_000_000,
            headers: None,
            hash: String::new(),
            client: ClientMask::default().name().to_owned(),
            query: QueryMask::default().name().to_owned(),
            connections: true,
            host: None,
            path: None,
            method: None,
            status: None,
            service: None,
            rule: None,
            from: None,
        }
    }
}

impl Asked {
    fn check(&self) -> Result<(), String> {
        let bounds = [
            ("seconds", self.seconds, 1, 86_400),
            ("every", self.every, 1, 1_000_000_000),
            ("rate", self.rate, 1, 50_000),
            ("bytes", self.bytes, 1_024, 16 << 30),
            ("count", self.count, 1, 100_000_000),
        ];
        match bounds.into_iter().find(|(_, value, least, most)| !(*least..=*most).contains(value)) {
            Some((name, value, least, most)) => Err(format!("{name}={value} is not from {least} to {most}")),
            None => Ok(()),
        }
    }

    fn filter(&self) -> Result<Filter, String> {
        Ok(Filter {
            host: self.host.clone(),
            path: self.path.clone(),
            method: self.method.clone(),
            status: self.status.as_deref().map(str::parse::<StatusFilter>).transpose()?,
            service: self.service.clone(),
            rule: self.rule.clone(),
            client: self.from.as_deref().map(network).transpose()?,
        })
    }
}

/// Names of header fields.
fn names(list: &str) -> Result<Vec<HeaderName>, String> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut names: Vec<HeaderName> =
        names.map(|name| name.parse().map_err(|_| format!("{name:?} is no name of a header field"))).collect::<Result<_, _>>()?;
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    if names.len() > MOST_NAMES { Err(format!("no more than {MOST_NAMES} header fields may be named")) } else { Ok(names) }
}

pub(super) async fn sample(State(view): State<View>, Query(asked): Query<Asked>) -> Result<Response, Refused> {
    let bad = |error: String| (StatusCode::BAD_REQUEST, error + "\n");
    asked.check().map_err(bad)?;
    let hashed = names(&asked.hash).map_err(bad)?;
    let mut kept = asked.headers.as_deref().map_or_else(|| Ok(USUAL_HEADERS.map(HeaderName::from_static).into()), names).map_err(bad)?;
    // Whose value is to be hashed is to be in the recording.
    kept.extend(hashed.iter().filter(|name| !kept.contains(name)).cloned().collect::<Vec<_>>());
    let (client, query) = (asked.client.parse::<ClientMask>().map_err(bad)?, asked.query.parse::<QueryMask>().map_err(bad)?);
    let text = |names: &[HeaderName]| names.iter().map(|name| name.as_str().to_owned()).collect();
    let begin = Begin {
        version: VERSION.to_owned(),
        every: asked.every,
        rate: asked.rate,
        headers: text(&kept),
        hashed: text(&hashed),
        client: client.name().to_owned(),
        query: query.name().to_owned(),
    };
    let wanted = Wanted {
        who: "a recording",
        every: asked.every,
        filter: asked.filter().map_err(bad)?,
        fields: Fields::Named(kept),
        connections: asked.connections,
        decision: false,
        time: Duration::from_secs(asked.seconds) + SLACK,
    };
    let watch = view.requests.begin(wanted).map_err(|error| (StatusCode::CONFLICT, error + "\n"))?;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lines = Lines {
        watch: Some(watch),
        mask: Mask::new(hashed, client, query),
        looks,
        begun: Instant::now(),
        granted: 0,
        asked,
        written: 0,
        requests: 0,
        dropped: 0,
        waiting: Vec::new(),
    };
    lines.write(&Line::Begin(begin));
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], Body::new(lines)).into_response())
}

/// The lines that are still to come.
struct Lines {
    /// The session; none: it has ended.
    watch: Option<Watch>,
    mask: Mask,
    looks: Interval,
    begun: Instant,
    /// The second for which samples were granted last, from 1.
    granted: u64,
    asked: Asked,
    written: u64,
    requests: u64,
    /// How many were told to be dropped.
    dropped: u64,
    /// What was written and not sent yet.
    waiting: Vec<u8>,
}

impl Lines {
    fn write(&mut self, line: &Line) {
        // These are plain data, which can always be written.
        let text = serde_json::to_string(line).unwrap_or_default();
        self.waiting.extend_from_slice(escape::json(&text).as_bytes());
        self.waiting.push(b'\n');
        self.written += text.len() as u64 + 1;
    }

    /// Collects up to one piece. Returns false when nothing more will come.
    fn collect(&mut self) -> bool {
        if self.watch.is_none() {
            return false;
        }
        while self.waiting.len() < PIECE && self.written < self.asked.bytes && self.requests < self.asked.count {
            let Some(mut seen) = self.watch.as_ref().and_then(Watch::next) else { break };
            self.mask.hide(&mut seen.line);
            self.requests += 1;
            self.write(&Line::Request(Box::new(seen.line)));
        }
        let seconds = self.begun.elapsed().as_secs();
        let why = match () {
            () if self.written >= self.asked.bytes => "size",
            () if self.requests >= self.asked.count => "count",
            () if seconds >= self.asked.seconds && self.waiting.len() < PIECE => "time",
            () => {
                if self.granted <= seconds {
                    self.next_second(seconds);
                }
                return true;
            }
        };
        let dropped = self.watch.take().map_or(0, |watch| watch.dropped());
        self.write(&Line::End(End { requests: self.requests, dropped, why: why.to_owned() }));
        false
    }

    /// Grants the samples of a second, and tells how many were dropped before.
    fn next_second(&mut self, seconds: u64) {
        let Some(watch) = &self.watch else { return };
        watch.grant(self.asked.rate);
        let dropped = watch.dropped();
        self.granted = seconds + 1;
        if dropped > self.dropped {
            self.dropped = dropped;
            self.write(&Line::Dropped(Dropped { dropped }));
        }
    }
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            let more = self.collect();
            if !self.waiting.is_empty() {
                let piece = std::mem::take(&mut self.waiting);
                return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
            }
            if !more {
                return Poll::Ready(None);
            }
            if self.looks.poll_tick(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
