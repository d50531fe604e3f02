use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use model::Labels;
use settings::logs::{SinkProtocol, SlsTarget};
use settings::{HttpUrl, Secret};
use wire::logs::{loki_push, sls_log_group};

use super::*;

/// A request as it came.
struct Seen {
    line: String,
    /// By names in lower case.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Answers each request by the next head and body, and yields what came.
fn server(answers: &[(&'static str, &'static [u8])]) -> (String, Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (sender, seen) = channel();
    let answers = answers.to_vec();
    std::thread::spawn(move || {
        for (head, body) in answers {
            let (stream, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(&stream);
            let mut request =
                Seen { line: String::new(), headers: BTreeMap::new(), body: Vec::new() };
            reader.read_line(&mut request.line).expect("a request");
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a head");
                let Some((name, value)) = line.trim().split_once(": ") else { break };
                request.headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            let length: usize = request.header("content-length").parse().expect("a number");
            request.body.resize(length, 0);
            reader.read_exact(&mut request.body).expect("a body");
            let head = head.replace('\n', "\r\n");
            let length = body.len();
            let head =
                format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            (&stream).write_all(head.as_bytes()).expect("a client that waits");
            (&stream).write_all(body).expect("a client that waits");
            sender.send(request).expect("a test");
        }
    });
    (format!("http://{address}"), seen)
}

fn batch(external: bool) -> LogBatch {
    let mut lines = LogBatch::default();
    let a = [("job", "a"), ("zone", "z")];
    lines.stream(&Labels::from_pairs(a[..1 + usize::from(external)].to_vec()).expect("valid"));
    lines.push(5, b"one \"1\"", &[("trace", "x")]).expect("small");
    lines.push(6, b"two\xff", &[]).expect("small");
    lines.stream(&Labels::from_pairs([("job", "b"), ("zone", "own")]).expect("valid"));
    lines.push(7, b"three", &[]).expect("small");
    lines
}

fn lines(seq: u64, after_seq: u64, tenant: Option<&str>) -> NumberedLines {
    NumberedLines { seq, after_seq, tenant: tenant.map(str::to_owned), lines: batch(false) }
}

async fn push(to: &Push, lines: NumberedLines) -> Result<u64, LinesRefused> {
    let (sender, told) = tokio::sync::oneshot::channel();
    to.store([0; 16], lines, Box::new(move |result| sender.send(result).expect("a test")));
    told.await.expect("an answer")
}

fn sink(url: &str) -> LogSink {
    let mut sink = LogSink::new("other", HttpUrl::parse(url).expect("a URL"));
    sink.min_backoff = Duration::from_millis(1);
    sink
}

async fn start(sink: &LogSink) -> (Push, Arc<PushCounters>) {
    let counters = Arc::new(PushCounters::default());
    (Push::start(sink, "h", Arc::clone(&counters)).await.expect("valid"), counters)
}

fn page(counters: Arc<PushCounters>) -> String {
    let mut page = Vec::new();
    let sinks = BTreeMap::from([("other".to_owned(), counters)]);
    PushCounters::render(&sinks, &mut TextEncoder::new(&mut page));
    String::from_utf8(page).expect("text")
}

#[tokio::test]
async fn lines_are_pushed_until_they_are_taken_or_refused() {
    let (url, seen) = server(&[
        ("503 Busy", b"what"),
        ("204 OK", b""),
        ("400 Bad", b"what"),
        ("404 Nowhere", b""),
        ("200 OK", b""),
    ]);
    let mut sink = sink(&format!("{url}/loki/api/v1/push"));
    sink.tenant = Some("t1".to_owned());
    sink.headers.push(("x-more".to_owned(), "yes".to_owned()));
    sink.external_labels = Labels::from_pairs([("zone", "z")]).expect("valid");
    let (to, counters) = start(&sink).await;
    let again = async |lines: &dyn Fn() -> NumberedLines| {
        let Err(LinesRefused::Now(reason)) = push(&to, lines()).await else {
            panic!("the server takes nothing");
        };
        // What comes behind it is not sent before it.
        assert!(matches!(push(&to, self::lines(99, 98, None)).await, Err(LinesRefused::Now(_))));
        tokio::time::sleep(Duration::from_millis(5)).await;
        reason
    };
    let reason = again(&|| lines(1, 0, None)).await;
    assert!(reason.contains("other: the server answered 503"), "{reason}");
    assert_eq!(push(&to, lines(1, 0, None)).await, Ok(3));
    assert_eq!(push(&to, lines(2, 1, Some("t2"))).await, Ok(0), "what is bad stays bad");
    let reason = again(&|| lines(3, 2, None)).await;
    assert!(reason.contains("404"), "a wrong URL is no fault of the lines: {reason}");
    assert_eq!(push(&to, lines(3, 0, None)).await, Ok(3));

    let requests: Vec<Seen> = seen.iter().collect();
    assert_eq!(requests.len(), 5);
    assert!(requests[1].line.starts_with("POST /loki/api/v1/push "), "{}", requests[1].line);
    assert_eq!((requests[1].header("x-scope-orgid"), requests[1].header("x-more")), ("t1", "yes"));
    assert_eq!(requests[2].header("x-scope-orgid"), "t2");
    assert_eq!(requests[4].header("content-type"), "application/x-protobuf");
    let mut body = Vec::new();
    let snappy = wire::decompress::Encoding::SnappyBlock;
    wire::decompress::decompress(snappy, &requests[4].body, 1 << 20, &mut body).expect("snappy");
    let mut wanted = Vec::new();
    loki_push::encode(&batch(true), &mut wanted);
    assert_eq!(body, wanted);
    let page = page(counters);
    for line in [
        "sink_failures_total{sink=\"other\"} 2\n",
        "sink_lines_total{sink=\"other\"} 6\n",
        "sink_refused_lines_total{sink=\"other\"} 3\n",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

#[tokio::test]
async fn a_server_may_ask_for_a_pause() {
    let (url, seen) = server(&[
        ("429 Slow\nretry-after: 1", b""),
        ("503 Busy\nretry-after: x", b""),
        ("200 OK", b""),
    ]);
    let (to, _) = start(&sink(&url)).await;
    assert!(push(&to, lines(1, 0, None)).await.is_err());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(push(&to, lines(1, 0, None)).await.is_err());
    assert_eq!(seen.try_iter().count(), 1, "it waits as long as it was asked to");
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(push(&to, lines(1, 0, None)).await.is_err());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(push(&to, lines(1, 0, None)).await, Ok(3), "what is no pause is none");
}

#[tokio::test]
async fn what_is_too_large_goes_in_pieces() {
    let (url, seen) = server(&[
        ("413 Large", b""),
        ("200 OK", b""),
        ("502 Gone", b""),
        ("413 Large", b""),
        ("200 OK", b""),
    ]);
    let mut sink = sink(&url);
    sink.batch_bytes = 1 << 10;
    let (to, counters) = start(&sink).await;
    assert!(push(&to, lines(1, 0, None)).await.is_err());
    tokio::time::sleep(Duration::from_millis(5)).await;
    // Of three lines two were taken; the third alone is too large.
    assert_eq!(push(&to, lines(1, 0, None)).await, Ok(2));
    assert_eq!(
        push(&to, NumberedLines { lines: LogBatch::default(), ..lines(2, 1, None) }).await,
        Ok(0)
    );
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        seen.try_iter().count(),
        4,
        "what was taken is not sent again, and nothing is no request"
    );
    let page = page(counters);
    assert!(page.contains("sink_lines_total{sink=\"other\"} 2\n"), "{page}");
    assert!(page.contains("sink_refused_lines_total{sink=\"other\"} 1\n"), "{page}");
}

#[tokio::test]
async fn a_collector_of_opentelemetry_may_leave_lines_out() {
    let (url, seen) = server(&[("200 OK", b"\x0a\x09\x08\x02\x12\x05old"), ("200 OK", b"")]);
    let mut sink = sink(&format!("{url}/v1/logs"));
    sink.protocol = SinkProtocol::Otlp;
    let (to, counters) = start(&sink).await;
    assert_eq!(push(&to, lines(1, 0, None)).await, Ok(3), "an answer that breaks off says nothing");
    assert_eq!(push(&to, lines(2, 1, None)).await, Ok(3));
    let requests: Vec<Seen> = seen.iter().collect();
    assert_eq!(requests[0].header("content-encoding"), "gzip");
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&requests[0].body[..]).read_to_end(&mut body).expect("gzip");
    let mut wanted = Vec::new();
    wire::logs::otlp_logs_encode::encode(&batch(false), &mut wanted);
    assert_eq!(body, wanted);
    drop(counters);

    let (url, _seen) = server(&[("200 OK", b"\x0a\x07\x08\x02\x12\x03old")]);
    let mut sink = self::sink(&url);
    sink.protocol = SinkProtocol::Otlp;
    let (to, counters) = start(&sink).await;
    assert_eq!(push(&to, lines(1, 0, None)).await, Ok(1));
    assert!(page(counters).contains("sink_refused_lines_total{sink=\"other\"} 2\n"));
}

/// The signature as a server checks it: from what came, with another HMAC.
fn is_signed(request: &Seen, id: &str, secret: &[u8]) -> bool {
    let md5: String = Md5::digest(&request.body).iter().map(|byte| format!("{byte:02X}")).collect();
    let mut words = request.line.split(' ');
    let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
    let [mime, date] = ["content-type", "date"].map(|name| request.header(name));
    let mut text = format!("{method}\n{md5}\n{mime}\n{date}\n");
    // The map is sorted.
    for (name, value) in &request.headers {
        if name.starts_with("x-log-") || name.starts_with("x-acs-") {
            text.push_str(&format!("{name}:{value}\n"));
        }
    }
    text.push_str(path);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let signature = STANDARD.encode(ring::hmac::sign(&key, text.as_bytes()));
    request.header("content-md5") == md5
        && request.header("authorization") == format!("LOG {id}:{signature}")
}

#[tokio::test]
async fn sls_gets_signed_groups() {
    const SKEWED: &[u8] = br#"{"errorCode":"RequestTimeTooSkewed","errorMessage":"clock"}"#;
    const BROKEN: &[u8] = br#"{"errorCode":"PostBodyInvalid","errorMessage":"no"}"#;
    let (url, seen) = server(&[
        ("400 Bad Request", SKEWED),
        ("200 OK", b""),
        ("403 Forbidden", br#"{"errorCode":"WriteQuotaExceed","errorMessage":"slow"}"#),
        ("400 Bad Request", BROKEN),
    ]);
    let mut sink = sink(&format!("{url}/logstores/app/shards/lb"));
    sink.protocol = SinkProtocol::Sls(Box::new(SlsTarget {
        host: "project.cn-hangzhou.log.aliyuncs.com".to_owned(),
        logstore: "app".to_owned(),
        topic: "web".to_owned(),
        access_key_id: Secret::new("id"),
        access_key_secret: Secret::new("secret"),
        ..SlsTarget::default()
    }));
    let (to, _) = start(&sink).await;
    assert!(push(&to, lines(1, 0, None)).await.is_err(), "a wrong clock is no fault of the lines");
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(push(&to, lines(1, 0, None)).await, Ok(3));
    assert!(push(&to, lines(2, 1, None)).await.is_err(), "nor is a quota");
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(push(&to, lines(2, 0, None)).await, Ok(0));
    let requests: Vec<Seen> = seen.iter().collect();
    assert_eq!(requests.len(), 4);
    for request in &requests {
        assert!(is_signed(request, "id", b"secret"), "{:?}", request.headers);
        assert!(!is_signed(request, "id", b"other"));
        assert_eq!(request.header("host"), "project.cn-hangzhou.log.aliyuncs.com");
        assert_eq!(request.header("x-log-compresstype"), "lz4");
        let size = request.header("x-log-bodyrawsize").parse().expect("a number");
        let body = lz4_flex::block::decompress(&request.body, size).expect("LZ4");
        let mut wanted = Vec::new();
        sls_log_group::encode(&batch(false), "web", "h", &mut wanted);
        assert_eq!(body, wanted);
    }
}
