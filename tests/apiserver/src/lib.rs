//! An API server of Kubernetes for tests: objects with versions, lists in pages, watches with bookmarks and streaming lists, server-side apply, the status
//! subresource, tokens, refusals, and restarts in the middle of it all. `tests/tests/whole/apiserver.rs` asks it what a real one was asked, and compares.
//!
//! [`request`] reads a path and a query; [`list`], [`watch`] and [`write`](mod@write) answer; [`apply`] knows who has said which fields; [`world`] holds the
//! objects and what has changed; [`kinds`] are those it may have. It checks of what is written only what [`write`](mod@write) names.

mod answers;
mod apply;
mod kinds;
mod list;
mod request;
mod rights;
mod select;
mod tls;
mod watch;
mod world;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Extract;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::response::Response;
use serde_json::{Value, json};

use answers::{answer, failure, no_group, no_resource, text};
use request::{Path, Query, Target};
use world::{Key, World};

pub use kinds::{KINDS, Kind};
pub use rights::Right;

/// The token of the user `gateway`.
pub const TOKEN: &str = "a-token";

struct State {
    world: World,
    owners: HashMap<Key, apply::Owners>,
    /// Each token's user.
    tokens: BTreeMap<String, String>,
    /// Verbs and plurals that `gateway` may not.
    refused: BTreeSet<(String, String)>,
    /// So many requests for objects are still answered 429.
    throttled: usize,
    /// So many times all is forgotten before the next page of a list.
    interrupted: usize,
    /// Plurals that are answered by a status and a text.
    failing: BTreeMap<String, (u16, String)>,
    streaming_lists: bool,
    bookmark_every: Duration,
    /// Watches tell nothing for now.
    silent: bool,
    /// What was asked: method, path and query; and which user did.
    asked: Vec<(String, String)>,
}

