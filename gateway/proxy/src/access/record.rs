//! A line as it is exported: with its fields by their names in OpenTelemetry's semantic conventions, where these have one.

use std::time::SystemTime;

use sluicegate_model::access_log::{AccessLogField as Field, Line};
use sluicegate_model::telemetry::kept;
use sluicegate_model::telemetry::record::{Record, Value as Told};

use super::entry::Entry;
use super::line::{Clock, Value, value, write};

/// The fields, by their names there. Those that are missing are the record's own: its time, its trace and its span.
const FIELDS: [(Field, &str); 19] = [
    (Field::Kind, "sluicegate.kind"),
    (Field::Client, "client.address"),
    (Field::Listener, "sluicegate.listener"),
    (Field::Method, "http.request.method"),
    (Field::Host, "sluicegate.host"),
    (Field::Path, "url.original"),
    (Field::Protocol, "network.protocol.version"),
    (Field::Status, "http.response.status_code"),
    (Field::Reason, "sluicegate.reason"),
    (Field::BytesIn, "sluicegate.bytes_in"),
    (Field::BytesOut, "sluicegate.bytes_out"),
    (Field::Duration, "sluicegate.duration_ms"),
    (Field::FirstByte, "sluicegate.first_byte_ms"),
    (Field::Service, "sluicegate.service"),
    (Field::Endpoint, "sluicegate.endpoint"),
    (Field::Rule, "sluicegate.rule"),
    (Field::Attempts, "sluicegate.attempts"),
    (Field::RequestId, "sluicegate.request_id"),
    (Field::UserAgent, "user_agent.original"),
];

pub(super) fn record(line: &Line, entry: &Entry, clock: &mut Clock) -> Record {
    let mut text = Vec::new();
    write(&mut text, line, entry, clock);
    text.pop();
    let told = |(field, name): &(Field, &'static str)| Some((*name, told(*field, entry)?));
    Record {
        time: SystemTime::now(),
        line: String::from_utf8(text).unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()),
        fields: FIELDS.iter().filter_map(told).collect(),
        trace: entry.trace,
    }
}

fn told(field: Field, entry: &Entry) -> Option<Told> {
    let number = |number: u64| Told::Number(i64::try_from(number).unwrap_or(i64::MAX));
    Some(match value(field, entry) {
        Value::None | Value::Time | Value::Trace(_) | Value::Span(_) => return None,
        Value::Text(text) => {
            let text = kept(&String::from_utf8_lossy(text));
            // The name of the protocol is that of the convention.
            Told::Text(if field == Field::Protocol { text.trim_start_matches("HTTP/").to_owned() } else { text })
        }
        Value::Number(count) => number(count),
        Value::Millis(time) => Told::Fraction(time.as_secs_f64() * 1e3),
        Value::Ip(ip) => Told::Text(ip.to_string()),
        Value::Address(address) => Told::Text(address.to_string()),
    })
}
