//! Finds the kernel programs' object for embedding.
//!
//! `cargo xtask build` names it in `WIRESPAN_EBPF_OBJECT`, else the last one built is taken. Where there
//! is none the library still builds, so that plain `cargo test` works without the BPF toolchain; loading
//! then fails with an error that says so.

use std::path::PathBuf;
use std::{env, fs};

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-env-changed=WIRESPAN_EBPF_OBJECT");
    let variable = |name| env::var_os(name).map(PathBuf::from);
    let manifest = variable("CARGO_MANIFEST_DIR").unwrap_or_default();
    let object = variable("WIRESPAN_EBPF_OBJECT")
        .unwrap_or_else(|| manifest.join("../target/bpf/wirespan.o"));
    println!("cargo:rerun-if-changed={}", object.display());
    let target = variable("OUT_DIR").unwrap_or_default().join("wirespan.o");
    match fs::read(&object) {
        Ok(bytes) => fs::write(target, bytes),
        Err(_) => fs::write(target, []),
    }
}
