//! Routers: the trait, the types of its answers, and the component that the host sees.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::router::exports::sluicegate::plugin::{changing, routing as wit};
use crate::bindings::router::sluicegate::plugin::types::{Description, PluginKind};
use crate::config::{self, Named};
use crate::host;

pub use crate::bindings::router::sluicegate::plugin::types::ServiceRef;
/// The types that rules are made of. This example uses all of them:
///
/// ```
/// use sluicegate_sdk::{
///     Answer, Backend, Choice, Configured, Cors, Decision, Filter, Header, HeaderChanges, Interests, Listener, Mirror, PathRewrite, Redirect, Rewrite,
///     Rule, ServiceRef, Transport,
/// };
///
/// let web = ServiceRef::new("web", 80);
/// let filters = vec![
///     Filter::RequestHeaders(HeaderChanges { set: vec![Header::new("x-from", "edge")], ..HeaderChanges::default() }),
///     Filter::Rewrite(Rewrite { hostname: None, path: Some(PathRewrite::Prefix("/".into())) }),
///     Filter::Mirror(Mirror { backend: web.clone(), numerator: 1, denominator: 100 }),
///     Filter::Cors(Cors { allow_origins: vec!["https://a.example".into()], ..Cors::default() }),
/// ];
/// let shop = Rule { filters, backends: vec![Backend::new(web)], ..Rule::default() };
/// let moved = Rule { filters: vec![Filter::Redirect(Redirect { hostname: Some("b.example".into()), ..Redirect::default() })], ..Rule::default() };
/// let configured = Configured { rules: vec![shop, moved], interests: Interests { query: true, ..Interests::default() } };
/// assert_eq!(configured.rules.len(), 2);
///
/// let listener = Listener { port: 443, transport: Transport::Http, ..Listener::default() };
/// let decision = match listener.port {
///     443 => Decision::Matched(Choice { rule: 0, backend: Some(0), matched_prefix: 5 }),
///     80 => Decision::Answer(Answer { status: 426, ..Answer::default() }),
///     _ => Decision::NoMatch,
/// };
/// assert!(matches!(decision, Decision::Matched(_)));
/// ```
pub use wit::{
    Answer, Backend, Choice, Configured, Cors, Decision, Filter, Header, HeaderChanges, Interests, Listener, Mirror, PathRewrite, Redirect,
    Retry, Rewrite, Rule, Transport,
};

/// Chooses the rule, and the backend of it, that takes an exchange or connection. One value holds the compiled rules of one listener.
///
/// ```
/// use sluicegate_sdk::{
///     Backend, Choice, Configured, Decision, Interests, Listener, Request, Router, Rule, ServiceRef, schemars::JsonSchema, serde::Deserialize,
/// };
///
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(crate = "sluicegate_sdk::serde", deny_unknown_fields)]
/// #[schemars(crate = "sluicegate_sdk::schemars")]
/// struct Config { service: String }
///
/// /// Requests of the beta go to the second backend.
/// struct Beta;
///
/// impl Router for Beta {
///     type Config = Config;
///
///     fn configure(config: Config, _: &Listener) -> Result<(Self, Configured), String> {
///         let backend = |name: String| Backend::new(ServiceRef::new(name, 80));
///         let backends = vec![backend(config.service.clone()), backend(format!("{}-beta", config.service))];
///         let interests = Interests { headers: vec!["x-beta".into()], ..Interests::default() };
///         Ok((Self, Configured { rules: vec![Rule { backends, ..Rule::default() }], interests }))
///     }
///
///     fn route(&mut self, request: &Request) -> Decision {
///         let beta = request.headers[0].is_some();
///         Decision::Matched(Choice { rule: 0, backend: Some(u32::from(beta)), matched_prefix: 0 })
///     }
/// }
///
/// sluicegate_sdk::export_router!(Beta);
/// ```
pub trait Router: Sized + 'static {
    /// The configuration, which policies set. Give every field a default: a policy may leave the configuration out, which arrives as `{}`.
    type Config: DeserializeOwned + JsonSchema;

    /// Compiles the rules. Their static parts go into [`Configured`], which the host prepares once. The text of an error is shown to the operator.
    fn configure(config: Self::Config, listener: &Listener) -> Result<(Self, Configured), String>;

    /// Changes the rules in place: some elements of the configuration's list `rules` were replaced by others. Afterwards the router must decide as one that was
    /// configured with the new list. Returns the rules of the inserted elements, in their order, and the [`Interests`] of all rules. This is useful for routers
    /// of thousands of rules; each element of the list must stand for one rule. The default implementation returns `None`, which means that the router cannot
    /// do this and is configured as a whole. After `None` or an error this value is dropped.
    fn change(&mut self, splices: Vec<Splice>) -> Option<Result<Configured, String>> {
        drop(splices);
        None
    }

    /// Routes one exchange, or one connection, whose method and path are empty. This is called for every request, so it should avoid allocations.
    fn route(&mut self, request: &Request) -> Decision;
}

