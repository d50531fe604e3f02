//! `/api/v2/silences` and `/api/v2/silence/{id}`.

use serde_json::json;

use super::*;

#[tokio::test]
async fn every_field_comes_back_and_outlives_a_restart() {
    let mut world = World::new();
    assert_eq!(world.get("/api/v2/silences").await, json!([]));
    let body = json!({
        "matchers": [
            {"name": "a", "value": "b", "isRegex": false},
            {"name": "c", "value": "d.*", "isRegex": true, "isEqual": false},
        ],
        "startsAt": "2199-01-01T00:00:00.5+08:00",
        "endsAt": "2200-01-01T00:00:00Z",
        "createdBy": "ann",
        "comment": "",
        "annotations": {"ticket": "7"},
        "intervals": [{"weekdays": ["saturday", "sunday"], "times": [{"start_time": "01:00", "end_time": "02:00"}]}],
        "unknown": 1,
    });
    let id = world.post("/api/v2/silences", &body.to_string()).await;
    let id = id["silenceID"].as_str().expect("an id").to_owned();
    for _ in 0..2 {
        let mut silence = world.get(&format!("/api/v2/silence/{id}")).await;
        assert_eq!(silence, world.get("/api/v2/silences").await[0]);
        silence["updatedAt"].take();
        assert_eq!(
            silence,
            json!({
                "id": id,
                "status": {"state": "pending"},
                "matchers": [
                    {"name": "a", "value": "b", "isRegex": false, "isEqual": true},
                    {"name": "c", "value": "d.*", "isRegex": true, "isEqual": false},
                ],
                "startsAt": "2198-12-31T16:00:00.500Z",
                "endsAt": "2200-01-01T00:00:00.000Z",
                "updatedAt": null,
                "createdBy": "ann",
                "comment": "",
                "annotations": {"ticket": "7"},
                "intervals": [{"weekdays": ["saturday", "sunday"], "times": [{"start_time": "01:00", "end_time": "02:00"}]}],
            })
        );
        world = world.restarted();
    }
    let plain = world.silence(&[("a", "b")]).await;
    let silence = world.get(&format!("/api/v2/silence/{plain}")).await;
    assert!(silence.get("annotations").is_none() && silence.get("intervals").is_none());
}

#[tokio::test]
async fn one_is_changed_and_ended_and_stays_to_be_seen() {
    let world = World::new();
    world.fire(&["alertname=X a=b"]).await;
    let id = world.silence(&[("a", "b")]).await;
    assert_eq!(world.get("/api/v2/alerts").await[0]["status"]["silencedBy"], json!([id]));
    let mut silence = world.get(&format!("/api/v2/silence/{id}")).await;
    silence["comment"] = "longer".into();
    silence["endsAt"] = "2210-01-01T00:00:00Z".into();
    // What holds already is the same silence while it begins when it did.
    let told = world.post("/api/v2/silences", &silence.to_string()).await;
    assert_eq!(told["silenceID"], *id);
    assert_eq!(world.get(&format!("/api/v2/silence/{id}")).await["comment"], "longer");
    silence["matchers"][0]["value"] = "other".into();
    let other = world.post("/api/v2/silences", &silence.to_string()).await["silenceID"].clone();
    assert_ne!(other, *id);
    let states = |list: &Value| each(list, "/status/state").join(" ");
    let all = world.get("/api/v2/silences").await;
    assert_eq!(states(&all), "active expired");
    assert_eq!(all[1]["id"], *id);
    assert_eq!(states(&world.get("/api/v2/silences?expired=false").await), "active");
    assert_eq!(states(&world.get("/api/v2/silences?active=false").await), "expired");
    let path = format!("/api/v2/silence/{}", other.as_str().expect("an id"));
    assert_eq!(world.told("DELETE", &path, "").await, (200, String::new()));
    assert_eq!(world.told("DELETE", &path, "").await, (200, String::new()));
    assert_eq!(world.get(&path).await["status"]["state"], "expired");
    assert_eq!(world.get("/api/v2/alerts").await[0]["status"]["silencedBy"], json!([]));
}

#[tokio::test]
async fn those_are_listed_first_that_end_next() {
    let world = World::new();
    let post = async |name: &str, starts: &str, ends: &str| {
        let body = json!({
            "matchers": [{"name": "n", "value": name, "isRegex": name == "x.*", "isEqual": true}],
            "startsAt": starts, "endsAt": ends, "createdBy": "", "comment": name,
        });
        world.post("/api/v2/silences", &body.to_string()).await
    };
    post("late", "2190-01-01", "2200-01-01").await;
    post("soon", "2180-01-01", "2200-01-01").await;
    post("long", "2020-01-01", "2200-01-01").await;
    post("x.*", "2020-01-01", "2100-01-01").await;
    let list = async |query: &str| {
        let silences = world.get(&format!("/api/v2/silences?{query}")).await;
        each(&silences, "/comment").join(" ")
    };
    assert_eq!(list("").await, "x.* long soon late");
    assert_eq!(list("pending=false").await, "x.* long");
    assert_eq!(list("filter=n%3Dlong").await, "long");
    assert_eq!(list("filter=n%3D~%22x.*%22").await, "x.*");
    assert_eq!(list("filter=n%3D%22x.*%22").await, "");
}
