//! The log that a guest writes to. It is bounded in lines a second, bytes a line, and fields.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::State;
use crate::bindings::balancer::sluicegate::plugin::host;

/// The number of lines that a guest may write each second; further lines are counted and dropped.
const LINES_PER_SECOND: u32 = 20;
/// The longest message, and the longest text of a field, in bytes; the rest is cut off.
const LINE_BYTES: usize = 4096;
/// The longest name of a field, in bytes; the rest is cut off.
const NAME_BYTES: usize = 64;
/// The largest number of fields; further ones are left out.
const FIELDS: usize = 16;

/// The lines of the current second.
pub(crate) struct Window {
    since: Instant,
    lines: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { since: Instant::now(), lines: 0 }
    }
}

impl Window {
    /// Whether a line may be written. When a new second begins, it also returns how many lines of the last one were dropped.
    fn admit(&mut self) -> (bool, Option<u32>) {
        let mut dropped = None;
        if self.since.elapsed() > Duration::from_secs(1) {
            dropped = self.lines.checked_sub(LINES_PER_SECOND).filter(|lines| *lines > 0);
            *self = Self::default();
        }
        self.lines = self.lines.saturating_add(1);
        (self.lines <= LINES_PER_SECOND, dropped)
    }
}

impl host::Host for State {
    fn log(&mut self, level: host::Level, mut message: String, fields: Vec<(String, host::Value)>) {
        let (admitted, dropped) = self.log.admit();
        let plugin = &self.plugin;
        if let Some(dropped) = dropped {
            tracing::warn!(%plugin, dropped, "the plugin logs too much");
        }
        if !admitted {
            return;
        }
        cut(&mut message, LINE_BYTES);
        // The names of fields are known only now, and `tracing` wants them when it is compiled. So there is one field, in JSON, which escapes them, too.
        let fields = (!fields.is_empty()).then(|| json(fields)).map(tracing::field::display);
        match level {
            host::Level::Debug => tracing::debug!(%plugin, fields, "{message}"),
            host::Level::Info => tracing::info!(%plugin, fields, "{message}"),
            host::Level::Warn => tracing::warn!(%plugin, fields, "{message}"),
            host::Level::Error => tracing::error!(%plugin, fields, "{message}"),
        }
    }

    fn random(&mut self) -> u64 {
        self.next_random()
    }
}

fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
    }
}

/// The fields as one JSON object. Of two with the same name the last counts.
fn json(fields: Vec<(String, host::Value)>) -> Value {
    let mut room = LINE_BYTES;
    let mut object = Map::new();
    for (mut name, value) in fields.into_iter().take(FIELDS) {
        cut(&mut name, NAME_BYTES);
        let value = match value {
            host::Value::Text(mut text) => {
                cut(&mut text, room);
                room -= text.len();
                Value::String(text)
            }
            host::Value::Integer(number) => number.into(),
            // JSON has no infinities, and nothing for what is not a number.
            host::Value::Number(number) => serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number),
            host::Value::Boolean(truth) => truth.into(),
        };
        object.insert(name, value);
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_escaped_and_bounded() {
        let text = |text: &str| host::Value::Text(text.to_owned());
        let fields = [
            ("a", text("x\n\"")),
            ("n", host::Value::Integer(-3)),
            ("f", host::Value::Number(f64::NAN)),
            ("b", host::Value::Boolean(true)),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value)).to_vec();
        assert_eq!(json(fields).to_string(), r#"{"a":"x\n\"","b":true,"f":"NaN","n":-3}"#);
        let many = (0..100).map(|i| (format!("{i}{}", "é".repeat(1000)), text(&"ü".repeat(3000)))).collect();
        let Value::Object(object) = json(many) else { panic!("an object") };
        assert_eq!(object.len(), FIELDS);
        let bytes: usize = object.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
        assert!(bytes <= LINE_BYTES + FIELDS * NAME_BYTES, "{bytes}");
    }

    #[test]
    fn lines_beyond_the_rate_are_counted_and_told_in_the_next_second() {
        let mut window = Window::default();
        let admitted = (0..50).filter(|_| window.admit().0).count();
        assert_eq!(admitted, LINES_PER_SECOND as usize);
        let Some(past) = Instant::now().checked_sub(Duration::from_secs(2)) else { return };
        window.since = past;
        assert_eq!(window.admit(), (true, Some(30)));
        assert_eq!(window.admit(), (true, None));
    }
}
