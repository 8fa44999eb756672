//! What removed Services held, and what happens to allocations when disks fail or files are damaged.

use super::*;

/// A Service in a file of its own.
fn in_file(file: &str, name: &str, port: &str) -> Arc<Object> {
    let parsed = manifest::parse(Path::new(file), &service(name, "NodePort", port));
    Arc::new(object::decode(parsed.documents.into_iter().next().expect("one")).0.expect("an object"))
}

#[test]
fn what_removed_services_held_is_used_again_though_another_file_is_faulty() {
    let mut allocator = Allocator::in_memory(Ranges { node_ports: 30000..=30003, ..Ranges::default() });
    let faulty = Unread { files: [PathBuf::from("faulty.yaml")].into(), ..Unread::default() };
    let some = |names: &[&str]| -> Vec<Arc<Object>> { names.iter().map(|n| in_file(&format!("{n}.yaml"), n, "{port: 80}")).collect() };
    let lost = in_file("faulty.yaml", "lost", "{port: 80, nodePort: 30000}");
    let held: Vec<Arc<Object>> = some(&["a", "b"]).into_iter().chain([lost]).collect();
    let first = allocator.allocate(&held, &Unread::default()).0;
    let of = |made: &Allocations, name: &str| by_name(made).into_iter().find(|(n, _)| *n == name).map(|(_, number)| number);
    // First b goes, then a; then as many Services come as there are numbers.
    allocator.allocate(&some(&["a"]), &faulty);
    allocator.allocate(&some(&[]), &faulty);
    let (made, faults) = allocator.allocate(&some(&["c", "d"]), &faulty);
    let given: Vec<u16> = node_ports(&made);
    assert!(given.contains(&of(&first, "b").expect("held")), "the one that has been gone longest is used first: {made:?}");
    assert_eq!((given.contains(&of(&first, "a").expect("held")), faults), (false, Vec::new()));
    let (made, faults) = allocator.allocate(&some(&["c", "d", "e"]), &faulty);
    assert_eq!((of(&made, "e"), faults), (of(&first, "a"), Vec::new()));
    // What may only be unreadable is used last, and what is there is never used.
    let (made, faults) = allocator.allocate(&some(&["c", "d", "e", "f"]), &faulty);
    assert_eq!((of(&made, "f"), faults), (Some(30000), Vec::new()));
    let (made, faults) = allocator.allocate(&some(&["c", "d", "e", "f", "g"]), &faulty);
    assert_eq!((of(&made, "g"), faults.len()), (None, 1));
}

#[test]
fn a_number_that_an_object_asks_for_is_free_when_its_holder_was_removed_and_not_when_it_may_be_unreadable() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let faulty = Unread { files: [PathBuf::from("folder")].into(), ..Unread::default() };
    let removed = in_file("removed.yaml", "removed", "{port: 80, nodePort: 30001}");
    let unreadable = in_file("folder/file.yaml", "unreadable", "{port: 80, nodePort: 30002}");
    allocator.allocate(&[removed, unreadable], &Unread::default());
    let new = [in_file("new.yaml", "one", "{port: 80, nodePort: 30001}"), in_file("new.yaml", "two", "{port: 80, nodePort: 30002}")];
    let (made, faults) = allocator.allocate(&new, &faulty);
    assert_eq!((by_name(&made), faults.len()), (vec![("one", 30001)], 1), "{faults:?}");
    // When everything can be read, the unreadable Service has been removed as well.
    let (made, faults) = allocator.allocate(&new, &Unread::default());
    assert_eq!((by_name(&made), faults), (vec![("one", 30001), ("two", 30002)], Vec::new()));
}

#[test]
fn cluster_ips_and_load_balancer_addresses_of_removed_services_are_used_again_too() {
    let net = |text: &str| text.parse::<IpNet>().expect("a network");
    let ranges = Ranges { cluster_ips: vec![net("127.96.0.0/30")], load_balancer: vec![net("127.97.0.0/30")], ..Ranges::default() };
    let mut allocator = Allocator::in_memory(ranges);
    let faulty = Unread { objects: [services(&service("x", "ClusterIP", "{port: 80}"))[0].key.clone()].into(), ..Unread::default() };
    for round in 0..5 {
        let one = services(&service(&format!("s{round}"), "LoadBalancer", "{port: 80}"));
        let (made, faults) = allocator.allocate(&one, &faulty);
        assert_eq!((made.cluster_ips.len(), made.load_balancer.len(), faults), (1, 1, Vec::new()), "round {round}");
    }
}

