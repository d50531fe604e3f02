//! `/api/v2/alerts`, `/api/v2/alerts/groups`, `/api/v2/status`, `/api/v2/receivers`.

use serde_json::json;

use super::*;

const WHOLE: &str = r#"[{
    "labels": {"alertname": "Down", "host": "a", "severity": "warning", "empty": ""},
    "annotations": {"summary": "it <is> down", "ünï": ""},
    "startsAt": "2020-01-01T08:00:00.123456+08:00",
    "endsAt": "2200-01-01T00:00:00Z",
    "generatorURL": "http://p/graph?a=b",
    "unknown": {"ignored": true}
}]"#;

#[tokio::test]
async fn every_field_comes_back_and_outlives_a_restart() {
    let mut world = World::new();
    assert_eq!(world.get("/api/v2/alerts").await, json!([]));
    assert_eq!(world.get("/api/v2/alerts/groups").await, json!([]));
    assert_eq!(world.told("POST", "/api/v2/alerts", WHOLE).await, (200, String::new()));
    for _ in 0..2 {
        let mut alerts = world.get("/api/v2/alerts").await;
        let updated = alerts[0]["updatedAt"].take();
        let updated = updated.as_str().expect("a time");
        assert!(updated.len() == 24 && updated.ends_with('Z'), "{updated}");
        assert_eq!(
            alerts,
            json!([{
                "fingerprint": "36cb3dc3b2987784",
                "labels": {"alertname": "Down", "host": "a", "severity": "warning"},
                "annotations": {"summary": "it <is> down", "ünï": ""},
                "startsAt": "2020-01-01T00:00:00.123Z",
                "endsAt": "2200-01-01T00:00:00.000Z",
                "updatedAt": null,
                "generatorURL": "http://p/graph?a=b",
                "receivers": [{"name": "everybody"}],
                "status": {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []},
            }])
        );
        assert_eq!(world.get("/alertmanager/api/v2/alerts").await[0]["labels"]["host"], "a");
        world = world.restarted();
    }
}

