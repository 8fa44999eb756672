//! Traefik, for HTTP/1.1.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{BACKENDS, Door, PROXY_CORE, Peer, Setting, port, text, write};
use crate::process::Running;

pub(super) fn start(setting: &Setting<'_>, program: &Path) -> Result<Peer, String> {
    let http = port()?;
    let routers: Map<String, Value> =
        (0..10).map(|i| (format!("route-{i}"), json!({"rule": format!("PathPrefix(`/service-{i}`)"), "service": "pool"}))).collect();
    let servers = BACKENDS.map(|last| json!({"url": format!("http://127.0.0.{last}:{}", setting.backend)}));
    let dynamic = json!({"http": {"routers": routers, "services": {"pool": {"loadBalancer": {"servers": servers}}}}});
    let file = setting.folder.join("traefik.yml");
    write(&file, dynamic.to_string())?;
    let arguments = [
        &format!("--entrypoints.web.address=127.0.0.1:{http}"),
        &format!("--providers.file.filename={}", text(&file)?),
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--log.level=ERROR",
    ];
    let running = Running::start(PROXY_CORE, text(program)?, &arguments, &setting.folder.join("traefik.log"))?;
    Peer::started("traefik", running, &[(Door::Http, http)])
}
