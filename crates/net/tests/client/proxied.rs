//! Proxies.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use settings::HttpUrl;
use settings::prometheus::{HttpClientConfig, ProxyConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::server::{get, ok, open, serve};

/// A proxy that answers CONNECT and leads every tunnel to one server.
pub(crate) struct TunnellingProxy {
    pub(crate) address: SocketAddr,
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
}

pub(crate) async fn tunnelling_proxy(target: SocketAddr) -> TunnellingProxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound");
    let heads = Arc::new(Mutex::new(Vec::new()));
    let proxy = TunnellingProxy { address, heads: Arc::clone(&heads) };
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let heads = Arc::clone(&heads);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await.expect("a head"));
                }
                heads.lock().expect("no panic").push(String::from_utf8(head).expect("text"));
                let answer = b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n";
                socket.write_all(answer).await.expect("written");
                let mut server = TcpStream::connect(target).await.expect("the server");
                let _ = tokio::io::copy_bidirectional(&mut socket, &mut server).await;
            });
        }
    });
    proxy
}

/// Options of a proxy.
pub(crate) fn through(url: &str) -> ProxyConfig {
    ProxyConfig { proxy_url: Some(HttpUrl::parse(url).expect("a URL")), ..ProxyConfig::default() }
}

#[tokio::test]
async fn a_plain_request_names_its_server_to_the_proxy() {
    let proxy = serve(|_| ok("proxied")).await;
    let mut config = HttpClientConfig {
        proxy: through(&format!("http://me:pw@{}", proxy.address)),
        ..HttpClientConfig::default()
    };
    let client = open(&config).await;
    let url = "http://some.host.invalid:81/m?x=1".parse().expect("a URL");
    assert_eq!(get(&client, &url).await, Ok((200, "proxied".to_owned())));
    let request = proxy.requests().pop().expect("a request");
    assert_eq!(request.uri, "http://some.host.invalid:81/m?x=1");
    assert_eq!(request.header("host"), Some("some.host.invalid:81"));
    assert_eq!(request.header("proxy-authorization"), Some("Basic bWU6cHc="));

    config.proxy.no_proxy = ".invalid".to_owned();
    let client = open(&config).await;
    assert!(get(&client, &url).await.is_err(), "it goes around the proxy, to nowhere");
    assert_eq!(proxy.requests().len(), 1);
}
