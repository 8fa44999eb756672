//! Durations as Go and GEP-2257 write them.

use std::time::Duration;

/// A duration of hours, minutes, seconds, milliseconds and microseconds, such as `1h30m`, `20ms` or `0s`. None: the text is not a duration, or it is too
/// long a duration.
pub fn parse(mut text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = text[..digits].parse().ok()?;
        text = &text[digits..];
        let unit = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
        sum = sum.checked_add(match &text[..unit] {
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            "us" | "µs" => Duration::from_micros(number),
            _ => return None,
        })?;
        text = &text[unit..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_apart_and_what_is_too_long_is_none() {
        assert_eq!(parse("1h30m5s"), Some(Duration::from_secs(5_405)));
        assert_eq!(parse("5ms"), Some(Duration::from_millis(5)), "not five minutes");
        assert_eq!(parse("3us"), parse("3µs"));
        assert_eq!(parse("0s"), Some(Duration::ZERO));
        for wrong in ["", "5", "s", "5 s", "-5s", "1.5s", "5d", "99999999999999999999s", "18446744073709551615h", "soon"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
