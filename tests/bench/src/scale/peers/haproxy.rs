//! HAProxy: another file and SIGUSR2 to the master, which hands its sockets to the new worker; or a command of its runtime API, which changes the map of
//! routes or a server's address in place. Routes are a map, as its manual says for many.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use super::{Kind, Plan, Proxy, find};
use crate::peers::text;
use crate::process::Running;
use crate::scale::world::{Side, path, replace};

struct Haproxy {
    running: Running,
    folder: PathBuf,
    /// The file and the map, for each side.
    texts: [(String, String); 2],
    /// The command of the runtime API for each side; none: the proxy is reloaded.
    commands: Option<[String; 2]>,
}

pub(super) fn reloaded(plan: &Plan<'_>) -> Result<Option<Box<dyn Proxy>>, String> {
    start(plan, None)
}

pub(super) fn told(plan: &Plan<'_>) -> Result<Option<Box<dyn Proxy>>, String> {
    let map = plan.folder.join("routes.map");
    let map = text(&map)?;
    let command = |side: Side| match plan.kind {
        Kind::Routes => format!("set map {map} {} {}\n", path(plan.changed()), side.name()),
        Kind::Endpoints => format!("set server pool-{}/s0 addr {} port {}\n", plan.changed(), side.address(), plan.backend),
    };
    start(plan, Some([command(Side::A), command(Side::B)]))
}

fn start(plan: &Plan<'_>, commands: Option<[String; 2]>) -> Result<Option<Box<dyn Proxy>>, String> {
    let Some(program) = find(plan, "haproxy") else { return Ok(None) };
    let texts = [config(plan, Side::A)?, config(plan, Side::B)?];
    let file = plan.folder.join("haproxy.cfg");
    replace(&plan.folder.join("routes.map"), &texts[0].1)?;
    replace(&file, &texts[0].0)?;
    let running = Running::anywhere(text(&program)?, &["-W", "-db", "-f", text(&file)?], &plan.folder.join("log"))?;
    Ok(Some(Box::new(Haproxy { running, folder: plan.folder.clone(), texts, commands })))
}

fn config(plan: &Plan<'_>, side: Side) -> Result<(String, String), String> {
    let at = text(&plan.folder)?;
    let mut config = format!(
        "global\n  nbthread 1\n  maxconn 4096\n  stats socket {at}/socket mode 600 level admin expose-fd listeners\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend web\n  bind {} backlog 4096\n  use_backend %[path,map_beg({at}/routes.map)]\n",
        plan.listen()
    );
    for (name, endpoints) in plan.pools(side) {
        config += &format!("backend {name}\n  balance leastconn\n  http-reuse always\n");
        for (number, address) in endpoints.iter().enumerate() {
            config += &format!("  server s{number} {address}:{}\n", plan.backend);
        }
    }
    let map = plan.routes(side).iter().map(|(path, pool)| format!("{path} {pool}\n")).collect();
    Ok((config, map))
}

impl Proxy for Haproxy {
    fn change(&mut self, side: Side) -> Result<(), String> {
        let number = usize::from(side == Side::B);
        match &self.commands {
            None => {
                replace(&self.folder.join("routes.map"), &self.texts[number].1)?;
                replace(&self.folder.join("haproxy.cfg"), &self.texts[number].0)?;
                Command::new("kill").args(["-USR2", &self.pid().to_string()]).status().map(drop).map_err(|e| e.to_string())
            }
            Some(commands) => {
                let socket = UnixStream::connect(self.folder.join("socket"));
                let mut answer = String::new();
                let told = socket.and_then(|mut socket| {
                    socket.write_all(commands[number].as_bytes())?;
                    socket.read_to_string(&mut answer)
                });
                told.map(drop).map_err(|e| format!("the runtime API: {e}"))
            }
        }
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }
}
