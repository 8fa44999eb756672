//! HAProxy, which does not forward UDP.

use super::{BACKENDS, Door, PROXY_CORE, Peer, Setting, port, text, write};
use crate::process::Running;

pub(super) fn start(setting: &Setting<'_>) -> Result<Peer, String> {
    let (http, https, h2, l4, grpc, websocket) = (port()?, port()?, port()?, port()?, port()?, port()?);
    let servers = |port: u16, more: &str| -> String {
        BACKENDS.iter().map(|last| format!("  server s{last} 127.0.0.{last}:{port}{more}\n")).collect()
    };
    let rules: String = (0..10).map(|i| format!("  use_backend pool if {{ path_beg /service-{i} }}\n")).collect();
    let config = format!(
        "global\n  nbthread 1\n  maxconn 8192\n\
         defaults\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend web\n  mode http\n  bind 127.0.0.1:{http} backlog 4096\n  bind 127.0.0.1:{h2} proto h2 backlog 4096\n\
         \x20 bind 127.0.0.1:{https} ssl crt {both} backlog 4096\n  option forwardfor\n\
         \x20 http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}\n  http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}\n\
         \x20 http-request set-header X-Forwarded-Host %[req.hdr(Host)]\n\
         \x20 http-request set-header X-Forwarded-Port %[dst_port]\n{rules}\
         backend pool\n  mode http\n  balance leastconn\n  http-reuse always\n{backends}\
         listen calls\n  mode http\n  bind 127.0.0.1:{grpc} proto h2 backlog 4096\n  balance leastconn\n  http-reuse always\n{calls}\
         listen echo\n  mode http\n  bind 127.0.0.1:{websocket} backlog 4096\n  timeout tunnel 60s\n  balance leastconn\n{echoes}\
         listen raw\n  mode tcp\n  bind 127.0.0.1:{l4} backlog 4096\n  balance leastconn\n{backends}",
        both = text(&setting.both)?,
        backends = servers(setting.backend, ""),
        calls = servers(setting.grpc, " proto h2"),
        echoes = servers(setting.websocket, ""),
    );
    let file = setting.folder.join("haproxy.cfg");
    write(&file, config)?;
    let running = Running::start(PROXY_CORE, "haproxy", &["-db", "-f", text(&file)?], &setting.folder.join("haproxy.log"))?;
    Peer::started(
        "haproxy",
        running,
        &[(Door::Http, http), (Door::Https, https), (Door::H2, h2), (Door::L4, l4), (Door::Grpc, grpc), (Door::WebSocket, websocket)],
    )
}