/// A change of a configuration's list `rules`, for [`Router::change`]: some elements were replaced by others.
///
/// ```
/// use sluicegate_sdk::{Splice, serde_json::Value};
/// // Of the list [1, 2, 3] it makes [1, 4, 5, 3].
/// let splice = Splice { at: 1, removed: 1, inserted: vec!["4".into(), "5".into()] };
/// assert_eq!(splice.read::<Value>(), Ok(vec![4.into(), 5.into()]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// The index, in the list before the change, of the first element that was removed. Several splices come in rising order, and do not overlap.
    pub at: usize,
    /// How many elements were removed.
    pub removed: usize,
    /// The elements that were inserted, each as JSON.
    pub inserted: Vec<String>,
}

impl Splice {
    /// Reads the elements that were inserted.
    ///
    /// # Errors
    /// An element is not of this type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Vec<T>, String> {
        self.inserted.iter().map(|text| serde_json::from_str(text).map_err(|error| format!("rules: {error}"))).collect()
    }
}

/// An exchange to route, or a connection, whose method and path are empty. Besides method, host and path it has what the [`Interests`] name.
///
/// ```
/// let request = sluicegate_sdk::Request { path: "/shop".into(), ..Default::default() };
/// assert_eq!(request.path, "/shop");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method as the client sent it; methods are case-sensitive.
    pub method: Cow<'static, str>,
    /// The host in lower case and without its port, from `Host` or `:authority`. For TLS it is the server name (SNI), and for TCP and UDP it is empty.
    pub host: String,
    /// The path without its query.
    pub path: String,
    /// The query without its `?`. It is empty unless the interests ask for it.
    pub query: String,
    /// The values of the header fields, in the order of the interests. Fields that occur several times are joined by `, `.
    pub headers: Vec<Option<String>>,
    /// The values of the cookies, in the order of the interests.
    pub cookies: Vec<Option<String>>,
    /// The client's IP address. It is empty unless the interests ask for it.
    pub client: String,
}

/// How the values of a request are laid out.
#[derive(Clone, Copy, Debug, Default)]
struct Layout {
    headers: usize,
    cookies: usize,
    query: bool,
    client: bool,
}

impl Layout {
    fn of(interests: &Interests) -> Self {
        let Interests { headers, cookies, query, client } = interests;
        Self { headers: headers.len(), cookies: cookies.len(), query: *query, client: *client }
    }

    fn request(self, request: wit::Request) -> Request {
        let mut headers = request.values.unwrap_or_default();
        let client = if self.client { headers.pop().flatten() } else { None };
        let query = if self.query { headers.pop().flatten() } else { None };
        let cookies = if self.cookies == 0 { Vec::new() } else { headers.split_off(self.headers.min(headers.len())) };
        let (client, query) = (client.unwrap_or_default(), query.unwrap_or_default());
        Request { method: method(request.method), host: request.host, path: request.path, query, headers, cookies, client }
    }
}

fn method(method: wit::Method) -> Cow<'static, str> {
    Cow::Borrowed(match method {
        wit::Method::Get => "GET",
        wit::Method::Head => "HEAD",
        wit::Method::Post => "POST",
        wit::Method::Put => "PUT",
        wit::Method::Delete => "DELETE",
        wit::Method::Options => "OPTIONS",
        wit::Method::Patch => "PATCH",
        wit::Method::Other(name) => return Cow::Owned(name),
    })
}

