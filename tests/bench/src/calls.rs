//! What the calls into plugins cost by themselves, in the gateway's own host code, as its `plugin bench` measures it.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// One kind of call.
#[derive(Serialize)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// Nanoseconds for each call, the median of the batches.
    pub(crate) nanos: f64,
    /// Instructions of the guest for each call.
    pub(crate) instructions: f64,
    /// Whether the call is made for each request of the L7 row.
    pub(crate) in_path: bool,
}

/// What `plugin bench -o json` prints.
#[derive(Deserialize)]
struct Measured {
    plugin: String,
    call: String,
    size: usize,
    nanoseconds: f64,
    instructions: f64,
}

fn bench(gateway: &Path, arguments: &[&str]) -> Result<Vec<Measured>, String> {
    let run = Command::new(gateway).args(["plugin", "bench", "--alone", "--time-ms", "200", "-o", "json"]).args(arguments).output();
    let run = run.map_err(|e| format!("{}: {e}", gateway.display()))?;
    if !run.status.success() {
        return Err(format!("{}: {}", gateway.display(), String::from_utf8_lossy(&run.stderr)));
    }
    serde_json::from_slice(&run.stdout).map_err(|e| format!("plugin bench: {e}"))
}

pub(crate) fn measure(gateway: &Path) -> Result<Vec<Call>, String> {
    let mut calls = Vec::new();
    let mut add = |measured: Measured, more: &str, in_path| {
        let Measured { plugin, call, size, nanoseconds, instructions } = measured;
        let of = if call == "pick" { "endpoints" } else { "rules" };
        calls.push(Call { name: format!("{call}: {plugin}, {size} {of}{more}"), nanos: nanoseconds, instructions, in_path });
    };
    for measured in bench(gateway, &["--sizes", "4,100", "least-request", "round-robin", "random", "maglev"])? {
        let in_path = measured.plugin == "least-request" && measured.size == 4;
        if in_path || measured.size == 100 {
            add(measured, "", in_path);
        }
    }
    for (header, more) in [(false, ""), (true, ", 1 header")] {
        let config = format!("rules={}", crate::peers::rules(header));
        for measured in bench(gateway, &["rules", "--config", &config])? {
            add(measured, more, !header);
        }
    }
    for routes in crate::peers::ROUTES {
        // The configuration is too long for an argument.
        let file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        crate::peers::write(file.path(), crate::peers::routes(routes).to_string())?;
        for measured in bench(gateway, &["rules", "--config", &format!("rules=@{}", file.path().display())])? {
            add(measured, " of one host name", false);
        }
    }
    Ok(calls)
}
