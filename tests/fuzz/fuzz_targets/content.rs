//! Chunked content is decoded the same in whatever pieces it arrives.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_proxy::fuzz::content(data));
