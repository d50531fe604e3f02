//! A live connection whose reader has stopped reading, and whose token is revoked.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::NetMetrics;
use net::auth::{Accounts, Actor, FileStore, Principal, Scope, SessionLife, Tenants};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A message that is not understood, in a frame with a mask of zeros. The answer names all of it.
fn malformed() -> Vec<u8> {
    let text = format!("{{\"type\":\"{}\"}}", "x".repeat(60_000));
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Neither an answer that waits for the reader nor one on its way keeps the connection open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_cut_off_with_the_token() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = FileStore::open(&directory.path().join("credentials")).expect("empty");
    let metrics = Arc::new(NetMetrics::default());
    let accounts = Accounts::new(Arc::new(store), SessionLife::default(), metrics);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let by = Actor { principal: Principal::anonymous(), address };
    let read = [Scope::Read].into_iter().collect();
    let made = accounts.create_token("t", read, Tenants::All, None, &by).await;
    let (secret, token) = made.expect("a token");

    let routes = super::routes(super::executor());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let server = listener.local_addr().expect("bound");
    let serving = axum::serve(listener, accounts.layer(routes.into_router()));
    tokio::spawn(async move { serving.await });

    let mut client = TcpStream::connect(server).await.expect("it listens");
    let request = format!(
        "GET /api/v1/live HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {}\r\n\r\n",
        secret.reveal()
    );
    client.write_all(request.as_bytes()).await.expect("sent");
    let mut head = [0; 12];
    client.read_exact(&mut head).await.expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 101");
    // Until the server reads no more, because nobody reads what it says.
    let frame = malformed();
    let mut sent = 0;
    let stuck = Duration::from_secs(1);
    while let Ok(written) = tokio::time::timeout(stuck, client.write_all(&frame)).await {
        written.expect("the connection is open");
        sent += 1;
        assert!(sent < 10_000, "the server reads on although its answers go nowhere");
    }
    assert!(accounts.revoke_token(&token.id, &by).await.expect("writable"));
    let begin = Instant::now();
    let written = async { while client.write_all(&frame).await.is_ok() {} };
    let ended = tokio::time::timeout(Duration::from_secs(20), written).await;
    assert!(ended.is_ok() && begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}
