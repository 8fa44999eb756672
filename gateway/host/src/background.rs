//! Work that traffic must not feel. Compiling and trying a new version takes tens of milliseconds of every core, and happens whenever a file changes. So it
//! runs on threads of low priority, which lose their core as soon as a worker wants one. What must be there before anything can be served, or what a
//! command waits for, is done at once.

use std::cell::Cell;
use std::sync::LazyLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// How far a thread's priority is lowered (nice(2), from 0 to 19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// For what takes long and can wait: about 3 % of a core that workers want, and all of an idle one.
    Compile,
    /// For discovery plugins: what they find should be served soon, but no guest takes a core from a worker.
    Discover,
}

impl Priority {
    /// Gives this priority to the calling thread. It stays, as raising it again needs a privilege.
    pub fn take(self) {
        let nice = match self {
            Self::Compile => 15,
            Self::Discover => 5,
        };
        // On Linux a thread has a priority of its own, whatever POSIX says (setpriority(2)). If the whole process has a lower one, that stays.
        let known = rustix::process::getpriority_process(None).unwrap_or_default();
        if known < nice
            && let Err(error) = rustix::process::setpriority_process(None, nice)
        {
            tracing::debug!(%error, "a thread keeps its priority");
        }
    }
}

/// wasmtime compiles the functions of a plugin side by side on rayon's threads: on these, rather than those of rayon's global pool.
static COMPILERS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let pool = ThreadPoolBuilder::new().thread_name(|i| format!("compile-{i}")).start_handler(|_| Priority::Compile.take());
    pool.build().inspect_err(|error| tracing::warn!(%error, "plugins are compiled on one thread")).ok()
});

/// Whether somebody waits for the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Nothing is served without it.
    Now,
    /// Traffic goes on meanwhile, and comes first.
    Background,
}

thread_local! {
    static IN_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// Compiles, on threads of low priority if this is one. `work` must take no lock that another piece of it may hold, as a thread that waits takes up other
/// pieces.
pub(crate) fn compile<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match IN_BACKGROUND.get().then(|| COMPILERS.as_ref()).flatten() {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

/// Does work on a thread of its own; none if there is no thread to be had, or it panicked.
pub async fn run<T: Send + 'static>(urgency: Urgency, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        if urgency == Urgency::Background {
            Priority::Compile.take();
            IN_BACKGROUND.set(true);
        }
        // The receiver may have stopped waiting.
        let _ = done.send(work());
    });
    spawned.inspect_err(|error| tracing::warn!(%error, "no thread for a plugin")).ok()?;
    result.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The processor time of the threads of this name, in nanoseconds, and their priorities.
    fn threads(name: &str) -> Vec<(u64, i32)> {
        let all = std::fs::read_dir("/proc/self/task").expect("threads").flatten().map(|entry| entry.path());
        let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let named = all.filter(|thread| read(thread.join("comm")).starts_with(name));
        let figures = named.map(|thread| {
            let computed = read(thread.join("schedstat")).split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
            // proc_pid_stat(5): the name may have blanks, and the nice value is the 17th field after it.
            let stat = read(thread.join("stat"));
            let nice = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(16)?.parse().ok());
            (computed, nice.unwrap_or_default())
        });
        figures.collect()
    }

    #[test]
    fn a_plugin_is_compiled_on_those_threads() {
        let load = || {
            let wasm = sluicegate_plugins::builtin("rules").expect("built in").wasm();
            let loader = crate::Loader::new().expect("an engine");
            loader.load_any("rules", &wasm, &sluicegate_model::plugin::Limits::default()).map(drop).expect("loaded");
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let computed = || threads("compile-").iter().map(|(computed, _)| computed).sum::<u64>();
        runtime.block_on(run(Urgency::Now, load)).expect("done");
        let before = computed();
        runtime.block_on(run(Urgency::Background, load)).expect("done");
        assert!(computed() - before > 1_000_000, "{} ns", computed() - before);
        assert!(threads("compile-").iter().all(|(_, nice)| *nice == 15), "{:?}", threads("compile-"));
    }

    fn nice() -> i32 {
        rustix::process::getpriority_process(None).expect("a priority")
    }

    #[test]
    fn compiling_and_trying_happen_on_threads_of_low_priority() {
        let before = nice();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let all = || (nice(), compile(|| (nice(), rayon::join(nice, nice))));
        assert_eq!(runtime.block_on(run(Urgency::Background, all)), Some((15, (15, (15, 15)))));
        assert_eq!(runtime.block_on(run(Urgency::Now, nice)), Some(before));
        assert_eq!(runtime.block_on(run(Urgency::Now, || assert!(std::hint::black_box(false)))), None, "a panic is no end of the process");
        assert_eq!(nice(), before, "the caller's stays");
    }
}
