//! The edge over real sockets: slow, oversized, compressed and malformed peers.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use http::Method;
use net::{
    Access, BodyBudget, BodyRules, NetMetrics, OriginPolicy, Routes, Server, ServerSettings,
    read_body,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

const MAX_BODY: usize = 100_000;

struct Edge {
    address: SocketAddr,
    metrics: Arc<NetMetrics>,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

impl Edge {
    /// A server with short time limits that answers `/echo` with the length of the body it got.
    async fn start(change: impl FnOnce(&mut ServerSettings)) -> Edge {
        let mut settings = ServerSettings {
            first_bytes_timeout: Duration::from_millis(300),
            header_timeout: Duration::from_millis(300),
            body_idle_timeout: Duration::from_millis(300),
            body_total_timeout: Duration::from_millis(900),
            shutdown_grace: Duration::from_secs(5),
            ..ServerSettings::default()
        };
        change(&mut settings);
        let metrics = Arc::new(NetMetrics::default());
        let bound = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("a free port")
            .with_settings(settings)
            .with_metrics(Arc::clone(&metrics));
        let address = bound.local_addr();
        let (get, post) = ([Method::GET], [Method::POST]);
        let routes = Routes::new()
            .route("/echo", post.clone(), Access::Write, echo)
            .route("/api/v1/write", post, Access::Write, echo)
            .route("/large", get.clone(), Access::Read, large)
            .route("/slow", get.clone(), Access::Read, slow)
            .route("/live", get, Access::Read, live)
            .with_state(Arc::clone(&metrics));
        let router = net::auth::without_login(routes.into_router())
            .route("/bypass", axum::routing::get(async || "secret"));
        let policy = OriginPolicy::new(address).with_metrics(Arc::clone(&metrics));
        let router = net::compress::layer(policy.layer(router));
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(bound.serve(router, async move {
            let _ = stopped.await;
        }));
        Edge { address, metrics, stop: Some(stop), served }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    /// Sends `request` and reads until the server closes.
    async fn talk(&self, request: &[u8]) -> String {
        let mut socket = self.connect().await;
        // The server may answer and close before it has read all.
        let _ = socket.write_all(request).await;
        read_all(&mut socket).await
    }

    fn rendered(&self) -> String {
        let mut out = Vec::new();
        self.metrics.render(&mut wire::text_encode::TextEncoder::new(&mut out));
        String::from_utf8(out).expect("metrics are text")
    }
}

async fn echo(State(metrics): State<Arc<NetMetrics>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let rules = BodyRules::any_encoding(MAX_BODY);
    match read_body(&parts.headers, body, rules, &metrics).await {
        Ok(bytes) => bytes.len().to_string().into_response(),
        Err(error) => error.into_response(),
    }
}

async fn large() -> Response {
    let body = format!("[{}]", "\"some text that repeats\",".repeat(20_000));
    ([("content-type", "application/json")], Body::from(body)).into_response()
}

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(300)).await;
    "done"
}

async fn live(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move { while let Some(Ok(_)) = socket.recv().await {} })
}

