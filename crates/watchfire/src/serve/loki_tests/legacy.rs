//! The API before version 1, and what Loki refuses.

use super::*;

fn server() -> Server {
    let server = Server::new();
    server.push(&[("app", "a")], &[(1.0, "one \"x\"", &[]), (2.5, "two", &[("k", "v")])]);
    server.push(&[("app", "b")], &[(3.0, "three", &[])]);
    server
}

#[test]
fn answers_of_before_have_the_form_of_before() {
    let server = server();
    let asked = [("query", r#"{app="a"}"#), ("direction", "forward")];
    let found = server.json("/api/prom/query", &asked);
    assert_eq!(
        found["streams"],
        json!([
            {"labels": r#"{app="a"}"#, "entries": [
                {"ts": "2023-11-14T23:00:01Z", "line": "one \"x\""}]},
            {"labels": r#"{app="a", k="v"}"#, "entries": [
                {"ts": "2023-11-14T23:00:02.5Z", "line": "two"}]},
        ])
    );
    assert!(found["stats"].is_object() && found.get("status").is_none(), "{found}");
    let found = server.json("/api/prom/query", &[("query", r#"{app=~".+"}"#), ("regexp", "^t.")]);
    assert_eq!(found["streams"].as_array().map(Vec::len), Some(2), "{found}");
    let number = [("query", r#"rate({app="a"}[1m])"#)];
    let (status, text) = server.refused("/api/prom/query", &number);
    assert_eq!((status, &*text), (400, "legacy endpoints only support streams result type"));
    assert_eq!(server.json("/api/prom/label", &[]), json!({"values": ["app"]}));
    assert_eq!(server.json("/api/prom/label/app/values", &[]), json!({"values": ["a", "b"]}));
    let series = server.json("/api/prom/series", &[("match", r#"{app="a"}"#)]);
    assert_eq!(series["data"], json!([{"app": "a"}]));
}

#[test]
fn what_selects_all_is_said_alone() {
    let server = server();
    let all = server.json("series", &[("match[]", "{}")]);
    assert_eq!(all["data"].as_array().map(Vec::len), Some(2));
    let (status, text) =
        server.refused("series", &[("match[]", "{ }"), ("match[]", r#"{app="a"}"#)]);
    assert_eq!((status, &*text), (400, "0 matchers in group: { }"));
    for query in [&[][..], &[("query", "{}")]] {
        assert_eq!(server.refused("index/stats", query).0, 400, "{query:?}");
    }
}

#[test]
fn a_method_that_is_not_known_is_refused_in_the_words_of_the_protocol() {
    let server = server();
    let (status, text) = server.ask_by("PATCH", "query", &[], &HeaderMap::new());
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(text.starts_with("PATCH is not allowed at /loki/api/v1/query"), "{text}");
}

/// Numbers are those of the lines that the same steps list.
#[test]
fn templates_that_fail_and_zones_are_as_in_lists() {
    let server = server();
    let steps =
        r#"{app="a"} | line_format `{{ if contains "one" __line__ }}{{ div 1 0 }}{{ end }}`"#;
    for (condition, wanted) in [(r#"__error__="""#, 1), (r#"__error__!="""#, 1)] {
        let steps = format!("{steps} | {condition} | drop __error__, __error_details__");
        let listed = server.json("query_range", &[("query", &steps)]);
        let lines = listed["data"]["result"].as_array().expect("streams");
        let lines: usize = lines.iter().map(|s| s["values"].as_array().map_or(0, Vec::len)).sum();
        let query = format!("sum(count_over_time({steps} [1h]))");
        let at = (START_S + 3_600).to_string();
        let counted = server.json("query", &[("query", &query), ("time", &at)]);
        let counted = counted["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
        assert_eq!((lines, counted.as_deref()), (wanted, Some("1")), "{condition}");
    }
    if std::path::Path::new("/usr/share/zoneinfo/Europe/Berlin").exists() {
        let query = r#"{app="b"} | line_format `{{ toDateInZone "2006-01-02 15:04" "Europe/Berlin" "2021-07-02 10:00" | unixEpoch }}`"#;
        let found = server.json("query_range", &[("query", query)]);
        assert_eq!(found["data"]["result"][0]["values"][0][1], "1625212800");
    }
}
