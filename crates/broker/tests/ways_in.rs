//! What each protocol's sender is told, over its route.

mod support;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use blockstore::MemoryDisk;
use broker::{Broker, BrokerConfig};
use http::{HeaderMap, Request, StatusCode};
use model::Limits;
use serde_json::{Value, json};
use support::*;
use tower::ServiceExt;

clock!(WAYS, ways_ms);

struct Ways {
    broker: Broker,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Ways {
    fn with(limits: Limits) -> Ways {
        let config = config("unused".as_ref(), ways_ms, NEVER_MS);
        let broker = open_on(&Arc::new(MemoryDisk::new()), BrokerConfig { limits, ..config });
        let router = net::auth::without_login(broker::routes(&broker).into_router());
        Ways { broker, router }
    }

    async fn send(&self, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path).header("content-type", kind).body(body.into());
        let response = self.router.clone().oneshot(request.expect("a request")).await;
        let (parts, body) = response.expect("answers").into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a body");
        let text = String::from_utf8_lossy(&body).into_owned();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// One series called `name` by each protocol that answers in JSON: its path, its type and the body.
    fn ways(name: &str, t_ms: i64) -> Vec<(&'static str, &'static str, String)> {
        let (t_s, t_ns) = (t_ms / 1_000, (t_ms * 1_000_000).to_string());
        let json = |path, body: Value| (path, "application/json", body.to_string());
        let text = |path, body| (path, "text/plain", body);
        let otlp = |sum: &str| {
            let point = json!([{"timeUnixNano": t_ns, "asDouble": 1}]);
            let metric = json!({"name": name, sum: {"dataPoints": point,
                "aggregationTemporality": 1, "isMonotonic": true}});
            json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})
        };
        vec![
            text("/api/v1/import/prometheus", format!("{name} 1 {t_ms}\n")),
            text("/write?db=x", format!("{name} value=1 {t_ns}")),
            text("/api/v2/write?bucket=x", format!("{name} value=1 {t_ns}")),
            text("/api/v1/import/csv?format=1:metric:csv,2:time:unix_ms", format!("1,{t_ms}")),
            json("/api/put", json!({"metric": name, "timestamp": t_s, "value": 1})),
            json("/api/put?details", json!([{"metric": name, "timestamp": t_s, "value": 1}])),
            json(
                "/datadog/api/v1/series",
                json!({"series": [{"metric": name, "points": [[t_s, 1]]}]}),
            ),
            json(
                "/datadog/api/v2/series",
                json!({"series": [{"metric": name, "points": [{"timestamp": t_s, "value": 1}]}]}),
            ),
            json(
                "/api/v1/import",
                json!({"metric": {"__name__": name}, "values": [1], "timestamps": [t_ms]}),
            ),
            json("/v1/metrics", otlp("gauge")),
            json("/v1/metrics", otlp("sum")),
        ]
    }
}

fn paced() -> Limits {
    Limits { max_new_series_per_second: 1, ..Limits::default() }
}

