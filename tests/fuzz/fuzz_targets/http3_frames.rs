//! What comes out of a stream of HTTP/3 is the same in whatever pieces it arrives.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_proxy::fuzz::http3_frames(data));
