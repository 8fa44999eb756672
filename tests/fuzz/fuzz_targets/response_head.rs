//! Heads of responses, likewise.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_proxy::fuzz::response_head(data));