/// The component that [`export_router!`](crate::export_router) exports.
pub struct RouterComponent<R, N>(PhantomData<(R, N)>);

/// The router of one listener. The host never calls a resource while a call of it is under way, so the borrow cannot fail.
pub struct TableState<R>(RefCell<R>, Cell<Layout>);

impl<R: Router, N: Named> wit::Guest for RouterComponent<R, N> {
    type Table = TableState<R>;

    fn describe() -> Description {
        host::report_panics();
        Description {
            name: config::plugin_name(N::NAME),
            version: N::VERSION.to_owned(),
            kind: PluginKind::Router,
            config_schema: config::schema::<R::Config>(),
        }
    }
}

impl<R: Router, N: Named> changing::Guest for RouterComponent<R, N> {
    fn change(table: wit::TableBorrow<'_>, splices: Vec<changing::Splice>) -> Result<Option<Configured>, String> {
        host::report_panics();
        let splice = |changing::Splice { at, removed, inserted }| Splice { at: at as usize, removed: removed as usize, inserted };
        table.get::<TableState<R>>().change(splices.into_iter().map(splice).collect())
    }
}

impl<R: Router> TableState<R> {
    fn change(&self, splices: Vec<Splice>) -> Result<Option<Configured>, String> {
        let changed = self.0.borrow_mut().change(splices).transpose()?;
        if let Some(configured) = &changed {
            self.1.set(Layout::of(&configured.interests));
        }
        Ok(changed)
    }
}

impl<R: Router> wit::GuestTable for TableState<R> {
    fn configure(config: String, listener: Listener) -> Result<(wit::Table, Configured), String> {
        host::report_panics();
        let (router, configured) = R::configure(config::parse(&config)?, &listener)?;
        let layout = Layout::of(&configured.interests);
        Ok((wit::Table::new(Self(RefCell::new(router), Cell::new(layout))), configured))
    }

    fn route(&self, request: wit::Request) -> Decision {
        self.0.borrow_mut().route(&self.1.get().request(request))
    }
}

// The generated types have no defaults; tests and routers build them with `..Default::default()`.

impl Default for Listener {
    fn default() -> Self {
        Self { name: String::new(), port: 80, transport: Transport::Http, hostname: None, namespace: "default".to_owned() }
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: Cow::Borrowed("GET"),
            host: String::new(),
            path: "/".to_owned(),
            query: String::new(),
            headers: Vec::new(),
            cookies: Vec::new(),
            client: String::new(),
        }
    }
}

impl Default for Redirect {
    fn default() -> Self {
        Self { scheme: None, hostname: None, path: None, port: None, status: 302 }
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self { status: 200, headers: Vec::new(), body: String::new() }
    }
}

macro_rules! empty_by_default {
    ($($type:ident { $($field:ident),+ })+) => {
        $(impl Default for $type {
            fn default() -> Self {
                Self { $($field: Default::default()),+ }
            }
        })+
    };
}

empty_by_default! {
    HeaderChanges { set, add, remove }
    Rewrite { hostname, path }
    Cors { allow_origins, allow_methods, allow_headers, expose_headers, allow_credentials, max_age_seconds }
    Rule { name, filters, backends, request_timeout, backend_timeout, retry }
    Retry { attempts, statuses, back_off }
    Interests { headers, cookies, query, client }
    Configured { rules, interests }
    Choice { rule, backend, matched_prefix }
}