#[tokio::test]
async fn annotations_are_never_null_and_what_is_not_said_is_made_up() {
    let world = World::new();
    world
        .post(
            "/api/v2/alerts",
            r#"[{"labels":{"a":"b"},"annotations":null,"endsAt":"0001-01-01T00:00:00Z"}]"#,
        )
        .await;
    let alerts = world.get("/api/v2/alerts").await;
    assert_eq!(alerts[0]["annotations"], json!({}));
    assert!(alerts[0].get("generatorURL").is_none());
    let ms = |field: &str| {
        model::parse_rfc3339_ms(alerts[0][field].as_str().expect("a time")).expect("a time")
    };
    assert_eq!(ms("endsAt") - ms("startsAt"), 300_000);
    // One that ended is in no list.
    world.post("/api/v2/alerts", r#"[{"labels":{"a":"b"},"endsAt":"2020-01-01T00:00:00Z"}]"#).await;
    world.post("/api/v2/alerts", "null").await;
    world.post("/api/v2/alerts", "[]").await;
}

#[tokio::test]
async fn alerts_are_picked_by_labels_receivers_and_what_mutes_them() {
    let world = World::new();
    world
        .fire(&[
            "alertname=A host=1 severity=critical",
            "alertname=A host=1 severity=warning",
            "alertname=B team=db severity=page",
            "alertname=C team=night",
        ])
        .await;
    world.silence(&[("alertname", "C")]).await;
    let names = async |query: &str| {
        let alerts = world.get(&format!("/api/v2/alerts?{query}")).await;
        let mut names: Vec<String> = alerts
            .as_array()
            .expect("a list")
            .iter()
            .map(|alert| {
                let of = |name: &str| alert["labels"][name].as_str().unwrap_or("-").to_owned();
                format!("{} {}", of("alertname"), of("severity"))
            })
            .collect();
        names.sort();
        names.join(", ")
    };
    assert_eq!(names("").await, "A critical, A warning, B page, C -");
    assert_eq!(names("silenced=false").await, "A critical, A warning, B page");
    assert_eq!(names("inhibited=false").await, "A critical, B page, C -");
    assert_eq!(names("active=false").await, "A warning, C -");
    assert_eq!(names("active=false&unprocessed=false&inhibited=no").await, "C -");
    assert_eq!(
        names("filter=alertname%3D~%22A|B%22&filter=severity!%3Dpage").await,
        "A critical, A warning"
    );
    assert_eq!(names("filter=team%3D%22%22").await, "A critical, A warning");
    assert_eq!(names("receiver=d.").await, "B page, C -");
    assert_eq!(names("receiver=d").await, "");
    assert_eq!(names("receiver_matchers=tier%3Done").await, "B page, C -");
    assert_eq!(names("receiver_matchers=name%3Ddeaf").await, "B page");
    let alerts = world.get("/api/v2/alerts?filter=alertname%3DB").await;
    assert_eq!(alerts[0]["receivers"], json!([{"name": "db"}, {"name": "deaf"}]));
    let inhibited = world.get("/api/v2/alerts?filter=severity%3Dwarning").await;
    let source = world.get("/api/v2/alerts?filter=severity%3Dcritical").await;
    assert_eq!(inhibited[0]["status"]["inhibitedBy"][0], source[0]["fingerprint"]);
    assert_eq!(inhibited[0]["status"]["state"], "suppressed");
    let all = world.get("/api/v2/alerts").await;
    let fingerprints = each(&all, "/fingerprint");
    assert!(fingerprints.is_sorted(), "{fingerprints:?}");
}

#[tokio::test]
async fn groups_are_told_in_order_with_what_mutes_them() {
    let world = World::new();
    world
        .fire(&[
            "alertname=B instance=2 team=db severity=page",
            "alertname=B instance=1 team=db severity=page",
            "alertname=A x=y",
            "alertname=N team=night",
        ])
        .await;
    let groups = world.get("/api/v2/alerts/groups").await;
    assert_eq!(each(&groups, "/labels/alertname"), ["A", "B", "B", "N"]);
    assert_eq!(each(&groups, "/receiver/name"), ["everybody", "db", "deaf", "db"]);
    assert_eq!(groups[0]["routeLabels"], json!({}));
    assert_eq!(groups[1]["routeLabels"], json!({"owner": "db", "plain": "text"}));
    assert_eq!(each(&groups[1]["alerts"], "/labels/instance"), ["1", "2"]);
    assert_eq!(groups[1]["alerts"][0]["receivers"], json!([{"name": "db"}, {"name": "deaf"}]));
    assert_eq!(groups[3]["alerts"][0]["status"]["mutedBy"], json!(["never"]));
    assert_eq!(groups[3]["alerts"][0]["status"]["state"], "suppressed");
    let shown = async |query: &str| {
        let groups = world.get(&format!("/api/v2/alerts/groups?{query}")).await;
        each(&groups, "/labels/alertname").join(" ")
    };
    assert_eq!(shown("muted=false").await, "A B B");
    assert_eq!(shown("receiver=deaf|everybody").await, "A B");
    assert_eq!(shown("receiver_matchers=tier%3Done").await, "B N");
    assert_eq!(shown("filter=instance%3D1").await, "B B");
    assert_eq!(shown("active=false").await, "");
    // Of groups that are not asked for alerts have no receivers.
    let one = world.get("/api/v2/alerts/groups?receiver=deaf").await;
    assert_eq!(one[0]["alerts"][0]["receivers"], json!([{"name": "deaf"}]));
}

#[tokio::test]
async fn status_and_receivers_hold_no_secrets() {
    let world = World::new();
    let status = world.get("/api/v2/status").await;
    assert_eq!(status["cluster"], json!({"status": "disabled", "peers": []}));
    assert_eq!(status["uptime"], "2020-01-01T00:00:00.123Z");
    assert_eq!(status["versionInfo"]["version"], "0.35.0");
    assert_eq!(status["versionInfo"]["applicationVersion"], "9.9.9");
    for field in ["revision", "branch", "buildUser", "buildDate", "goVersion"] {
        assert!(status["versionInfo"][field].is_string(), "{field}");
    }
    let original = status["config"]["original"].as_str().expect("a text");
    assert!(original.contains("everybody") && !original.contains("secret.example"), "{original}");
    assert_eq!(
        world.get("/api/v2/receivers").await,
        json!([
            {"name": "everybody", "labels": {"name": "everybody"}},
            {"name": "db", "labels": {"name": "db", "tier": "one"}},
            {"name": "deaf", "labels": {"name": "deaf"}},
        ])
    );
    let some = world.get("/api/v2/receivers?receiver_matchers=name!%3Ddb").await;
    assert_eq!(each(&some, "/name"), ["everybody", "deaf"]);
    let request = Request::get("/alertmanager/-/ready").body(Body::empty()).expect("a request");
    assert_eq!(world.send(request).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_alert_is_answered_once_it_is_written_down() {
    let world = World::new();
    world.fire(&["a=1"]).await;
    world.shelf.writes_left.store(0, std::sync::atomic::Ordering::SeqCst);
    let request = Request::post("/api/v2/alerts").header("Content-Type", "application/json");
    let request = request.body(Body::from(r#"[{"labels":{"a":"2"}}]"#)).expect("a request");
    let (status, headers, body) = world.send(request).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers["retry-after"], "1");
    assert!(body.contains("the shelf is full"), "{body}");
    let ids = world.get("/api/v2/silences").await;
    assert_eq!(ids, json!([]));
    let body = r#"{"matchers":[{"name":"a","value":"2","isRegex":false}],"startsAt":"","endsAt":"2200-01-01","createdBy":"","comment":""}"#;
    assert_eq!(world.told("POST", "/api/v2/silences", body).await.0, 503);
}

#[tokio::test]
async fn other_tenants_see_and_send_nothing() {
    let world = World::new();
    world.fire(&["a=1"]).await;
    let id = world.silence(&[("a", "1")]).await;
    let asked = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("X-Scope-OrgID", "acme");
        let request = request.header("Content-Type", "application/json");
        let request = request.body(Body::from("[]")).expect("a request");
        let (status, _, body) = world.send(request).await;
        (status.as_u16(), body)
    };
    for list in ["alerts", "alerts/groups", "silences", "receivers"] {
        let told = asked("GET", &format!("/api/v2/{list}")).await;
        assert_eq!(told, (200, "[]\n".to_owned()), "{list}");
    }
    let silence = format!("/api/v2/silence/{id}");
    assert_eq!(asked("GET", &silence).await.0, 404);
    for (method, path) in [
        ("DELETE", &*silence),
        ("POST", "/api/v2/alerts"),
        ("POST", "/api/v2/silences"),
        ("GET", "/api/v2/status"),
        ("GET", "/api/v1/notifications/deliveries"),
        ("GET", "/api/v1/notifications/explain"),
        ("GET", "/api/v1/notifications/receivers"),
        ("GET", "/api/v1/notifications/routes"),
        ("GET", "/api/v1/notifications/routes/match"),
        ("POST", "/api/v1/notifications/render"),
        ("POST", "/api/v1/notifications/silence_preview"),
    ] {
        let (status, body) = asked(method, path).await;
        assert_eq!(status, 403, "{method} {path}");
        assert!(body.contains("tenant default"), "{body}");
    }
    assert_eq!(world.get("/api/v2/silences").await[0]["status"]["state"], "active");
}

#[tokio::test]
async fn a_broker_that_does_not_notify_says_so() {
    let world = World::new();
    world.here.store(false, Ordering::SeqCst);
    for (method, path) in [
        ("GET", "/api/v2/alerts"),
        ("POST", "/api/v2/alerts"),
        ("GET", "/api/v2/status"),
        ("GET", "/api/v1/notifications/routes"),
    ] {
        let body = r#"[{"labels":{"a":"b"}}]"#;
        let (status, text) = world.told(method, path, body).await;
        assert_eq!(status, 503, "{method} {path}");
        assert!(text.contains("ask another broker"), "{text}");
    }
    world.here.store(true, Ordering::SeqCst);
    assert_eq!(world.get("/api/v2/alerts").await, json!([]));
}