/// Everything up to the end of the connection, which must come within 5 s.
async fn read_all(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is as good as an orderly end.
    let end = timeout(Duration::from_secs(5), socket.read_to_end(&mut bytes)).await;
    assert!(end.is_ok(), "still open, got {:?}", String::from_utf8_lossy(&bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn request(encoding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{encoding}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn status(response: &str) -> u16 {
    response.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn who_never_completes_a_header_is_closed() {
    let edge = Edge::start(|_| {}).await;
    // The second and third may still become HTTP/2 or HTTP/1.
    for start in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nHost: loc"] {
        let mut socket = edge.connect().await;
        socket.write_all(start).await.expect("the connection is open");
        let began = Instant::now();
        let answer = read_all(&mut socket).await;
        assert!(!answer.contains(" 200 "), "{answer}");
        let (least, most) = (Duration::from_millis(200), Duration::from_millis(1_500));
        assert!((least..most).contains(&began.elapsed()), "{start:?}: {:?}", began.elapsed());
    }
    assert!(edge.rendered().contains("watchfire_net_connections_silent_total 3\n"));
    assert_eq!(edge.metrics.connections_open(), 0);
}

#[tokio::test]
async fn typed_quotes_are_taken_also_if_the_line_comes_in_pieces() {
    let edge = Edge::start(|_| {}).await;
    let mut socket = edge.connect().await;
    for piece in ["G", "ET /large?q=up{a=\"", "b\"", "} HTTP/1.1\r", "\nHost: localhost\r\n"] {
        socket.write_all(piece.as_bytes()).await.expect("the connection is open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    socket.write_all(b"Connection: close\r\n\r\n").await.expect("the connection is open");
    let answer = read_all(&mut socket).await;
    assert_eq!(status(&answer), 200, "{}", &answer[..answer.len().min(300)]);
    // Who ends in the middle of a line is told what is wrong, at once.
    let mut socket = edge.connect().await;
    socket.write_all(b"GET /large?q=\0").await.expect("the connection is open");
    assert_eq!(status(&read_all(&mut socket).await), 400);
}

#[test]
fn the_defaults_close_a_slow_header_within_15_seconds() {
    let settings = ServerSettings::default();
    assert!(settings.first_bytes_timeout + settings.header_timeout < Duration::from_secs(15));
    assert!(settings.first_bytes_timeout <= Duration::from_secs(5), "with TLS this twice");
}

#[tokio::test]
async fn a_half_sent_body_is_408_and_the_connection_ends() {
    let edge = Edge::start(|_| {}).await;
    let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf";
    let answer = edge.talk(head.as_bytes()).await;
    assert_eq!(status(&answer), 408, "{answer}");
    assert!(answer.contains("no byte of the request body came for 0.3 s"), "{answer}");
    assert!(edge.rendered().contains("bodies_refused_total{reason=\"timeout\"} 1\n"));
}

#[tokio::test]
async fn a_dripping_body_is_408_as_well() {
    let edge = Edge::start(|_| {}).await;
    let mut socket = edge.connect().await;
    let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n";
    socket.write_all(head.as_bytes()).await.expect("the connection is open");
    let (mut reader, mut writer) = socket.into_split();
    let drip = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), reader.read_to_end(&mut answer)).await;
    drip.abort();
    let answer = String::from_utf8_lossy(&answer);
    assert_eq!(status(&answer), 408, "{answer}");
    assert!(answer.contains("did not come within 0.9 s"), "{answer}");
}

#[tokio::test]
async fn bodies_are_unpacked() {
    let edge = Edge::start(|_| {}).await;
    let text = b"hello hello hello hello hello".repeat(100);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).expect("a Vec takes every byte");
    let gzip = gzip.finish().expect("a Vec takes every byte");
    let snappy = snap::raw::Encoder::new().compress_vec(&text).expect("small input");
    let zstd = zstd::encode_all(&text[..], 1).expect("a Vec takes every byte");
    for (header, body) in [
        ("", &text),
        ("Content-Encoding: identity\r\n", &text),
        ("Content-Encoding: gzip\r\n", &gzip),
        ("Content-Encoding: snappy\r\n", &snappy),
        ("Content-Encoding: zstd\r\n", &zstd),
    ] {
        let answer = edge.talk(&request(header, body)).await;
        assert_eq!(status(&answer), 200, "{header} {answer}");
        assert!(answer.ends_with("\r\n2900"), "{header} {answer}");
    }
}

#[tokio::test]
async fn what_is_too_large_or_no_known_encoding_is_refused() {
    let edge = Edge::start(|_| {}).await;
    let zeroes = vec![0; 64 << 20];
    let snappy = snap::raw::Encoder::new().compress_vec(&zeroes).expect("64 MiB are allowed");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&zeroes).expect("a Vec takes every byte");
    let gzip = gzip.finish().expect("a Vec takes every byte");
    drop(zeroes);
    // Cut to what the wire limit lets pass; the declared length of a block stands first.
    let snappy = &snappy[..snappy.len().min(MAX_BODY)];
    let gzip = &gzip[..gzip.len().min(MAX_BODY)];
    let check = async |header: &str, body: &[u8], code: u16, words: &str| {
        let answer = edge.talk(&request(header, body)).await;
        assert_eq!(status(&answer), code, "{header} {answer}");
        assert!(answer.contains(words), "{header} {answer}");
        assert!(answer.contains("\"errorType\":\"bad_data\""), "{header} {answer}");
    };
    let key = "limits.max_body_bytes";
    check("Content-Encoding: snappy\r\n", snappy, 413, key).await;
    check("Content-Encoding: gzip\r\n", gzip, 413, key).await;
    check("", &vec![b'x'; MAX_BODY + 1], 413, key).await;
    check("Content-Encoding: br\r\n", b"x", 415, "use identity, gzip, deflate").await;
    check("Content-Encoding: gzip\r\n", b"no gzip", 400, "corrupt gzip body").await;
    let chunk = format!("{:x}\r\n{}\r\n", MAX_BODY / 2 + 1, "x".repeat(MAX_BODY / 2 + 1));
    let chunked = format!(
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}"
    );
    let answer = edge.talk(chunked.as_bytes()).await;
    assert_eq!(status(&answer), 413, "{answer}");
    let rendered = edge.rendered();
    assert!(rendered.contains("bodies_refused_total{reason=\"too_large\"} 4\n"), "{rendered}");
    assert!(rendered.contains("{reason=\"unsupported_encoding\"} 1\n"), "{rendered}");
    assert!(rendered.contains("{reason=\"corrupt\"} 1\n"), "{rendered}");
}

#[tokio::test]
async fn bodies_in_memory_share_a_budget() {
    let edge = Edge::start(|settings| {
        settings.body_budget = BodyBudget::new(150_000);
        settings.body_idle_timeout = Duration::from_secs(5);
        settings.body_total_timeout = Duration::from_secs(5);
    })
    .await;
    let in_use = |bytes: usize| format!("watchfire_net_inflight_body_bytes {bytes}\n");
    let mut slow = edge.connect().await;
    let whole = request("", &[b'x'; 90_000]);
    let (begin, end) = whole.split_at(whole.len() - 10);
    slow.write_all(begin).await.expect("the connection is open");
    let taken = async {
        while !edge.rendered().contains(&in_use(89_990)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), taken).await.expect("what came is counted");
    // What is declared and does not come takes nothing.
    let mut liar = edge.connect().await;
    let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n";
    liar.write_all(head.as_bytes()).await.expect("the connection is open");
    let answer = edge.talk(&request("", &[b'x'; 70_000])).await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("retry-after: 2") && answer.contains("connection: close"), "{answer}");
    assert!(
        answer.contains("limit of 150000 bytes") && answer.contains("http.max_inflight_body_bytes")
    );
    assert_eq!(status(&edge.talk(&request("", &[b'x'; 1_000])).await), 200, "the newest pays");
    // What unpacks to more than there is place for, and to more than is usual.
    let packed = zstd::encode_all(&[0; 100_000][..], 1).expect("a Vec takes every byte");
    let zstd = request("Content-Encoding: zstd\r\n", &packed);
    assert_eq!(status(&edge.talk(&zstd).await), 503);
    slow.write_all(end).await.expect("the connection is open");
    let answer = read_all(&mut slow).await;
    assert!(status(&answer) == 200 && answer.ends_with("90000"), "{answer}");
    let answer = edge.talk(&zstd).await;
    assert!(status(&answer) == 200 && answer.ends_with("100000"), "{answer}");
    let rendered = edge.rendered();
    assert!(rendered.contains("bodies_refused_total{reason=\"over_budget\"} 2\n"), "{rendered}");
    assert!(rendered.contains(&in_use(0)), "{rendered}");
}

