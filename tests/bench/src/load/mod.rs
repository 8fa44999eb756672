//! Load generators, all on the core that the proxies do not use, and the results of their load.

pub(crate) mod fixed;
pub(crate) mod h2load;
pub(crate) mod udp;
pub(crate) mod websocket;
pub(crate) mod wrk;

/// The result of a load.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// How many requests, connections or datagrams were answered.
    pub(crate) done: u64,
    pub(crate) failures: u64,
    /// How many were answered in a second.
    pub(crate) rate: f64,
    /// Percentiles in milliseconds; none if the generator does not report them.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) p999_ms: Option<f64>,
}

/// Parses `1.85ms`, `617us` or `2.5s`.
fn milliseconds(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..unit].parse().ok()?;
    Some(match &text[unit..] {
        "us" => number / 1e3,
        "ms" => number,
        "s" => number * 1e3,
        _ => return None,
    })
}
