//! `/api/v1/notifications/*`.

use serde_json::json;

use super::*;

fn at(path: &str) -> String {
    format!("/api/v1/notifications/{path}")
}

/// The data of an answer.
fn data(answer: Value) -> Value {
    assert_eq!(answer["status"], "success");
    answer["data"].clone()
}

#[tokio::test]
async fn deliveries_and_receivers_tell_how_it_went() {
    let world = World::new();
    world.fire(&["alertname=B team=db severity=page"]).await;
    world.heard(3).await;
    let told = data(world.get(&at("deliveries?receiver=deaf&limit=1")).await);
    assert_eq!(told["deliveries"].as_array().map(Vec::len), Some(1));
    assert_eq!(told["deliveries"][0]["outcome"], "failed");
    assert_eq!(told["deliveries"][0]["error"], "nobody listens");
    assert_eq!(told["deliveries"][0]["groupLabels"], json!({"alertname": "B"}));
    assert_eq!(data(world.get(&at("deliveries?limit=0")).await), json!({"deliveries": []}));
    assert_eq!(world.told("GET", &at("deliveries?limit=-1"), "").await.0, 400);
    let told = data(world.get(&at("receivers")).await);
    assert!(!told.to_string().contains("secret.example"));
    let receivers = &told["receivers"];
    assert_eq!(each(receivers, "/name"), ["everybody", "db", "deaf"]);
    let none = json!({"attempts": 0, "delivered": 0, "retried": 0, "failed": 0});
    assert_eq!(receivers[0]["integrations"][0]["counts"], none);
    assert_eq!(receivers[0]["integrations"][0]["lastDelivered"], Value::Null);
    let db = &receivers[1];
    assert_eq!(db["labels"]["tier"], "one");
    assert_eq!(db["integrations"][1]["integration"], "webhook");
    assert_eq!(db["integrations"][1]["index"], 1);
    assert_eq!(db["integrations"][1]["sendResolved"], false);
    assert_eq!(db["integrations"][1]["lastDelivered"]["alerts"], json!(["B"]));
    assert_eq!(db["integrations"][0]["counts"]["delivered"], 1);
    assert_eq!(db["integrations"][1]["counts"]["delivered"], 1);
    assert_eq!(receivers[2]["integrations"][0]["lastFailed"]["error"], "nobody listens");
    assert!(receivers[2]["integrations"][0]["counts"]["failed"].as_u64() >= Some(1));
}

#[tokio::test]
async fn an_alert_is_explained_with_all_that_mutes_it() {
    let world = World::new();
    world
        .fire(&[
            "alertname=A host=1 severity=critical",
            "alertname=W host=1 severity=warning team=db",
        ])
        .await;
    let id = world.silence(&[("alertname", "W")]).await;
    let alerts = world.get("/api/v2/alerts?filter=alertname%3DW").await;
    let fingerprint = alerts[0]["fingerprint"].as_str().expect("one").to_owned();
    let told = data(world.get(&at(&format!("explain?fingerprint={fingerprint}"))).await);
    assert_eq!(told["state"], "suppressed");
    assert_eq!(told["inhibitedBy"][0]["labels"]["severity"], "critical");
    assert_eq!(told["silencedBy"][0]["id"], *id);
    assert_eq!(told["mutedBy"], json!([]));
    assert_eq!(told["alert"]["fingerprint"], *fingerprint);
    assert_eq!(each(&told["routes"], "/receiver"), ["db"]);
    assert_eq!(told["groups"][0]["receiver"], "db");
    assert_eq!(told["groups"][0]["integrations"].as_array().map(Vec::len), Some(2));
    assert!(told["groups"][0]["nextFlush"].is_string());
    // The same alert by its labels, and one there is not.
    let by_labels = async |labels: Value| {
        let query: String =
            form_urlencoded::byte_serialize(labels.to_string().as_bytes()).collect();
        data(world.get(&at(&format!("explain?labels={query}"))).await)
    };
    let same = json!({"alertname": "W", "host": "1", "severity": "warning", "team": "db"});
    assert_eq!(by_labels(same).await["alert"]["fingerprint"], *fingerprint);
    let other = by_labels(json!({"alertname": "N", "team": "night"})).await;
    assert_eq!((&other["alert"], &other["mutedBy"]), (&Value::Null, &json!(["never"])));
    assert_eq!(other["routes"][0]["mutedBy"], json!(["never"]));
    for (query, status) in [
        ("", 400),
        ("fingerprint=x", 400),
        ("fingerprint=0000000000000000", 404),
        ("labels=x", 400),
        ("labels=%7B%22%22:%22x%22%7D", 400),
    ] {
        let got = world.told("GET", &at(&format!("explain?{query}")), "").await;
        assert_eq!(got.0, status, "{query}: {}", got.1);
    }
}

