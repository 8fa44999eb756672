//! What a scalar is: by YAML 1.1 as go-yaml v2 reads it (its `resolve.go`), which is how Kubernetes does, and by the core schema of YAML 1.2
//! (§10.3.2), which is what many authors have in mind. The two differ in words (`yes`, `on`, `n`), in octal (`0120`) and binary numbers, and in
//! numbers with underscores. Numbers to the base of 60 go-yaml does not read, and dates stay text.

use serde_json::Value;

use super::node::Scalar;

const TAGS: &str = "tag:yaml.org,2002:";

/// The value of a scalar, as it goes into JSON. An error if its tag does not fit or JSON has no such value.
pub(super) fn value(scalar: &Scalar) -> Result<Value, String> {
    let text = scalar.text.as_str();
    let Some(tag) = scalar.tag.as_deref() else {
        return if scalar.plain { jsonable(yaml_1_1(text), text) } else { Ok(text.into()) };
    };
    match tag.strip_prefix(TAGS) {
        Some("binary") => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            let bytes = bytes.map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
            Ok(String::from_utf8_lossy(&bytes).into_owned().into())
        }
        Some("str" | "timestamp") => Ok(text.into()),
        Some(kind @ ("bool" | "int" | "float" | "null")) => {
            let read = yaml_1_1(text);
            let fits = match (kind, &read) {
                ("bool", Read::Bool(_)) | ("int" | "float", Read::Integer(_)) | ("float", Read::Float(_)) | ("null", Read::Null) => true,
                ("int", Read::Float(n)) => n.fract() == 0.0 && n.abs() >= 2_f64.powi(63),
                _ => false,
            };
            if fits { jsonable(read, text) } else { Err(format!("cannot decode {} `{text}` as a !!{kind}", read.tag())) }
        }
        // What an application's own tag means is known to the application only.
        _ => Ok(text.into()),
    }
}

/// The warning for a plain scalar that YAML 1.2 reads otherwise: what it is read as, and how to write what may be meant.
pub(super) fn reading(scalar: &Scalar) -> Option<(String, String)> {
    let text = scalar.text.as_str();
    // Most scalars begin with another letter.
    let suspect = |b: u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'y' | b'Y' | b'n' | b'N' | b'o' | b'O');
    if !scalar.plain || !text.bytes().next().is_some_and(suspect) {
        return None;
    }
    let (old, new) = (yaml_1_1(text), yaml_1_2(text));
    // `08` is a float to YAML 1.1 and an integer to YAML 1.2, and 8 in JSON to both.
    if jsonable(old.clone(), text).ok() == jsonable(new.clone(), text).ok() {
        return None;
    }
    let message = format!("{text} is {} in YAML 1.1, as kubectl reads it, and {} in YAML 1.2", old.words(), new.words());
    let expected = match (&old, &new) {
        (Read::Bool(b), _) => format!("{b}, or {text:?} in quotes if the word is meant"),
        (Read::Integer(n), Read::Text(_)) => format!("{n}, or {text:?} in quotes if the text is meant"),
        (old, new) => format!("{} or {}", old.plain(), new.plain()),
    };
    Some((message, expected))
}

#[derive(Clone, Debug, PartialEq)]
enum Read {
    Null,
    Bool(bool),
    Integer(i128),
    /// A float, or an integer that is too large for the other types.
    Float(f64),
    Text(String),
}

impl Read {
    fn words(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(b) => format!("the boolean {b}"),
            Self::Integer(_) | Self::Float(_) => format!("the number {}", self.plain()),
            Self::Text(_) => "text".to_owned(),
        }
    }

    fn plain(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(b) => b.to_string(),
            Self::Integer(n) => n.to_string(),
            Self::Float(n) => n.to_string(),
            Self::Text(text) => format!("{text:?}"),
        }
    }

    fn tag(&self) -> &'static str {
        match self {
            Self::Null => "!!null",
            Self::Bool(_) => "!!bool",
            Self::Integer(_) => "!!int",
            Self::Float(_) => "!!float",
            Self::Text(_) => "!!str",
        }
    }
}

