//! Client hellos are read the same however they are cut, and as rustls reads them.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_proxy::fuzz::client_hello(data));
