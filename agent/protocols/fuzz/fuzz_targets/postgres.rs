//! libFuzzer over the PostgreSQL parser and what reads SQL. In `agent/protocols`, with cargo-fuzz and
//! nightly Rust:
//!
//! `cargo +nightly fuzz run postgres fuzz/corpus-run testdata/postgres`
//!
//! The first folder collects what was found, the second gives the captures as seeds.
#![no_main]

use wirespan_protocols::postgres::fuzz::fuzz_postgres;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_postgres(data));
