//! Golden tests: every `faults/NAME.yaml` must give exactly the faults of `faults/NAME.err`. `UPDATE_GOLDEN=1` renews the latter.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluicegate_config::plan::{self, AcmeIssuers, Allocations, Settings};
use sluicegate_config::{manifest, object, validate};
use sluicegate_model::fault::{Fault, Severity};

/// The faults of a folder with this one file, without node ports and addresses (which the allocator's own tests cover).
fn faults(file: &Path, text: &str) -> Vec<Fault> {
    let parsed = manifest::parse(file, text);
    let mut faults = parsed.faults;
    let mut objects = Vec::new();
    faults.extend(object::skipped(parsed.documents.iter().filter_map(object::foreign)));
    for document in parsed.documents {
        let (decoded, mut found) = object::decode(document);
        if let Some(decoded) = decoded {
            found.extend(validate::object(&decoded, &found));
            if found.iter().all(|f| f.severity == Severity::Warning) {
                objects.push(Arc::new(decoded));
            }
        }
        faults.append(&mut found);
    }
    let settings = Settings { acme: AcmeIssuers::Named(vec!["letsencrypt".to_owned()]), ..Settings::default() };
    faults.extend(plan::compile(&objects, &Allocations::default(), &settings).faults);
    faults
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults");
    let entries = std::fs::read_dir(folder).expect("the folder of cases");
    let mut cases: Vec<PathBuf> =
        entries.map(|e| e.expect("an entry").path()).filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    cases.sort();
    cases
}

#[test]
fn every_case_gives_its_faults() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    let cases = cases();
    assert!(cases.len() >= 12, "only {} cases were found", cases.len());
    for case in cases {
        let text = std::fs::read_to_string(&case).expect("the case");
        let name = PathBuf::from(case.file_name().expect("a name"));
        let got: String = faults(&name, &text).iter().fold(String::new(), |mut all, fault| {
            let _ = writeln!(all, "{fault}");
            all
        });
        let golden = case.with_extension("err");
        if update {
            std::fs::write(&golden, &got).expect("the golden file is written");
        }
        let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
        if got != wanted {
            let _ = writeln!(wrong, "=== {}\n--- wanted\n{wanted}--- got\n{got}", name.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn deep_nesting_and_alias_bombs_are_faults() {
    for bomb in ["[".repeat(200_000), format!("a: {}1{}", "[".repeat(5_000), "]".repeat(5_000)), "- ".repeat(5_000), "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n".to_owned()] {
        let parsed = manifest::parse(Path::new("bomb.yaml"), &bomb);
        assert!(!parsed.faults.is_empty());
        assert!(parsed.documents.is_empty());
    }
}
