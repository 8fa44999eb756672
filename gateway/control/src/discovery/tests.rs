//! The runner with a plugin that needs no wasm: how tasks are told of changes, publish, end and are started anew.

use std::future::poll_fn;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use sluicegate_config::{manifest, object};
use sluicegate_model::discovery::{Events, Publications, Publisher, Running};
use sluicegate_model::plugin::{Generation, GenerationStats, Limits, Stage};
use sluicegate_model::pool::unique;
use sluicegate_model::shared::Shared;

use super::*;

/// A plugin that publishes for each target what its configuration says: `fail`, or a number of endpoints. It ends if that is `end`.
struct Native {
    generation: Arc<Generation>,
    /// What the plugin was told.
    told: Arc<Mutex<Vec<String>>>,
}

impl Native {
    fn new() -> Arc<Self> {
        let generation = Generation {
            id: unique(),
            plugin: "native".into(),
            number: 1,
            version: String::new(),
            sha256: String::new(),
            stats: GenerationStats::default(),
            shared: Shared::new(&Limits::default()),
        };
        Arc::new(Self { generation: Arc::new(generation), told: Arc::default() })
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().expect("not poisoned"))
    }

    fn note(&self, told: String) {
        self.told.lock().expect("not poisoned").push(told);
    }
}

impl DiscoveryGeneration for Native {
    fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    fn run(self: Arc<Self>, mut events: Box<dyn Events>, publisher: Arc<dyn Publisher>) -> Running {
        Box::pin(async move {
            loop {
                let mut found = Publications::default();
                match poll_fn(|cx| events.poll_next(cx)).await {
                    Event::Target(key, _, config) => {
                        self.note(format!("target {} {config}", key.name));
                        let answer = match &*config {
                            "end" => {
                                let reason = "it was told to end".to_owned();
                                return PluginError { plugin: "native".into(), stage: Stage::Run, reason };
                            }
                            "fail" => Err("nobody is there".to_owned()),
                            count => Ok((0..count.parse().expect("a number")).map(|port| FoundEndpoint::new("192.0.2.1", port)).collect()),
                        };
                        found.push(key, answer).expect("room");
                    }
                    Event::TargetGone(key) => self.note(format!("gone {}", key.name)),
                    Event::Object(kind, key, object) => self.note(format!("{kind} {} {}", key.name, object.json().len() > 10)),
                    Event::ObjectGone(kind, key) => self.note(format!("no {kind} {}", key.name)),
                    Event::Synced => self.note("synced".to_owned()),
                }
                if !found.is_empty() {
                    publisher.publish(found).await;
                }
            }
        })
    }
}

fn key(name: &str) -> Key {
    Key { namespace: "n".to_owned(), name: name.to_owned() }
}

fn target(name: &str, config: &str) -> (Key, Option<(String, Target)>) {
    (key(name), Some(("native".to_owned(), Target { service: "{}".into(), config: config.into() })))
}

fn objects(text: &str) -> Vec<Arc<Object>> {
    let documents = manifest::parse(Path::new("a.yaml"), text).documents;
    documents.into_iter().filter_map(|document| object::decode(document).0).map(Arc::new).collect()
}

const OBJECTS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: n}\ndata: {v: '1'}\n---\n\
                       apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: n}\nstringData: {v: '1'}\n";

/// A runner with one plugin, and what it is given.
struct World {
    runner: Runner,
    plugins: HashMap<String, Arc<dyn DiscoveryGeneration>>,
    objects: Objects,
}

impl World {
    fn of(plugin: &Arc<Native>) -> Self {
        let plugins = HashMap::from([("native".to_owned(), plugin.clone() as Arc<dyn DiscoveryGeneration>)]);
        let mut world = Self { runner: Runner::default(), plugins, objects: Objects::new(&objects(OBJECTS)) };
        world.runner.sync(&world.plugins, &world.objects);
        world
    }

