//! h2load, which speaks HTTP/2 with prior knowledge.

use std::path::Path;
use std::process::Command;

use super::Load;

/// A unary call's message: a prefix, with the length, and five bytes (gRPC over HTTP/2, "Requests").
pub(crate) const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

/// Loads a URL over a number of connections with a number of streams each, for a number of seconds, from core 1. `call`: a file with the message of a unary
/// gRPC call, for which each request is one.
pub(crate) fn load(url: &str, connections: usize, streams: usize, seconds: u64, call: Option<&Path>) -> Result<Load, String> {
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "h2load", "-t1", "-c", &connections.to_string(), "-m", &streams.to_string(), "-D", &seconds.to_string()]);
    if let Some(call) = call {
        command.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"]).arg(call);
    }
    let output = command.arg(url).output().map_err(|e| format!("h2load: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = parse(&text);
    if let (Some(_), Some(load)) = (call, &found)
        && content(&text).is_none_or(|bytes| bytes < load.done * MESSAGE.len() as u64)
    {
        // A call that fails is answered with 200 as well, but without a message.
        return Err(format!("h2load on {url}: calls were answered without a message: {text}"));
    }
    found.filter(|load| output.status.success() && load.done > 0).ok_or_else(|| format!("h2load on {url} said: {text}"))
}

fn parse(text: &str) -> Option<Load> {
    let line = |label: &str| text.lines().find_map(|l| l.strip_prefix(label));
    // `finished in 5.00s, 45678.20 req/s, 6.12MB/s`
    let rate = line("finished in ")?.split(", ").nth(1)?.strip_suffix(" req/s")?.parse().ok()?;
    // `requests: 228391 total, 228391 started, 228391 done, 228391 succeeded, 0 failed, 0 errored, 0 timeout`
    let requests = line("requests: ")?;
    let count = |what: &str| requests.split(", ").find_map(|part| part.strip_suffix(what)).and_then(|n| n.parse::<u64>().ok());
    // Requests that were under way when the time was over count as neither.
    Some(Load { done: count(" succeeded")?, failures: count(" errored")? + count(" timeout")? + bad(text)?, rate, ..Load::default() })
}

/// The bytes of content, from `traffic: 6.12MB (6417000) total, 1.31MB (1370000) headers (space savings 50.00%), 2.18MB (2284000) data`.
fn content(text: &str) -> Option<u64> {
    let traffic = text.lines().find_map(|l| l.strip_prefix("traffic: "))?;
    traffic.rsplit(", ").next()?.strip_suffix(") data")?.rsplit_once('(')?.1.parse().ok()
}

/// The number of answers with an error status, from `status codes: 228391 2xx, 0 3xx, 0 4xx, 0 5xx`.
fn bad(text: &str) -> Option<u64> {
    let codes = text.lines().find_map(|l| l.strip_prefix("status codes: "))?;
    codes
        .split(", ")
        .filter(|code| code.ends_with("4xx") || code.ends_with("5xx"))
        .map(|code| code.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_h2load_prints() {
        let text = "starting benchmark...\n\nfinished in 5.00s, 45678.20 req/s, 6.12MB/s\n\
                    traffic: 6.12MB (6417000) total, 1.31MB (1370000) headers (space savings 50.00%), 2.18MB (2284000) data\n\
                    requests: 228391 total, 228455 started, 228391 done, 228390 succeeded, 1 failed, 2 errored, 3 timeout\n\
                    status codes: 228390 2xx, 0 3xx, 4 4xx, 5 5xx\n";
        let load = parse(text).expect("understood");
        assert_eq!((load.done, load.failures), (228_390, 14));
        assert_eq!(content(text), Some(2_284_000));
        assert!((load.rate - 45_678.2).abs() < 0.01);
    }
}
