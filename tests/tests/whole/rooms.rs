//! The order of modules inside crates, which Cargo does not enforce: each room knows the rooms below it in its crate's list, and none above. So there are
//! no cycles between rooms. The maps in `gateway/README.md` show the same.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of each crate, from what knows most to what knows least. A room is a file or a folder of `src`; a file belongs to the room with the longest
/// name that fits. Rooms in one line may know one another.
const CRATES: &[(&str, &[&str])] = &[
    (
        "gateway",
        &[
            "command",
            "demo",
            "takeover",
            "cluster",
            "explain",
            "shadow",
            "compare",
            "loaded",
            "settled",
            "apart",
            "stop",
            "standard_error",
            "allocator",
            "error",
        ],
    ),
    (
        "gateway/config",
        &[
            "status",
            "diagnose",
            "plan",
            "settings",
            "crd",
            "validate",
            "objects",
            "object",
            "builtins",
            "schema",
            "structural",
            "family",
            "manifest",
        ],
    ),
    (
        "gateway/model",
        &[
            "status",
            "state_store",
            "record",
            "requests",
            "shadow",
            "snapshot",
            "discovery",
            "native",
            "trace",
            "plugin",
            "rollout",
            "shared",
            "pool",
            "writer",
            "telemetry",
            "route",
            "stats",
            "tls",
            "limiter",
            "limits",
            "health",
            "config_text",
            "fault",
            "settings",
            "session",
            "access_log",
            "address",
            "allowed_file",
            "cookie",
            "counters",
            "duration",
            "egress",
            "escape",
            "explain",
            "family",
            "fields",
            "hash",
            "lazy",
            "operate",
            "path",
            "persistent",
            "service",
            "slots",
            "sorted",
            "trace_context",
            "unique",
            "unix",
        ],
    ),
    ("gateway/decide", &["way", "target", "host", "redirect", "cors", "method", "ladder", "answer", "grpc"]),
    (
        "gateway/proxy",
        &[
            "worker",
            "accepting",
            "incoming",
            "accept",
            "tls",
            "http",
            "http/serve",
            "udp",
            "tcp",
            "http/exchange",
            "http/upstream",
            "http/body",
            "http/client",
            "http/rules",
            "http/error",
            "endpoint",
            "http2",
            "http3",
            "stream",
            "core",
            "overload",
            "origin",
            "proxy_protocol",
            "access",
            "sampled",
            "h1",
            "binding",
            "adopted",
            "quic",
            "tls/hello",
            "alert",
            "blocked",
            "descriptors",
            "listener",
            "watched",
        ],
    ),
    (
        "gateway/host",
        &[
            "inspect",
            "load",
            "kinds",
            "v0_1",
            "balancer router discovery",
            "direct",
            "kind",
            "state",
            "bindings wasi",
            "version",
            "recorder",
            "cache",
            "engine",
            "digest",
            "background",
        ],
    ),
    ("gateway/acme", &["orders", "order", "client", "kept", "schedule", "problem"]),
    (
        "gateway/control",
        &[
            "controller",
            "status",
            "assemble",
            "health",
            "store",
            "allocate",
            "plugins",
            "discovery",
            "sources",
            "saved",
            "keep",
            "tickets",
            "acme",
            "state_file",
            "regular",
            "port",
            "local",
            "node_addresses",
        ],
    ),
    (
        "gateway/cluster",
        &[
            "source",
            "nodes",
            "infrastructure",
            "status",
            "events",
            "turn",
            "counts",
            "fleet",
            "lead",
            "leader",
            "anyip",
            "seen",
            "kinds",
            "client",
            "reach",
            "connection",
        ],
    ),
    (
        "gateway/admin",
        &[
            "config",
            "counters",
            "connections",
            "guard",
            "live",
            "gate",
            "connection",
            "patient",
            "attempts",
            "tokens",
            "refused",
            "access",
            "tree",
            "record",
            "requests",
            "shadow",
            "plugins",
            "ready",
            "explain",
            "metrics",
            "health_check",
            "page",
            "shown",
        ],
    ),
    ("gateway/telemetry", &["batch scrape", "convert", "export", "channel", "settings", "target"]),
    ("gateway/lab", &["bench", "certify", "replay", "simulate", "requests", "generate", "profile", "subject"]),
];

/// Only fuzz targets call this module, and they look into every room.
const OUTSIDE: &str = "fuzz";

/// The row of a crate's list to which the room of a path belongs.
fn room(rooms: &[&str], path: &str) -> Option<usize> {
    let fits = |room: &&str| path == *room || path.strip_prefix(*room).is_some_and(|rest| rest.starts_with('/'));
    let all = rooms.iter().enumerate().flat_map(|(row, names)| names.split(' ').map(move |name| (row, name)));
    all.filter(|(_, name)| fits(name)).max_by_key(|(_, name)| name.len()).map(|(row, _)| row)
}

/// The source files of a folder, without those that only hold tests.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let tests = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
        if tests {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The paths within the crate that a module's code names, such as `http/exchange/Peer`; without comments and tests.
fn named(module: &str, text: &str) -> Vec<String> {
    let code = text.split("\n#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code: String = lines.collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    for (at, start) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = &code[..at];
        // This is the middle of a longer path, or a visibility.
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') || before.ends_with("in ") {
            continue;
        }
        let (mut base, mut rest) = ("", &code[at..]);
        if start == "crate::" {
            rest = &rest[start.len()..];
        } else {
            base = module;
            while let Some(up) = rest.strip_prefix("super::") {
                (base, rest) = (base.rsplit_once('/').map_or("", |(parent, _)| parent), up);
            }
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        let head = format!("{base}/{}", &rest[..end]);
        // `use crate::http::{self, Http}` names members of one module; `use crate::{http, tcp}` names several modules.
        match rest[end..].strip_prefix('{') {
            Some(members) => {
                let members = members.split('}').next().unwrap_or_default().split(',').map(str::trim);
                paths.extend(members.filter(|member| !member.is_empty()).map(|member| format!("{head}{member}")));
            }
            None => paths.push(head),
        }
    }
    let tidy = |path: String| path.trim_end_matches("::self").replace("::", "/").trim_matches('/').to_owned();
    paths.into_iter().map(tidy).collect()
}

#[test]
fn each_room_knows_only_those_below_it() {
    let mut wrong = Vec::new();
    for (folder, rooms) in CRATES {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src");
        let mut all = Vec::new();
        files(&source, &mut all);
        for file in all {
            let name = file.strip_prefix(&source).expect("within").with_extension("").display().to_string();
            let name = name.trim_end_matches("/mod");
            // The root of a crate may know all rooms.
            if matches!(name, OUTSIDE | "lib" | "main") {
                continue;
            }
            let own = room(rooms, name).unwrap_or_else(|| panic!("{folder}/src/{name} has no place in the list of rooms"));
            let text = fs::read_to_string(&file).expect("readable");
            for path in named(name, &text) {
                // What the crate's root has may be used everywhere: it holds types, no code.
                let Some(other) = room(rooms, &path) else { continue };
                if other < own {
                    wrong.push(format!("{folder}/src/{name} ({}) names {path} ({})", rooms[own], rooms[other]));
                }
            }
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "these know a room above theirs:\n{}", wrong.join("\n"));
}
