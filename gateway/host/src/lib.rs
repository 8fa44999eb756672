//! Plugins as WebAssembly components on wasmtime. Control calls [`Loader::load`] off the workers; it compiles ([`load`]), checks the world,
//! asks for the description, and returns a generation of its [`kind`] (of which [`kinds`] is the list), which is tried with its configuration ([`Loaded::trial`]). Workers make their own instances of it
//! ([`balancer`], [`router`]); a discovery plugin runs as a task of control's ([`discovery`]). [`state`] is what a guest can reach,
//! [`wasi`] what a discovery plugin can besides, [`engine`] how it runs, `recorder` what one pick drew and read, [`bindings`] what `sdk/wit` generates. The
//! contract has versions, see [`version`]: all that a worker calls goes through a `guest` that knows them ([`balancer`] and [`router`] have one
//! each), [`v0_1`] is what guests of the older one import. [`cache`] keeps compiled code between starts. What takes long is done on threads of low
//! priority ([`background`]).

pub mod background;
pub mod balancer;
mod bindings;
mod cache;
mod digest;
mod direct;
pub mod discovery;
pub mod engine;
pub mod inspect;
mod kind;
mod kinds;
pub mod load;
mod recorder;
pub mod router;
mod state;
mod v0_1;
pub mod version;
#[expect(unreachable_pub, reason = "the generated bindings re-export the types of resources")]
mod wasi;

pub use engine::EngineError;
pub use load::{Description, Loaded, Loader};
pub use recorder::SampleRecorder;