#[tokio::test]
async fn large_answers_are_compressed_for_who_can_read_them() {
    let edge = Edge::start(|_| {}).await;
    let get = async |headers: &str| {
        let mut socket = edge.connect().await;
        let head =
            format!("GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        socket.write_all(head.as_bytes()).await.expect("the connection is open");
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await;
        read.expect("in time").expect("an orderly end");
        let head_end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a header") + 4;
        let body = answer.split_off(head_end);
        (String::from_utf8(answer).expect("headers are text").to_ascii_lowercase(), body)
    };
    let (head, plain) = get("").await;
    assert!(!head.contains("content-encoding") && head.contains("vary: accept-encoding"), "{head}");
    let (head, _) = get("Accept-Encoding: gzip;q=0, *\r\n").await;
    assert!(!head.contains("content-encoding"), "{head}");
    let (head, chunked) = get("Accept-Encoding: br, gzip\r\n").await;
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    let mut packed = Vec::new();
    let mut rest = &chunked[..];
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n").expect("a chunk's size");
        let size = std::str::from_utf8(&rest[..line]).expect("a chunk's size is text");
        let size = usize::from_str_radix(size, 16).expect("a chunk's size is hexadecimal");
        if size == 0 {
            break;
        }
        packed.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
    assert!(packed.len() < plain.len() / 10);
    let mut unpacked = Vec::new();
    let gzip = wire::decompress::Encoding::Gzip;
    wire::decompress::decompress(gzip, &packed, plain.len(), &mut unpacked).expect("whole");
    assert_eq!(unpacked, plain);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let edge = Edge::start(|settings| settings.max_connections = 1).await;
    let first = edge.connect().await;
    // The server has taken the first when the second is refused, for it accepts in order.
    let answer = edge.talk(b"").await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("http.max_connections"), "{answer}");
    drop(first);
    let served = async {
        while status(&edge.talk(&request("", b"x")).await) != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), served).await.expect("the place is free again");
}

