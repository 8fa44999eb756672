//! Calls on a plugin's core module, by the canonical ABI of the component model
//! (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md>), in the place of wasmtime's calls on the component: a pick then costs a
//! tenth, and a route a third. The contract is the same, and so is the compiled code: the component is given one more export, its own core module ([`expose`]),
//! which is instantiated with imports of ours ([`imports`]).
//!
//! This is for what workers ask of plugins that are one core module, as toolchains make them. Components that are composed of several, those of the contract's
//! version 0.1, and what control asks go through wasmtime. A guest's handles of its own resources are kept as wasmtime keeps them
//! ([`handles`](crate::state::handles)).

mod balancer;
mod imports;
mod router;

use std::borrow::Cow;

use wasmparser::{ComponentAlias, ComponentExternalKind, ComponentImport, ComponentOuterAliasKind, ComponentTypeRef, Parser, Payload};
use wasmtime::component::ResourceAny;
use wasmtime::{Engine, Instance, InstancePre, Linker, Module, Store, TypedFunc, WasmParams};

use crate::kind::Loading;
use crate::state::State;
use crate::state::boundary::{Boundary, View};

pub(crate) use balancer::{BALANCING, Balancer};
pub(crate) use router::{ROUTING, Read, Router, Splice};

/// The name under which a component exports its core module.
pub(crate) const EXPORT: &str = "core";

/// A resource of a guest.
#[derive(Clone, Copy)]
pub(crate) enum Handle {
    /// Of a component.
    Component(ResourceAny),
    /// The number that a core module has for it.
    Direct(u32),
}

impl Handle {
    /// Of a guest that is called in the other way: that would be a fault of the gateway's own.
    pub(crate) fn component(self) -> wasmtime::Result<ResourceAny> {
        match self {
            Self::Component(resource) => Ok(resource),
            Self::Direct(_) => wasmtime::bail!("a core module's handle reached a component"),
        }
    }

    pub(crate) fn direct(self) -> wasmtime::Result<u32> {
        match self {
            Self::Direct(number) => Ok(number),
            Self::Component(_) => wasmtime::bail!("a component's handle reached a core module"),
        }
    }
}

/// What core modules may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    imports::add_to(&mut linker)?;
    Ok(linker)
}

/// Gives a component the export [`EXPORT`] of its own core module, the one that has an `interface` of the contract. Where there is none, or more than
/// one could be meant, the component stays as it is.
pub(crate) fn expose<'c>(component: Cow<'c, [u8]>, interfaces: &[&str]) -> Cow<'c, [u8]> {
    let Some(index) = index(&component, interfaces) else { return component };
    let mut export = vec![1, 0, u8::try_from(EXPORT.len()).unwrap_or(0)];
    export.extend_from_slice(EXPORT.as_bytes());
    // A core module, its index, and no type of its own.
    export.extend_from_slice(&[0, 0x11, index, 0]);
    let mut exposed = component.into_owned();
    exposed.extend_from_slice(&[11, u8::try_from(export.len()).unwrap_or(0)]);
    exposed.append(&mut export);
    exposed.into()
}

/// The index of the one core module that exports a function of one of these interfaces; it is below 128, and so one byte.
fn index(component: &[u8], interfaces: &[&str]) -> Option<u8> {
    let mut found = None;
    let (mut depth, mut modules) = (0_usize, 0_u8);
    for payload in Parser::new(0).parse_all(component) {
        match payload.ok()? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.checked_sub(1)?,
            Payload::ModuleSection { .. } if depth == 1 => modules = modules.checked_add(1)?,
            Payload::ExportSection(exports) if depth == 2 => {
                let interface = |name: &str| name.split_once('#').is_some_and(|(interface, _)| interfaces.contains(&interface));
                if exports.into_iter().flatten().any(|export| interface(export.name)) {
                    let index = modules.checked_sub(1).filter(|index| *index < 128)?;
                    // Two such modules: it is composed.
                    found = found.is_none().then_some(index);
                    found?;
                }
            }
            // The index would be another one.
            Payload::ComponentImportSection(imports)
                if depth == 1 && imports.clone().into_iter().flatten().any(|import| of_module(&import)) =>
            {
                return None;
            }
            Payload::ComponentAliasSection(aliases)
                if depth == 1 && aliases.clone().into_iter().flatten().any(|alias| names_module(&alias)) =>
            {
                return None;
            }
            _ => {}
        }
    }
    found
}

