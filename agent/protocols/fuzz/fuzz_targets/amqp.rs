//! libFuzzer over the AMQP parser. In `agent/protocols`, with cargo-fuzz and nightly Rust:
//!
//! `cargo +nightly fuzz run amqp fuzz/corpus-run testdata/amqp`
//!
//! The first folder collects what was found, the second gives the captures as seeds.
#![no_main]

use wirespan_protocols::amqp::fuzz::fuzz_amqp;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_amqp(data));
