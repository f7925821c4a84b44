//! The cryptography that connections with TLS use.

/// Has this process use `ring`'s, which gRPC's library brings. Others may have done so before: it is the same one.
pub fn install_provider() {
    drop(rustls::crypto::ring::default_provider().install_default());
}
