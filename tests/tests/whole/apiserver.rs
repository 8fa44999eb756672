//! The API server of the tests, held against recordings of a real one: asked what that was asked, it answers alike. What differs is named here.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use sluicegate_tests::PATIENCE;
use sluicegate_tests::apiserver::{ApiServer, TOKEN};

/// What was asked, and what came.
pub(crate) struct Exchange {
    pub(crate) number: usize,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    pub(crate) status: u64,
    answered: Vec<(String, String)>,
    text: String,
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    value.as_array().into_iter().flatten().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

/// The exchanges of a recording, each with the number of its line.
pub(crate) fn recording(name: &str) -> Vec<Exchange> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines = text.lines().enumerate().map(|(number, line)| (number, serde_json::from_str::<Value>(line).expect("JSON")));
    let exchange = |(number, line): (usize, Value)| {
        let (request, response) = (line.get("request")?, line.get("response")?);
        let chunks = response["chunks"].as_array().into_iter().flatten();
        Some(Exchange {
            number,
            method: request["method"].as_str()?.to_owned(),
            path: request["path"].as_str()?.to_owned(),
            headers: pairs(&request["headers"]),
            body: request["body"].as_str().unwrap_or_default().to_owned(),
            status: response["status"].as_u64()?,
            answered: pairs(&response["headers"]),
            text: chunks.filter_map(|chunk| chunk["data"].as_str()).collect(),
        })
    };
    lines.filter_map(exchange).collect()
}

impl Exchange {
    /// The events of a watch.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The objects of a list, which say what they are.
    pub(crate) fn items(&self) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.text).expect("a list");
        let kind = list["kind"].as_str().unwrap_or_default().trim_end_matches("List");
        let whole = |mut item: Value| {
            item["kind"] = json!(kind);
            item["apiVersion"] = list["apiVersion"].clone();
            item
        };
        list["items"].as_array().into_iter().flatten().cloned().map(whole).collect()
    }
}

/// An answer: status, headers, text.
struct Answer(u64, Vec<(String, String)>, String);

/// Asks. `token`: in the place of the recording's.
fn ask(server: &ApiServer, exchange: &Exchange, token: &str) -> Answer {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.authority().as_bytes()).expect("a certificate")).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::IpAddress(server.address().ip().into());
    let socket = TcpStream::connect(server.address()).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), socket);
    let mut request = format!("{} {} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n", exchange.method, exchange.path);
    for (name, value) in
        exchange.headers.iter().filter(|(name, _)| !["host", "connection", "content-length"].contains(&&*name.to_lowercase()))
    {
        request += &format!("{name}: {}\r\n", value.replace("<TOKEN>", token));
    }
    request += &format!("Content-Length: {}\r\n\r\n{}", exchange.body.len(), exchange.body);
    stream.write_all(request.as_bytes()).expect("sent");
    let mut all = Vec::new();
    // A watch that is broken off has no end.
    let _ = stream.read_to_end(&mut all);
    let text = String::from_utf8(all).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    Answer(status, headers, if chunked { unchunked(body) } else { body.to_owned() })
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        text += &rest[..size.min(rest.len())];
        body = rest.get(size + 2..).unwrap_or_default();
    }
    text
}

/// What varies from run to run, or is not told by the server of the tests.
fn without(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !fields.contains(&name.as_str()));
            map.values_mut().for_each(|value| without(value, fields));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| without(item, fields)),
        _ => {}
    }
}

fn documents(text: &str, varying: &[&str]) -> Vec<Value> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let tidy = |value: Result<Value, _>| {
        let mut value = value.unwrap_or_else(|_| json!(text.trim_end()));
        without(&mut value, varying);
        value
    };
    values.map(tidy).collect()
}

/// Compares: status, content type, `Retry-After`, and all of the content but the fields that vary.
fn assert_alike(name: &str, exchange: &Exchange, answer: &Answer, varying: &[&str]) {
    let Answer(status, headers, text) = answer;
    let what = format!("{name}, line {}: {} {}", exchange.number + 1, exchange.method, exchange.path);
    assert_eq!(*status, exchange.status, "{what}: {text}");
    for header in ["content-type", "retry-after"] {
        let of = |headers: &[(String, String)]| {
            headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(header)).map(|(_, value)| value.clone())
        };
        assert_eq!(of(headers), of(&exchange.answered), "{what}: {header}");
    }
    assert_eq!(documents(text, varying), documents(&exchange.text, varying), "{what}");
}