impl Header {
    /// Makes a header field of this name and value.
    ///
    /// ```
    /// assert_eq!(sluicegate_sdk::Header::new("x-beta", "1").name, "x-beta");
    /// ```
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

impl ServiceRef {
    /// Refers to a port of a service in the namespace of the object that holds the reference.
    ///
    /// ```
    /// assert_eq!(sluicegate_sdk::ServiceRef::new("web", 80).namespace, None);
    /// ```
    pub fn new(name: impl Into<String>, port: u16) -> Self {
        Self { namespace: None, name: name.into(), port }
    }
}

impl Backend {
    /// Makes a backend of weight 1 without filters.
    ///
    /// ```
    /// use sluicegate_sdk::{Backend, ServiceRef};
    /// assert_eq!(Backend::new(ServiceRef::new("web", 80)).weight, 1);
    /// ```
    pub fn new(service: ServiceRef) -> Self {
        Self { service, weight: 1, filters: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wit::GuestTable;

    struct Everything;

    #[derive(serde::Deserialize, JsonSchema)]
    struct NoConfig {}

    impl Router for Everything {
        type Config = NoConfig;

        fn configure(_: NoConfig, listener: &Listener) -> Result<(Self, Configured), String> {
            let rule =
                Rule { name: Some(listener.name.clone()), backends: vec![Backend::new(ServiceRef::new("web", 80))], ..Rule::default() };
            Ok((Self, Configured { rules: vec![rule], ..Configured::default() }))
        }
        fn change(&mut self, splices: Vec<Splice>) -> Option<Result<Configured, String>> {
            let interests = Interests { query: true, ..Interests::default() };
            (splices[0].removed > 0).then(|| Ok(Configured { rules: vec![], interests }))
        }

        fn route(&mut self, request: &Request) -> Decision {
            if request.query == "none" {
                return Decision::NoMatch;
            }
            if request.path == "/none" { Decision::NoMatch } else { Decision::Matched(Choice { backend: Some(0), ..Choice::default() }) }
        }
    }

    #[test]
    fn the_component_passes_calls_on() {
        let listener = Listener { name: "web".to_owned(), ..Listener::default() };
        let (router, configured) = Everything::configure(NoConfig {}, &listener).unwrap();
        assert_eq!(configured.rules[0].name.as_deref(), Some("web"));
        let table = TableState(RefCell::new(router), Cell::new(Layout::default()));
        let request = |path: &str| wit::Request { method: wit::Method::Get, host: String::new(), path: path.to_owned(), values: None };
        assert_eq!(table.route(request("/")), Decision::Matched(Choice { rule: 0, backend: Some(0), matched_prefix: 0 }));
        assert_eq!(table.route(request("/none")), Decision::NoMatch);
        let with_query = || wit::Request { values: Some(vec![Some("none".to_owned())]), ..request("/") };
        let splice = |removed| vec![Splice { at: 0, removed, inserted: vec!["1".to_owned()] }];
        assert_eq!(table.change(splice(0)), Ok(None));
        assert_ne!(table.route(with_query()), Decision::NoMatch);
        assert!(table.change(splice(1)).is_ok_and(|changed| changed.is_some()));
        assert_eq!(table.route(with_query()), Decision::NoMatch, "what it reads is another than before");
    }

    #[test]
    fn values_go_where_the_interests_say() {
        let interests = |headers: &[&str], cookies: &[&str], query, client| {
            let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
            Layout::of(&Interests { headers: names(headers), cookies: names(cookies), query, client })
        };
        let read = |layout: Layout, values: &[Option<&str>]| {
            let values = values.iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>();
            let method = wit::Method::Other("PURGE".to_owned());
            let values = (!values.is_empty()).then_some(values);
            layout.request(wit::Request { method, host: "h".to_owned(), path: "/".to_owned(), values })
        };
        let all = read(interests(&["a", "b"], &["c"], true, true), &[Some("1"), None, Some("3"), Some("q=1"), Some("192.0.2.1")]);
        assert_eq!((all.headers, all.cookies), (vec![Some("1".to_owned()), None], vec![Some("3".to_owned())]));
        assert_eq!((&*all.query, &*all.client, &*all.method), ("q=1", "192.0.2.1", "PURGE"));
        let one = read(interests(&["a"], &[], false, false), &[Some("1")]);
        assert_eq!((one.headers.len(), one.cookies.len(), &*one.query, &*one.client), (1, 0, "", ""));
        assert!(read(interests(&[], &[], false, false), &[]).headers.is_empty());
        // A host that sends less than was asked for breaks nothing.
        assert!(read(interests(&["a"], &["b"], true, true), &[]).cookies.is_empty());
    }
}
