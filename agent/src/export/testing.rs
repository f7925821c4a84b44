//! What the export stage's tests share: spans to export, waiting for a condition, a file system to fill.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_semantic_conventions::attribute::SERVICE_NAME;
use tempfile::TempDir;

use crate::span::{Attribute, Resource, Span, SpanId, SpanKind, Status, TraceId};

/// How long a test waits for what must happen: a bound on a hang, not on speed.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn resource(service: &'static str) -> Arc<Resource> {
    Arc::new(Resource { attributes: vec![Attribute::new(SERVICE_NAME, service)] })
}

/// A server span; `trace`, `id` and `parent` are the last bytes of its ids.
pub(crate) fn span(trace: u8, id: u8, parent: Option<u8>) -> Span {
    let span_id = |id: u8| SpanId([0, 0, 0, 0, 0, 0, 0, id]);
    let mut trace_id = [0; 16];
    trace_id[15] = trace;
    Span {
        trace_id: TraceId(trace_id),
        span_id: span_id(id),
        parent_span_id: parent.map(span_id),
        parent_is_remote: false,
        trace_flags: 1,
        trace_state: None,
        kind: SpanKind::Server,
        name: "GET /".into(),
        start_unix_ns: 1_700_000_000_000_000_000,
        end_unix_ns: 1_700_000_000_012_410_000,
        attributes: vec![],
        dropped_attributes: 0,
        links: vec![],
        status: Status::Unset,
        resource: resource("service"),
    }
}

/// A batch of `count` spans of one trace.
pub(super) fn batch(count: usize) -> Arc<[Span]> {
    (0..count).map(|index| span(1, 1 + (index % 255) as u8, None)).collect()
}

/// A listener on a free port, and where it is.
pub(super) async fn listen() -> (tokio::net::TcpListener, std::net::SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Returns once `condition` holds; panics after [`PATIENCE`].
pub(super) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, poll).await.is_err() {
        panic!("did not happen: {what}");
    }
}

/// A file system of its own, unmounted when dropped. Needs root.
pub(crate) struct Mounted(TempDir);

impl Mounted {
    pub(crate) fn new(size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
            .arg(directory.path())
            .status()
            .unwrap();
        // A container may forbid it.
        status.success().then(|| Self(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// As `remount,ro` does it.
    pub(crate) fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.path())
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}
