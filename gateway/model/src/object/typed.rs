//! From a document to its kind's type, with every wrong type and missing field found at once: serde stops at the first one, so what is wrong is
//! told, something fitting is put in its place, and the rest is read again.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// Faults of one document that are looked for. Each costs reading it a few times.
const MAX_FAULTS: usize = 32;

/// What became of a document.
pub(super) struct Typed<T> {
    /// Its content; where it was wrong, something else. None if nothing fits.
    pub(super) body: Option<T>,
    /// Fields that the type does not have.
    pub(super) unknown: Vec<String>,
    /// What is wrong: the field, and what is wrong with it.
    pub(super) wrong: Vec<(String, String)>,
}

/// Reads a document as a type.
pub(super) fn read<T: DeserializeOwned>(value: &Value) -> Typed<T> {
    let (mut unknown, first) = attempt::<T>(value);
    let mut failure = match first {
        Ok(body) => return Typed { body: Some(body), unknown, wrong: Vec::new() },
        Err(failure) => failure,
    };
    let (mut value, mut wrong, mut told) = (value.clone(), Vec::new(), Vec::new());
    while wrong.len() < MAX_FAULTS {
        // A field that was taken out and now is missing has been told of.
        let known = told.contains(&failure.at);
        if !known {
            wrong.push((failure.path.clone(), failure.message.clone()));
            told.push(failure.at.clone());
        }
        let Some((mended, found, next)) = mend::<T>(&value, &failure, known) else { break };
        value = mended;
        // What is put in has no unknown fields: those found last are all of them.
        unknown = found;
        failure = match next {
            Ok(body) => return Typed { body: Some(body), unknown, wrong },
            Err(next) => next,
        };
    }
    Typed { body: None, unknown, wrong }
}

struct Failure {
    path: String,
    message: String,
    /// The field to mend: the wrong one, or the missing one.
    at: Vec<Step>,
}

#[derive(Clone, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

fn attempt<T: DeserializeOwned>(value: &Value) -> (Vec<String>, Result<T, Failure>) {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let inner = serde_path_to_error::Deserializer::new(value, &mut track);
    let made = serde_ignored::deserialize(inner, |path| unknown.push(dotted(&path)));
    // `apiVersion` and `kind` are read with the document; generated types know them, ours do not.
    unknown.retain(|path| path != "apiVersion" && path != "kind");
    let failed = |error: serde_json::Error| {
        let path = track.path();
        let mut at: Vec<Step> = path
            .iter()
            .filter_map(|segment| match segment {
                Segment::Map { key } => Some(Step::Key(key.clone())),
                Segment::Seq { index } => Some(Step::Index(*index)),
                Segment::Enum { .. } | Segment::Unknown => None,
            })
            .collect();
        let message = error.to_string();
        if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            at.push(Step::Key(field.to_owned()));
        }
        let path = path.to_string();
        Failure { path: if path == "." { String::new() } else { path }, message, at }
    };
    (unknown, made.map_err(failed))
}

/// The first stand-in with which the document reads, or fails elsewhere. `required`: the field may not be left out.
fn mend<T: DeserializeOwned>(value: &Value, failure: &Failure, required: bool) -> Option<(Value, Vec<String>, Result<T, Failure>)> {
    // Of an enumeration: of the values that serde names the one most like what stands there, of which other rules may depend.
    let message = values::<T>(value, failure).unwrap_or_else(|| failure.message.clone());
    let mut quoted = message.split('`').skip(1).step_by(2);
    let given = message.starts_with("unknown variant").then(|| quoted.next()).flatten().unwrap_or_default();
    let like = |word: &&str| strsim::jaro_winkler(given, word);
    let named = quoted.min_by(|a, b| like(b).total_cmp(&like(a))).map(Value::from);
    let stand_ins = [Value::from(""), Value::from(0), serde_json::json!([]), serde_json::json!({}), Value::from(false)];
    let notations = ["1s", "1", "1-1", "127.0.0.1", "127.0.0.0/8", "127.0.0.1:1", "1970-01-01T00:00:00Z"].map(Value::from);
    // Left out, if it may be; but of a misspelt value the right one says more.
    let misspelt = named.clone().filter(|_| failure.message.starts_with("unknown variant"));
    let left_out = (!required).then_some(None);
    let all = misspelt.map(Some).into_iter().chain(left_out).chain(named.into_iter().chain(stand_ins).chain(notations).map(Some));
    all.into_iter().find_map(|stand_in| {
        let mut mended = value.clone();
        put(&mut mended, &failure.at, stand_in)?;
        let (unknown, next) = attempt::<T>(&mended);
        let elsewhere = next.as_ref().err().is_none_or(|next| next.at != failure.at);
        elsewhere.then_some((mended, unknown, next))
    })
}

/// Serde's message that names the values of an enumeration where another type stands: it says so of a word only.
fn values<T: DeserializeOwned>(value: &Value, failure: &Failure) -> Option<String> {
    let mut worded = value.clone();
    put(&mut worded, &failure.at, Some("".into()))?;
    let next = attempt::<T>(&worded).1.err().filter(|next| next.at == failure.at && next.message.starts_with("unknown variant"))?;
    Some(next.message).filter(|_| !failure.message.starts_with("unknown variant"))
}

/// Sets or, for none, removes a field. None if there is no such place.
fn put(value: &mut Value, at: &[Step], what: Option<Value>) -> Option<()> {
    let (last, way) = at.split_last()?;
    let parent = way.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    })?;
    match (last, what) {
        (Step::Key(key), Some(what)) => drop(parent.as_object_mut()?.insert(key.clone(), what)),
        (Step::Key(key), None) => drop(parent.as_object_mut()?.remove(key)?),
        (Step::Index(index), Some(what)) => *parent.get_mut(*index)? = what,
        // Its neighbours' places would move.
        (Step::Index(_), None) => return None,
    }
    Some(())
}

/// `spec.ports[0].foo`, as kubectl writes it.
fn dotted(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", dotted(parent)),
        Path::Map { parent, key } => {
            let parent = dotted(parent);
            if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") }
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => dotted(parent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Router,
        Balancer,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Spec {
        kind: Kind,
        size: u8,
        names: Vec<String>,
        note: Option<String>,
    }

    fn wrong(value: Value) -> (Option<Spec>, Vec<String>) {
        let read = read::<Spec>(&value);
        (read.body, read.wrong.into_iter().map(|(path, what)| format!("{path}: {what}")).collect())
    }

    #[test]
    fn every_wrong_and_missing_field_is_told_once() {
        let (body, told) = wrong(serde_json::json!({"kind": "balanser", "names": ["a", 1, 2], "note": {}}));
        let body = body.expect("it reads with something in their places");
        assert!(matches!(body.kind, Kind::Balancer), "what is most like it");
        assert_eq!((body.size, body.names.len(), body.note), (0, 3, None));
        assert_eq!(
            told,
            [
                "kind: unknown variant `balanser`, expected `router` or `balancer`",
                "names[1]: invalid type: integer `1`, expected a string",
                "names[2]: invalid type: integer `2`, expected a string",
                "note: invalid type: map, expected a string",
                ": missing field `size`",
            ]
        );
        assert!(matches!(wrong(serde_json::json!({"kind": 1, "size": 300, "names": []})), (Some(_), told) if told.len() == 2));
        assert_eq!(wrong(serde_json::json!([])).1.len(), 1);
    }
}