/// A server with these objects, as they were.
fn with(objects: impl IntoIterator<Item = Value>, version: u64) -> ApiServer {
    let server = ApiServer::start();
    server.install_all();
    objects.into_iter().for_each(|object| server.put_as_it_is(object));
    server.set_version(version);
    server
}

/// Managed fields are not kept.
const MANAGED: &[&str] = &["managedFields"];
/// Of what is written, these are made anew.
const MADE: &[&str] = &["managedFields", "resourceVersion", "uid", "creationTimestamp"];

#[test]
fn kinds_without_a_definition_are_not_found() {
    let server = ApiServer::start();
    for exchange in recording("01-missing-crds") {
        // Which other groups there are.
        if exchange.path != "/apis" && !exchange.path.contains("customresourcedefinitions") {
            assert_alike("01", &exchange, &ask(&server, &exchange, TOKEN), &[]);
        }
    }
}

#[test]
fn lists_are_alike() {
    let all = recording("03-list");
    let server = with(all[3].items(), 288);
    for exchange in &all {
        assert_alike("03", exchange, &ask(&server, exchange, TOKEN), MANAGED);
    }
}

#[test]
fn streaming_lists_are_alike() {
    let all = recording("04-streaming-list");
    let objects = |exchange: &Exchange| {
        exchange.events().into_iter().filter(|event| event["type"] == "ADDED").map(|event| event["object"].clone()).collect::<Vec<_>>()
    };
    let server = with(objects(&all[0]).into_iter().chain(objects(&all[1])), 290);
    for mut exchange in all {
        exchange.path = exchange.path.replace("timeoutSeconds=3", "timeoutSeconds=1").replace("timeoutSeconds=2", "timeoutSeconds=1");
        // Each watch began at a version of its own.
        let first = exchange.events().into_iter().find(|event| event["type"] == "BOOKMARK");
        if let Some(version) = first.and_then(|event| event["object"]["metadata"]["resourceVersion"].as_str()?.parse().ok()) {
            server.set_version(version);
        }
        // The creation time of an empty object is null in a real BOOKMARK.
        assert_alike("04", &exchange, &ask(&server, &exchange, TOKEN), &["managedFields", "creationTimestamp"]);
    }
}

#[test]
fn the_life_of_a_deployment_is_told_alike() {
    for kind in ["services", "endpointslices", "namespaces", "nodes", "gateways", "httproutes", "gatewayclasses", "secrets"] {
        let name = format!("11-watch-{kind}");
        let mut all = recording(&name);
        let server = with(all[0].items(), 291);
        assert_alike(&name, &all[0], &ask(&server, &all[0], TOKEN), MANAGED);
        let events: Vec<Value> = all[1].events().into_iter().filter(|event| event["type"] != "BOOKMARK").collect();
        for event in &events {
            server.play(event.clone());
        }
        all[1].path = all[1].path.replace("timeoutSeconds=110", "timeoutSeconds=1");
        let Answer(status, _, text) = ask(&server, &all[1], TOKEN);
        let told: Vec<Value> = documents(&text, MANAGED).into_iter().filter(|event| event["type"] != "BOOKMARK").collect();
        let mut expected = Value::Array(events);
        without(&mut expected, MANAGED);
        assert_eq!((status, Value::Array(told)), (200, expected), "{name}");
    }
}