fn jsonable(read: Read, text: &str) -> Result<Value, String> {
    Ok(match read {
        Read::Null => Value::Null,
        Read::Bool(b) => b.into(),
        Read::Integer(n) => match (i64::try_from(n), u64::try_from(n)) {
            (Ok(n), _) => n.into(),
            (_, Ok(n)) => n.into(),
            _ => (n as f64).into(),
        },
        // Go writes 80.0 and 8e1 as 80 into JSON.
        Read::Float(n) if n.fract() == 0.0 && n.abs() < 2_f64.powi(63) => (n as i64).into(),
        Read::Float(n) if n.is_finite() => n.into(),
        Read::Float(_) => return Err(format!("{text} is no value that JSON has")),
        Read::Text(text) => text.into(),
    })
}

fn yaml_1_1(text: &str) -> Read {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Read::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Read::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Read::Bool(false),
        _ => {}
    }
    let plain = match text.as_bytes()[0] {
        b'0'..=b'9' | b'+' | b'-' => text.replace('_', ""),
        b'.' => text.to_owned(),
        _ => return Read::Text(text.to_owned()),
    };
    integer(&plain).or_else(|| float(text, &plain)).unwrap_or_else(|| Read::Text(text.to_owned()))
}

fn yaml_1_2(text: &str) -> Read {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Read::Null,
        "true" | "True" | "TRUE" => return Read::Bool(true),
        "false" | "False" | "FALSE" => return Read::Bool(false),
        _ => {}
    }
    let based =
        |digits: &str, base: u32| digits.bytes().all(|b| char::from(b).is_digit(base)).then(|| number(digits, base, false)).flatten();
    let found = if let Some(octal) = text.strip_prefix("0o") {
        based(octal, 8)
    } else if let Some(hex) = text.strip_prefix("0x") {
        based(hex, 16)
    } else {
        let (negative, digits) = sign(text);
        number(digits, 10, negative)
    };
    found.or_else(|| float(text, text)).unwrap_or_else(|| Read::Text(text.to_owned()))
}