struct Shared {
    state: Mutex<State>,
    /// Something may have changed.
    changed: tokio::sync::watch::Sender<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens at an address, for instance in another network namespace.
type Bind = dyn Fn(SocketAddr) -> std::io::Result<std::net::TcpListener> + Send + Sync;

/// The server. It ends when it is dropped.
pub struct ApiServer {
    shared: Arc<Shared>,
    identity: tls::Identity,
    address: SocketAddr,
    bind: Box<Bind>,
    running: Option<Running>,
    folder: tempfile::TempDir,
}

/// Ends with all its connections when it is dropped.
struct Running {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl ApiServer {
    /// Starts one on loopback that has no objects and no custom kinds.
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), std::net::TcpListener::bind)
    }

    /// Starts one at another address. `bind` listens there.
    pub fn start_at(
        address: SocketAddr,
        bind: impl Fn(SocketAddr) -> std::io::Result<std::net::TcpListener> + Send + Sync + 'static,
    ) -> Self {
        let state = State {
            world: World::new(),
            owners: HashMap::new(),
            tokens: BTreeMap::from([(TOKEN.to_owned(), "gateway".to_owned())]),
            refused: BTreeSet::new(),
            throttled: 0,
            interrupted: 0,
            failing: BTreeMap::new(),
            streaming_lists: true,
            bookmark_every: Duration::from_secs(60),
            silent: false,
            asked: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: tokio::sync::watch::Sender::new(()) });
        let mut server = Self {
            shared,
            identity: tls::Identity::new(address.ip()),
            address,
            bind: Box::new(bind),
            running: None,
            folder: tempfile::tempdir().expect("a folder"),
        };
        server.start_again();
        server
    }

    /// Ends it as SIGKILL does: connections break. The objects stay.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Starts it at the same address. Its watches begin at the present version, as those of a new process do.
    pub fn start_again(&mut self) {
        {
            let mut state = self.shared.lock();
            state.world.version += 1;
            state.world.oldest = state.world.version;
        }
        let listener = (self.bind)(self.address).expect("the address is free");
        listener.set_nonblocking(true).expect("a socket");
        self.address = listener.local_addr().expect("an address");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (shared, acceptor) = (self.shared.clone(), self.identity.acceptor());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                let router = Router::new().fallback(serve).with_state(shared);
                tokio::select! {
                    _ = axum::serve(tls::Listener::new(listener, acceptor), router) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        self.running = Some(Running { stop: Some(stop), thread: Some(thread) });
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of its authority, PEM.
    pub fn authority(&self) -> &str {
        self.identity.authority()
    }

    /// It has a certificate of another authority from its next start on. Returns that of the authority.
    pub fn change_authority(&mut self) -> &str {
        self.identity = tls::Identity::new(self.address.ip());
        self.authority()
    }

    /// A file with which clients find it, as the user `gateway`; its token is in a file beside it, `token`.
    pub fn kubeconfig(&self) -> PathBuf {
        let (config, token, ca) = (self.folder.path().join("config"), self.folder.path().join("token"), self.folder.path().join("ca.crt"));
        std::fs::write(&ca, self.authority()).expect("written");
        std::fs::write(&token, TOKEN).expect("written");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("https://{}", self.address), "certificate-authority": ca}}],
            "users": [{"name": "gateway", "user": {"tokenFile": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "gateway"}}],
        });
        std::fs::write(&config, kubeconfig.to_string()).expect("written");
        config
    }

    /// One for a client with a token of its own, in a folder. It knows the authority that the server has now.
    pub fn kubeconfig_in(&self, folder: &std::path::Path, token: &str) -> PathBuf {
        let config = folder.join("config");
        let authority = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, self.authority());
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("https://{}", self.address), "certificate-authority-data": authority}}],
            "users": [{"name": "gateway", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "gateway"}}],
        });
        std::fs::write(&config, kubeconfig.to_string()).expect("written");
        config
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.shared.lock());
        self.shared.changed.send_replace(());
        changed
    }

    /// An object is this now, and is returned as it is stored. It gets a version of its own.
    pub fn put(&self, object: Value) -> Value {
        self.change(|state| state.world.put(object))
    }

    /// The same of YAML.
    pub fn put_yaml(&self, text: &str) {
        for document in sluicegate_config::manifest::parse(std::path::Path::new("test.yaml"), text).documents {
            self.put(document.value);
        }
    }

    /// An object as another server had it, with its version, which is taken over.
    pub fn put_as_it_is(&self, object: Value) {
        self.change(|state| state.world.put_as_it_is(object));
    }

    /// An event of a recorded watch happens here, too, at its version.
    pub fn play(&self, mut event: Value) {
        let object = event["object"].take();
        self.change(|state| match event["type"].as_str() {
            Some("DELETED") => state.world.delete_as_it_was(object),
            _ => state.world.put_as_it_is(object),
        });
    }

    /// The newest version is this now.
    pub fn set_version(&self, version: u64) {
        self.change(|state| state.world.version = version);
    }

    /// An object is gone. False: it was not there.
    pub fn remove(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let key = (Kind::named(kind).resource(), namespace.to_owned(), name.to_owned());
        self.change(|state| state.world.delete(&key)).is_some()
    }

    /// An object as it is stored.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (Kind::named(kind).resource(), namespace.to_owned(), name.to_owned());
        self.shared.lock().world.objects.get(&key).cloned()
    }

    /// What an object was, one version after the other.
    pub fn history(&self, kind: &str, namespace: &str, name: &str) -> Vec<Value> {
        let key = (Kind::named(kind).resource(), namespace.to_owned(), name.to_owned());
        let state = self.shared.lock();
        state.world.log.iter().filter(|change| change.key == key && !change.gone).map(|change| change.object.clone()).collect()
    }

    /// All objects of a kind, as they are stored.
    pub fn all(&self, kind: &str) -> Vec<Value> {
        let resource = Kind::named(kind).resource();
        self.shared.lock().world.objects.iter().filter(|(key, _)| key.0 == resource).map(|(_, object)| object.clone()).collect()
    }

    /// The CustomResourceDefinition of a kind is there from now on, itself an object.
    pub fn install(&self, kind: &str) {
        let kind = Kind::named(kind);
        self.change(|state| {
            if !state.world.kinds.contains(&kind) {
                state.world.kinds.push(kind);
            }
            state.world.put(json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": kind.resource()},
                "spec": {"group": kind.group, "names": {"kind": kind.kind, "plural": kind.plural}},
                "status": {"conditions": [{"type": "Established", "status": "True"}]},
            }))
        });
    }

    /// Those of all kinds that need one.
    pub fn install_all(&self) {
        KINDS.iter().filter(|kind| kind.custom).for_each(|kind| self.install(kind.kind));
    }

    /// The user `gateway` may not do this any more.
    pub fn refuse(&self, verb: &str, plural: &str) {
        self.change(|state| state.refused.insert((verb.to_owned(), plural.to_owned())));
    }

    /// It may again.
    pub fn allow(&self, verb: &str, plural: &str) {
        self.change(|state| state.refused.remove(&(verb.to_owned(), plural.to_owned())));
    }

    /// Tokens that count, each with its user.
    pub fn set_tokens(&self, tokens: &[(&str, &str)]) {
        self.change(|state| state.tokens = tokens.iter().map(|(token, user)| ((*token).to_owned(), (*user).to_owned())).collect());
    }

    /// The next requests for objects, so many, are answered 429, with `Retry-After: 1`.
    pub fn throttle(&self, requests: usize) {
        self.change(|state| state.throttled = requests);
    }

    /// Whether a watch may begin with what there is.
    pub fn set_streaming_lists(&self, there: bool) {
        self.change(|state| state.streaming_lists = there);
    }

    /// How often watches tell bookmarks.
    pub fn set_bookmarks(&self, every: Duration) {
        self.change(|state| state.bookmark_every = every);
    }

    /// Watches tell nothing for now.
    pub fn silence(&self, silent: bool) {
        self.change(|state| state.silent = silent);
    }

    /// Older versions are too old for watches, and for lists.
    pub fn forget_before(&self, oldest: u64, compacted: u64) {
        self.change(|state| (state.world.oldest, state.world.compacted) = (oldest, compacted));
    }

    /// All that came before is forgotten: older versions are too old for lists and watches.
    pub fn compact(&self) {
        self.change(|state| state.world.forget());
    }

    /// The CustomResourceDefinition of a kind is gone, with all its objects.
    pub fn uninstall(&self, kind: &str) {
        let kind = Kind::named(kind);
        self.change(|state| {
            let resource = kind.resource();
            let keys: Vec<Key> = state.world.objects.keys().filter(|key| key.0 == resource).cloned().collect();
            keys.iter().for_each(|key| drop(state.world.delete(key)));
            state.world.kinds.retain(|known| *known != kind);
        });
    }

    /// The rights that were needed for what was asked so far.
    pub fn rights_needed(&self) -> BTreeSet<Right> {
        self.asked().iter().filter_map(|request| Right::needed(request)).collect()
    }

    /// A kind is not served for now, as by a server that begins. Its objects stay.
    pub fn withdraw(&self, kind: &str) {
        let kind = Kind::named(kind);
        self.change(|state| state.world.kinds.retain(|known| *known != kind));
    }

    /// It is served again.
    pub fn restore(&self, kind: &str) {
        let kind = Kind::named(kind);
        self.change(|state| state.world.kinds.push(kind));
    }

    /// Requests for these plurals, or for `*`, all of them, are answered by this status and text, until that is taken back by an empty text.
    pub fn fail(&self, plural: &str, status: u16, text: &str) {
        self.change(|state| match text {
            "" => drop(state.failing.remove(plural)),
            text => drop(state.failing.insert(plural.to_owned(), (status, text.to_owned()))),
        });
    }

    /// So many times, all that came before is forgotten when the next page of a list is asked for.
    pub fn interrupt_lists(&self, times: usize) {
        self.change(|state| state.interrupted = times);
    }

    /// What was asked so far: method, path and query.
    pub fn asked(&self) -> Vec<String> {
        self.shared.lock().asked.iter().map(|(asked, _)| asked.clone()).collect()
    }

    /// The same, each with the user who asked; that is empty if the token was none.
    pub fn asked_by(&self) -> Vec<(String, String)> {
        self.shared.lock().asked.clone()
    }
}

