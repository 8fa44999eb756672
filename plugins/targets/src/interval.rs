//! A time span in a configuration: `500ms`, `30s`, `5m`, `1h`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

/// A time span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Interval(pub Duration);

impl Default for Interval {
    /// The default is half of Prometheus', as requests fail until new endpoints are known.
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = match &text[digits..] {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            _ => None,
        };
        let ms = text[..digits].parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
        let wrong = || de::Error::custom(format!("{text:?} is not a duration such as \"30s\" or \"5m\""));
        ms.map(|ms| Self(Duration::from_millis(ms))).ok_or_else(wrong)
    }
}
