//! What sources of objects see, such as an API server: of each kind whether it is followed, and what that has taken.

use sluicegate_model::status::sources::{KindReport, SourceReport, SourceState};
use sluicegate_model::telemetry::metric::Point;

use super::family::{Labels, Page, family};

/// Who writes, and what comes of it.
fn writing(e: &mut Page, reports: &[SourceReport]) {
    let all = || {
        reports.iter().filter_map(|source| {
            let writing = source.writing.as_ref()?;
            Some((vec![("source", source.name.clone())], writing))
        })
    };
    let leads = all().map(|(labels, writing): (Labels, _)| (labels, Point::gauge(i64::from(writing.leads))));
    family(e, "source_leads", "Whether this gateway is the one of many that writes to an API server", leads);
    let begun = all().map(|(labels, writing)| (labels, Point::counter(writing.begun)));
    family(e, "source_leads_begun", "How often this gateway has become the one that writes", begun);
    let pending = all().map(|(labels, writing)| (labels, Point::gauge(i64::try_from(writing.pending).unwrap_or(i64::MAX))));
    family(e, "source_writes_pending", "Objects that are not known to be, at the API server, as they are to be", pending);
    let writes = all().flat_map(|(labels, writing)| {
        writing.writes.iter().map(move |write| {
            let mut labels = labels.clone();
            let texts = [("kind", write.kind), ("part", write.part), ("result", write.result)];
            labels.extend(texts.map(|(name, text)| (name, text.to_owned())));
            (labels, Point::counter(write.count))
        })
    });
    family(e, "source_writes", "Writes of objects, or of their status, by what came of them", writes)
}

pub(super) fn encode(e: &mut Page, reports: &[SourceReport]) {
    let of = |source: &SourceReport| -> Labels { vec![("source", source.name.clone())] };
    let requests = reports.iter().map(|source| (of(source), Point::counter(source.requests)));
    family(e, "source_requests", "Requests that sources of objects have made", requests);
    let bytes = reports.iter().map(|source| (of(source), Point::counter(source.bytes)));
    family(e, "source_received_bytes", "Bytes that sources of objects were answered", bytes);
    let kinds = || {
        reports.iter().flat_map(|source| {
            source.kinds.iter().map(move |kind: &KindReport| -> (Labels, &KindReport) {
                (vec![("source", source.name.clone()), ("kind", kind.kind.to_owned())], kind)
            })
        })
    };
    let followed = |kind: &KindReport| i64::from(kind.state <= SourceState::Missing);
    let rows = kinds().map(|(labels, kind)| (labels, Point::gauge(followed(kind))));
    family(e, "source_followed", "Whether a source tells what changes of a kind; also if it does not have the kind", rows);
    let since = kinds().map(|(labels, kind)| (labels, Point::gauge(kind.since.cast_signed())));
    family(e, "source_since_seconds", "Since when a kind stands as it does, in seconds since 1970", since);
    let objects = kinds().map(|(labels, kind)| (labels, Point::gauge(i64::try_from(kind.objects).unwrap_or(i64::MAX))));
    family(e, "source_objects", "Objects of a kind that are known", objects);
    let requests = kinds().map(|(labels, kind)| (labels, Point::counter(kind.requests)));
    family(e, "source_kind_requests", "Requests that a kind has taken", requests);
    let bytes = kinds().map(|(labels, kind)| (labels, Point::counter(kind.bytes)));
    family(e, "source_kind_received_bytes", "Bytes that a kind has taken", bytes);
    writing(e, reports)
}
