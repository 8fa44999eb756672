//! `sluicegate record requests`: what a running gateway is asked, written down to be played to another configuration.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use ipnet::IpNet;
use sluicegate_model::requests::{ClientMask, End, Line, QueryMask, StatusFilter, USUAL_HEADERS, network};

use super::at::At;
use super::lab::exit;
use super::out;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Write requests that a running gateway answers to a file, for `diff --trace`
    Requests(Box<Requests>),
}

impl Action {
    pub(super) fn execute(self) -> ExitCode {
        match self {
            Self::Requests(requests) => exit(requests.run().map(|()| true)),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Requests {
    /// Where the recording is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long requests are recorded, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many requests are recorded, at most
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    count: u64,
    /// How many requests are recorded a second, at most
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    rate: u64,
    /// The recording's size, at most, in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=16_384))]
    mib: u64,
    /// A header field whose values are recorded, besides accept, access-control-request-headers, access-control-request-method, content-type, origin,
    /// user-agent, x-forwarded-for and x-forwarded-proto
    #[arg(long, value_name = "NAME")]
    header: Vec<String>,
    /// Record no header field that is not named
    #[arg(long)]
    no_usual_headers: bool,
    /// A header field whose values are recorded as hashes, with a key that nobody keeps
    #[arg(long, value_name = "NAME")]
    hash: Vec<String>,
    /// What is recorded of clients' addresses: full, truncated (to /24 and /48), hashed or none
    #[arg(long, value_name = "HOW", default_value = ClientMask::Full.name())]
    client_address: ClientMask,
    /// What is recorded of queries: full, hashed (the parameters' values) or none
    #[arg(long, value_name = "HOW", default_value = QueryMask::Full.name())]
    query: QueryMask,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    at: At,
}

/// Which requests are wanted.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Which {
    /// Of how many requests one is taken
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    every: u64,
    /// Only requests for this host; `*.example.com`: for all hosts below it
    #[arg(long)]
    host: Option<String>,
    /// Only requests whose path begins so
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// Only requests with this method
    #[arg(long)]
    method: Option<String>,
    /// Only requests that were answered so: 404, or 5xx
    #[arg(long)]
    status: Option<StatusFilter>,
    /// Only requests that went to this service: NAMESPACE/NAME or NAMESPACE/NAME:PORT
    #[arg(long)]
    service: Option<String>,
    /// Only requests taken by rules whose name has this text: `HTTPRoute default/shop`
    #[arg(long, value_name = "TEXT")]
    route: Option<String>,
    /// Only requests of clients in this network
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    client: Option<IpNet>,
}

impl Which {
    /// The parameters of the query.
    pub(super) fn query(&self) -> String {
        let mut query = format!("every={}", self.every);
        let given = [
            ("host", self.host.clone()),
            ("path", self.path.clone()),
            ("method", self.method.clone()),
            ("status", self.status.map(|status| status.to_string())),
            ("service", self.service.clone()),
            ("rule", self.route.clone()),
            ("from", self.client.map(|client| client.to_string())),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={}", escaped(&value)));
            }
        }
        query
    }
}

/// Percent-encodes a text (RFC 3986 §2.1).
pub(super) fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// How long it may take besides the time of the recording.
const PATIENCE: Duration = Duration::from_secs(60);

impl Requests {
    fn run(&self) -> Result<(), String> {
        let Self { seconds, count, rate, .. } = self;
        let usual = USUAL_HEADERS.iter().filter(|_| !self.no_usual_headers).map(|name| (*name).to_owned());
        let headers: Vec<String> = usual.chain(self.header.iter().cloned()).collect();
        let query = format!(
            "/api/v1/requests?seconds={seconds}&count={count}&rate={rate}&bytes={}&headers={}&hash={}&client={}&query={}&{}",
            self.mib << 20,
            escaped(&headers.join(",")),
            escaped(&self.hash.join(",")),
            self.client_address.name(),
            self.query.name(),
            self.which.query()
        );
        let mut lines = self.at.post(&query, Duration::from_secs(*seconds) + PATIENCE)?;
        let at = |error: std::io::Error| format!("{}: {error}", self.out.display());
        // It tells of clients, and is for whoever recorded it.
        let mut options = File::options();
        let mut file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&self.out).map_err(at)?;
        let size = std::io::copy(&mut lines.body_mut().as_reader(), &mut file).map_err(at)?;
        file.seek(SeekFrom::Start(0)).map_err(at)?;
        let end = BufReader::new(file).lines().map_while(Result::ok).last().and_then(|line| serde_json::from_str(&line).ok());
        match end {
            Some(Line::End(End { requests, dropped, why })) => {
                out(format!("{}: {requests} requests, {size} bytes; {dropped} were dropped, {why} ended it", self.out.display()));
                Ok(())
            }
            _ => Err(format!("{}: the gateway ended before the recording did; what came is there", self.out.display())),
        }
    }
}
