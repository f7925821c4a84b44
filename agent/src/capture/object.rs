//! The kernel programs' object, embedded by the build script.

/// The object; empty in a build without the BPF toolchain.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/wirespan.o"));