fn of_module(import: &ComponentImport<'_>) -> bool {
    matches!(import.ty, ComponentTypeRef::Module(_))
}

fn names_module(alias: &ComponentAlias<'_>) -> bool {
    let of_instance = matches!(alias, ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. });
    of_instance || matches!(alias, ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. })
}

/// The core module of a component that was [exposed](expose), linked; or why it is called as a component. wasmtime gives a component's module of an
/// instance only: this one was made to ask the plugin what it is.
pub(crate) fn link(
    loading: &Loading<'_>,
    store: &mut Store<State>,
    instance: &wasmtime::component::Instance,
) -> Result<InstancePre<State>, String> {
    let linker = loading.environment.direct.as_ref().ok_or_else(|| "the loader was asked to".to_owned())?;
    let index = instance.get_export_index(&mut *store, None, EXPORT);
    let index = index.ok_or_else(|| "it is composed of several modules".to_owned())?;
    let module: Option<Module> = instance.get_module(&mut *store, index);
    let module = module.ok_or_else(|| format!("its export {EXPORT:?} is no module"))?;
    linker.instantiate_pre(&module).map_err(|error| format!("{error:#}"))
}

/// Instantiates a core module.
fn instantiate(pre: &InstancePre<State>, store: &mut Store<State>) -> wasmtime::Result<(Instance, Boundary)> {
    let instance = pre.instantiate(&mut *store)?;
    let boundary = Boundary::of(&instance, store)?;
    store.data_mut().boundary = Some(boundary.clone());
    if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut *store, "_initialize") {
        initialize.call(&mut *store, ())?;
    }
    Ok((instance, boundary))
}

/// An exported function with a result in memory, and what is to be called when that was read.
struct Export<P> {
    call: TypedFunc<P, u32>,
    post: Option<TypedFunc<u32, ()>>,
}

impl<P: WasmParams> Export<P> {
    fn of(instance: &Instance, store: &mut Store<State>, interface: &str, name: &str) -> wasmtime::Result<Self> {
        let name = format!("{interface}#{name}");
        let call = instance.get_typed_func(&mut *store, &name)?;
        let post = instance.get_typed_func(&mut *store, &format!("cabi_post_{name}")).ok();
        Ok(Self { call, post })
    }

    /// Calls it, has the result read, and lets the guest free what that points to.
    #[inline]
    fn call<T>(
        &self,
        store: &mut Store<State>,
        boundary: &Boundary,
        parameters: P,
        read: impl FnOnce(&mut View<'_>, u32) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        let at = self.call.call(&mut *store, parameters)?;
        let result = read(&mut boundary.view(store), at)?;
        if let Some(post) = &self.post {
            store.data_mut().may_leave = false;
            post.call(&mut *store, at)?;
            store.data_mut().may_leave = true;
        }
        Ok(result)
    }
}

/// A function without a result.
fn plain<P: WasmParams>(instance: &Instance, store: &mut Store<State>, interface: &str, name: &str) -> wasmtime::Result<TypedFunc<P, ()>> {
    instance.get_typed_func(&mut *store, &format!("{interface}#{name}"))
}

/// What frees a resource, if the guest has something to do then.
struct Destructor(Option<TypedFunc<u32, ()>>);

impl Destructor {
    fn of(instance: &Instance, store: &mut Store<State>, interface: &str, resource: &str) -> Self {
        Self(plain(instance, store, interface, &format!("[dtor]{resource}")).ok())
    }

    fn call(&self, store: &mut Store<State>, number: u32) -> wasmtime::Result<()> {
        self.0.as_ref().map_or(Ok(()), |free| free.call(&mut *store, number))
    }
}

#[cfg(test)]
mod tests;
