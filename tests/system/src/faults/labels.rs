//! Series whose labels are wrong: refused with a reason, while the rest of the request is stored.

use anyhow::{Context, Result, ensure};

use super::expect;
use crate::harness::{Client, Launch, Scratch, WriteBody, now_ms};

type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

pub(super) fn labels(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let now = now_ms();
    let many: Vec<(String, String)> =
        (0..200).map(|n| (format!("l{n:03}"), n.to_string())).collect();
    let mut too_many: Pairs<'_> = vec![(b"__name__", b"bad")];
    too_many.extend(many.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let long_name = "n".repeat(1_025);
    let long_value = "v".repeat(8_193);
    let bad: Vec<(&str, Pairs<'_>, &str)> = vec![
        ("bad UTF-8 in a value", vec![(b"__name__", b"bad"), (b"a", b"\xff\xfe")], "UTF-8"),
        ("bad UTF-8 in a name", vec![(b"__name__", b"bad"), (b"\xc3\x28", b"v")], "UTF-8"),
        ("bad UTF-8 in the metric", vec![(b"__name__", b"\xed\xa0\x80")], "UTF-8"),
        ("one name twice", vec![(b"__name__", b"bad"), (b"a", b"1"), (b"a", b"2")], "a"),
        ("an empty name", vec![(b"__name__", b"bad"), (b"", b"1")], "name"),
        ("too many labels", too_many, "limits.max_labels_per_series"),
        (
            "a long name",
            vec![(b"__name__", b"bad"), (long_name.as_bytes(), b"1")],
            "limits.max_label_name_bytes",
        ),
        (
            "a long value",
            vec![(b"__name__", b"bad"), (b"a", long_value.as_bytes())],
            "limits.max_label_value_bytes",
        ),
        ("no labels", vec![], "label"),
    ];
    for (number, (what, pairs, word)) in bad.iter().enumerate() {
        let neighbour = [("__name__", "neighbour".to_owned()), ("n", number.to_string())];
        let body = WriteBody::new()
            .series(pairs, &[(now, 1.0)])
            .series(&neighbour, &[(now, number as f64)])
            .snappy();
        expect(&client.write(&body)?, 400, &[word, "the other samples"]).context(*what)?;
    }
    ensure!(count(client, "bad")? == 0, "a bad series is stored");
    let neighbours = count(client, "neighbour")?;
    ensure!(neighbours == bad.len(), "{neighbours} of {} good neighbours stored", bad.len());
    unsorted(client, now)?;
    server.stop()?;
    Ok(format!("{} kinds refused by name, their neighbours stored", bad.len()))
}

/// Labels in any order are one series, and a label with an empty value is none.
fn unsorted(client: Client, now: i64) -> Result<()> {
    let one = [("z", "26"), ("__name__", "unsorted"), ("a", "1"), ("m", "13")];
    let two = [("a", "1"), ("empty", ""), ("m", "13"), ("z", "26"), ("__name__", "unsorted")];
    let first = WriteBody::new().series(&one, &[(now - 1_000, 1.0)]).snappy();
    let second = WriteBody::new().series(&two, &[(now, 2.0)]).snappy();
    expect(&client.write(&first)?, 204, &[])?;
    expect(&client.write(&second)?, 204, &[])?;
    ensure!(count(client, "unsorted")? == 1, "order of labels makes another series");
    let found = client.data("/api/v1/series", &[("match[]", "unsorted{a=\"1\",z=\"26\"}")])?;
    let expected = serde_json::json!([{"__name__": "unsorted", "a": "1", "m": "13", "z": "26"}]);
    ensure!(found == expected, "{found}");
    Ok(())
}

fn count(client: Client, selector: &str) -> Result<usize> {
    let found = client.data("/api/v1/query", &[("query", selector)])?;
    Ok(found["result"].as_array().context("result is an array")?.len())
}
