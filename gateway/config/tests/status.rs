//! Golden tests: the Gateways, routes and policies of every `status/NAME.yaml` must have exactly the status of `status/NAME.json`. `UPDATE_GOLDEN=1` writes the
//! latter anew.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use sluicegate_config::plan::{self, Allocations, Settings};
use sluicegate_config::status::Statuses;
use sluicegate_config::{manifest, object};
use sluicegate_model::status::ObjectStatus as _;

const KINDS: [&str; 7] = ["gateways", "httproutes", "grpcroutes", "tlsroutes", "tcproutes", "udproutes", "backendtlspolicies"];

fn statuses(file: &Path, text: &str) -> String {
    let parsed = manifest::parse(file, text);
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    let objects: Vec<Arc<object::Object>> =
        parsed.documents.into_iter().map(|document| Arc::new(object::decode(document).0.expect("an object"))).collect();
    let plan = plan::compile(&objects, &Allocations::default(), &Settings::default());
    let statuses = Statuses::new(&plan);
    let mut shown = String::new();
    for kind in KINDS {
        for object in statuses.objects(kind).expect("a kind with a status") {
            let (namespace, name) = (object["metadata"]["namespace"].as_str(), object["metadata"]["name"].as_str());
            let _ = writeln!(shown, "{kind} {}/{}\n{:#}", namespace.unwrap_or_default(), name.unwrap_or_default(), object["status"]);
        }
    }
    assert!(statuses.objects("pods").is_none());
    shown
}

#[test]
fn every_case_has_its_status() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/status");
    let entries = std::fs::read_dir(folder).expect("the folder of cases").map(|entry| entry.expect("an entry").path());
    let mut cases: Vec<_> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    cases.sort();
    assert!(!cases.is_empty());
    for case in cases {
        let got = statuses(&case, &std::fs::read_to_string(&case).expect("the case"));
        let golden = case.with_extension("json");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &got).expect("the golden file is written");
        }
        let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(got == wanted, "{}\n--- wanted\n{wanted}\n--- got\n{got}", case.display());
    }
}
