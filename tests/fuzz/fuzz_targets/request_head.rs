//! Heads of requests are read the same in whatever pieces they arrive, and the same again after they were written.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_proxy::fuzz::request_head(data));
