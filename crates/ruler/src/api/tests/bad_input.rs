//! What is refused, with the statuses and words of Alertmanager 0.35.

use super::*;

async fn check(world: &World, path: &str, body: &str, status: u16, told: &str) {
    let got = world.told("POST", path, body).await;
    let is_whole = told.starts_with(['"', '{']) && told.ends_with(['"', '}']);
    let fits = if is_whole { got.1 == told } else { got.1.contains(told) };
    assert!(got.0 == status && fits, "{body:.200}: {got:?}, not {status} {told}");
}

#[tokio::test]
async fn alerts_that_are_none() {
    let world = World::new();
    let path = "/api/v2/alerts";
    for (body, status, told) in [
        ("", 422, r#"{"code":602,"message":"alerts in body is required"}"#),
        ("x", 400, r#"{"code":400,"message":"parsing alerts body from \"\" failed, because "#),
        ("{}", 400, "invalid type: map, expected a list"),
        (r#""x""#, 400, "invalid type: string"),
        ("[5]", 400, "invalid type: integer"),
        ("[{}]", 422, r#"{"code":602,"message":"0.labels in body is required"}"#),
        (r#"[{"labels":null}]"#, 422, r#"{"code":602,"message":"0.labels in body is required"}"#),
        ("[null]", 422, r#"{"code":602,"message":"0 in body is required"}"#),
        (r#"[{"labels":{"a":1}}]"#, 400, "invalid type: integer `1`, expected a string"),
        (r#"[{"labels":{"a":"b"},"startsAt":5}]"#, 400, "expected a time as text"),
        (
            r#"[{"labels":{"a":"b"},"startsAt":"x"}]"#,
            400,
            r#"because parsing time \"x\" as \"2006-01-02\": cannot parse \"x\" as \"2006\""#,
        ),
        (
            r#"[{"labels":{"a":"b"},"generatorURL":":x"}]"#,
            422,
            r#"{"code":601,"message":"0.generatorURL in body must be of type uri: \":x\""}"#,
        ),
        (r#"[{"labels":{"a":"b"}"#, 400, "EOF while parsing"),
        (r#"[{"labels":{"a":"b"}}] [1]"#, 400, "trailing characters"),
        (r#"[{"labels":{}}]"#, 400, r#""at least one label pair required""#),
        (r#"[{"labels":{"a":null}}]"#, 400, r#""at least one label pair required""#),
        (
            r#"[{"labels":{"":"b"}},{"labels":{}}]"#,
            400,
            r#""invalid label set: invalid name \"\"\nat least one label pair required""#,
        ),
        (
            r#"[{"labels":{"a":"b"},"annotations":{"":"x"}}]"#,
            400,
            r#""invalid annotations: invalid name \"\"""#,
        ),
        (
            r#"[{"labels":{"a":"b"},"startsAt":"2020-01-01","endsAt":"2010-01-01"}]"#,
            400,
            r#""start time must be before end time""#,
        ),
    ] {
        check(&world, path, body, status, told).await;
    }
    assert_eq!(world.get(path).await, serde_json::json!([]));
    // What is wrong with one keeps the others from nothing.
    check(&world, path, r#"[{"labels":{}},{"labels":{"good":"1"}}]"#, 400, "at least one").await;
    assert_eq!(world.get(path).await[0]["labels"]["good"], "1");
    let many = format!("[{}]", vec![r#"{"labels":{}}"#; 150].join(","));
    check(&world, path, &many, 400, "and 50 more alerts were not taken").await;
    let deep = "[".repeat(100_000);
    check(&world, path, &deep, 400, "invalid type").await;
    let deep = format!(r#"[{{"labels":{{"a":"b"}},"unknown":{deep}"#);
    check(&world, path, &deep, 400, "EOF while parsing").await;
}

#[tokio::test]
async fn bodies_of_the_wrong_kind_or_size() {
    let world = World::new();
    let send = async |kind: Option<&str>, body: Vec<u8>| {
        let mut request = Request::post("/api/v2/alerts");
        if let Some(kind) = kind {
            request = request.header("Content-Type", kind);
        }
        let (status, _, body) = world.send(request.body(Body::from(body)).expect("built")).await;
        (status.as_u16(), body)
    };
    let form = "application/x-www-form-urlencoded";
    let told = send(Some(form), b"[]".to_vec()).await;
    let words = format!(
        r#"{{"code":415,"message":"unsupported media type \"{form}\", only [application/json] are allowed"}}"#
    );
    assert_eq!((told.0, told.1.trim_end()), (415, &*words));
    assert_eq!(send(None, b"[]".to_vec()).await.0, 415);
    assert_eq!(send(Some("application/json; charset=utf-8"), b"[]".to_vec()).await.0, 200);
    assert_eq!(send(Some("application/json"), b"[\xff]".to_vec()).await.0, 400);
    let told = send(Some("application/json"), vec![b' '; (8 << 20) + 1]).await;
    assert_eq!(told.0, 413);
    assert!(told.1.contains("8388608 bytes") && told.1.contains("fewer"), "{}", told.1);
    let many = format!("[{}{{}}]", "{},".repeat(50_000));
    let told = send(Some("application/json"), many.into_bytes()).await;
    assert_eq!(told.0, 400);
    assert!(told.1.contains("more than 50000 elements"), "{}", told.1);
}

#[tokio::test]
async fn silences_that_are_none() {
    let world = World::new();
    let path = "/api/v2/silences";
    let with = |fields: &str| {
        format!(
            r#"{{"createdBy":"a","comment":"c","startsAt":"2020-01-01","endsAt":"2200-01-01",{fields}}}"#
        )
    };
    let one = |name: &str, value: &str, is_regex: bool| {
        with(&format!(r#""matchers":[{{"name":"{name}","value":"{value}","isRegex":{is_regex}}}]"#))
    };
    let times = |starts: &str, ends: &str| {
        format!(
            r#"{{"createdBy":"a","comment":"c","startsAt":"{starts}","endsAt":"{ends}","matchers":[{{"name":"a","value":"b","isRegex":false}}]}}"#
        )
    };
    for (body, status, told) in [
        (String::new(), 422, r#"{"code":602,"message":"silence in body is required"}"#),
        ("null".into(), 422, r#"{"code":602,"message":"comment in body is required"}"#),
        ("[]".into(), 400, r#"{"code":400,"message":"parsing silence body from \"\" failed"#),
        (
            with(r#""matchers":[]"#),
            422,
            r#"{"code":612,"message":"matchers in body should have at least 1 items"}"#,
        ),
        (
            with(r#""matchers":[null]"#),
            422,
            r#"{"code":602,"message":"matchers.0 in body is required"}"#,
        ),
        (
            with(r#""matchers":[{"name":"a"}]"#),
            422,
            r#"{"code":602,"message":"matchers.0.isRegex in body is required"}"#,
        ),
        (with(r#""matchers":[{"name":"a","value":"b","isRegex":"x"}]"#), 400, "expected a boolean"),
        (one("a", "", false), 400, "at least one matcher must not match the empty string"),
        (one("", "b", false), 400, "invalid label name"),
        (one("a", "(", true), 400, "missing closing )"),
        (
            times("2020-01-01", "2010-01-01"),
            400,
            r#""Failed to create silence: start time must be before end time""#,
        ),
        (
            times("2020-01-01", "2021-01-01"),
            400,
            r#""Failed to create silence: end time can't be in the past""#,
        ),
        (times("2020-01-01", "0001-01-01T00:00:00Z"), 400, "start time must be before end time"),
        (times("x", "2021-01-01"), 400, "cannot parse"),
        (
            with(r#""id":"abc","matchers":[{"name":"a","value":"b","isRegex":false}]"#),
            404,
            r#""silence not found""#,
        ),
        (
            with(
                r#""matchers":[{"name":"a","value":"b","isRegex":false}],"intervals":[{"wekdays":[]}]"#,
            ),
            400,
            "unknown field `wekdays`",
        ),
        (
            with(
                r#""matchers":[{"name":"a","value":"b","isRegex":false}],"intervals":[{"weekdays":["x"]}]"#,
            ),
            400,
            "invalid silence",
        ),
        (one("a", &"x".repeat(70_000), false), 400, "silence exceeded maximum size"),
    ] {
        check(&world, path, &body, status, told).await;
    }
    for number in 0..5 {
        world.silence(&[("a", &number.to_string())]).await;
    }
    check(
        &world,
        path,
        &one("a", "b", false),
        400,
        "exceeded maximum number of silences: 5 (limit: 5)",
    )
    .await;
    for (method, path, status, told) in [
        (
            "GET",
            "/api/v2/silence/x",
            422,
            r#"{"code":601,"message":"silenceID in path must be of type uuid: \"x\""}"#,
        ),
        (
            "DELETE",
            "/api/v2/silence/x",
            422,
            r#"{"code":601,"message":"silenceID in path must be of type uuid: \"x\""}"#,
        ),
        ("GET", "/api/v2/silence/00000000-0000-0000-0000-000000000000", 404, ""),
        ("DELETE", "/api/v2/silence/00000000-0000-0000-0000-000000000000", 404, ""),
        ("GET", "/api/v2/silence/0-0000000000000000000000000000000000", 422, "uuid"),
        ("GET", "/api/v2/silences?filter=a", 400, r#""bad matcher format: a""#),
        (
            "GET",
            "/api/v2/alerts?receiver=(",
            400,
            r#""failed to parse receiver param: error parsing regexp: missing closing ): `^(?:()$`""#,
        ),
        (
            "GET",
            "/api/v2/alerts?filter=a%3D~%22(%22",
            400,
            r#""error parsing regexp: missing closing ): `^(?:()$`""#,
        ),
        ("GET", "/api/v2/alerts/groups?filter=x", 400, r#""bad matcher format: x""#),
        (
            "GET",
            "/api/v2/receivers?receiver_matchers=x",
            400,
            r#""failed to parse receiver_matchers param: bad matcher format: x""#,
        ),
    ] {
        let got = world.told(method, path, "").await;
        assert_eq!(got.0, status, "{method} {path}: {}", got.1);
        assert!(got.1.contains(told) && got.1.is_empty() == told.is_empty(), "{path}: {}", got.1);
    }
}
