//! What is to be written so that an object's status says what is wished: nothing, or the fields that differ. A pure function of what is there.
//!
//! - A condition keeps its `lastTransitionTime` as long as its `status` is the same, and where nothing but a time would differ nothing is written.
//! - Entries of other controllers stay as they are, and where they are. Ours that no longer apply go.
//! - What was judged of an older version of the object than the status speaks of is not written: a leader that lags behind does not turn the status back.

use serde_json::{Map, Value, json};
use sluicegate_config::plan::{CONTROLLER, GROUP};

use super::kinds::Form;

/// The types of conditions that this gateway writes. Others that an object has are somebody else's.
const OWN: [&str; 7] =
    ["Accepted", "Programmed", "ResolvedRefs", "InsecureFrontendValidationMode", "PartiallyInvalid", "Serving", "Consistent"];

/// The longest message of a condition, in characters, without what says that it was cut; an API server takes one more.
const MESSAGE: usize = 32767;

/// The fields of `status` to write, each as a whole; none if there is nothing to write. `now` is the present time as conditions have it.
pub(crate) fn change(form: Form, present: &Value, wished: &Value, now: &str) -> Option<Value> {
    let mut change = Map::new();
    match form {
        Form::Whole => {
            if is_older(wished, present) {
                return None;
            }
            for (field, wish) in wished.as_object()? {
                let there = &present[field.as_str()];
                let new = match field.as_str() {
                    "conditions" => conditions(there, wish, now, Others::Stay),
                    "listeners" => listeners(there, wish, now),
                    _ => wish.clone(),
                };
                if !is_same(there, &new) {
                    change.insert(field.clone(), new);
                }
            }
        }
        Form::Entries { list, about, most } => {
            let there = &present[list];
            let new = entries(there, &wished[list], about, most, now)?;
            if !is_same(there, &new) {
                change.insert(list.to_owned(), new);
            }
        }
        Form::Addresses => {
            let (there, wish) = (&present["loadBalancer"]["ingress"], &wished["loadBalancer"]["ingress"]);
            if !is_same(there, wish) {
                change.insert("loadBalancer".to_owned(), json!({"ingress": wish}));
            }
        }
    }
    (!change.is_empty()).then_some(Value::Object(change))
}

/// Whether an API server, which leaves out what is empty, makes no difference between the two.
fn is_same(a: &Value, b: &Value) -> bool {
    let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    a == b || (empty(a) && empty(b))
}

/// The generation that the conditions of an entry, or of a status, speak of.
fn observed(entry: &Value) -> Option<i64> {
    let all = entry["conditions"].as_array().into_iter().flatten();
    let own = all.filter(|condition| OWN.iter().any(|own| condition["type"] == *own));
    own.filter_map(|condition| condition["observedGeneration"].as_i64()).max()
}

/// Whether the wish is of an older version of the object than what is there.
fn is_older(wished: &Value, present: &Value) -> bool {
    observed(wished).zip(observed(present)).is_some_and(|(wished, present)| wished < present)
}

/// What becomes of conditions of types that are not wished, and not ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Stay,
    Go,
}

/// Conditions as they are to be, those that were there before in their old order.
fn conditions(present: &Value, wished: &Value, now: &str, others: Others) -> Value {
    let wishes = wished.as_array().map(Vec::as_slice).unwrap_or_default();
    let there = present.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut new: Vec<Value> = Vec::with_capacity(wishes.len());
    for old in there {
        match wishes.iter().find(|wish| wish["type"] == old["type"]) {
            Some(wish) => {
                let same = wish["status"] == old["status"];
                let since = old["lastTransitionTime"].as_str().filter(|_| same).unwrap_or(now);
                new.push(timed(wish, since));
            }
            None if others == Others::Stay && !OWN.iter().any(|own| old["type"] == *own) => new.push(old.clone()),
            None => {}
        }
    }
    let added = wishes.iter().filter(|wish| !there.iter().any(|old| old["type"] == wish["type"]));
    new.extend(added.map(|wish| timed(wish, now)));
    Value::Array(new)
}

fn timed(condition: &Value, since: &str) -> Value {
    let mut condition = condition.clone();
    condition["lastTransitionTime"] = since.into();
    if let Some(end) = condition["message"].as_str().and_then(|message| Some(message.char_indices().nth(MESSAGE)?.0)) {
        let cut = format!("{}…", &condition["message"].as_str().unwrap_or_default()[..end]);
        condition["message"] = cut.into();
    }
    condition
}

/// The listeners of a Gateway or a ListenerSet: all are this gateway's.
fn listeners(present: &Value, wished: &Value, now: &str) -> Value {
    let there = present.as_array().map(Vec::as_slice).unwrap_or_default();
    let new = wished.as_array().into_iter().flatten().map(|wish| {
        let old = there.iter().find(|old| old["name"] == wish["name"]).unwrap_or(&Value::Null);
        let mut new = wish.clone();
        new["conditions"] = conditions(&old["conditions"], &wish["conditions"], now, Others::Go);
        new
    });
    new.collect()
}

/// A list that several controllers write; none if a wish is of an older version than its entry.
fn entries(present: &Value, wished: &Value, about: &str, most: usize, now: &str) -> Option<Value> {
    let mut wishes: Vec<&Value> = wished.as_array().into_iter().flatten().collect();
    let there = present.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut new = Vec::with_capacity(there.len() + wishes.len());
    for old in there {
        if old["controllerName"] != CONTROLLER {
            new.push(old.clone());
            continue;
        }
        let Some(at) = wishes.iter().position(|wish| reference(&wish[about]) == reference(&old[about])) else { continue };
        let wish = wishes.remove(at);
        if is_older(wish, old) {
            return None;
        }
        new.push(entry(wish, &old["conditions"], now));
    }
    // Those of others are not ours to take away.
    let room = most.saturating_sub(new.len());
    new.extend(wishes.into_iter().take(room).map(|wish| entry(wish, &Value::Null, now)));
    Some(Value::Array(new))
}

fn entry(wish: &Value, present: &Value, now: &str) -> Value {
    let mut entry = wish.clone();
    entry["conditions"] = conditions(present, &wish["conditions"], now, Others::Go);
    entry
}

/// A reference with its defaults filled in.
fn reference(given: &Value) -> Value {
    let mut whole = given.clone();
    for (field, default) in [("group", GROUP), ("kind", "Gateway")] {
        if whole.is_object() && whole[field].is_null() {
            whole[field] = default.into();
        }
    }
    whole
}

#[cfg(test)]
mod tests;