    /// Waits until this holds.
    async fn until(&mut self, so: impl Fn(&mut Runner) -> bool) {
        let reached = async {
            while !so(&mut self.runner) {
                self.runner.next(|name| self.plugins.get(name).cloned(), &self.objects).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reached).await.expect("in time");
    }
}

fn count(runner: &Runner, name: &str) -> Option<usize> {
    runner.endpoints(&key(name)).map(<[_]>::len)
}

#[tokio::test]
async fn a_task_is_told_of_everything_and_its_endpoints_are_taken() {
    let plugin = Native::new();
    let mut world = World::of(&plugin);
    world.runner.change(&[], [target("a", "2"), target("b", "fail")]);
    assert!(!world.runner.complete() && world.runner.missing().count() == 2);
    world.until(|runner| runner.complete()).await;
    assert_eq!((count(&world.runner, "a"), count(&world.runner, "b")), (Some(2), None));
    assert_eq!(world.runner.failures().collect::<Vec<_>>(), [(&key("b"), "nobody is there")]);
    let failing = world.runner.failing("native").expect("for one");
    assert_eq!(failing, "it finds no endpoints for 1 of 2 services: n/b: nobody is there");
    assert_eq!(world.runner.take_changed(), BTreeSet::from([key("a"), key("b")]));
    assert_eq!(plugin.told(), ["ConfigMap c true", "synced", "target a 2", "target b fail"], "a Secret is told to nobody");

    world.runner.change(&[], [target("a", "2"), target("b", "1")]);
    world.until(|runner| count(runner, "b") == Some(1)).await;
    assert_eq!((world.runner.failures().count(), world.runner.failing("native")), (0, None));
    assert_eq!(plugin.told(), ["target b 1"], "a target that is the same is not told again");

    world.runner.change(&[], [(key("a"), None), target("b", "3")]);
    assert_eq!((count(&world.runner, "a"), world.runner.take_changed().contains(&key("a"))), (None, true));
    world.until(|runner| count(runner, "b") == Some(3)).await;
    assert_eq!(plugin.told(), ["gone a", "target b 3"]);
}

#[tokio::test]
async fn objects_that_change_are_told_but_for_secrets() {
    let plugin = Native::new();
    let mut world = World::of(&plugin);
    let mut changes = Vec::new();
    for object in objects(&OBJECTS.replace("'1'", "'2'")) {
        let change = Change::Applied(object);
        let old = world.objects.change(&change);
        changes.push((change, old));
    }
    world.runner.change(&changes, []);
    let same: Vec<_> = world.objects.iter().map(|object| (Change::Applied(object.clone()), Some(object.clone()))).collect();
    world.runner.change(&same, []);
    let gone: Vec<_> = world.objects.iter().map(|object| (Change::Gone(object.key.clone()), Some(object.clone()))).collect();
    world.runner.change(&gone, []);
    world.runner.change(&[], [target("a", "0")]);
    world.until(|runner| runner.complete()).await;
    let told = plugin.told();
    assert_eq!(told, ["ConfigMap c true", "synced", "ConfigMap c true", "no ConfigMap c", "target a 0"]);
}

#[tokio::test]
async fn a_task_that_ends_is_started_anew_and_what_it_published_stays() {
    let plugin = Native::new();
    let mut world = World::of(&plugin);
    world.runner.change(&[], [target("a", "2")]);
    world.until(|runner| runner.complete()).await;
    world.runner.change(&[], [target("b", "end")]);
    world.until(|runner| runner.ended("native").is_some()).await;
    assert_eq!(world.runner.ended("native").map(|error| error.reason.clone()).as_deref(), Some("it was told to end"));
    assert_eq!(count(&world.runner, "a"), Some(2));
    assert!(world.runner.complete(), "nobody waits for a task that has ended");
    plugin.told();

    world.runner.change(&[], [target("b", "4")]);
    world.until(|runner| count(runner, "b") == Some(4)).await;
    assert!(world.runner.ended("native").is_none(), "it has published since");
    // This is told last, so that what was told at the start lies before it.
    world.runner.change(&[], [target("c", "1")]);
    world.until(|runner| count(runner, "c") == Some(1)).await;
    let told = plugin.told();
    assert!(["ConfigMap c true", "synced", "target a 2", "target b 4"].iter().all(|word| told.iter().any(|told| told == word)), "{told:?}");
}

#[tokio::test]
async fn another_generation_begins_a_task_and_a_plugin_that_is_gone_has_none() {
    let (first, second) = (Native::new(), Native::new());
    let mut world = World::of(&first);
    world.runner.change(&[], [target("a", "1")]);
    world.until(|runner| runner.complete()).await;
    world.plugins = HashMap::from([("native".to_owned(), second.clone() as Arc<dyn DiscoveryGeneration>)]);
    world.runner.sync(&world.plugins, &world.objects);
    world.runner.change(&[], [target("a", "2")]);
    world.until(|runner| count(runner, "a") == Some(2)).await;
    assert_eq!(second.told(), ["target a 1", "ConfigMap c true", "synced", "target a 2"]);
    assert!(!first.told().contains(&"target a 2".to_owned()));
    world.runner.sync(&HashMap::new(), &world.objects);
    assert_eq!((count(&world.runner, "a"), world.runner.failing("native")), (Some(2), None), "what it published stays");
}
