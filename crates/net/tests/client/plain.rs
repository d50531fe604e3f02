//! HTTP without TLS: connections, limits, credentials, redirects.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, Uri};
use net::client::{Client, ClientError, ClientOptions, Get};
use settings::prometheus::{Authorization, BasicAuth, HttpClientConfig, HttpHeader, OAuth2};
use settings::{HttpUrl, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::server::{answer, get, ok, open, serve};

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = serve(|_| ok("hello")).await;
    let client = open(&HttpClientConfig::default()).await;
    for _ in 0..3 {
        assert_eq!(get(&client, &server.url("/m?a=b")).await, Ok((200, "hello".to_owned())));
    }
    assert_eq!(server.connections(), 1);
    let requests = server.requests();
    let request = &requests[0];
    assert_eq!(request.uri, "/m?a=b");
    assert_eq!(request.header("host"), Some(server.address.to_string().as_str()));
    let agent = request.header("user-agent").expect("always sent");
    assert!(agent.starts_with("Watchfire/"), "{agent}");
    assert_eq!(request.header("authorization"), None);
}

#[tokio::test]
async fn a_closed_connection_is_replaced_unseen() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url: Uri =
        format!("http://{}/", listener.local_addr().expect("bound")).parse().expect("a URL");
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("accept");
            let mut request = [0; 1_024];
            let read = socket.read(&mut request).await.expect("a request");
            assert!(read > 0);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            socket.write_all(answer).await.expect("written");
            // Takes the next request and closes without a word.
            let _ = socket.read(&mut request).await;
        }
    });
    let client = open(&HttpClientConfig::default()).await;
    for _ in 0..3 {
        assert_eq!(get(&client, &url).await, Ok((200, "ok".to_owned())));
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_asked_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url: Uri =
        format!("http://{}/", listener.local_addr().expect("bound")).parse().expect("a URL");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("accept");
            count.fetch_add(1, Ordering::SeqCst);
            let _ = socket.read(&mut [0; 1_024]).await;
        }
    });
    let client = open(&HttpClientConfig::default()).await;
    let error = get(&client, &url).await.expect_err("no answer");
    assert!(matches!(error, ClientError::Broken(_)), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_deadline_covers_head_and_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url: Uri =
        format!("http://{}/", listener.local_addr().expect("bound")).parse().expect("a URL");
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.expect("accept");
            if kept.len() == 1 {
                let read = socket.read(&mut [0; 1_024]).await.expect("a request");
                assert!(read > 0);
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
                socket.write_all(head).await.expect("written");
            }
            kept.push(socket);
        }
    });
    let client = open(&HttpClientConfig::default()).await;
    let headers = HeaderMap::new();
    let wait = Duration::from_millis(60);
    let request = || Get { url: &url, headers: &headers, deadline: Instant::now() + wait };
    let error = client.get(&request()).await.expect_err("no head comes");
    assert!(matches!(error, ClientError::Timeout(_)), "{error}");
    let response = client.get(&request()).await.expect("a head comes");
    let error = response.read(100, &mut Vec::new()).await.expect_err("the body stays away");
    assert!(matches!(error, ClientError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let server = serve(|_| ok(&"x".repeat(1_000))).await;
    let client = open(&HttpClientConfig::default()).await;
    let headers = HeaderMap::new();
    for (limit, fits) in [(999, false), (1_000, true)] {
        let deadline = Instant::now() + Duration::from_secs(5);
        let url = server.url("/");
        let request = Get { url: &url, headers: &headers, deadline };
        let response = client.get(&request).await.expect("an answer");
        assert_eq!(response.read(limit, &mut Vec::new()).await.is_ok(), fits, "{limit}");
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_allowed() {
    let client = open(&HttpClientConfig::default()).await;
    let url = "http://127.0.0.1:1/".parse().expect("a URL");
    let error = get(&client, &url).await.expect_err("nobody listens");
    assert!(error.to_string().contains("127.0.0.1:1: Connection refused"), "{error}");
    for url in ["http://169.254.169.254/latest/", "http://[::ffff:169.254.169.254]/"] {
        let error = get(&client, &url.parse().expect("a URL")).await.expect_err("refused");
        assert!(matches!(error, ClientError::RefusedAddress(_)), "{error}");
    }
    let url = "http://no-such-host.invalid/".parse().expect("a URL");
    let error = get(&client, &url).await.expect_err("no such host");
    assert!(matches!(error, ClientError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn names_of_the_hosts_file_are_known() {
    let server = serve(|_| ok("here")).await;
    let client = open(&HttpClientConfig::default()).await;
    let url = format!("http://localhost:{}/", server.address.port()).parse().expect("a URL");
    assert_eq!(get(&client, &url).await, Ok((200, "here".to_owned())));
}

#[tokio::test]
async fn credentials_come_from_options_files_and_urls() {
    let server = serve(|_| ok("")).await;
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("password");
    std::fs::write(&file, "secret one\n").expect("written");
    let config = HttpClientConfig {
        basic_auth: Some(BasicAuth {
            username: "me".to_owned(),
            password_file: Some(file.clone()),
            ..BasicAuth::default()
        }),
        http_headers: vec![HttpHeader {
            name: "X-Extra".to_owned(),
            values: vec!["a".to_owned()],
            secrets: vec![Secret::new("b")],
            files: vec![file.clone()],
        }],
        ..HttpClientConfig::default()
    };
    let client = open(&config).await;
    get(&client, &server.url("/")).await.expect("an answer");
    std::fs::write(&file, "another").expect("written");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    get(&client, &server.url("/")).await.expect("an answer");
    std::fs::remove_file(&file).expect("removed");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let error = get(&client, &server.url("/")).await.expect_err("the file is gone");
    assert!(error.to_string().contains(file.to_str().expect("UTF-8")), "{error}");
    let requests = server.requests();
    assert_eq!(requests[0].header("authorization"), Some("Basic bWU6c2VjcmV0IG9uZQ=="));
    assert_eq!(requests[1].header("authorization"), Some("Basic bWU6YW5vdGhlcg=="));
    let extra: Vec<_> = requests[1].headers.get_all("x-extra").iter().collect();
    assert_eq!(extra, ["a", "b", "another"]);

    let client = open(&HttpClientConfig::default()).await;
    let url = format!("http://me:pass@{}/", server.address).parse().expect("a URL");
    get(&client, &url).await.expect("an answer");
    let request = server.requests().pop().expect("a request");
    assert_eq!(request.header("authorization"), Some("Basic bWU6cGFzcw=="));
    assert_eq!(request.header("host"), Some(server.address.to_string().as_str()));
}

#[tokio::test]
async fn redirects_are_followed_and_keep_secrets_at_home() {
    let other = serve(|_| ok("other")).await;
    let elsewhere = other.url("/stolen").to_string();
    let server = serve(move |request| match request.uri.path() {
        "/here" => answer(302, &[("location", "there")], "ignored"),
        "/there" => ok("there"),
        "/loop" => answer(307, &[("location", "/loop")], ""),
        "/file" => answer(301, &[("location", "file:///etc/passwd")], ""),
        "/metadata" => answer(301, &[("location", "http://169.254.169.254/")], ""),
        _ => answer(308, &[("location", &elsewhere)], ""),
    })
    .await;
    let mut config = HttpClientConfig {
        authorization: Some(Authorization {
            scheme: "Bearer".to_owned(),
            credentials: Secret::new("token"),
            credentials_file: None,
        }),
        http_headers: vec![HttpHeader {
            name: "X-Key".to_owned(),
            secrets: vec![Secret::new("key")],
            ..HttpHeader::default()
        }],
        ..HttpClientConfig::default()
    };
    let client = open(&config).await;
    assert_eq!(get(&client, &server.url("/here")).await, Ok((200, "there".to_owned())));
    let request = server.requests().pop().expect("a request");
    assert_eq!(request.header("authorization"), Some("Bearer token"));
    assert_eq!(get(&client, &server.url("/away")).await, Ok((200, "other".to_owned())));
    let request = other.requests().pop().expect("a request");
    assert_eq!((request.header("authorization"), request.header("x-key")), (None, None));
    for path in ["/loop", "/file"] {
        let error = get(&client, &server.url(path)).await.expect_err("no answer");
        assert!(matches!(error, ClientError::Redirect(_)), "{error}");
    }
    let error = get(&client, &server.url("/metadata")).await.expect_err("refused");
    assert!(matches!(error, ClientError::RefusedAddress(_)), "{error}");
    config.follow_redirects = false;
    let client = open(&config).await;
    assert_eq!(get(&client, &server.url("/here")).await, Ok((302, "ignored".to_owned())));
}

#[tokio::test]
async fn tokens_are_fetched_once() {
    let tokens = serve(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        if request.header("authorization").is_some() {
            return answer(401, &[], "only forms here");
        }
        assert!(body.contains("client_id=id&client_secret=s%26t"), "{body}");
        ok(r#"{"access_token":"abc","expires_in":3600}"#)
    })
    .await;
    let server = serve(|request| match request.uri.path() {
        "/refuse" => answer(401, &[], ""),
        _ => ok(""),
    })
    .await;
    let config = HttpClientConfig {
        oauth2: Some(Box::new(OAuth2 {
            client_id: "id".to_owned(),
            client_secret: Secret::new("s&t"),
            client_secret_file: None,
            scopes: vec!["a".to_owned(), "b".to_owned()],
            token_url: tokens.url("/token").to_string(),
            endpoint_params: vec![("audience".to_owned(), "x y".to_owned())],
            tls: settings::prometheus::TlsConfig::default(),
            proxy: settings::prometheus::ProxyConfig::default(),
        })),
        ..HttpClientConfig::default()
    };
    let client = open(&config).await;
    let url = server.url("/");
    let many = futures_util::future::join_all((0..20).map(|_| get(&client, &url))).await;
    assert!(many.iter().all(Result::is_ok));
    let bearers = server.requests();
    assert!(bearers.iter().all(|request| request.header("authorization") == Some("Bearer abc")));
    // One in the header, which is refused, one in the form.
    assert_eq!(tokens.requests().len(), 2);
    let body = String::from_utf8_lossy(&tokens.requests()[1].body).into_owned();
    assert!(body.contains("grant_type=client_credentials&scope=a+b&audience=x+y"), "{body}");
    // A token that is refused is fetched anew, in the way that is known to work.
    assert_eq!(get(&client, &server.url("/refuse")).await, Ok((401, String::new())));
    get(&client, &url).await.expect("an answer");
    assert_eq!(tokens.requests().len(), 3);
}

#[tokio::test]
async fn useless_options_are_told_at_once() {
    let config = HttpClientConfig {
        proxy: settings::prometheus::ProxyConfig {
            proxy_url: Some(HttpUrl::parse("socks5://h:1").expect("a URL")),
            ..settings::prometheus::ProxyConfig::default()
        },
        ..HttpClientConfig::default()
    };
    let error = Client::open(&config, &ClientOptions::operator()).await.expect_err("no URL");
    assert!(matches!(error, ClientError::Config(_)), "{error}");
}
