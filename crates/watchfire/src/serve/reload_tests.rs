//! `POST /-/reload` of `--config`, as a client sees it.

use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;
use tower::ServiceExt;

use super::tests::{Served, request, serve_by};

const EXPOSITION: &str = "/api/v1/import/prometheus";

async fn ask(served: &Served, method: Method, path: &str, body: &str) -> (StatusCode, String) {
    ask_of(served, "default", method, path, body).await
}

async fn ask_of(
    served: &Served,
    tenant: &'static str,
    method: Method,
    path: &str,
    body: &str,
) -> (StatusCode, String) {
    // The last caller is the one that may do everything.
    let (_, token) = served.callers.last().expect("callers");
    let mut request = request(&method, path, token.as_deref(), body);
    request.headers_mut().insert("x-scope-orgid", HeaderValue::from_static(tenant));
    let answer = served.router.clone().oneshot(request).await.expect("answers");
    let status = answer.status();
    let bytes = axum::body::to_bytes(Body::new(answer.into_body()), 1 << 20).await.expect("read");
    (status, String::from_utf8(bytes.to_vec()).expect("UTF-8"))
}

async fn reload(served: &Served, file: &Path, yaml: &str) -> (StatusCode, String) {
    std::fs::write(file, yaml).expect("written");
    ask(served, Method::POST, "/-/reload", "").await
}

async fn values(served: &Served, name: &str) -> usize {
    let query = format!("count_over_time({name}[10d])");
    let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let path = format!("/api/v1/query?query={query}");
    let (status, answer) = ask(served, Method::GET, &path, "").await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let value = answer["data"]["result"][0]["value"][1].as_str().unwrap_or("0");
    value.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_says_now_is_in_effect_or_nothing_of_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("watchfire.yml");
    std::fs::write(&file, "limits: {max_labels_per_series: 4}\n").expect("written");
    let flag = file.to_str().expect("UTF-8").to_owned();
    let served = serve_by(directory, &["--config", &flag]).await;
    let long = "m{a=\"1\",b=\"2\",c=\"3\",d=\"4\"} 1\n";
    assert_eq!(ask(&served, Method::POST, EXPOSITION, long).await.0, StatusCode::BAD_REQUEST);

    let (status, answer) = reload(
        &served,
        &file,
        "listen: 127.0.0.1:1\nlimits: {max_labels_per_series: 5, max_query_samples: 2}\n",
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer, "in effect, but for what takes effect at the next start: listen\n");
    let (status, answer) = ask(&served, Method::POST, EXPOSITION, long).await;
    assert!(status.is_success(), "{answer}");
    // The limit of queries as well.
    let many = "n 1\nn{x=\"1\"} 1\nn{x=\"2\"} 1\n";
    assert!(ask(&served, Method::POST, EXPOSITION, many).await.0.is_success());
    let (status, answer) = ask(&served, Method::GET, "/api/v1/query?query=n", "").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");

    // One mistake anywhere, and nothing of the file counts.
    let (status, answer) = reload(
        &served,
        &file,
        "limits: {max_labels_per_series: 2}\nha_tracker:\n  enabled: true\n  failover_timeout: 10ms\n",
    )
    .await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.contains("watchfire.yml:4:21"), "{answer}");
    assert!(write_of(&served, "default").await.0.is_success());
    let (_, runtime) = ask(&served, Method::GET, "/api/v1/status/runtimeinfo", "").await;
    assert!(runtime.contains("\"reloadConfigSuccess\":false"), "{runtime}");

    // Rules of retention hide at once and show again what no merge has removed.
    let now_ms = crate::about::now_ms();
    let day_ms = 86_400_000;
    let old = format!("o 1 {}\no 2 {}\n", now_ms - 2 * day_ms, now_ms - 1_000);
    assert!(ask(&served, Method::POST, EXPOSITION, &old).await.0.is_success());
    assert_eq!(values(&served, "o").await, 2);
    let rule = "storage:\n  retention_rules: [{selector: o, for: 1d}]\n";
    assert_eq!(reload(&served, &file, rule).await, (StatusCode::OK, String::new()));
    assert_eq!(values(&served, "o").await, 1);
    assert_eq!(reload(&served, &file, "").await, (StatusCode::OK, String::new()));
    assert_eq!(values(&served, "o").await, 2);

    // Pairs of replicas.
    let pair = "p{cluster=\"c\",__replica__=\"a\"} 1\n";
    assert!(ask(&served, Method::POST, EXPOSITION, pair).await.0.is_success());
    assert_eq!(reload(&served, &file, "ha_tracker: {enabled: true}\n").await.0, StatusCode::OK);
    for replica in ["a", "b"] {
        let pair = format!("p{{cluster=\"c\",__replica__=\"{replica}\"}} 1 {now_ms}\n");
        assert!(ask(&served, Method::POST, EXPOSITION, &pair).await.0.is_success());
    }
    let (_, clusters) = ask(&served, Method::GET, "/api/v1/status/ha_tracker", "").await;
    assert!(clusters.contains("\"enabled\":true"), "{clusters}");
    assert!(clusters.contains("\"replica\":\"a\""), "{clusters}");

    // Rules of aggregation.
    let rules = "stream_aggregation:\n  rules: [{match: q, interval: 1s, outputs: [last]}]\n";
    assert_eq!(reload(&served, &file, rules).await, (StatusCode::OK, String::new()));
    assert!(ask(&served, Method::POST, EXPOSITION, "q 7\n").await.0.is_success());
    for _ in 0..100 {
        if values(&served, "{__name__=\"q:1s_last\"}").await == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(values(&served, "{__name__=\"q:1s_last\"}").await, 1);
    assert_eq!(values(&served, "q").await, 0);
    let (_, config) = ask(&served, Method::GET, "/api/v1/status/config", "").await;
    assert!(config.contains("interval: 1s"), "{config}");
    served.stop();
}

