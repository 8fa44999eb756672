//! Traefik, whose file provider watches a folder with a file for the routes, or for each pool and its route.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{Kind, Plan, Proxy, find};
use crate::peers::{text, write};
use crate::process::Running;
use crate::scale::world::{Side, path, replace};

struct Traefik {
    running: Running,
    /// The file that is renamed into place, and its text for each side.
    file: PathBuf,
    texts: [String; 2],
}

pub(super) fn start(plan: &Plan<'_>) -> Result<Option<Box<dyn Proxy>>, String> {
    let Some(program) = find(plan, "traefik") else { return Ok(None) };
    let folder = plan.folder.join("dynamic");
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let file = |name: &str| folder.join(format!("{name}.yml"));
    let (file, texts) = match plan.kind {
        Kind::Routes => {
            let pools = plan.pools(Side::A).into_iter().map(|(name, endpoints)| (name, service(plan, &endpoints))).collect::<Map<_, _>>();
            write(&file("pools"), json!({"http": {"services": pools}}).to_string())?;
            let routes = |side| {
                let routers = plan.routes(side).into_iter().enumerate();
                let routers: Map<String, Value> = routers.map(|(n, (path, pool))| (format!("route-{n}"), router(&path, &pool))).collect();
                json!({"http": {"routers": routers}}).to_string()
            };
            (file("routes"), [routes(Side::A), routes(Side::B)])
        }
        Kind::Endpoints => {
            let both = |number: u32, endpoints: &[Ipv4Addr]| {
                let name = format!("pool-{number}");
                json!({"http": {"routers": {&name: router(&path(number), &name)}, "services": {&name: service(plan, endpoints)}}})
                    .to_string()
            };
            for (number, (name, endpoints)) in plan.pools(Side::A).iter().enumerate() {
                write(&file(name), both(number as u32, endpoints))?;
            }
            let changed = plan.changed();
            let texts = [Side::A, Side::B].map(|side| both(changed, &plan.endpoints(changed, side)));
            (file(&format!("pool-{changed}")), texts)
        }
    };
    write(&file, &texts[0])?;
    let (address, provider) = (plan.listen(), text(&folder)?);
    let arguments = [
        &format!("--entrypoints.web.address={address}"),
        &format!("--providers.file.directory={provider}"),
        "--providers.file.watch=true",
        // By default it waits two seconds between changes.
        "--providers.providersthrottleduration=1ms",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--log.level=ERROR",
    ];
    let running = Running::anywhere(text(&program)?, &arguments, &plan.folder.join("log"))?;
    Ok(Some(Box::new(Traefik { running, file, texts })))
}

fn router(path: &str, pool: &str) -> Value {
    json!({"rule": format!("PathPrefix(`{path}`)"), "service": pool, "entryPoints": ["web"]})
}

fn service(plan: &Plan<'_>, endpoints: &[Ipv4Addr]) -> Value {
    let servers = endpoints.iter().map(|address| json!({"url": format!("http://{address}:{}", plan.backend)}));
    json!({"loadBalancer": {"servers": servers.collect::<Vec<_>>()}})
}

impl Proxy for Traefik {
    fn change(&mut self, side: Side) -> Result<(), String> {
        replace(&self.file, &self.texts[usize::from(side == Side::B)])
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }
}