/// A sender that is answered 400, or with a success of OTLP, drops what it has for ever.
#[tokio::test(flavor = "multi_thread")]
async fn new_series_that_may_come_later_are_sent_again_by_every_protocol() {
    let ways = Ways::with(paced());
    let many: String = (0..40).map(|number| format!("q{number} 1\n")).collect();
    let partly = ways.send("/api/v1/import/prometheus", "text/plain", many).await;
    assert_eq!(partly.status, StatusCode::BAD_REQUEST, "a part is stored: {}", partly.text);
    for (number, (path, kind, body)) in Ways::ways("late", ways_ms()).into_iter().enumerate() {
        let answer = ways.send(path, kind, body).await;
        let text = &answer.text;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{number} {path}: {text}");
        assert_eq!(answer.headers["retry-after"], "10", "{path}");
        for wanted in ["max_new_series_per_second (1)", "nothing of the request is stored"] {
            assert!(text.contains(wanted), "{path}: {text}");
        }
        let shape = match path {
            "/write?db=x" => r#"{"error":"#,
            "/api/v2/write?bucket=x" => r#""code":"too many requests""#,
            "/api/put" | "/api/put?details" => r#"{"error":{"code":429"#,
            "/datadog/api/v1/series" | "/datadog/api/v2/series" => r#"{"errors":["#,
            "/v1/metrics" => r#"{"code":14"#,
            _ => r#""errorType":"bad_data""#,
        };
        assert!(text.contains(shape), "{path}: {text}");
    }
    let grpc = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    let answer = ways.send(grpc, "application/grpc", grpc_gauge()).await;
    assert_eq!(answer.headers["grpc-status"], "14", "{:?}", answer.headers);
    let details = answer.headers["grpc-status-details-bin"].as_bytes();
    use base64::Engine;
    let details = base64::engine::general_purpose::STANDARD_NO_PAD.decode(details);
    let details = details.expect("base64");
    // `RetryInfo { retry_delay { seconds: 10 } }` behind its type.
    assert!(details.ends_with(b"google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x0a"), "{details:?}");
    // With something in the request that is stored, nothing is to come again.
    let point = json!([[ways_ms() / 1_000 - 60, 2]]);
    let known =
        json!({"series": [{"metric": "q1", "points": point}, {"metric": "late", "points": point}]});
    let path = "/datadog/api/v1/series";
    let partly = ways.send(path, "application/json", known.to_string()).await;
    assert_eq!(partly.status, StatusCode::BAD_REQUEST, "{}", partly.text);
    assert!(partly.text.contains("the other samples of the request are stored"), "{}", partly.text);
    // A delta that comes again counts once.
    WAYS.fetch_add(60_000, std::sync::atomic::Ordering::SeqCst);
    let (path, kind, body) = Ways::ways("late", START_MS).pop().expect("deltas");
    let again = ways.send(path, kind, body).await;
    assert_eq!((again.status, again.text.as_str()), (StatusCode::OK, "{}"));
    let found = samples_of(&ways.broker, "late_total");
    assert_eq!(found, [(START_MS, 1.0)]);
}

/// Length-prefixed `ExportMetricsServiceRequest` with one gauge.
fn grpc_gauge() -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        let mut out = vec![number << 3 | 2, content.len() as u8];
        out.extend_from_slice(content);
        out
    };
    let mut point = vec![3 << 3 | 1];
    point.extend((ways_ms() as u64 * 1_000_000).to_le_bytes());
    point.push(4 << 3 | 1);
    point.extend(1_f64.to_le_bytes());
    let metric = [field(1, b"grpc"), field(5, &field(1, &point))].concat();
    let request = field(1, &field(2, &field(2, &metric)));
    let mut framed = vec![0, 0, 0, 0, request.len() as u8];
    framed.extend(request);
    framed
}

fn samples_of(broker: &Broker, name: &str) -> Vec<(i64, f64)> {
    let matcher = model::Matcher::new("__name__", model::MatchOp::Equal, name).expect("no regex");
    let reader = broker.reader(model::DEFAULT_TENANT);
    let selected = reader.select(&[matcher], model::TimeRange::all()).expect("readable");
    let (mut timestamps, mut values) = (Vec::new(), Vec::new());
    for index in 0..selected.labels().len() {
        selected.read(index, &mut timestamps, &mut values).expect("readable");
    }
    timestamps.into_iter().zip(values).collect()
}