async fn serve(Extract(shared): Extract<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let query = Query::read(uri.query().unwrap_or_default());
    let header = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut state = shared.lock();
    let user = match request::token(&headers) {
        None => Some("system:anonymous".to_owned()),
        Some(token) => state.tokens.get(token).cloned(),
    };
    state.asked.push((format!("{method} {uri}"), user.clone().unwrap_or_default()));
    let Some(user) = user else {
        return failure(401, "Unauthorized", "Unauthorized", None);
    };
    let target = match Path::read(uri.path(), &state.world.kinds) {
        Path::Objects(target) => target,
        Path::NoResource => return no_resource(),
        Path::NoGroup => return no_group(),
        Path::Other(path) => return other(&state, &path),
    };
    let verb = request::verb(&method, &target, &query);
    if user == "system:anonymous" || state.refused.contains(&(verb.to_owned(), target.kind.plural.to_owned())) {
        return forbidden(&user, verb, &target);
    }
    if state.throttled > 0 {
        state.throttled -= 1;
        let mut response = text(429, "Too many requests, please try again later.");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    }
    if let Some((code, said)) = state.failing.get(target.kind.plural).or_else(|| state.failing.get("*")) {
        return text(*code, said);
    }
    if method == Method::DELETE && target.kind.kind == "ComponentStatus" {
        return write::delete(&mut state, &target, &body);
    }
    if state.interrupted > 0 && query.has("continue") {
        state.interrupted -= 1;
        state.world.forget();
    }
    let accept = header(header::ACCEPT);
    if method == Method::GET && !accept.is_empty() && !accept.contains("json") && !accept.contains("*/*") {
        let media = "application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
        return failure(406, "NotAcceptable", &format!("406: Not Acceptable\n\nAvailable representations: {media}"), Some(json!({})));
    }
    let media = header(header::CONTENT_TYPE).split(';').next().unwrap_or_default();
    let response = match verb {
        "get" => list::one(&state.world, &target, accept),
        "list" => list::list(&state.world, &target, &query, accept),
        "watch" => {
            drop(state);
            return watch::watch(&shared, target, &query, accept);
        }
        "create" => write::create(&mut state, &target, &query, media, &body),
        "update" => write::update(&mut state, &target, media, &body),
        "patch" => write::patch(&mut state, &target, &query, media, &body),
        _ => write::delete(&mut state, &target, &body),
    };
    drop(state);
    if verb != "get" && verb != "list" {
        shared.changed.send_replace(());
    }
    response
}

