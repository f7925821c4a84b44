//! Whether what a process sends over HTTP/2, which is not read, is spans of its own: OTLP over gRPC.
//!
//! Part of the connection stage. The path of a connection's first request is in it literally, or in Huffman's code
//! (RFC 7541, section 5.2), which begins on a byte: either is looked for. Later requests only name it by its number in
//! the table of the connection, so a connection that is older than the agent shows nothing.

use memchr::memmem;

/// `:path` of OTLP/gRPC's trace service.
const PATH: &[u8] = b"/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The same by the table of RFC 7541, appendix B, without its last byte, which is padded.
const HUFFMAN: [u8; 41] = [
    0x60, 0xf5, 0x96, 0xa4, 0x96, 0x82, 0xd2, 0x54, 0xd9, 0xe9, 0x7a, 0xec, 0x3a, 0x4e, 0xb9, 0x0f,
    0x45, 0x05, 0x22, 0x4f, 0x62, 0xe9, 0xb0, 0x64, 0x2a, 0xfd, 0xc2, 0xbe, 0xfb, 0x06, 0x42, 0xee,
    0x2d, 0x9d, 0xcc, 0x42, 0xb1, 0x83, 0xcd, 0x67, 0xb1,
];

/// Whether these bytes of an HTTP/2 client ask for spans to be taken.
pub(super) fn exports_spans(bytes: &[u8]) -> bool {
    memmem::find(bytes, PATH).is_some() || memmem::find(bytes, &HUFFMAN).is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper_util::rt::TokioIo;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    use tokio::io::AsyncReadExt;
    use tonic::transport::Endpoint;

    use super::*;

    /// What a client library sends up to the path, or until it waits.
    async fn sent() -> Vec<u8> {
        let (client, mut server) = tokio::io::duplex(64 << 10);
        let mut client = Some(client);
        let connector = tower::service_fn(move |_| {
            std::future::ready(client.take().map(TokioIo::new).ok_or(std::io::ErrorKind::NotFound))
        });
        let connector = tower::util::MapErr::new(connector, std::io::Error::from);
        let channel = Endpoint::from_static("http://test").connect_with_connector_lazy(connector);
        let mut client = TraceServiceClient::new(channel);
        let asking = tokio::spawn(async move {
            drop(client.export(ExportTraceServiceRequest::default()).await);
        });
        let mut bytes = Vec::new();
        let read = async {
            while !exports_spans(&bytes) && server.read_buf(&mut bytes).await.unwrap() > 0 {}
        };
        drop(tokio::time::timeout(Duration::from_secs(20), read).await);
        asking.abort();
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_library_s_first_export_is_recognised() {
        let bytes = sent().await;
        assert!(bytes.starts_with(b"PRI * HTTP/2.0"), "{}", bytes.escape_ascii());
        assert!(exports_spans(&bytes), "{}", bytes.escape_ascii());
        assert!(memmem::find(&bytes, PATH).is_none(), "this library uses Huffman's code");
    }

    #[test]
    fn the_literal_path_is_and_others_are_not() {
        assert!(exports_spans(&[&b"\x04;"[..], PATH, b"\x40"].concat()));
        assert!(!exports_spans(b"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"));
        assert!(!exports_spans(b""));
    }
}
