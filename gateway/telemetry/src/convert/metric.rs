//! Metrics. Counters and histograms are cumulative from the start of the process, and names are those of `/metrics`.

use std::time::SystemTime;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as Observed;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
};
use prost::Message as _;
use sluicegate_model::escape;
use sluicegate_model::telemetry::metric::{Family, Kind, Labels, Number, Point, Times};

use super::{Scope, attribute, nanos};
use crate::export::Message;

/// How many points are sent together, so that a request stays below the 4 MiB that receivers of gRPC take.
const TOGETHER: usize = 4_000;

/// From when on, and at which moment.
#[derive(Clone, Copy)]
pub(crate) struct Moments {
    pub(crate) start: SystemTime,
    pub(crate) now: SystemTime,
}

pub(crate) fn requests(scope: &Scope, families: Vec<Family>, at: Moments) -> Vec<Message> {
    let (mut all, mut part, mut size) = (Vec::new(), Vec::new(), 0);
    for mut family in families {
        while !family.rows.is_empty() {
            let room = TOGETHER - size;
            let rest = family.rows.split_off(family.rows.len().min(room));
            size += family.rows.len();
            part.push(metric(&family, at));
            family.rows = rest;
            if size >= TOGETHER {
                all.push(message(scope, std::mem::take(&mut part), std::mem::take(&mut size)));
            }
        }
    }
    if size > 0 {
        all.push(message(scope, part, size));
    }
    all
}

fn message(scope: &Scope, metrics: Vec<Metric>, size: usize) -> Message {
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope.scope.clone()), metrics, ..ScopeMetrics::default() }];
    let all = ResourceMetrics { resource: Some(scope.resource.clone()), scope_metrics, ..ResourceMetrics::default() };
    let bytes = Bytes::from(ExportMetricsServiceRequest { resource_metrics: vec![all] }.encode_to_vec());
    Message { method: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", bytes, size: size as u64, refused }
}

fn refused(answer: &[u8]) -> Option<(u64, String)> {
    let partial = ExportMetricsServiceResponse::decode(answer).ok()?.partial_success?;
    let rejected = u64::try_from(partial.rejected_data_points).unwrap_or(0);
    (rejected > 0).then_some((rejected, partial.error_message))
}

fn metric(family: &Family, at: Moments) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let numbers = || family.rows.iter().filter_map(|(labels, point)| number(labels, point, at)).collect();
    let data = match family.kind {
        Kind::Counter => Data::Sum(Sum { data_points: numbers(), aggregation_temporality: cumulative, is_monotonic: true }),
        Kind::Gauge => Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram => {
            let points = family.rows.iter().filter_map(|(labels, point)| match point {
                Point::Times(times) => Some(histogram(labels, times, at)),
                Point::Counter(_) | Point::Gauge(_) => None,
            });
            Data::Histogram(Histogram { data_points: points.collect(), aggregation_temporality: cumulative })
        }
    };
    let name = format!("sluicegate_{}", family.name);
    // The units of UCUM. Those who make names of Prometheus from them find them there already.
    let unit = if name.ends_with("_seconds") {
        "s"
    } else if name.ends_with("_bytes") {
        "By"
    } else {
        ""
    };
    Metric { name, description: escape::distinct(&family.help).into_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() }
}

fn number(labels: &Labels, point: &Point, at: Moments) -> Option<NumberDataPoint> {
    let (number, start) = match point {
        Point::Counter(number) => (number, nanos(at.start)),
        Point::Gauge(number) => (number, 0),
        Point::Times(_) => return None,
    };
    let value = match number {
        Number::Count(count) => Value::AsInt(i64::try_from(*count).unwrap_or(i64::MAX)),
        Number::Whole(number) => Value::AsInt(*number),
        Number::Fraction(number) => Value::AsDouble(*number),
    };
    Some(NumberDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: start,
        time_unix_nano: nanos(at.now),
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(labels: &Labels, times: &Times, at: Moments) -> HistogramDataPoint {
    let exemplars = times.exemplars.iter().map(|(_, exemplar)| Exemplar {
        time_unix_nano: nanos(exemplar.at),
        trace_id: exemplar.trace.trace.to_be_bytes().to_vec(),
        span_id: exemplar.trace.span.to_be_bytes().to_vec(),
        value: Some(Observed::AsDouble(exemplar.seconds)),
        ..Exemplar::default()
    });
    HistogramDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: nanos(at.start),
        time_unix_nano: nanos(at.now),
        count: times.count(),
        sum: Some(times.sum),
        bucket_counts: times.buckets.iter().map(|(_, count)| *count).collect(),
        explicit_bounds: times.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect(),
        exemplars: exemplars.collect(),
        ..HistogramDataPoint::default()
    }
}

fn attributes(labels: &Labels) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| attribute(name, escape::distinct(value))).collect()
}