fn forbidden(user: &str, verb: &str, target: &Target) -> Response {
    let Target { kind, namespace, name, subresource } = target;
    let named = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
    let resource = if subresource.is_empty() { kind.plural.to_owned() } else { format!("{}/{subresource}", kind.plural) };
    let scope = if namespace.is_empty() { "at the cluster scope".to_owned() } else { format!("in the namespace \"{namespace}\"") };
    let message = format!(
        "{}{named} is forbidden: User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{}\" {scope}",
        kind.resource(),
        kind.group
    );
    failure(403, "Forbidden", &message, Some(answers::details(*kind, name)))
}

fn other(state: &State, path: &str) -> Response {
    match path {
        "/version" => answer(200, &json!({"major": "1", "minor": "36", "gitVersion": "v1.36.2"})),
        "/readyz" | "/healthz" | "/livez" => text(200, "ok"),
        "/apis" => {
            let mut groups: Vec<&str> = state.world.kinds.iter().map(|kind| kind.group).filter(|group| !group.is_empty()).collect();
            groups.sort_unstable();
            groups.dedup();
            let group = |name: &str| {
                let version = state.world.kinds.iter().find(|kind| kind.group == name).map(|kind| kind.version).unwrap_or_default();
                let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
                json!({"name": name, "versions": [version], "preferredVersion": version})
            };
            let groups: Vec<Value> = groups.into_iter().map(group).collect();
            answer(200, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        _ => match path.trim_matches('/').split('/').collect::<Vec<_>>()[..] {
            ["apis", group, version] => resources(state, group, version),
            _ => no_group(),
        },
    }
}

/// The kinds of a version of a group.
fn resources(state: &State, group: &str, version: &str) -> Response {
    let kinds: Vec<&Kind> = state.world.kinds.iter().filter(|kind| kind.group == group && kind.version == version).collect();
    if kinds.is_empty() {
        return no_group();
    }
    let resource = |kind: &&Kind| {
        json!({"name": kind.plural, "singularName": kind.kind.to_lowercase(), "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": ["delete", "get", "list", "patch", "create", "update", "watch"]})
    };
    let resources: Vec<Value> = kinds.iter().map(resource).collect();
    answer(
        200,
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"), "resources": resources}),
    )
}
