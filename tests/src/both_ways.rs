//! A plugin called in both ways, as a component and by its core module, and what comes of it. The fuzz target `plugin_calls` has this file, too.

use std::sync::Arc;
use std::time::Duration;

use sluicegate_host::{Loaded, Loader};
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::plugin::{Balancer as _, Limits, PickContext, Router as _, RouterGeneration as _, Saved};
use sluicegate_model::pool::Pool;
use sluicegate_model::route::{ListenerInfo, RouteView, Transport};

/// The same plugin, called by its core module, and as a component.
pub fn both(wasm: &[u8]) -> [Loaded; 2] {
    let loader = Loader::new().expect("a loader");
    let limits = Limits { memory: 8 << 20, ..Limits::default() };
    let loaded = [loader.clone(), loader.as_components()].map(|loader| loader.load_any("mine", wasm, &limits).expect("loaded"));
    assert_eq!(loaded.each_ref().map(|(_, description)| description.component.is_ok()), [true, false], "{:?}", loaded[0].1.component);
    loaded.map(|(loaded, _)| loaded)
}

/// What comes of a balancer's life with a pool in these versions, call by call.
pub fn balanced(loaded: &Loaded, config: &str, versions: &[Arc<Pool>], random: &[u64]) -> Vec<String> {
    let Loaded::Balancer(balancer) = loaded else { panic!("a balancer") };
    let mut instance = balancer.seeded(7);
    let config = config.into();
    let mut random = random.iter().copied().cycle();
    let mut bits = || random.next().unwrap_or(0);
    let mut told = Vec::new();
    for (n, pool) in versions.iter().enumerate() {
        if n == 0 {
            instance.inherit(pool.id, Saved { version: 1, data: vec![1, 2, 3] });
        }
        for attempt in 0..4 {
            let hash = bits();
            let context = PickContext { hash: (hash % 2 == 0).then_some(hash), attempt, random: Some(bits()) };
            let picked = instance.pick(pool, &config, context);
            told.push(format!("pick {picked:?}, wants {}", instance.wants_report()));
            if let Ok(Some(endpoint)) = picked {
                told.push(format!("report {:?}", instance.report(pool, endpoint, attempt % 2 == 0, Duration::from_micros(bits() % 1000))));
            }
        }
        told.push(format!("save {:?}", instance.save(pool.id).map(|saved| (saved.version, saved.data))));
    }
    instance.retain(&|_| false);
    told.push(format!("memory {}", instance.memory()));
    told
}

/// What comes of requests to a router: method, path, and header fields.
pub fn routed(loaded: &Loaded, config: &str, requests: &[(String, String, http::HeaderMap)]) -> Vec<String> {
    let Loaded::Router(router) = loaded else { panic!("a router") };
    let hostname = Some("a.example".to_owned());
    let listener = ListenerInfo { name: "web".to_owned(), port: 80, transport: Transport::Http, hostname, namespace: "n".to_owned() };
    let table = Arc::new(router.configure(&ConfigText::from(config), &listener).expect("a table"));
    let mut instance = router.seeded(1);
    let route = |(method, path, headers): &(String, String, http::HeaderMap)| {
        let view = RouteView { method, host: "a.example", path, query: "q=1", headers, client: [127, 0, 0, 1].into() };
        format!("{:?}", instance.route(&table, &view))
    };
    requests.iter().map(route).collect()
}

/// Where the two ways differ first, if they do.
pub fn difference([direct, component]: [Vec<String>; 2]) -> Option<(String, String)> {
    let short = |text: &String| text.chars().take(200).collect::<String>();
    let lengths = (direct.len().to_string(), component.len().to_string());
    let found = direct.into_iter().zip(component).find(|(direct, component)| direct != component);
    found.map(|(direct, component)| (short(&direct), short(&component))).or_else(|| (lengths.0 != lengths.1).then_some(lengths))
}
