//! A client of HTTP/3, by quinn.

use std::sync::Arc;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use quinn::crypto::rustls::QuicClientConfig;

use super::Gateway;
use super::LONG;
use super::client::rustls_config;

/// An HTTP/3 connection that sends a request and gives its answer, again and again.
pub fn h3_client(
    gateway: &Gateway,
) -> impl FnMut(http::Request<()>) -> http::Response<Bytes> + use<> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let crypto = QuicClientConfig::try_from(rustls_config(gateway, b"h3")).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut sender = runtime.block_on(async {
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connecting = endpoint.connect_with(config, gateway.https, "localhost").unwrap();
        let connection = h3_quinn::Connection::new(connecting.await.unwrap());
        let (mut driver, sender) = h3::client::new(connection).await.unwrap();
        tokio::spawn(
            async move { std::future::poll_fn(|context| driver.poll_close(context)).await },
        );
        sender
    });
    move |request| {
        let one = async {
            let mut stream = sender.send_request(request).await.unwrap();
            stream.finish().await.unwrap();
            let (head, ()) = stream.recv_response().await.unwrap().into_parts();
            let mut body = BytesMut::new();
            while let Some(mut piece) = stream.recv_data().await.unwrap() {
                body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
            }
            http::Response::from_parts(head, body.freeze())
        };
        runtime.block_on(async { tokio::time::timeout(LONG, one).await.unwrap() })
    }
}