#[tokio::test]
async fn the_tree_of_routes_is_told_with_what_ends_there() {
    let world = World::new();
    world.fire(&["alertname=B team=db severity=page", "alertname=C"]).await;
    let root = data(world.get(&at("routes")).await)["route"].clone();
    assert_eq!(root["receiver"], "everybody");
    assert_eq!((&root["firing"], &root["groupBy"]), (&json!(1), &json!(["alertname"])));
    assert_eq!(root["groupWaitSeconds"], 0.01);
    assert_eq!(each(&root["routes"], "/receiver"), ["db", "deaf", "db"]);
    assert_eq!(root["routes"][0]["matchers"], json!(["team=\"db\""]));
    assert_eq!(root["routes"][0]["continue"], true);
    assert_eq!(root["routes"][1]["firing"], 1);
    assert_eq!(root["routes"][2]["mutedBy"], json!(["never"]));
    let told = data(
        world
            .get(&at("routes/match?labels=%7B%22team%22:%22db%22,%22alertname%22:%22X%22%7D"))
            .await,
    );
    assert_eq!(each(&told["routes"], "/receiver"), ["db"]);
    assert_eq!(told["routes"][0]["groupLabels"], json!({"alertname": "X"}));
    assert_eq!(told["routes"][0]["id"], root["routes"][0]["id"]);
}

#[tokio::test]
async fn a_silence_is_previewed() {
    let world = World::new();
    world.fire(&["alertname=B host=1", "alertname=B host=2", "alertname=C"]).await;
    let preview = async |matchers: &str| {
        world.told("POST", &at("silence_preview"), &format!(r#"{{"matchers":{matchers}}}"#)).await
    };
    let (status, text) = preview(r#"[{"name":"host","value":".+","isRegex":true}]"#).await;
    assert_eq!(status, 200, "{text}");
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(told["data"]["count"], 2);
    assert_eq!(each(&told["data"]["alerts"], "/labels/host"), ["1", "2"]);
    assert_eq!(preview("[]").await.0, 422);
    assert_eq!(preview(r#"[{"name":"a","value":"(","isRegex":true}]"#).await.0, 400);
    assert_eq!(preview(r#"[],"more":1"#).await.0, 400);
}

#[tokio::test]
async fn templates_are_tried_out() {
    let world = World::new();
    world.fire(&["alertname=B team=db severity=page"]).await;
    let alerts = world.get("/api/v2/alerts").await;
    let fingerprint = alerts[0]["fingerprint"].as_str().expect("one").to_owned();
    let render = async |wish: Value| {
        let (status, text) = world.told("POST", &at("render"), &wish.to_string()).await;
        (status, serde_json::from_str::<Value>(&text).expect("JSON")["data"].clone())
    };
    let text = async |wish: Value| {
        let (status, told) = render(wish).await;
        assert_eq!(status, 200);
        told["text"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
    };
    assert_eq!(
        text(json!({"template": "{{ .CommonLabels.alertname }} {{ template \"mine\" . }}"})).await,
        "Example <firing>"
    );
    let wish = json!({
        "template": "{{ .Receiver }} {{ .GroupLabels.alertname }} {{ .RouteLabels.plain }} {{ .ExternalURL }}",
        "fingerprint": fingerprint,
    });
    assert_eq!(text(wish).await, "db B text http://w:9093");
    let wish = json!({
        "template": "{{ .Status }} {{ len .Alerts.Resolved }} {{ .CommonAnnotations.s }}",
        "alerts": [{"labels": {"a": "b"}, "annotations": {"s": "<x>"}, "endsAt": "2020-01-01"}],
        "html": true,
    });
    assert_eq!(text(wish).await, "resolved 1 &lt;x&gt;");
    let (_, told) = render(json!({"template": "a\n{{ nope }}"})).await;
    assert_eq!(told["error"]["line"], 2, "{told}");
    assert!(told["error"]["message"].as_str().expect("words").contains("nope"));
    let (_, told) = render(json!({"template": "{{ template \"broken\" . }}"})).await;
    assert_eq!(told["error"]["template"], "own.tmpl", "{told}");
    let (_, told) = render(json!({"template": "{{ $l := list 1 }}{{ range 100 }}{{ $l = list $l $l }}{{ end }}{{ $l }}"})).await;
    assert!(told["error"]["message"].is_string(), "{told}");
    for (wish, status) in [
        (json!({}), 400),
        (json!({"template": 1}), 400),
        (json!({"template": "", "unknown": 1}), 400),
        (json!({"template": "", "fingerprint": "x"}), 400),
        (json!({"template": "", "fingerprint": "0000000000000000"}), 404),
        (json!({"template": "", "fingerprint": fingerprint, "alerts": []}), 400),
        (json!({"template": "x".repeat(300_000)}), 400),
        (json!({"template": "", "alerts": [{}]}), 422),
    ] {
        assert_eq!(render(wish.clone()).await.0, status, "{wish}");
    }
}

#[tokio::test]
async fn a_receiver_is_tested() {
    let world = World::new();
    let told = data(world.post(&at("test"), r#"{"receiver":"db"}"#).await);
    assert_eq!(
        told["results"],
        json!([
            {"integration": "webhook", "index": 0, "outcome": "delivered", "error": null, "tookSeconds": 0.005},
            {"integration": "webhook", "index": 1, "outcome": "failed", "error": "no such host", "tookSeconds": 0.005},
        ])
    );
    assert_eq!(world.told("POST", &at("test"), r#"{"receiver":"nobody"}"#).await.0, 404);
    assert_eq!(world.told("POST", &at("test"), "{}").await.0, 400);
    let nameless = r#"{"receiver":"db","labels":{"":"x"}}"#;
    assert_eq!(world.told("POST", &at("test"), nameless).await.0, 400);
    assert!(data(world.get(&at("deliveries")).await)["deliveries"] == json!([]));
}
