//! The lines of the access log.

use std::time::SystemTime;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use prost::Message as _;
use sluicegate_model::telemetry::record::{Record, Value};

use super::{Scope, any, nanos};
use crate::export::Message;

pub(crate) fn request(scope: &Scope, records: Vec<Record>) -> Message {
    let size = records.len() as u64;
    let observed = nanos(SystemTime::now());
    let log_records = records.into_iter().map(|record| one(record, observed)).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope.scope.clone()), log_records, ..ScopeLogs::default() }];
    let all = ResourceLogs { resource: Some(scope.resource.clone()), scope_logs, ..ResourceLogs::default() };
    let bytes = Bytes::from(ExportLogsServiceRequest { resource_logs: vec![all] }.encode_to_vec());
    Message { method: "/opentelemetry.proto.collector.logs.v1.LogsService/Export", bytes, size, refused }
}

fn refused(answer: &[u8]) -> Option<(u64, String)> {
    let partial = ExportLogsServiceResponse::decode(answer).ok()?.partial_success?;
    let rejected = u64::try_from(partial.rejected_log_records).unwrap_or(0);
    (rejected > 0).then_some((rejected, partial.error_message))
}

fn one(record: Record, observed: u64) -> LogRecord {
    let attributes = record.fields.into_iter().map(|(name, value)| {
        let value = match value {
            Value::Text(text) => Any::StringValue(text),
            Value::Number(number) => Any::IntValue(number),
            Value::Fraction(number) => Any::DoubleValue(number),
        };
        any(name, value)
    });
    LogRecord {
        time_unix_nano: nanos(record.time),
        observed_time_unix_nano: observed,
        severity_number: SeverityNumber::Info.into(),
        severity_text: "INFO".to_owned(),
        body: Some(AnyValue { value: Some(Any::StringValue(record.line)) }),
        attributes: attributes.collect(),
        trace_id: record.trace.map(|trace| trace.trace.to_be_bytes().to_vec()).unwrap_or_default(),
        span_id: record.trace.map(|trace| trace.span.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: u32::from(record.trace.is_some_and(|trace| trace.sampled)),
        event_name: "sluicegate.access".to_owned(),
        ..LogRecord::default()
    }
}
