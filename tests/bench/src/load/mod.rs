//! Load generators, all on the core that the proxies do not use, and what came of their load.

pub(crate) mod h2load;
pub(crate) mod udp;
pub(crate) mod wrk;

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Load {
    /// Requests, connections or datagrams that were answered.
    pub(crate) done: u64,
    pub(crate) failures: u64,
    /// A second.
    pub(crate) rate: f64,
    /// None where the generator does not say.
    pub(crate) p99_ms: Option<f64>,
}

/// `1.85ms`, `617us`, `2.5s`.
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