#[test]
fn errors_are_alike() {
    let all = recording("20-errors");
    let server = with(recording("03-list")[3].items(), 844);
    for exchange in &all {
        match exchange.number {
            2 => server.refuse("list", "secrets"),
            3 => server.refuse("watch", "services"),
            4 => server.refuse("patch", "services"),
            5 => ["list", "watch", "patch"]
                .iter()
                .zip(["secrets", "services", "services"])
                .for_each(|(verb, plural)| server.allow(verb, plural)),
            22 => server.throttle(2),
            _ => {}
        }
        // The numbers of node ports, the types of fields and which fields there are is not checked.
        if matches!(exchange.number, 11 | 12 | 14 | 15) {
            continue;
        }
        let token = if exchange.number == 0 { "unknown" } else { TOKEN };
        // How many Services there were then is another matter.
        let varying = if exchange.number == 21 { &["managedFields", "metadata", "items"] } else { MANAGED };
        assert_alike("20", exchange, &ask(&server, exchange, token), varying);
    }
}

#[test]
fn a_status_is_written_alike() {
    let services = recording("03-list")[3].items();
    let server = with(services, 700);
    let mut written: Option<Value> = None;
    for mut exchange in recording("21-status") {
        // Defaults are not filled in: neither of a Gateway's conditions, nor of a Service's ports, nor of references; fields are not checked; JSON
        // patches are not known; and of two faults in a condition the first is told.
        if matches!(exchange.number, 0 | 19 | 25) {
            let mut object: Value = serde_json::from_str(&exchange.text).expect("an object");
            without(&mut object, &["managedFields", "resourceVersion"]);
            server.put(object);
            continue;
        }
        if matches!(exchange.number, 13 | 14 | 16) {
            continue;
        }
        let varying = if exchange.number == 10 { &["message", "causes", "managedFields"] } else { MADE };
        // What is put has the version that it was read with.
        if exchange.number == 17 || exchange.number == 18 {
            let now = server.get("Gateway", "pages", "edge").expect("there");
            let mut body: Value = serde_json::from_str(&exchange.body).expect("an object");
            let version = if exchange.number == 17 { now["metadata"]["resourceVersion"].clone() } else { json!("1") };
            body["metadata"]["resourceVersion"] = version;
            exchange.body = body.to_string();
        }
        if exchange.number == 23 {
            let now = server.get("HTTPRoute", "pages", "web").expect("there");
            let mut body: Value = serde_json::from_str(&exchange.body).expect("an object");
            if !body["metadata"]["resourceVersion"].is_null() {
                body["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
            }
            exchange.body = body.to_string();
        }
        let answer = ask(&server, &exchange, TOKEN);
        assert_alike("21", &exchange, &answer, varying);
        let object: Value = serde_json::from_str(&answer.2).expect("JSON");
        if exchange.number == 2 {
            let last = written.take().expect("an object");
            assert_eq!(
                last["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"],
                "what changes nothing has no new version"
            );
        }
        written = Some(object);
    }
}

#[test]
fn watches_end_alike() {
    let all = recording("22-watch-ends");
    let objects = all[2].events().into_iter().map(|event| event["object"].clone());
    let server = with(objects, 733);
    for mut exchange in all {
        match exchange.number {
            // All of the past is told; here it began with the objects as they are.
            5 => continue,
            6 => server.forget_before(258, 0),
            7 => server.forget_before(258, 742),
            // Closed by its client.
            10 => continue,
            _ => {}
        }
        for seconds in ["timeoutSeconds=3", "timeoutSeconds=5", "timeoutSeconds=10"] {
            exchange.path = exchange.path.replace(seconds, "timeoutSeconds=1");
        }
        assert_alike("22", &exchange, &ask(&server, &exchange, TOKEN), MANAGED);
    }
}

#[test]
fn a_lease_is_taken_alike() {
    let server = with([], 796);
    for exchange in recording("23-lease") {
        assert_alike("23", &exchange, &ask(&server, &exchange, TOKEN), &["managedFields", "uid", "creationTimestamp"]);
    }
}

#[test]
fn after_a_restart_watches_are_too_old() {
    let all = recording("30-restart-kill");
    let mut server = with(recording("03-list")[3].items(), 812);
    server.stop();
    assert!(TcpStream::connect(server.address()).is_err());
    server.start_again();
    let exchange = all.iter().find(|exchange| exchange.number == 7).expect("there");
    // Its present version is another one.
    assert_alike("30", exchange, &ask(&server, exchange, TOKEN), &["message"]);
}
