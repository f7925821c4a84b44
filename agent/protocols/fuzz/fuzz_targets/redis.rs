//! libFuzzer over the Redis parser. In `agent/protocols`, with cargo-fuzz and nightly Rust:
//!
//! `cargo +nightly fuzz run redis fuzz/corpus-run testdata/redis`
//!
//! The first folder collects what was found, the second gives the captures as seeds.
#![no_main]

use wirespan_protocols::redis::fuzz::fuzz_redis;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_redis(data));