/// Reads an integer as Go's `strconv.ParseInt` does, to the base that its prefix names. `text` has no underscores any more.
fn integer(text: &str) -> Option<Read> {
    let (negative, digits) = sign(text);
    let lower = digits.get(..2).unwrap_or_default().to_ascii_lowercase();
    match lower.as_str() {
        "0x" => number(&digits[2..], 16, negative),
        "0o" => number(&digits[2..], 8, negative),
        "0b" => number(&digits[2..], 2, negative),
        _ if digits.len() > 1 && digits.starts_with('0') => number(&digits[1..], 8, negative),
        _ => number(digits, 10, negative),
    }
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn number(digits: &str, base: u32, negative: bool) -> Option<Read> {
    if digits.is_empty() {
        return None;
    }
    let (mut exact, mut rough) = (Some(0_i128), 0_f64);
    for c in digits.chars() {
        let digit = c.to_digit(base)?;
        exact = exact.and_then(|n| n.checked_mul(i128::from(base))?.checked_add(i128::from(digit)));
        rough = rough.mul_add(f64::from(base), f64::from(digit));
    }
    if let Some(nearest) = digits.parse().ok().filter(|_| base == 10) {
        rough = nearest;
    }
    Some(match exact.filter(|n| *n <= i128::from(u64::MAX)) {
        Some(n) => Read::Integer(if negative { -n } else { n }),
        None => Read::Float(if negative { -rough } else { rough }),
    })
}

/// Reads a float: `[-+]?(\\.[0-9]+|[0-9]+(\\.[0-9]*)?)([eE][-+]?[0-9]+)?`, or one of the words for infinity and for what is no number.
fn float(text: &str, plain: &str) -> Option<Read> {
    match text {
        ".nan" | ".NaN" | ".NAN" => return Some(Read::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(Read::Float(f64::INFINITY)),
        "-.inf" | "-.Inf" | "-.INF" => return Some(Read::Float(f64::NEG_INFINITY)),
        _ => {}
    }
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (_, rest) = sign(plain);
    let whole = digits(rest);
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = digits(fraction);
        if whole == 0 && length == 0 {
            return None;
        }
        rest = &fraction[length..];
    } else if whole == 0 {
        return None;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let (_, exponent) = sign(exponent);
        if exponent.is_empty() || digits(exponent) < exponent.len() {
            return None;
        }
    } else if !rest.is_empty() {
        return None;
    }
    plain.parse().ok().map(Read::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: true, tag: None }
    }

    #[test]
    fn plain_scalars_are_what_go_yaml_makes_of_them() {
        let cases = [
            ("yes", json!(true)),
            ("y", json!(true)),
            ("On", json!(true)),
            ("N", json!(false)),
            ("off", json!(false)),
            ("True", json!(true)),
            ("yEs", json!("yEs")),
            ("~", json!(null)),
            ("Null", json!(null)),
            ("", json!(null)),
            ("nil", json!("nil")),
            ("80", json!(80)),
            ("+80", json!(80)),
            ("-8", json!(-8)),
            ("0120", json!(80)),
            ("0o120", json!(80)),
            ("0x50", json!(80)),
            ("0X50", json!(80)),
            ("0b1010000", json!(80)),
            ("-0b11", json!(-3)),
            ("8_0", json!(80)),
            ("1__0_", json!(10)),
            ("08", json!(8)),
            ("0", json!(0)),
            ("00", json!(0)),
            ("80.0", json!(80)),
            ("8e1", json!(80)),
            ("8E+1", json!(80)),
            (".5", json!(0.5)),
            ("1.", json!(1)),
            ("1.5", json!(1.5)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("1e400x", json!("1e400x")),
            ("190:20:30", json!("190:20:30")),
            ("2001-12-14", json!("2001-12-14")),
            ("2001-12-14T21:59:43Z", json!("2001-12-14T21:59:43Z")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("1.2.3", json!("1.2.3")),
            ("-", json!("-")),
            ("+", json!("+")),
            (".", json!(".")),
            ("0x", json!("0x")),
            ("0xg", json!("0xg")),
            ("5s", json!("5s")),
            ("10Mi", json!("10Mi")),
            ("e1", json!("e1")),
            ("1e", json!("1e")),
        ];
        for (text, expected) in cases {
            assert_eq!(value(&plain(text)), Ok(expected), "{text:?}");
        }
        assert_eq!(value(&plain("99999999999999999999999")).expect("a number").as_f64(), Some(1e23));
        for text in [".inf", "-.INF", ".nan", "1e999"] {
            assert!(value(&plain(text)).is_err(), "{text}");
        }
        assert_eq!(value(&Scalar { plain: false, ..plain("yes") }), Ok(json!("yes")));
    }

    #[test]
    fn a_tag_decides() {
        let tagged = |tag: &str, text: &str| value(&Scalar { text: text.to_owned(), plain: false, tag: Some(tag.replace("!!", TAGS)) });
        assert_eq!(tagged("!!int", "80"), Ok(json!(80)));
        assert_eq!(tagged("!!str", "80"), Ok(json!("80")));
        assert_eq!(tagged("!!float", "3"), Ok(json!(3)));
        assert_eq!(tagged("!!bool", "no"), Ok(json!(false)));
        assert_eq!(tagged("!!binary", "YWJj"), Ok(json!("abc")));
        assert_eq!(tagged("!custom", "80"), Ok(json!("80")));
        assert_eq!(tagged("!!int", "abc"), Err("cannot decode !!str `abc` as a !!int".to_owned()));
    }

    #[test]
    fn what_yaml_1_2_reads_otherwise_is_said() {
        let said = |text: &str| reading(&plain(text)).map(|(message, _)| message);
        assert_eq!(said("yes").as_deref(), Some("yes is the boolean true in YAML 1.1, as kubectl reads it, and text in YAML 1.2"));
        assert_eq!(said("0120").as_deref(), Some("0120 is the number 80 in YAML 1.1, as kubectl reads it, and the number 120 in YAML 1.2"));
        assert_eq!(said("8_0").as_deref(), Some("8_0 is the number 80 in YAML 1.1, as kubectl reads it, and text in YAML 1.2"));
        for same in ["true", "08", "0x1f", "0o17", "1e3", "80", "a", "2001-12-14", "no-op", "10.0.0.1", "null", "-1"] {
            assert_eq!(said(same), None, "{same}");
        }
    }
}
