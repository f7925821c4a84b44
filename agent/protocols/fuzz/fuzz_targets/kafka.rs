//! libFuzzer over the Kafka parser. In `agent/protocols`, with cargo-fuzz and nightly Rust:
//!
//! `cargo +nightly fuzz run kafka fuzz/corpus-run testdata/kafka`
//!
//! The first folder collects what was found, the second gives the captures as seeds.
#![no_main]

use wirespan_protocols::kafka::fuzz::fuzz_kafka;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_kafka(data));