/// Whatever the fault, its first series stands in the answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_series_of_each_fault_is_named() {
    let ways = Ways::with(Limits {
        max_active_series: 12,
        max_label_value_bytes: 20,
        ..Limits::default()
    });
    let post = async |path: &str, body: &str| {
        ways.send(path, "application/json", body.to_owned()).await.text
    };
    let now = ways_ms();
    for (number, (path, kind, body)) in Ways::ways("old", 1_000).into_iter().enumerate() {
        let told = ways.send(path, kind, body).await.text;
        let named = ["(the first is of old", "(the first is of csv", r#""datapoint":"old"#];
        let is_named = named.iter().any(|named| told.contains(named));
        assert!(is_named && told.contains("older than the retention"), "{number} {path}: {told}");
    }
    let far_ns = (now + DAY_MS * 30) * 1_000_000;
    for path in ["/write?db=x", "/api/v2/write?bucket=x"] {
        let told = post(path, &format!("far v=1 {far_ns}")).await;
        assert!(
            told.contains("ahead of this server") && told.contains("(the first is of far_v{db="),
            "{told}"
        );
    }
    // Duplicates.
    for (path, body) in [
        ("/api/v1/import/prometheus", "dup VALUE TIME\n"),
        ("/api/v1/import", r#"{"metric":{"__name__":"dup"},"values":[VALUE],"timestamps":[TIME]}"#),
        ("/datadog/api/v1/series", r#"{"series":[{"metric":"dup","points":[[SECONDS,VALUE]]}]}"#),
        ("/api/put", r#"{"metric":"dup","timestamp":SECONDS,"value":VALUE}"#),
        ("/api/put?details", r#"{"metric":"dup","timestamp":SECONDS,"value":VALUE}"#),
    ] {
        let mut told = String::new();
        for value in ["1", "2"] {
            let body = body.replace("VALUE", value).replace("TIME", &now.to_string());
            told = post(path, &body.replace("SECONDS", &(now / 1_000).to_string())).await;
        }
        let named = ["(the first is of dup)", r#""datapoint":"dup""#];
        assert!(named.iter().any(|named| told.contains(named)), "{path}: {told}");
        assert!(told.contains("duplicate sample for timestamp"), "{path}: {told}");
        assert!(path.ends_with("details") || told.contains("1 sample left out"), "{path}: {told}");
    }
    let body =
        json!({"metric": "long", "timestamp": now, "value": 1, "tags": {"t": "v".repeat(30)}});
    let told = post("/api/put?details", &body.to_string()).await;
    let named = format!(r#""datapoint":"long{{t=\"{}\"}}""#, "v".repeat(30));
    assert!(told.contains(&named), "{told}");
    // Limits of series, in the protocol that has no series of its own.
    let many: Vec<String> = (0..20).map(|number| format!("n{number} v=1")).collect();
    for path in ["/write?db=x", "/api/v2/write?bucket=x"] {
        let told = post(path, &many.join("\n")).await;
        assert!(
            told.contains("max_active_series") && told.contains("(the first is of n"),
            "{told}"
        );
    }
    let ways = Ways::with(Limits { max_values_per_label: 1, ..Limits::default() });
    for (line, wanted) in
        [("m,l=a v=1", ""), ("m,l=b v=1", r#"(the first is of m_v{db=\"x\", l=\"b\"})"#)]
    {
        let told = ways.send("/write?db=x", "text/plain", line).await.text;
        assert!(told.contains(wanted) && told.is_empty() == wanted.is_empty(), "{told}");
    }
}

/// Every protocol's own place for a token counts on its own routes only, and its refusals have its shape.
#[tokio::test(flavor = "multi_thread")]
async fn each_protocol_has_its_own_credential_and_refusal() {
    use net::auth::{Accounts, FileStore, Scope, SessionLife, Tenants};
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = FileStore::open(&directory.path().join("credentials")).expect("empty");
    let accounts = Accounts::new(Arc::new(store), SessionLife::default(), Arc::default());
    let token = async |scope: Scope| {
        let scopes = [scope].into_iter().collect();
        let made = accounts.create_token("t", scopes, Tenants::All, None, &site::admin()).await;
        made.expect("made").0.reveal().to_owned()
    };
    let (write, read) = (token(Scope::Write).await, token(Scope::Read).await);
    let broker =
        open_on(&Arc::new(MemoryDisk::new()), config("unused".as_ref(), ways_ms, NEVER_MS));
    let router = accounts.layer(broker::routes(&broker).into_router());
    let ask = async |path: &str, headers: &[(&str, String)]| {
        let method = if path.contains("/validate") { "GET" } else { "POST" };
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let body = if path.contains("series") { r#"{"series":[]}"# } else { "" };
        let request = request.body(Body::from(body)).expect("a request");
        let response = router.clone().oneshot(request).await.expect("answers");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a body");
        (parts.status.as_u16(), parts.headers, String::from_utf8_lossy(&body).into_owned())
    };
    let token_of = |name: &str| ("authorization", format!("Token {name}:{write}"));
    let key = || ("dd-api-key", write.clone());
    for (path, headers, status) in [
        ("/datadog/api/v1/validate".to_owned(), vec![key()], 200),
        (format!("/datadog/api/v1/validate?api_key={write}"), vec![], 200),
        ("/datadog/api/v1/series".to_owned(), vec![key()], 202),
        (format!("/datadog/api/v2/series?api_key={write}"), vec![], 202),
        (format!("/datadog/api/v1/check_run?api_key={write}"), vec![], 202),
        (format!("/write?db=d&u=any&p={write}"), vec![], 204),
        (format!("/influx/api/v2/write?p={write}"), vec![], 204),
        ("/write".to_owned(), vec![token_of("any")], 204),
        ("/api/v2/write".to_owned(), vec![token_of("")], 204),
        ("/write".to_owned(), vec![("authorization", format!("Token {write}"))], 204),
        // What is another protocol's.
        (format!("/write?api_key={write}"), vec![key()], 401),
        (format!("/datadog/api/v1/validate?p={write}"), vec![token_of("any")], 401),
        (format!("/api/put?api_key={write}&p={write}"), vec![key()], 401),
        (format!("/api/v1/import/prometheus?api_key={write}&p={write}"), vec![token_of("a")], 401),
        // An `Authorization` goes before.
        (format!("/write?p={write}"), vec![("authorization", "Bearer wft_x".to_owned())], 401),
        (format!("/datadog/api/v1/validate?api_key={read}"), vec![], 403),
        (format!("/write?u=ann&p=secret&db={write}"), vec![], 401),
    ] {
        let (found, _, text) = ask(&path, &headers).await;
        assert_eq!(found, status, "{path} {headers:?}: {text}");
        assert!(!text.contains("wft_") || text.contains("wft_…"), "{text}");
    }
    for (path, kind, shape) in [
        ("/write?db=x", "", r#"{"error":"log in first"#),
        ("/query", "", r#"{"error":"log in first"#),
        ("/api/v2/write", "", r#"{"code":"unauthorized","message":"log in first"#),
        ("/datadog/api/v1/series", "", r#"{"errors":["log in first"#),
        ("/datadog/api/v1/validate", "", r#"{"errors":["log in first"#),
        ("/api/put", "", r#"{"error":{"code":401,"details":"","message":"log in first"#),
        ("/v1/metrics", "application/json", r#"{"code":16,"message":"log in first"#),
        ("/v1/metrics", "application/x-protobuf", "\u{8}\u{10}\u{12}"),
        ("/api/v1/write", "", r#"{"status":"error","errorType":"unauthorized""#),
    ] {
        let (status, headers, text) = ask(path, &[("content-type", kind.to_owned())]).await;
        assert!(status == 401 && text.starts_with(shape), "{path}: {status} {text}");
        assert!(headers.contains_key("www-authenticate"), "{path}: {headers:?}");
    }
    let grpc = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    let (_, headers, _) = ask(grpc, &[("content-type", "application/grpc".to_owned())]).await;
    assert_eq!(headers["grpc-status"], "16", "{headers:?}");
}

/// What agents and clients ask and send besides samples, as VictoriaMetrics 1.79 answers it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_sample_is_answered_as_victoriametrics_does() {
    let ways = Ways::with(Limits::default());
    for (path, status, wanted) in [
        ("/datadog/api/v1/check_run", 202, r#"{"status":"ok"}"#),
        ("/datadog/intake/", 200, "{}"),
        ("/datadog/intake", 200, "{}"),
        ("/datadog/api/v1/metadata", 200, "{}"),
    ] {
        let answer = ways.send(path, "application/json", "[{}]").await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, wanted), "{path}");
    }
    let databases = r#"{"results":[{"series":[{"columns":["name"],"name":"databases","values":[["_internal"]]}],"statement_id":0}]}"#;
    let made = r#"{"results":[{"statement_id":0}]}"#;
    let refused = r#"{"error":"InfluxQL is not spoken here"#;
    for (statement, status, wanted) in [
        ("SHOW%20DATABASES", 200, databases),
        ("show+databases;", 200, databases),
        ("CREATE+DATABASE+%22x%22", 200, made),
        ("DROP+DATABASE+x", 400, refused),
        ("", 400, refused),
    ] {
        for path in ["/query", "/influx/query"] {
            let path = format!("{path}?db=x&q={statement}");
            let get = Request::get(&path).body(Body::empty()).expect("a request");
            let response = ways.router.clone().oneshot(get).await.expect("answers");
            let by_get = response.status();
            let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
            assert!(body.starts_with(wanted.as_bytes()), "{path}: {body:?}");
            let kind = "application/x-www-form-urlencoded";
            let answer = ways.send("/query", kind, format!("q={statement}")).await;
            assert_eq!([by_get, answer.status].map(|s| s.as_u16()), [status; 2], "{path}");
            assert!(answer.text.starts_with(wanted), "{path}: {}", answer.text);
        }
    }
    let get = Request::get("/query?g0.expr=up").body(Body::empty()).expect("a request");
    let response = ways.router.clone().oneshot(get).await.expect("answers");
    let location = &response.headers()["location"];
    assert_eq!(location, "/explore?q=up", "as a browser knows it of Prometheus");
    let answer = ways.send("/api/v1/import/native", "", "x").await;
    assert!(answer.text.contains("/api/v1/export --data-urlencode"), "{}", answer.text);
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}
