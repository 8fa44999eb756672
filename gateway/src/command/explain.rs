//! `sluicegate explain`: what would become of a request, by the very plugins that decide it, without sending anything.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use sluicegate_control::allocate::Allocator;
use sluicegate_model::explain::Question;
use sluicegate_model::fault::Severity;

use super::at::{self, Address, At};
use super::login::Login;
use super::{fail, flags, out};
use crate::explain::{self, Asked, Planned, World};
use crate::loaded::{self, For, Loaded};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Files or folders with Kubernetes objects, then the method and the URL
    #[arg(required = true, num_args = 1.., value_name = "PATH... METHOD URL")]
    words: Vec<String>,
    /// The port that the request arrives at
    #[arg(long)]
    port: u16,
    /// What arrives is a UDP flow: of the request, only the client's address counts
    #[arg(long)]
    udp: bool,
    /// The local address that the request arrives at [default: the URL's host if it is an address, else any with this port]
    #[arg(long)]
    address: Option<IpAddr>,
    /// A header field, as in "X-Name: value"
    #[arg(short = 'H', long = "header", value_parser = field)]
    headers: Vec<(String, String)>,
    /// The client's address
    #[arg(long, default_value = "127.0.0.1")]
    client: IpAddr,
    #[command(flatten)]
    network: flags::Network,
    /// Address of the admin API of a running gateway, which is asked for its node ports and addresses [default: that of the configuration]
    #[arg(long, value_name = "ADDRESS", env = at::VARIABLE)]
    admin_address: Option<Address>,
    #[command(flatten)]
    login: Login,
    /// The state folder of a gateway, whose allocations are read instead
    #[arg(long)]
    state_dir: Option<PathBuf>,
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header field has a name, a colon and a value")?;
    let (name, value) = (name.trim(), value.trim());
    explain::field(name, value).map(|_| (name.to_owned(), value.to_owned()))
}

impl Arguments {
    pub(super) fn execute(mut self) -> ExitCode {
        let (Some(url), Some(method)) = (self.words.pop(), self.words.pop()) else { return fail("a path, a method and a URL are wanted") };
        let asked = match Asked::of(&self.question(method, url)) {
            Ok(asked) => asked,
            Err(error) => return fail(error),
        };
        if self.words.is_empty() {
            return fail("a path, a method and a URL are wanted");
        }
        let paths: Vec<PathBuf> = self.words.iter().map(PathBuf::from).collect();
        let process = flags::Process {
            state_dir: self.state_dir.clone(),
            admin_address: self.admin_address.as_ref().and_then(Address::socket),
            ..flags::Process::default()
        };
        let settled = flags::read(&paths).and_then(|read| Ok((flags::settle_with(paths, &read, process, self.network)?, read)));
        let (settled, read) = match settled {
            Ok(settled) => settled,
            Err(error) => return fail(error),
        };
        let admin_address = self.admin_address.unwrap_or_else(|| settled.admin_address.into());
        let running =
            if self.state_dir.is_none() { running(&At { admin_address: admin_address.clone(), login: self.login }) } else { None };
        let allocator = match &running {
            Some((services, gateways)) => Allocator::of_running(services, gateways, settled.ranges.clone()),
            None => Allocator::read_only(&settled.state_dir, settled.ranges.clone()),
        };
        let loaded = match loaded::load(read, &settled, allocator, For::Deciding) {
            Ok(loaded) => loaded,
            Err(error) => return fail(error),
        };
        let Loaded { controller, snapshot, status } = &loaded;
        let errors = status.faults.iter().filter(|f| f.severity == Severity::Error).count();
        let say = |topic: &str, text: String| out(format!("{topic:10} {text}"));
        if errors > 0 {
            say("note", format!("the configuration has {errors} errors: see `sluicegate check`"));
        }
        if running.is_some() {
            say("note", format!("node ports and addresses are those of the gateway that answers at {admin_address}"));
        }
        let written = Planned { objects: controller.objects(), plan: controller.plan() };
        let explanation = World { snapshot, status, written: &written, serves: false }.explanation(&asked);
        for line in explanation.lines {
            say(&line.topic, line.text);
        }
        match explanation.end {
            None => ExitCode::SUCCESS,
            Some(why) => {
                say("result", why);
                ExitCode::FAILURE
            }
        }
    }

    fn question(&self, method: String, url: String) -> Question {
        let (port, udp, address, headers, client) = (self.port, self.udp, self.address, self.headers.clone(), self.client);
        Question { method, url, port, udp, address, headers, client }
    }
}

/// How long a running gateway may take, if there is one at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a running gateway tells of its Services and Gateways; none if none answers, or something else does.
fn running(at: &At) -> Option<(serde_json::Value, serde_json::Value)> {
    let ask = |what: &str| at.json_within(&format!("/api/v1/{what}"), PATIENCE).ok();
    Some((ask("services")?, ask("objects/gateways").unwrap_or_default()))
}
