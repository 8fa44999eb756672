//! Sluicegate wired together: [`run`] is the whole gateway, for `main` and for tests.

mod allocator;
mod apart;
mod cluster;
pub mod command;
mod compare;
pub mod demo;
mod error;
mod explain;
mod loaded;
mod settled;
mod shadow;
mod standard_error;
mod stop;
mod takeover;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use sluicegate_acme::Orders;
use sluicegate_admin::{Configuration, Gate, HealthChecks, Ports, View};
use sluicegate_cluster::anyip;
use sluicegate_control::acme::link as acme_link;
use sluicegate_control::allocate::Allocator;
use sluicegate_control::controller::{Controller, Prepare, Unbound};
use sluicegate_control::keep;
use sluicegate_control::sources::SourceError;
use sluicegate_control::tickets::{self, Persist, TicketKeeper};
use sluicegate_host::Loader;
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::operate::Readiness;
use sluicegate_model::record::Recorder;
use sluicegate_model::requests::Requests;
use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::state_store::StateStore;
use sluicegate_model::stats::ProxyStats;
use sluicegate_model::status::Status;
use sluicegate_model::tls::Acme;
use sluicegate_model::tls::tickets::TicketSecrets;
use sluicegate_model::unix::seconds;
use sluicegate_proxy::{AnySocket, Config, ExportedLog, Proxy, Release, may_keep_clients};
use sluicegate_telemetry::Telemetry;
use tokio::sync::Mutex;
use tokio::task::JoinError;

use apart::Apart;
use cluster::Joined;
use error::io;
use shadow::Shadow;
use takeover::{Estate, Succession, Successor};

pub use error::Error;
pub use settled::{InCluster, Settled};

/// Finds an embedded plugin.
pub fn builtin(name: &str) -> Option<Vec<u8>> {
    sluicegate_plugins::builtin(name).map(|builtin| builtin.wasm())
}

/// The sockets that a service manager has opened for this process (sd_listen_fds(3)). They are found by their addresses.
fn activated() -> Vec<OwnedFd> {
    let mut handed = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for i in 0..handed.len() {
        // A socket of the other kind is left where it is.
        let tcp = handed.take_tcp_listener(i).map(|socket| socket.map(OwnedFd::from));
        match tcp.or_else(|_| handed.take_udp_socket(i).map(|socket| socket.map(OwnedFd::from))) {
            Ok(socket) => sockets.extend(socket),
            Err(error) => tracing::warn!(%error, "socket {i} of the service manager is neither of TCP nor of UDP; it is left alone"),
        }
    }
    sockets
}

/// Tells the service manager, if one listens (sd_notify(3)).
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// How often the states of balancers' pools are written down. A crash may lose so much.
const KEEP_STATE: Duration = Duration::from_secs(5);

/// How often it is checked whether a new secret for session tickets is due.
const TEND_TICKETS: Duration = Duration::from_secs(60);

/// Why the gateway stops.
enum Stop {
    Asked,
    /// A successor has taken its place.
    Succeeded(Successor),
    /// A stop was asked for before it served in place of the other gateway, which goes on.
    InVain,
}

