//! Files of objects are parsed, typed, validated and compiled into a plan, with faults that can be shown, and without a panic.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use sluicegate_config::object::{Object, decode};
use sluicegate_config::plan::{Allocations, Settings, compile};
use sluicegate_config::{manifest, validate};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = manifest::parse(Path::new("fuzz.yaml"), text);
    let mut faults = parsed.faults;
    let mut objects: Vec<Arc<Object>> = Vec::new();
    for document in parsed.documents {
        let (object, found) = decode(document);
        faults.extend(found);
        if let Some(object) = object {
            let more = validate::object(&object, &faults);
            faults.extend(more);
            objects.push(Arc::new(object));
        }
    }
    faults.extend(compile(&objects, &Allocations::default(), &Settings::default()).faults);
    for fault in faults {
        assert!(!fault.to_string().is_empty());
    }
});
