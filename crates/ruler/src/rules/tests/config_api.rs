//! The API of rulers, as mimirtool, lokitool and Grafana ask it.

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use net::NetMetrics;
use net::auth::without_login;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{Running, Seat};

const MIMIR: &str = "/prometheus/config/v1/rules";
const LOKI: &str = "/loki/api/v1/rules";
const GROUP: &str = "# mine\nname: disks\nrules:\n- alert: Full\n  expr: a > 1\n  for: 5m\n  labels: {severity: page}\n";

struct Api {
    bench: Bench,
    router: Router,
    seat: Seat,
}

struct Answer {
    status: u16,
    kind: String,
    text: String,
}

impl Answer {
    /// Status and text, as `http.Error` of Go tells them.
    fn refused(&self) -> (u16, &str) {
        assert_eq!(self.kind, "text/plain; charset=utf-8");
        (self.status, self.text.strip_suffix('\n').expect("a line"))
    }
}

impl Api {
    fn open(world: &World) -> Api {
        let bench = world.open(&Shelf::new()).expect("the rules are right");
        let seat = Seat::default();
        let (notifications, rules) = (bench.notifications.clone(), bench.rules.clone());
        seat.take(Running { notifications, rules });
        let metrics = Arc::new(NetMetrics::default());
        let routes = rule_routes(&seat)
            .merge(crate::api::rule_config_routes(&seat, &metrics))
            .merge(crate::api::rule_group_routes(&seat, &metrics));
        Api { bench, router: without_login(routes.into_router()), seat }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = Request::builder().method(method).uri(path);
        self.send(request.body(Body::from(body.to_owned())).expect("a request")).await
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let kind = headers.get("content-type").map(|kind| kind.to_str().expect("a text"));
        let kind = kind.unwrap_or_default().to_owned();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        Answer { status, kind, text: String::from_utf8(body.to_vec()).expect("UTF-8") }
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        serde_json::from_str(&answer.text).expect("JSON")
    }

