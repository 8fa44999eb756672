//! Caddy, for HTTP/1.1.

use std::path::Path;

use serde_json::{Value, json};

use super::{BACKENDS, Door, PROXY_CORE, Peer, Setting, port, text, write};
use crate::process::Running;

pub(super) fn start(setting: &Setting<'_>, program: &Path) -> Result<Peer, String> {
    let (http, admin) = (port()?, port()?);
    let upstreams = BACKENDS.map(|last| json!({"dial": format!("127.0.0.{last}:{}", setting.backend)}));
    let route = |i: usize| {
        let proxy =
            json!({"handler": "reverse_proxy", "upstreams": upstreams, "load_balancing": {"selection_policy": {"policy": "least_conn"}}});
        json!({"match": [{"path": [format!("/service-{i}*")]}], "handle": [proxy], "terminal": true})
    };
    let routes: Vec<Value> = (0..10).map(route).collect();
    let server = json!({"listen": [format!("127.0.0.1:{http}")], "automatic_https": {"disable": true}, "routes": routes});
    let config = json!({"admin": {"listen": format!("127.0.0.1:{admin}"), "config": {"persist": false}},
        "logging": {"logs": {"default": {"level": "ERROR"}}}, "apps": {"http": {"servers": {"web": server}}}});
    let file = setting.folder.join("caddy.json");
    write(&file, config.to_string())?;
    let running = Running::start(PROXY_CORE, text(program)?, &["run", "--config", text(&file)?], &setting.folder.join("caddy.log"))?;
    Peer::started("caddy", running, &[(Door::Http, http)])
}
