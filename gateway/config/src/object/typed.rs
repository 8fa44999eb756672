//! Reads a document as its kind's type, and finds every wrong type and missing field at once. serde stops at the first one; so what is wrong is noted, a
//! value that fits is put in its place, and the document is read again.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::misfit::{Error, Misfit};
use super::reader::{Notes, Reader, Step, dotted};

/// How many faults of one document are looked for. Each one costs some readings of the document.
const MAX_FAULTS: usize = 32;

/// What became of a document.
pub(super) struct Typed<T> {
    /// The content, with stand-ins where it was wrong; none if nothing fits.
    pub(super) body: Option<T>,
    /// Fields that the type does not have.
    pub(super) unknown: Vec<String>,
    /// The fields that are wrong, each with what is wrong about it.
    pub(super) wrong: Vec<(String, Misfit)>,
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
        // A field that was removed, and is missing now, has been told already.
        let known = told.contains(&failure.at);
        if !known {
            wrong.push((failure.path.clone(), failure.misfit.clone()));
            told.push(failure.at.clone());
        }
        let Some((mended, found, next)) = mend::<T>(&value, &failure, known) else { break };
        value = mended;
        // Stand-ins have no unknown fields, so those found by the last reading are all of them.
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
    misfit: Misfit,
    /// The field to mend: the wrong one, or the missing one.
    at: Vec<Step>,
}

fn attempt<T: DeserializeOwned>(value: &Value) -> (Vec<String>, Result<T, Failure>) {
    let notes = Notes::default();
    let made = Reader::new(value, &notes).read(PhantomData::<T>);
    let Notes { unknown, failed } = notes;
    // `apiVersion` and `kind` are read with the document. Generated types have these fields, and ours do not.
    let unknown = unknown.into_inner().iter().map(|steps| dotted(steps)).filter(|path| path != "apiVersion" && path != "kind").collect();
    (unknown, made.map_err(|error| Failure::new(failed.into_inner().unwrap_or_default(), error)))
}

impl Failure {
    fn new(mut at: Vec<Step>, Error(misfit): Error) -> Self {
        let path = dotted(&at);
        if let Misfit::Missing(field) = *misfit {
            at.push(Step::Key(field.to_owned()));
        }
        Self { path, misfit: *misfit, at }
    }
}

/// The first stand-in with which the document can be read, or fails at another place. `required`: the field may not be left out.
fn mend<T: DeserializeOwned>(value: &Value, failure: &Failure, required: bool) -> Option<(Value, Vec<String>, Result<T, Failure>)> {
    // For an enumeration the word is tried first that is most like what stands there, as other rules may depend on it, and a misspelt word says more than
    // none.
    let (misspelt, named) = match &failure.misfit {
        Misfit::Word { given, known } => (most_like(given, known), None),
        _ => (None, words::<T>(value, failure).and_then(|known| most_like("", known))),
    };
    let stand_ins = [Value::from(""), Value::from(0), serde_json::json!([]), serde_json::json!({}), Value::from(false)];
    let notations = ["1s", "1", "1-1", "127.0.0.1", "127.0.0.0/8", "127.0.0.1:1", "1970-01-01T00:00:00Z"].map(Value::from);
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

fn most_like(given: &str, known: &[&'static str]) -> Option<Value> {
    let like = |word: &&&str| strsim::jaro_winkler(given, word);
    known.iter().min_by(|a, b| like(b).total_cmp(&like(a))).map(|word| Value::from(*word))
}

/// The words of an enumeration where a value of another type stands. Its type names them only when it is given a text.
fn words<T: DeserializeOwned>(value: &Value, failure: &Failure) -> Option<&'static [&'static str]> {
    let mut worded = value.clone();
    put(&mut worded, &failure.at, Some("".into()))?;
    match attempt::<T>(&worded).1 {
        Err(Failure { misfit: Misfit::Word { known, .. }, at, .. }) if at == failure.at => Some(known),
        _ => None,
    }
}

/// Sets a field, or removes it if there is no value. Returns none if there is no such place.
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
        // Removing an item of a list would move those behind it.
        (Step::Index(_), None) => return None,
    }
    Some(())
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
