//! A receiver of OTLP over HTTP, of the protocol's published messages; and Rotel, a collector of other people, that passes on what it takes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
pub use opentelemetry_proto::tonic::logs::v1::LogRecord;
pub use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, Metric, metric, number_data_point};
pub use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::eventually;

/// What has come.
#[derive(Default)]
pub struct Received {
    /// Spans, each with the attributes of its resource.
    pub spans: Vec<(Span, Vec<KeyValue>)>,
    /// Log records.
    pub records: Vec<LogRecord>,
    /// Metrics: the newest request's.
    pub metrics: Vec<Metric>,
    /// The heads of the requests.
    pub heads: Vec<String>,
}

/// A receiver, which lives until the tests end.
#[derive(Clone)]
pub struct Collector(Arc<Mutex<Received>>);

impl Collector {
    /// Listens at an address.
    pub fn listen(address: SocketAddr) -> Self {
        let received = Arc::<Mutex<Received>>::default();
        let listener = TcpListener::bind(address).expect("a loopback address");
        let to = received.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let to = to.clone();
                std::thread::spawn(move || serve(stream, &to));
            }
        });
        Self(received)
    }

    /// What has come until now.
    pub fn received(&self) -> MutexGuard<'_, Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spans of the first trace of which so many have come, the server's first.
    pub fn trace(&self, count: usize) -> Vec<(Span, Vec<KeyValue>)> {
        let mut found = Vec::new();
        eventually("spans", || {
            let received = self.received();
            let of = |id: &[u8]| received.spans.iter().filter(|(span, _)| span.trace_id == id).cloned().collect::<Vec<_>>();
            found = received.spans.iter().map(|(span, _)| of(&span.trace_id)).find(|spans| spans.len() == count).unwrap_or_default();
            !found.is_empty()
        });
        found.sort_by_key(|(span, _)| (span.start_time_unix_nano, span.kind != 2));
        found
    }
}

fn serve(stream: TcpStream, to: &Mutex<Received>) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if head.to_lowercase().contains("\r\ncontent-encoding: gzip\r\n") {
            body = unpacked(&body);
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut received = to.lock().unwrap_or_else(PoisonError::into_inner);
        take(&mut received, &path, &body);
        received.heads.push(head);
        drop(received);
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")?;
    }
}

/// What was compressed with gzip. Rotel of this version compresses whatever it is told.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip");
    let mut to = gzip.stdin.take().expect("piped");
    std::thread::scope(|scope| {
        scope.spawn(move || to.write_all(bytes));
        gzip.wait_with_output().expect("unpacked").stdout
    })
}

fn take(received: &mut Received, path: &str, body: &[u8]) {
    match path {
        "/v1/traces" => {
            for one in ExportTraceServiceRequest::decode(body).expect("a message").resource_spans {
                let resource = one.resource.map(|resource| resource.attributes).unwrap_or_default();
                let spans = one.scope_spans.into_iter().flat_map(|scope| scope.spans);
                received.spans.extend(spans.map(|span| (span, resource.clone())));
            }
        }
        "/v1/logs" => {
            let all = ExportLogsServiceRequest::decode(body).expect("a message").resource_logs.into_iter();
            received.records.extend(all.flat_map(|one| one.scope_logs).flat_map(|scope| scope.log_records));
        }
        "/v1/metrics" => {
            let all = ExportMetricsServiceRequest::decode(body).expect("a message").resource_metrics.into_iter();
            received.metrics = all.flat_map(|one| one.scope_metrics).flat_map(|scope| scope.metrics).collect();
        }
        other => panic!("nothing of OTLP is at {other}"),
    }
}

/// An attribute as text.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    match attributes.iter().find(|a| a.key == key)?.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

/// The running Rotel.
pub struct Rotel(Child);

impl Rotel {
    /// Starts it: it takes OTLP by gRPC and by HTTP, and passes all of it on by HTTP.
    pub fn start(grpc: SocketAddr, http: SocketAddr, to: SocketAddr) -> Self {
        let products = std::env::current_exe().expect("a path").ancestors().nth(3).expect("target").to_owned();
        let libraries = std::fs::read_dir(products.join("tools/python/lib")).expect("Python: `make test-tools` brings it");
        let agents = libraries.flatten().map(|entry| entry.path().join("site-packages/rotel/rotel-agent"));
        let agent: PathBuf = agents.into_iter().find(|path| path.exists()).expect("Rotel: `make test-tools` brings it");
        let mut command = Command::new(agent);
        command.args(["start", "--exporter", "otlp", "--batch-timeout", "100ms"]);
        command.args(["--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", &format!("http://{to}")]);
        command.args(["--otlp-grpc-endpoint", &grpc.to_string(), "--otlp-http-endpoint", &http.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        eventually("Rotel listens", || TcpStream::connect(grpc).is_ok());
        Self(child)
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