#[tokio::test]
async fn a_route_that_states_no_access_is_not_served() {
    let edge = Edge::start(|_| {}).await;
    let answer =
        edge.talk(b"GET /bypass HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), 500, "{answer}");
    assert!(answer.contains("states no access") && !answer.contains("secret"), "{answer}");
}

#[tokio::test]
async fn a_foreign_host_is_refused() {
    let edge = Edge::start(|_| {}).await;
    let answer =
        edge.talk(b"GET /large HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), 403, "{answer}");
    assert!(edge.rendered().contains("watchfire_net_origins_refused_total 1\n"));
}

#[tokio::test]
async fn shutdown_lets_a_request_finish_and_closes_the_rest() {
    let mut edge = Edge::start(|_| {}).await;
    let mut idle = edge.connect().await;
    let mut busy = edge.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("open");
    tokio::time::sleep(Duration::from_millis(100)).await;
    edge.stop.take().expect("not stopped yet").send(()).expect("the server runs");
    let answer = read_all(&mut busy).await;
    assert!(status(&answer) == 200 && answer.ends_with("done"), "{answer}");
    assert_eq!(read_all(&mut idle).await, "");
    timeout(Duration::from_secs(5), edge.served).await.expect("ends").expect("without a panic");
    assert!(TcpStream::connect(edge.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn raw_bytes_are_never_a_5xx_and_never_hang() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let lines = std::fs::read_to_string(corpus.join("raw-http.jsonl")).unwrap_or_default();
    let mut cases: Vec<Vec<u8>> = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|case| case["text"].as_str().map(|text| text.as_bytes().to_vec()))
        .collect();
    for file in std::fs::read_dir(corpus.join("files/raw-http")).into_iter().flatten() {
        let path = file.expect("the corpus is readable").path();
        cases.push(std::fs::read(path).expect("the corpus is readable"));
    }
    cases.push(b"\0\0\0\0".to_vec());
    cases.push(vec![b'A'; 200_000]);
    let edge = Edge::start(|_| {}).await;
    for case in cases {
        let answer = edge.talk(&case).await;
        let shown: String = String::from_utf8_lossy(&case).chars().take(100).collect();
        assert!(status(&answer) < 500, "{shown:?}: {answer}");
    }
    let answer = edge.talk(&request("", b"still here")).await;
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test]
async fn a_websocket_is_upgraded_and_keeps_its_place() {
    let edge = Edge::start(|settings| settings.max_connections = 1).await;
    let upgrade = |origin: &str| {
        format!(
            "GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Accept-Encoding: gzip\r\nOrigin: {origin}\r\n\r\n"
        )
    };
    let answer = edge.talk(upgrade("https://evil.example").as_bytes()).await;
    assert_eq!(status(&answer), 403, "{answer}");
    let mut socket = edge.connect().await;
    let own = upgrade("http://localhost:9595");
    socket.write_all(own.as_bytes()).await.expect("the connection is open");
    let mut answer = vec![0; 4_096];
    let read = timeout(Duration::from_secs(5), socket.read(&mut answer)).await;
    answer.truncate(read.expect("in time").expect("an answer"));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(status(&answer), 101, "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("content-encoding"), "{answer}");
    // Longer than every time limit: an upgraded connection may be silent.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(edge.metrics.connections_open(), 1);
    assert_eq!(status(&edge.talk(b"").await), 503);
}