/// Writes a series of five labels that was never there: labels of known ones are not looked at again.
async fn write_of(served: &Served, tenant: &'static str) -> (StatusCode, String) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    let long = format!("m{number}{{a=\"1\",b=\"2\",c=\"3\",d=\"4\"}} 1\n");
    ask_of(served, tenant, Method::POST, EXPOSITION, &long).await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_single_tenants_change_with_those_of_all_or_none_does() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("watchfire.yml");
    let acme = |limits: &str| format!("tenants:\n  acme: {{limits: {{{limits}}}}}\n");
    std::fs::write(&file, acme("max_labels_per_series: 4")).expect("written");
    let flag = file.to_str().expect("UTF-8").to_owned();
    let served = serve_by(directory, &["--config", &flag]).await;
    assert_eq!(write_of(&served, "acme").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(write_of(&served, "default").await.0, StatusCode::NO_CONTENT);

    // The next request after it, of a tenant that was there before.
    let done = (StatusCode::OK, String::new());
    assert_eq!(reload(&served, &file, &acme("max_labels_per_series: 5")).await, done);
    assert_eq!(write_of(&served, "acme").await.0, StatusCode::NO_CONTENT);

    // One bad number or name, and everything stays, also what was right.
    for (bad, named) in [
        ("  acme: {limits: {max_labels_per_series: 3, max_body_bytes: 5}}", "max_body_bytes"),
        ("  acme: {limits: {max_labels_per_series: 3, max_query_bytes: 5}}", "max_query_bytes"),
        ("  acme: {limits: {max_labels_per_series: 3}}\n  \"a|b\": {}", "1 to 64"),
    ] {
        let yaml = format!("limits: {{max_labels_per_series: 2}}\ntenants:\n{bad}\n");
        let (status, answer) = reload(&served, &file, &yaml).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(answer.contains(named), "{answer}");
        for tenant in ["acme", "default"] {
            assert_eq!(write_of(&served, tenant).await.0, StatusCode::NO_CONTENT, "{tenant}");
        }
        let (_, runtime) = ask(&served, Method::GET, "/api/v1/status/runtimeinfo", "").await;
        assert!(runtime.contains("\"reloadConfigSuccess\":false"), "{runtime}");
    }

    // The limit of its queries, and of nobody else's.
    assert_eq!(reload(&served, &file, &acme("max_query_samples: 2")).await, done);
    let many = "n 1\nn{x=\"1\"} 1\nn{x=\"2\"} 1\n";
    for (tenant, expected) in
        [("acme", StatusCode::UNPROCESSABLE_ENTITY), ("default", StatusCode::OK)]
    {
        assert!(ask_of(&served, tenant, Method::POST, EXPOSITION, many).await.0.is_success());
        let asked = ask_of(&served, tenant, Method::GET, "/api/v1/query?query=n", "").await;
        assert_eq!(asked.0, expected, "{tenant}: {}", asked.1);
    }

    // A budget of memory takes another start, and so do defaults that follow it.
    let (status, answer) = reload(&served, &file, "memory: {limit_bytes: 67108864}\n").await;
    assert_eq!(status, StatusCode::OK);
    assert!(answer.ends_with("at the next start: memory.limit_bytes\n"), "{answer}");
    let comment = format!("# {}\n", "x".repeat(1_021));
    let large = comment.repeat(4 << 10) + "m 1\n";
    let (status, answer) = ask(&served, Method::POST, EXPOSITION, &large).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{answer}");

    // Without limits of its own it has those of all, and is one of those that are counted.
    let few = "limits: {max_labels_per_series: 4, max_tenants: 1}\n";
    assert_eq!(reload(&served, &file, few).await, done);
    for tenant in ["acme", "default"] {
        assert_eq!(write_of(&served, tenant).await.0, StatusCode::BAD_REQUEST, "{tenant}");
    }
    assert_eq!(write_of(&served, "other").await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reload(&served, &file, "limits: {max_tenants: 2}\n").await, done);
    for tenant in ["acme", "other"] {
        assert_eq!(write_of(&served, tenant).await.0, StatusCode::NO_CONTENT, "{tenant}");
    }
    served.stop();
}