    async fn post(&self, path: &str, yaml: &str) {
        let answer = self.ask("POST", path, yaml).await;
        let accepted = json!({"status": "success", "data": null, "errorType": "", "error": ""});
        assert_eq!(
            (answer.status, answer.kind.as_str()),
            (202, "application/json"),
            "{}",
            answer.text
        );
        assert_eq!(serde_json::from_str::<Value>(&answer.text).expect("JSON"), accepted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_kept_told_and_forgotten_in_the_words_of_mimir() {
    let api = Api::open(&World::with(CHAIN));
    let empty = api.ask("GET", MIMIR, "").await;
    assert_eq!((empty.status, &*empty.kind, &*empty.text), (200, "application/yaml", "{}\n"));
    api.post(&format!("{MIMIR}/team"), GROUP).await;
    let one = api.ask("GET", &format!("{MIMIR}/team/disks"), "").await;
    assert_eq!((one.status, &*one.kind, &*one.text), (200, "application/yaml", GROUP));
    let list = "team:\n    - name: disks\n      rules:\n          - alert: Full\n            expr: \"a > 1\"\n            \
                for: 5m\n            labels:\n                severity: page\n";
    for path in [MIMIR.to_owned(), format!("{MIMIR}/team"), "/config/v1/rules".to_owned()] {
        assert_eq!(api.ask("GET", &path, "").await.text, list, "{path}");
    }
    assert_eq!(api.ask("GET", &format!("{MIMIR}/other"), "").await.text, "{}\n");
    let groups = api.json("/prometheus/api/v1/rules?file[]=team").await["data"]["groups"].take();
    assert_eq!((&groups[0]["file"], &groups[0]["managed"]), (&json!("team"), &json!(true)));
    assert_eq!(groups.as_array().map(Vec::len), Some(1));
    let missing = api.ask("GET", &format!("{MIMIR}/team/other"), "").await;
    assert_eq!(missing.refused(), (404, "group does not exist"));
    let missing = api.ask("DELETE", "/api/v1/rules/team/other", "").await;
    assert_eq!(missing.refused(), (404, "group does not exist"));
    let missing = api.ask("DELETE", &format!("{MIMIR}/other"), "").await;
    assert_eq!(missing.refused(), (404, "group namespace does not exist"));
    assert_eq!(api.ask("DELETE", "/api/v1/rules/team", "").await.status, 202);
    assert_eq!(api.ask("GET", MIMIR, "").await.text, "{}\n");
    api.bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_the_paths_of_loki_is_logql_and_a_list_of_its_own() {
    let api = Api::open(&World::with(CHAIN));
    let none = api.ask("GET", "/api/prom/rules", "").await;
    assert_eq!(none.refused(), (404, "no rule groups found"));
    // What Grafana asks to find out whether there is a ruler.
    let probe = api.ask("GET", "/api/prom/rules/test/test", "").await;
    assert_eq!(probe.refused(), (404, "group does not exist"));
    let yaml = "name: errors\nrules:\n- alert: Many\n  expr: sum(rate({job=\"a\"} |= \"error\" [5m])) > 1\n";
    let refused = api.ask("POST", &format!("{MIMIR}/team"), yaml).await;
    let (status, why) = refused.refused();
    assert!(status == 400 && why.contains("could not parse expression"), "{why}");
    api.post(&format!("{LOKI}/team"), yaml).await;
    api.post(&format!("{MIMIR}/team"), GROUP).await;
    let list = api.ask("GET", "/api/prom/rules", "").await;
    assert!(list.text.starts_with("team:\n    - name: errors\n"), "{}", list.text);
    assert!(!list.text.contains("disks"));
    let groups = api.json("/prometheus/api/v1/rules?language=logql").await["data"]["groups"].take();
    assert_eq!((&groups[0]["name"], &groups[0]["language"]), (&json!("errors"), &json!("logql")));
    assert_eq!(api.ask("DELETE", &format!("{LOKI}/team/errors"), "").await.status, 202);
    assert_eq!(api.ask("GET", LOKI, "").await.status, 404);
    assert_eq!(api.ask("GET", &format!("{MIMIR}/team/disks"), "").await.status, 200);
    api.bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_any_text() {
    let api = Api::open(&World::with(CHAIN));
    for (namespace, encoded) in [
        ("a/b", "a%2Fb"),
        ("规则: 1", "%E8%A7%84%E5%88%99%3A%201"),
        ("#\"'%", "%23%22'%25"),
        ("true", "true"),
    ] {
        let yaml = GROUP.replace("name: disks", &format!("name: {}", json!(namespace)));
        api.post(&format!("{MIMIR}/{encoded}"), &yaml).await;
        let one = api.ask("GET", &format!("{MIMIR}/{encoded}/{encoded}"), "").await;
        assert_eq!((one.status, &*one.text), (200, &*yaml), "{namespace}");
        let list = api.ask("GET", MIMIR, "").await.text;
        // The list is YAML whose only key is the namespace.
        let document = settings::yaml::Document::parse("list", list.as_bytes()).expect("YAML");
        let read: BTreeMap<String, serde::de::IgnoredAny> = document.deserialize().expect("a map");
        assert_eq!(read.keys().collect::<Vec<_>>(), [namespace], "{list}");
        assert_eq!(api.ask("DELETE", &format!("{MIMIR}/{encoded}"), "").await.status, 202);
    }
    for bad in ["%FF", "..", "a%0Ab"] {
        let answer = api.ask("POST", &format!("{MIMIR}/{bad}"), GROUP).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text);
    }
    api.bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_group_is_refused_with_the_place_of_each_fault() {
    let api = Api::open(&World::with(CHAIN));
    let yaml = "name: g\nrules:\n- alert: A\n  expr: a >\n  fore: 5m\n- record: b c\n  expr: ''\n";
    let refused = api.ask("POST", &format!("{MIMIR}/n"), yaml).await;
    let (status, why) = refused.refused();
    assert_eq!(status, 400);
    for words in ["(line 4, column ", "(line 5, column 3)", "field 'expr' must be set in rule"] {
        assert!(why.contains(words), "{words}: {why}");
    }
    let large = format!("{GROUP}#{}", "x".repeat(MAX_GROUP_BYTES));
    let refused = api.ask("POST", &format!("{MIMIR}/n"), &large).await;
    let (status, why) = refused.refused();
    assert!(status == 413 && why.contains("1048576 bytes"), "{status}: {why}");
    let bytes = Request::post(format!("{MIMIR}/n")).body(Body::from(&b"name: \xff"[..]));
    let refused = api.send(bytes.expect("a request")).await;
    assert_eq!(refused.refused().0, 400);
    assert_eq!(api.bench.rules.managed(PROMQL, None), []);
    let elsewhere = Request::post(format!("{MIMIR}/n")).header("X-Scope-OrgID", "other");
    let refused = api.send(elsewhere.body(Body::from(GROUP)).expect("a request")).await;
    let (status, why) = refused.refused();
    assert!(status == 403 && why.contains("the tenant default"), "{status}: {why}");
    api.seat.leave();
    let away = api.ask("POST", &format!("{MIMIR}/n"), GROUP).await;
    assert_eq!(away.refused().0, 503);
    api.bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_tells_faults_and_alerts() {
    let world = World::with(CHAIN);
    world.set("a", 2.0);
    let api = Api::open(&world);
    let preview = |group: &str, line: u32| {
        let wish = json!({"language": "promql", "namespace": "n", "group": group, "line": line});
        let request = Request::post("/api/v1/rule_groups/preview");
        let request = request.header("Content-Type", "application/json");
        let request = request.body(Body::from(wish.to_string())).expect("a request");
        let api = &api;
        async move {
            let answer = api.send(request).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let whole: Value = serde_json::from_str(&answer.text).expect("JSON");
            whole["data"].clone()
        }
    };
    let found = preview(GROUP, 5).await;
    assert_eq!(found["rules"], json!([{"type": "alerting", "name": "Full", "line": 4}]));
    assert_eq!(found["rule"]["alerts"][0]["labels"]["severity"], "page", "{found}");
    assert_eq!((&found["faults"], &found["rule"]["samples"]), (&json!([]), &json!(1)));
    let found = preview(&GROUP.replace("a > 1", "a >"), 5).await;
    assert_eq!((&found["faults"][0]["line"], &found["rule"]), (&json!(5), &Value::Null), "{found}");
    assert_eq!(api.json("/api/v1/rule_groups").await["data"]["groups"], json!([]));
    api.post(&format!("{MIMIR}/n"), GROUP).await;
    let kept = json!([{"language": "promql", "namespace": "n", "name": "disks", "error": null}]);
    assert_eq!(api.json("/api/v1/rule_groups").await["data"]["groups"], kept);
    api.bench.kill().await;
}
