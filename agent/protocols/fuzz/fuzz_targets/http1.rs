//! libFuzzer over the HTTP/1.x parser. In `agent/protocols`, with cargo-fuzz and nightly Rust:
//!
//! `cargo +nightly fuzz run http1 fuzz/corpus-run testdata/http1`
//!
//! The first folder collects what was found, the second gives the captures as seeds.
#![no_main]

use wirespan_protocols::http1::fuzz::fuzz_http1;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_http1(data));
