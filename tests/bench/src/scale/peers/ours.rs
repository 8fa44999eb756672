//! The gateway, which is changed by a file that is renamed into its folder.

use std::net::SocketAddr;

use super::{Kind, POOLS, Plan, Proxy, ROUTES};
use crate::scale::gateway::Gateway;
use crate::scale::world::{Form, Routes, Services, Side, path};

struct Ours {
    gateway: Gateway,
    world: World,
}

enum World {
    Routes(Routes),
    Services(Services),
}

pub(super) fn start(plan: &Plan<'_>) -> Result<Option<Box<dyn Proxy>>, String> {
    let folder = plan.folder.join("objects");
    let (world, folder) = match plan.kind {
        Kind::Routes => (World::Routes(Routes::lay_down(folder.clone(), Form::HttpRoutes, ROUTES, plan.listen(), plan.backend)?), folder),
        Kind::Endpoints => (World::Services(Services::lay_down(folder.clone(), POOLS, plan.backend)?), folder),
    };
    let gateway = Gateway::start(plan.binary, &folder, &plan.folder.join("state"))?;
    Ok(Some(Box::new(Ours { gateway, world })))
}

impl Proxy for Ours {
    fn change(&mut self, side: Side) -> Result<(), String> {
        match &self.world {
            World::Routes(routes) => routes.route(side),
            World::Services(services) => services.endpoint(side),
        }
    }

    fn pid(&self) -> u32 {
        self.gateway.pid()
    }

    fn doors(&self, _: &Plan<'_>) -> [(SocketAddr, String); 2] {
        match &self.world {
            World::Routes(routes) => [(routes.at, path(0)), (routes.at, routes.changed())],
            World::Services(_) => [(Services::loaded(), "/".to_owned()), (Services::changed(), "/".to_owned())],
        }
    }
}
