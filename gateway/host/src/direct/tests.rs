use super::*;

fn builtin(name: &str) -> Vec<u8> {
    sluicegate_plugins::builtin(name).expect("built in").wasm()
}

/// What [`expose`] finds in a component of these core modules.
fn found(modules: &str) -> Option<u8> {
    index(&wat::parse_str(format!("(component {modules})")).expect("a component"), &[BALANCING])
}

#[test]
fn the_core_module_with_the_contract_is_exported() {
    let of_ours = format!("(core module (func (export \"{BALANCING}#[method]pool.pick\")))");
    assert_eq!(found(&of_ours), Some(0));
    assert_eq!(found(&format!("(core module) (core module (func (export \"f\"))) {of_ours} (core module)")), Some(2));
    assert_eq!(found("(core module (func (export \"a:b/c#f\")))"), None);
    assert_eq!(found(&format!("{of_ours} {of_ours}")), None, "composed of two");
    assert_eq!(found(&format!("(component {of_ours})")), None, "of a component within");
    assert_eq!(found(&format!("(import \"m\" (core module)) {of_ours}")), None, "with an imported module before it");
    assert_eq!(index(b"\0asm\x0d\0\x01\0\xff\xff", &[BALANCING]), None, "cut off");
}

#[test]
fn an_exposed_component_is_valid_and_has_its_module() {
    for name in ["least-request", "maglev", "rules"] {
        let bytes = builtin(name);
        let component = crate::load::componentize(&bytes).expect("a component");
        let exposed = expose(component.clone(), &[BALANCING, ROUTING]);
        assert!(exposed.len() > component.len(), "{name}");
        wasmparser::validate(&exposed).expect("valid");
    }
}
