//! PROXY headers of both versions.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_proxy::fuzz::proxy_header(data));