#[test]
fn no_damage_changes_a_port_and_what_could_not_be_saved_is_saved_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = || Allocator::load(folder.path(), Ranges::default()).expect("loads");
    let objects = services(&(service("a", "NodePort", "{port: 80}") + &service("b", "NodePort", "{port: 80}")));
    let mut allocator = load();
    let obstacle = folder.path().join("allocations.json.partial");
    std::fs::create_dir_all(obstacle.join("full")).expect("made");
    let first = allocator.allocate(&objects, &Unread::default()).0;
    let fault = allocator.save().expect("told");
    assert_eq!((fault.severity, allocator.unsaved()), (Severity::Warning, true));
    std::fs::remove_dir_all(&obstacle).expect("removed");
    assert_eq!((allocator.save(), allocator.unsaved()), (None, false));
    for damage in ["", "{", "\u{feff}{}", "{\"content\": {}}", "null"] {
        drop(allocator);
        std::fs::write(folder.path().join("allocations.json"), damage).expect("written");
        allocator = load();
        assert_eq!(allocator.allocate(&objects, &Unread::default()).0, first, "{damage:?}");
        assert_eq!(allocator.save(), None);
    }
}

/// Services that are enough for a journal, without this one.
fn many(but: &str) -> Vec<Arc<Object>> {
    let names = (0..900).map(|number| format!("service-{number}")).filter(|name| name != but);
    services(&names.map(|name| service(&name, "ClusterIP", "{port: 80}")).collect::<String>())
}

#[test]
fn one_of_many_that_comes_or_goes_is_one_line_which_a_restart_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = || Allocator::load(folder.path(), Ranges::default()).expect("loads");
    let path = |name: &str| folder.path().join(name);
    let mut allocator = load();
    let mut made = allocator.allocate(&many(""), &Unread::default()).0;
    assert_eq!(allocator.save(), None);
    let before = std::fs::read(path("allocations.json")).expect("there");
    let new = services(&service("new", "NodePort", "{port: 80}")).remove(0);
    let gone = services(&service("service-7", "ClusterIP", "{port: 80}")).remove(0).key.clone();
    for changed in [(new.key.clone(), Some(new.clone())), (gone, None)] {
        assert!(allocator.allocate_changed(&[changed], &Unread::default(), &mut made));
        assert_eq!((allocator.save(), allocator.unsaved()), (None, false));
    }
    assert_eq!(std::fs::read(path("allocations.json")).expect("there"), before);
    let journal = std::fs::read_to_string(path("allocations.json.journal")).expect("there");
    assert_eq!(journal.lines().count(), 3);
    assert!(journal.contains(r#"{"of":["default/new"],"now":{"#) && journal.len() < 1500, "{journal}");
    let state = allocator.state.clone();
    drop(allocator);
    assert_eq!(Allocator::read_only(folder.path(), Ranges::default()).state, State { number: 1, ..state });

    // All are looked at and get what they had; only one gets something new.
    let all: Vec<Arc<Object>> = many("service-7").into_iter().chain([new]).collect();
    let mut allocator = load();
    assert_eq!(allocator.allocate(&all, &Unread::default()).0, made);
    assert!(!allocator.unsaved());
    let without: Vec<Arc<Object>> = all.into_iter().filter(|object| object.key.name != "service-8").collect();
    made = allocator.allocate(&without, &Unread::default()).0;
    assert_eq!(allocator.save(), None);
    assert_eq!(std::fs::read_to_string(path("allocations.json.journal")).expect("there").lines().count(), 4);
    drop(allocator);
    assert_eq!(load().allocate(&without, &Unread::default()).0, made);
}

#[test]
fn a_folder_that_cannot_be_written_is_no_reason_not_to_start() {
    // Nobody may write there, and root neither.
    let mut allocator = Allocator::load(Path::new("/sys/sluicegate"), Ranges::default()).expect("starts");
    let (made, _) = allocator.allocate(&services(&service("a", "NodePort", "{port: 80}")), &Unread::default());
    assert_eq!(made.node_ports.len(), 1);
    assert_eq!(allocator.save().map(|fault| fault.severity), Some(Severity::Warning));
}
