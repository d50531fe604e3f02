//! Completions of LogQL over a broker: what an editor of queries sees.

use serde_json::Value;

use super::loki_tests::{Server, filled};

/// What is proposed at `¦`, as `kind label>insert`.
fn proposed(server: &Server, text: &str) -> Vec<String> {
    let units = text.chars().take_while(|c| *c != '¦').map(char::len_utf16).sum::<usize>();
    let query = text.replace('¦', "");
    let pairs = [("query", query.as_str()), ("pos", &units.to_string())];
    let answer = server.json("completions", &pairs);
    let items = answer["data"]["items"].as_array().expect("a list");
    let field = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
    let told = |item| {
        format!("{} {}>{}", field(item, "kind"), field(item, "label"), field(item, "insert"))
    };
    items.iter().map(told).collect()
}

#[test]
fn completions_know_streams_fields_and_the_language() {
    let server = filled();
    assert_eq!(proposed(&server, "{¦"), ["label app>app=", "label env>env="]);
    assert_eq!(proposed(&server, "{app=\"w¦"), ["value web>web\""]);
    assert_eq!(
        proposed(&server, "{env=\"prod\", app=¦}"),
        ["value db>\"db\"", "value web>\"web\""]
    );
    assert_eq!(proposed(&server, "{env=\"nowhere\", app=¦}"), [""; 0]);
    assert_eq!(proposed(&server, "{app=\"web\"} | js¦")[0], "stage json>json");
    // Without a parser there is what the stream and its metadata have.
    let fields = proposed(&server, "{app=\"web\"} | tr¦");
    assert!(fields.contains(&"field trace_id>trace_id=".to_owned()), "{fields:?}");
    let fields = proposed(&server, "{app=\"web\"} | stat¦");
    assert!(!fields.iter().any(|one| one.contains("status")), "{fields:?}");
    let fields = proposed(&server, "{app=\"web\"} | json | stat¦");
    assert_eq!(fields[0], "field status>status=");
    let values = proposed(&server, "{app=\"web\"} | json | path=\"¦\"");
    assert_eq!(values, ["value /a>/a", "value /b>/b"]);
    let grouped = proposed(&server, "sum by (sta¦) (rate({app=\"web\"} | json [5m]))");
    assert_eq!(grouped[0], "field status>status");
    assert_eq!(proposed(&server, "sum by (ap¦)")[0], "field app>app");
    assert_eq!(proposed(&server, "sum(count_o¦")[0], "function count_over_time>count_over_time(");
    let template = proposed(&server, "{app=\"web\"} | json | line_format \"{{ToUp¦");
    assert_eq!(template[0], "function ToUpper>ToUpper ");
    assert_eq!(proposed(&server, "rate({app=\"web\"}[5¦")[0], "duration 5ms>5ms");
    assert_eq!(proposed(&server, "{日志=\"é\"} # ¦"), [""; 0]);

    let helped = server.json("completions", &[("query", "rat"), ("lang", "zh")]);
    assert!(helped["data"]["items"][0]["help"].as_str().expect("help").contains("每秒"));
    let (status, text) = server.refused("completions", &[("query", "{"), ("pos", "5")]);
    assert_eq!((status, text.as_str()), (400, "pos 5 is beyond the end of the query"));
    let (status, text) = server.refused("completions", &[("query", "{"), ("lang", "tlh")]);
    assert_eq!((status, text.contains("must be \"en\" or \"zh\"")), (400, true));
}
