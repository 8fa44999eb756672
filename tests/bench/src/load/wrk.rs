//! wrk, which speaks HTTP/1.1, plain or through TLS. It does not resume TLS sessions, so with a connection for each request each is a full handshake.

use std::process::Command;

use super::{Load, milliseconds};

/// Loads a URL over a number of connections, each with one request after another, for a number of seconds, from core 1. `fresh`: each request has a
/// connection of its own. `fields`: what its head has besides `Host`.
pub(crate) fn load(url: &str, connections: usize, seconds: u64, fresh: bool, fields: &[&str]) -> Result<Load, String> {
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "wrk", "-t1", "--latency", "-c", &connections.to_string(), "-d", &format!("{seconds}s")]);
    if fresh {
        command.args(["-H", "Connection: close"]);
    }
    command.args(fields.iter().flat_map(|field| ["-H", field]));
    let output = command.arg(url).output().map_err(|e| format!("wrk: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = parse(&text);
    found.filter(|load| output.status.success() && load.done > 0).ok_or_else(|| format!("wrk on {url} said: {text}"))
}

fn parse(text: &str) -> Option<Load> {
    let after = |label: &str| text.lines().find_map(|l| l.trim().strip_prefix(label)).map(str::trim);
    let done = text.lines().find_map(|l| l.trim().split_once(" requests in "))?.0.parse().ok()?;
    let errors = after("Socket errors:").map_or(0, |l| l.split(',').filter_map(|p| p.trim().split(' ').nth(1)?.parse::<u64>().ok()).sum());
    let bad = after("Non-2xx or 3xx responses:").map_or(Some(0), |n| n.parse::<u64>().ok())?;
    Some(Load {
        done,
        failures: errors + bad,
        rate: after("Requests/sec:")?.parse().ok()?,
        p50_ms: milliseconds(after("50%")?),
        p99_ms: milliseconds(after("99%")?),
        p999_ms: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints() {
        let text = "Running 5s test @ http://127.0.0.1:1/\n  Latency Distribution\n     50%  617.00us\n     99%    1.85ms\n  \
                    504321 requests in 5.00s, 120.00MB read\n  Socket errors: connect 1, read 2, write 0, timeout 3\n  \
                    Non-2xx or 3xx responses: 4\nRequests/sec: 100864.20\nTransfer/sec:     24.00MB\n";
        let load = parse(text).expect("understood");
        assert_eq!((load.done, load.failures, load.p99_ms), (504_321, 10, Some(1.85)));
        assert!((load.rate - 100_864.2).abs() < 0.01);
    }
}