/// Runs the gateway until `shutdown` is ready, or a successor serves. `started` is told the admin API's address.
pub fn run(settled: &Settled, shutdown: impl Future<Output = ()>, started: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io("the control runtime"))?;
    let activated = activated();
    let handed = if settled.take_over { runtime.block_on(takeover::ask(&settled.state_dir)).map_err(io("taking over"))? } else { None };
    let (handed, lock, secrets, predecessor) =
        handed.map(takeover::Handed::split).map_or_else(Default::default, |(s, l, t, p)| (s, Some(l), t, Some(p)));
    let stats = Arc::new(ProxyStats::default());
    // This comes after the lock. A predecessor that still serves goes on writing the file, but what it wrote last is a few seconds old.
    let state_store = Arc::new(keep::load(&settled.state_dir));
    let acme = Arc::new(Acme::default());
    let unkept = settled.keep_clients.as_ref().and_then(|_| may_keep_clients().err()).map(|error| {
        let why = "clientAddress.keep: endpoints see this gateway's address instead of the client's, as the process lacks the capability CAP_NET_ADMIN";
        tracing::error!(%error, "{why}");
        Fault { severity: Severity::Error, place: None, object: None, message: format!("{why}: {error}"), expected: None }
    });
    let requests = Arc::new(Requests::default());
    let mut telemetry = Telemetry::start(&settled.telemetry, &stats.telemetry)?;
    let config = Config {
        requests: requests.clone(),
        keep_clients: settled.keep_clients.clone().filter(|_| unkept.is_none()),
        workers: settled.workers,
        max_connections: settled.max_connections,
        max_flows: settled.max_flows,
        access_log: settled.access_log.clone(),
        exported_log: telemetry
            .as_ref()
            .and_then(Telemetry::records)
            .zip(settled.exported_line.clone())
            .map(|(to, line)| ExportedLog { line, to }),
        tracer: telemetry.as_ref().and_then(Telemetry::tracer),
        overload: settled.overload,
        release: Release(allocator::release),
        state_store: state_store.clone(),
        acme: acme.clone(),
    };
    let gate = Gate::load(&settled.admin).map_err(|error| io("logins to the admin API")(std::io::Error::other(error)))?;
    let proxy = Arc::new(Proxy::start(&config, &stats).map_err(io("the workers"))?);
    proxy.adopt(activated.into_iter().chain(handed));
    // It is bound before the loader is made, as plugins must be kept from the very address.
    let admin = proxy.give(settled.admin_address).map_or_else(|| TcpListener::bind(settled.admin_address), Ok);
    let admin = admin.and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    });
    let (admin_address, admin_listener) = admin.map_err(io(format!("admin address {}", settled.admin_address)))?;
    let gate = Arc::new(gate);
    warn_of_logins(&gate, admin_address);
    let recorder = Arc::new(Recorder::default());
    let folder = || io(format!("state folder {}", settled.state_dir.display()));
    let ranges = settled.ranges.clone();
    let allocator = match lock {
        Some(lock) => Allocator::take_over(&settled.state_dir, ranges, lock),
        None => Allocator::load(&settled.state_dir, ranges).map_err(folder())?,
    };
    let allocator = if settled.cluster.is_some() { allocator.as_given() } else { allocator };
    let mut joined =
        settled.cluster.as_ref().map(|cluster| Joined::prepare(cluster, settled.here.node.clone(), &settled.state_dir)).transpose()?;
    let allocator = match &joined {
        Some(joined) => allocator.chosen_by(joined.leads()),
        None => allocator,
    };
    let lock = allocator.lock().map_err(folder())?;
    let ticket_secrets = Arc::new(TicketSecrets::default());
    // Only now does the folder belong to this process. A predecessor's secrets are those that it may have written there, and newer.
    ticket_secrets.adopt(match settled.session_tickets {
        Persist::Yes if secrets.is_empty() => tickets::load(&settled.state_dir),
        _ => secrets,
    });
    if let Err(error) = ticket_secrets.rotate(seconds()) {
        tracing::warn!(%error, "no secret for session tickets could be made; TLS sessions are not resumed");
    }
    // As with the secrets, what a predecessor may have written is there now.
    Orders::show_kept(&settled.acme, &settled.state_dir, &acme);
    let (link, asked) = acme_link(acme);
    let orders = Orders::new(asked, &settled.acme, &settled.state_dir, settled.acme_timing);
    let compiled = settled.code_cache.clone().unwrap_or_else(|| settled.state_dir.join("compiled"));
    let loader = Loader::keeping(&compiled)?;
    let loader = loader.guarding(admin_address).recorded_by(recorder.clone());
    let status = Arc::new(ArcSwap::from_pointee(Status::default()));
    let served = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
    let readiness = Arc::new(Readiness::default());
    let shadow = Arc::new(Shadow::new(requests.clone(), loader.clone(), settled.clone()));
    let options = settled.options(admin_address)?;
    let turns = options.turns.clone();
    let controller = Controller::new(options, loader, allocator).with_tickets(ticket_secrets.clone()).with_acme(link).with_faults(unkept);
    let controller = match &mut joined {
        Some(joined) => joined.join(controller),
        None => controller,
    };
    let sources = joined.iter().map(Joined::view).collect();
    let operate = controller.operate();
    let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let configuration = Configuration { paths: settled.paths.iter().map(whole).collect(), state_dir: whole(&settled.state_dir) };
    let configuration = Arc::new(configuration);
    let explain = explain::running(served.clone(), status.clone(), controller.inquiries());
    let view = View {
        configuration,
        shadow,
        process: settled.origins.clone(),
        status: status.clone(),
        proxy: stats,
        snapshot: served.clone(),
        readiness: readiness.clone(),
        explain,
        operate,
        recorder,
        requests,
        log: standard_error::stats(),
        sources,
        login: gate.stats(),
        ports: Arc::new(Ports::new(settled.max_series)),
    };
    if let Some(telemetry) = &mut telemetry {
        let view = view.clone();
        telemetry.scrape(move || view.metrics());
    }
    let health_checks = Arc::new(HealthChecks::new(readiness.clone()));
    let apart = Apart::start("admin").map_err(io("the admin thread"))?;
    let outcome = runtime.block_on(async {
        let mut shutdown = pin!(shutdown);
        let own = admin_listener.try_clone().map_err(io("admin address"))?;
        let listener = {
            let _there = apart.handle().enter();
            tokio::net::TcpListener::from_std(admin_listener).map_err(io("admin address"))?
        };
        let returned = tokio::spawn(return_memory(view.proxy.clone()));
        let admin = sluicegate_admin::serve(listener, view, gate);

        let unrouted = anyip::Fault::default();
        let (controller, routed) = if settled.manage_addresses {
            let (wishes, keeper) = anyip::keeper(settled.ranges.load_balancer.clone(), unrouted.clone());
            let prepare: Prepare = Box::new(move |status| Box::pin(wishes.of(status)));
            (controller.preparing(prepare), Some(tokio::spawn(keeper.run())))
        } else {
            (controller, None)
        };
        let leading = joined.as_mut().and_then(|joined| joined.lead(status.clone()));
        let (published, checks, there) = (proxy.clone(), health_checks.clone(), apart.handle().clone());
        let publish = move |snapshot: Arc<Snapshot>| {
            let _there = there.enter();
            // A number may move from one kind of port to the other.
            checks.release(&snapshot.health_checks);
            let failures = published.publish(snapshot.clone()).into_iter();
            served.store(snapshot.clone());
            let failures = failures.map(|f| Unbound {
                at: Some((f.protocol, f.address)),
                message: format!("{}: cannot listen on {}: {}", f.listener, f.address, f.error),
            });
            let checks = checks.update(&snapshot.health_checks, |address| published.listen(address)).into_iter();
            let others = checks.chain(unrouted.now());
            failures.chain(others.map(|message| Unbound { at: None, message })).collect()
        };
        let rotated = tokio::spawn(reopen_on_hangup(proxy.clone()));
        let kept = tokio::spawn(keep_state(state_store.clone(), settled.state_dir.clone()));
        let mut control = tokio::spawn(controller.run(status, Box::new(publish)));
        // The predecessor answers on the same address until it has left.
        let predecessor = match predecessor {
            None => None,
            Some(predecessor) => tokio::select! {
                () = proxy.served(1) => Some(predecessor),
                () = &mut shutdown => return stop(Stop::InVain, settled, proxy, &health_checks).await,
                ended = &mut control => return Err(control_ended(ended)),
            },
        };
        let took_over = predecessor.is_some();
        if let Some(predecessor) = predecessor {
            if let Err(error) = takeover::Handed::serving(predecessor).await {
                tracing::warn!(%error, "the predecessor does not say that it has left; it may have ended");
            }
            tracing::info!("the place of the predecessor is taken");
        }
        // It does not begin before, as the file belongs to the predecessor until that has left.
        let tended = tokio::spawn(tend_tickets(ticket_secrets.clone(), settled.clone(), turns.clone()));
        // Nor do the orders, whose challenges the predecessor would be asked for.
        let ordered = tokio::spawn(orders.run());
        for address in proxy.unused(took_over) {
            tracing::warn!(%address, "a socket that was handed over has no listener");
        }
        let mut admin = apart.handle().spawn(admin);
        started(admin_address);
        let ready = proxy.clone();
        tokio::spawn(async move {
            ready.served(1).await;
            notify(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
        });

        let (sockets, checks) = (proxy.clone(), health_checks.clone());
        let listening = move || checks.sockets().into_iter().chain(own.try_clone()).map(|socket| Arc::new(socket) as AnySocket);
        let sockets = move || sockets.sockets().into_iter().chain(listening()).collect();
        let estate = Estate { sockets: Box::new(sockets), lock, tickets: ticket_secrets, turns };
        let succeeded = async {
            match Succession::open(&settled.state_dir) {
                Ok(succession) => succession.succeeded(estate).await,
                Err(error) => {
                    tracing::warn!(%error, "no successor will be able to take over without a pause");
                    std::future::pending().await
                }
            }
        };
        // Changes are still followed meanwhile, and a successor may still come.
        let stopped = async {
            shutdown.as_mut().await;
            if !settled.shutdown_delay.is_zero() {
                readiness.stop();
                notify(&[NotifyState::Stopping]);
                tracing::info!(delay = ?settled.shutdown_delay, "not ready any more; what comes is served until the delay is over");
                tokio::time::sleep(settled.shutdown_delay).await;
            }
        };
        let outcome = tokio::select! {
            () = stopped => Ok(Stop::Asked),
            successor = succeeded => Ok(Stop::Succeeded(successor)),
            ended = &mut control => Err(control_ended(ended)),
        };
        // Nothing new is published, as the sockets of what is published now are about to close.
        control.abort();
        if let Some(routed) = routed {
            routed.abort();
        }
        readiness.stop();
        rotated.abort();
        returned.abort();
        kept.abort();
        tended.abort();
        ordered.abort();
        notify(&[NotifyState::Stopping]);
        let replaced = matches!(outcome, Ok(Stop::Succeeded(_)));
        if replaced {
            // The end is waited for, as the successor is to answer what connects from now on.
            admin.abort();
            let _ = (&mut admin).await;
        }
        let last = matches!(outcome, Ok(Stop::Asked) | Err(_));
        let drained = async {
            match outcome {
                Ok(why) => stop(why, settled, proxy, &health_checks).await,
                Err(error) => stop(Stop::Asked, settled, proxy, &health_checks).await.and(Err(error)),
            }
        };
        // An API server that does not answer keeps nobody from being served, and no listener open.
        let (drained, ()) = tokio::join!(drained, async {
            if let Some(leading) = leading {
                leading.give_up().await;
            }
        });
        admin.abort();
        if last {
            keep::save(&state_store, &settled.state_dir);
            // Connections that were open until now needed them.
            if settled.manage_addresses {
                anyip::remove().await;
            }
        }
        if replaced && settled.stay_when_replaced {
            tracing::info!("what ran here has ended; this process waits to be stopped");
            shutdown.await;
        }
        drained
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    // What the last exchanges told is there now.
    if let Some(telemetry) = telemetry {
        telemetry.end();
    }
    outcome
}

/// Says who can use an admin API that listens elsewhere than on the loopback.
fn warn_of_logins(gate: &Gate, address: SocketAddr) {
    if address.ip().to_canonical().is_loopback() {
        return;
    }
    if !gate.takes_logins() {
        tracing::warn!(%address, "from other machines the admin API answers probes and metrics alone, as nobody can log in: `admin.tokenFile`, or `admin.tls` with `clientCAFile`");
    } else if gate.reads_tokens_in_the_clear() {
        tracing::warn!(%address, "the admin API takes tokens without TLS: whoever is on the way can read them; `admin.tls` would help");
    }
}

/// Writes the states of balancers' pools down from time to time.
async fn keep_state(state_store: Arc<StateStore>, folder: PathBuf) {
    let mut tick = tokio::time::interval(KEEP_STATE);
    loop {
        tick.tick().await;
        let (state_store, folder) = (state_store.clone(), folder.clone());
        // Only a panic would be an error, and it is tried again the next time.
        let _ = tokio::task::spawn_blocking(move || keep::save(&state_store, &folder)).await;
    }
}

/// Makes new secrets for session tickets, and keeps them if that is asked for. None is made while a successor is handed those that there are.
async fn tend_tickets(secrets: Arc<TicketSecrets>, settled: Settled, turns: Arc<Mutex<()>>) {
    let mut keeper = TicketKeeper::new(secrets, settled.state_dir, settled.session_tickets);
    let mut tick = tokio::time::interval(TEND_TICKETS);
    loop {
        tick.tick().await;
        let _held = turns.lock().await;
        let tended = tokio::task::spawn_blocking(move || {
            keeper.tend();
            keeper
        });
        // Only a panic would be an error.
        let Ok(tended) = tended.await else { return };
        keeper = tended;
    }
}

/// Has this thread return its free memory while memory is short. Most of what a change took was taken on this thread.
async fn return_memory(stats: Arc<ProxyStats>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        if sluicegate_proxy::is_short(&stats) {
            allocator::release();
        }
    }
}

/// Opens the file of the access log anew at SIGHUP, by which logrotate says that it was renamed.
async fn reopen_on_hangup(proxy: Arc<Proxy>) {
    let Ok(mut hangup) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        proxy.reopen_access_log();
    }
}

/// Waits until the workers have drained. Meanwhile the admin API and health checks go on, unless another gateway answers there.
async fn stop(why: Stop, settled: &Settled, proxy: Arc<Proxy>, health_checks: &HealthChecks) -> Result<(), Error> {
    let grace = settled.grace;
    let leaves = !matches!(why, Stop::Asked);
    if leaves {
        health_checks.leave();
    }
    let drained = tokio::task::spawn_blocking(move || if leaves { proxy.leave(grace) } else { proxy.shutdown(grace) });
    if let Stop::Succeeded(successor) = why {
        tracing::info!("a successor serves; what runs here is brought to its end");
        successor.left().await;
    }
    drained.await.map_err(|e| Error::Io { what: "stopping".to_owned(), error: std::io::Error::other(e) })
}

fn control_ended(ended: Result<Result<(), SourceError>, JoinError>) -> Error {
    match ended {
        Ok(Ok(())) => Error::Ended,
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    }
}
