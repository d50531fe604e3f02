//! The smaller ways in: Graphite, OpenTSDB, Datadog, JSON lines, CSV.

use expect_test::expect;
use model::{Limits, MetricBatch};
use proptest::prelude::*;
use wire::csv_import::Format;
use wire::{Refusals, csv_import, datadog, decode_labels, graphite, json_lines, opentsdb};

const NOW_MS: i64 = 9_000;

fn printed(batch: &MetricBatch) -> String {
    let mut out = String::new();
    for series in &batch.series {
        let bytes = batch.label_bytes_of(series);
        match decode_labels(series.form, bytes, &Limits::default()) {
            Ok(labels) => out.push_str(&labels.to_string()),
            Err(error) => out.push_str(&error.to_string()),
        }
        for row in series.first_row..series.first_row + series.rows {
            let row = row as usize;
            out.push_str(&format!(" {}@{}", batch.values[row], batch.timestamps_ms[row]));
        }
        out.push('\n');
    }
    out
}

fn and_refusals(batch: &MetricBatch, refusals: &Refusals) -> String {
    let mut out = printed(batch);
    for refused in refusals.iter() {
        out.push_str(&format!("{} × {}: {:?}\n", refused.series, refused.reason, refused.first));
    }
    out
}

#[test]
fn graphite_lines() {
    let lines =
        b"servers.web-1.load 0.5 1700000000\r\n\ntagged;dc=eu;rack=r1 3 1700000000.25\nnow 1\n\
        later 2 -1\naaa\n;foo=bar 1 1\naa bb\naa 1 soon\na;b 1 1\na 1 1 1\n";
    let mut batch = MetricBatch::default();
    let refusals = graphite::decode(lines, NOW_MS, &Limits::default(), &mut batch).expect("small");
    expect![[r#"
        {"servers.web-1.load"} 0.5@1700000000000
        tagged{dc="eu", rack="r1"} 3@1700000000250
        now 1@9000
        later 2@9000
        1 × missing value: "aaa"
        1 × missing path: ";foo=bar 1 1"
        1 × invalid value: "aa bb"
        1 × invalid timestamp: "aa 1 soon"
        1 × a tag without =: "a;b 1 1"
        1 × more than path, value and timestamp: "a 1 1 1"
    "#]]
    .assert_eq(&and_refusals(&batch, &refusals));
}

#[test]
fn opentsdb_points_and_lines() {
    let json =
        br#" [{"metric":"sys.cpu","timestamp":1700000000,"value":18,"tags":{"host":"web-1"}},
        {"metric":"sys.cpu","timestamp":1700000000123,"value":"1.5","tags":{"host":"a\"b"}},
        {"metric":"x","timestamp":1700000000.5,"value":1},
        {"metric":"x","timestamp":1,"value":"abc"}, {"metric":"","timestamp":1,"value":1},
        {"timestamp":1,"value":1}]"#;
    let mut batch = MetricBatch::default();
    let limits = Limits::default();
    let summary = opentsdb::decode(json, 0, &limits, &mut batch).expect("points");
    assert_eq!(summary.points, 3);
    expect![[r#"
        {"sys.cpu", host="web-1"} 18@1700000000000
        {"sys.cpu", host="a\"b"} 1.5@1700000000123
        x 1@1700000000500
        1 × value is no number: "{\"metric\":\"x\",\"timestamp\":1,\"value\":\"abc\"}"
        1 × missing metric: "{\"metric\":\"\",\"timestamp\":1,\"value\":1}"
        1 × missing field `metric`: "{\"timestamp\":1,\"value\":1}"
    "#]]
    .assert_eq(&and_refusals(&batch, &summary.refusals));
    for wrong in ["{g", "1", "\"foo\"", "{}", "{\"metric\":\"a\",\"timestamp\":\"t\"}"] {
        assert!(opentsdb::decode(wrong.as_bytes(), 0, &limits, &mut batch).is_err(), "{wrong}");
    }
    let lines = b"put sys.cpu 1700000000 18 host=web-1\nput a 1700000000123 1.5 x=y z=\n\
        put aaa 123 4.5 foo\nput aaa 1123\nstats\nput foobar 789 -123foo456 a=b\nput a 1 1\n";
    let refusals = opentsdb::decode_lines(lines, &limits, &mut batch).expect("small");
    expect![[r#"
        {"sys.cpu", host="web-1"} 18@1700000000000
        a{x="y"} 1.5@1700000000123
        1 × a tag without =: "put aaa 123 4.5 foo"
        1 × missing value: "put aaa 1123"
        1 × unknown command, only put is known here: "stats"
        1 × value is no number: "put foobar 789 -123foo456 a=b"
        1 × at least one tag is needed: "put a 1 1"
    "#]]
    .assert_eq(&and_refusals(&batch, &refusals));
}

/// `MetricPayload` with two series.
fn datadog_protobuf() -> Vec<u8> {
    fn field(out: &mut Vec<u8>, number: u8, content: &[u8]) {
        out.push(number << 3 | 2);
        out.push(content.len().try_into().expect("short"));
        out.extend_from_slice(content);
    }
    let point = |value: f64, seconds: u64| {
        let mut point = vec![1 << 3 | 1];
        point.extend(value.to_bits().to_le_bytes());
        point.push(2 << 3);
        let mut rest = seconds;
        while rest >= 0x80 {
            point.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        point.push(rest as u8);
        point
    };
    let mut resource = Vec::new();
    field(&mut resource, 1, b"host");
    field(&mut resource, 2, b"web-1");
    let mut series = Vec::new();
    field(&mut series, 1, &resource);
    field(&mut series, 2, b"load");
    field(&mut series, 3, b"env:prod");
    field(&mut series, 4, &point(0.7, 1_700_000_000));
    field(&mut series, 4, &point(-2.0, 1_700_000_010));
    series.extend([5 << 3, 3]);
    field(&mut series, 7, b"System");
    series.extend([8 << 3, 10]);
    let mut body = Vec::new();
    field(&mut body, 1, &series);
    let mut series = Vec::new();
    field(&mut series, 2, b"empty");
    field(&mut body, 1, &series);
    body
}

fn len_of_first(body: &[u8]) -> usize {
    2 + usize::from(body[1])
}

/// A body of two bytes for each resource or point, which take many times that when they are read.
#[test]
fn datadog_of_empty_parts() {
    let series = |part: &[u8], times: usize| {
        let content = part.repeat(times);
        let mut body = vec![1 << 3 | 2];
        let mut rest = content.len();
        while rest >= 0x80 {
            body.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        body.push(rest as u8);
        body.extend(content);
        body
    };
    let limits = Limits { max_body_bytes: 1 << 20, ..Limits::default() };
    let mut batch = MetricBatch::default();
    for part in [[1 << 3 | 2, 0], [3 << 3 | 2, 0]] {
        let body = series(&part, 400_000);
        let refusals = datadog::decode_two_protobuf(&body, &limits, &mut batch).expect("readable");
        assert_eq!((refusals.iter().count(), batch.series.len()), (1, 0));
    }
    // Labels and rows may take eight times the largest body.
    let fits = series(&[4 << 3 | 2, 0], 523_000);
    datadog::decode_two_protobuf(&fits, &limits, &mut batch).expect("there is room");
    assert_eq!(batch.rows(), 523_000);
    let body = [[1 << 3 | 2, 0].repeat(1_000), fits].concat();
    let result = datadog::decode_two_protobuf(&body, &limits, &mut batch);
    assert!(matches!(result, Err(wire::WireError::Limit { .. })), "{result:?}");
    let list = |part: &str| vec![part; 60_000].join(",");
    for (name, part) in [("tags", "\"\""), ("resources", "{}")] {
        let body = format!(
            r#"{{"series":[{{"metric":"a","points":[],"{name}":[{}]}},
            {{"metric":"b","points":[{{"timestamp":1,"value":2}}]}}]}}"#,
            list(part)
        );
        let refusals = datadog::decode_two(body.as_bytes(), &limits, &mut batch).expect("JSON");
        assert_eq!(refusals.iter().count(), 1, "{name}");
        assert_eq!(printed(&batch), "b 2@1000\n");
    }
}

#[test]
fn datadog_series() {
    let one = br#"{"series":[{"metric":"system.load","points":[[1700000000,1.5],[1700000010,2]],
        "host":"web-1","device":"sda","type":"gauge","interval":20,
        "tags":["env:prod","bare","url:http://x","host:other"]}]}"#;
    let mut batch = MetricBatch::default();
    let limits = Limits::default();
    datadog::decode_one(one, &limits, &mut batch).expect("version 1");
    expect![[r#"
        {"system.load", bare="no_label_value", device="sda", env="prod", exported_host="other", host="web-1", url="http://x"} 1.5@1700000000000 2@1700000010000
    "#]]
    .assert_eq(&printed(&batch));
    let two =
        br#"{"series":[{"metric":"load","type":3,"points":[{"timestamp":1700000000,"value":0.7}],
        "resources":[{"name":"web-1","type":"host"}],"tags":["env:prod"]}]}"#;
    datadog::decode_two(two, &limits, &mut batch).expect("version 2");
    expect![[r#"
        load{env="prod", host="web-1"} 0.7@1700000000000
    "#]]
    .assert_eq(&printed(&batch));
    // The same in protobuf, with fields that say nothing to us.
    let three = datadog_protobuf();
    datadog::decode_two_protobuf(&three, &limits, &mut batch).expect("protobuf");
    expect![[r#"
        load{env="prod", host="web-1"} 0.7@1700000000000 -2@1700000010000
        empty
    "#]]
    .assert_eq(&printed(&batch));
    for len in 0..three.len() {
        let is_whole = [0, len_of_first(&three)].contains(&len);
        let result = datadog::decode_two_protobuf(&three[..len], &limits, &mut batch);
        assert_eq!(result.is_ok(), is_whole, "cut off at {len}");
    }
    for wrong in ["foobar", "[]", "", "1234", "{\"series\":123"] {
        assert!(datadog::decode_one(wrong.as_bytes(), &limits, &mut batch).is_err(), "{wrong}");
        assert!(datadog::decode_two(wrong.as_bytes(), &limits, &mut batch).is_err(), "{wrong}");
    }
}

#[test]
fn datadog_series_with_too_many_tags_are_refused_alone() {
    let tags: Vec<String> = (0..300_000).map(|n| format!("\"t{n}:v\"")).collect();
    let many = tags.join(",");
    let limits = Limits::default();
    let few = tags[..limits.max_labels_per_series - 1].join(",");
    let mut batch = MetricBatch::default();
    let one = format!(
        r#"{{"series":[{{"metric":"many","points":[[1,2],[3,4]],"tags":[{many}]}},
            {{"metric":"few","points":[[1,2]],"host":"h","tags":[{few}]}}]}}"#
    );
    let two = format!(
        r#"{{"series":[{{"metric":"many","points":[{{"timestamp":1,"value":2}},
            {{"timestamp":3,"value":4}}],"tags":[{many}]}},
            {{"metric":"few","points":[{{"timestamp":1,"value":2}}],
            "resources":[{{"type":"host","name":"h"}}],"tags":[{few}]}}]}}"#
    );
    let all = [
        datadog::decode_one(one.as_bytes(), &limits, &mut batch).map(|r| (r, batch.series.len())),
        datadog::decode_two(two.as_bytes(), &limits, &mut batch).map(|r| (r, batch.series.len())),
    ];
    for (refusals, series) in all.into_iter().map(|result| result.expect("small")) {
        assert_eq!(series, 1);
        let refused: Vec<_> = refusals.into_iter().collect();
        assert_eq!((refused.len(), refused[0].series, refused[0].samples), (1, 1, 2));
        assert_eq!(refused[0].first, "many");
        assert!(refused[0].reason.contains("max_labels_per_series"), "{}", refused[0].reason);
    }
}

#[test]
fn rows_cannot_unfold_without_bound() {
    // One column that is the number of 10,000 series: 400 bytes out of each byte of the body.
    let names: Vec<String> = (0..10_000).map(|n| format!("1:metric:{n}")).collect();
    let format = Format::parse(&names.join(",")).expect("valid");
    let limits = Limits { max_body_bytes: 100_000, ..Limits::default() };
    let mut batch = MetricBatch::default();
    let error = csv_import::decode(&b"1\n".repeat(50_000), &format, 0, &limits, &mut batch);
    assert!(error.expect_err("too many").is_limit());
    assert_eq!(batch, MetricBatch::default());
}

#[test]
fn json_lines_of_an_export() {
    let lines = b"{\"metric\":{\"__name__\":\"up\",\"job\":\"a\\nb\"},\"values\":[1,0.5],\"timestamps\":[1,2]}\n\n\
        {\"timestamps\":[3,4,5],\"values\":[null,\"Infinity\",-7],\"metric\":{\"job\":\"x\",\"__name__\":\"y\"},\"more\":1}";
    let mut batch = MetricBatch::default();
    let limits = Limits::default();
    assert!(json_lines::decode(lines, &limits, &mut batch).expect("small").is_empty());
    expect![[r#"
        up{job="a\nb"} 1@1 0.5@2
        y{job="x"} NaN@3 inf@4 -7@5
    "#]]
    .assert_eq(&printed(&batch));
    for wrong in [
        r#"{"metric":[123],"values":[1,2],"timestamps":[3,4]}"#,
        r#"{"metric":{"foo":"bar"},"values":[2,3],"timestamps":[4]}"#,
        r#"{"metric":{"__name__":"m"},"values":[],"timestamps":[]}"#,
        r#"{"metric":{"foo":"bar"},"values":[1],"timestamps":[1]}"#,
        r#"{"metric":{"__name__":"m"},"values":["x"],"timestamps":[1]}"#,
        "nonsense",
    ] {
        // The others are taken.
        let good =
            |name| format!(r#"{{"metric":{{"__name__":"{name}"}},"values":[1],"timestamps":[1]}}"#);
        let body = format!("{}\n{wrong}\n{}\n", good("a"), good("b"));
        let refusals = json_lines::decode(body.as_bytes(), &limits, &mut batch).expect(wrong);
        let refused: Vec<_> = refusals.iter().collect();
        assert_eq!((refused.len(), refused[0].series), (1, 1), "{refused:?}");
        assert_eq!(refused[0].first, format!("line 2: {wrong}"));
        assert_eq!(printed(&batch), "a 1@1\nb 1@1\n");
    }
}

#[test]
fn csv_with_times_of_a_layout() {
    let format =
        Format::parse("1:metric:m,2:time:custom:2006-01-02 15:04:05 -0700").expect("valid");
    let lines = b"1,2026-11-28 10:00:00 +0100\n2,2026-11-28 10:00:00.5 +0000\n3,yesterday\n";
    let mut batch = MetricBatch::default();
    let limits = Limits::default();
    let refusals = csv_import::decode(lines, &format, NOW_MS, &limits, &mut batch).expect("small");
    expect![[r#"
        m 1@1795856400000
        m 2@1795860000500
        1 × invalid time: "3,yesterday"
    "#]]
    .assert_eq(&and_refusals(&batch, &refusals));
    for wrong in
        ["1:metric:m,2:time:custom:", "1:metric:m,2:time:custom:soon", "1:metric:m,2:time:x"]
    {
        Format::parse(wrong).expect_err(wrong);
    }
}

/// Infinities as VictoriaMetrics 1.79 writes them, which is no JSON.
#[test]
fn json_lines_with_bare_infinities() {
    let lines = br#"{"metric":{"__name__":"m","l":"+Inf\\"},"values":[+Inf,-Inf,1,NaN],"timestamps":[1,2,3,4]}"#;
    let mut batch = MetricBatch::default();
    let refusals = json_lines::decode(lines, &Limits::default(), &mut batch).expect("small");
    assert!(refusals.is_empty(), "{refusals:?}");
    assert_eq!(printed(&batch), "m{l=\"+Inf\\\\\"} inf@1 -inf@2 1@3 NaN@4\n");
}

/// As VictoriaMetrics 1.79 takes them.
#[test]
fn opentsdb_points_without_time_and_with_numbers_as_tags() {
    let json =
        br#"[{"metric":"a","timestamp":"1700000000","value":1,"tags":{"n":7,"f":1.50,"b":true}},
        {"metric":"b","value":2}, {"metric":"c","timestamp":null,"value":3},
        {"metric":"d","timestamp":"x","value":4}, {"metric":"e","value":5,"tags":{"l":[1]}}]"#;
    let mut batch = MetricBatch::default();
    let summary = opentsdb::decode(json, 5_000, &Limits::default(), &mut batch).expect("points");
    assert_eq!(summary.points, 3);
    expect![[r#"
        a{b="true", f="1.50", n="7"} 1@1700000000000
        b 2@5000
        c 3@5000
        1 × timestamp is neither seconds nor milliseconds: "{\"metric\":\"d\",\"timestamp\":\"x\",\"value\":4}"
        1 × the value of a tag is neither text nor number: "{\"metric\":\"e\",\"value\":5,\"tags\":{\"l\":[1]}}"
    "#]]
    .assert_eq(&and_refusals(&batch, &summary.refusals));
}

#[test]
fn datadog_series_that_cannot_be_read_are_refused_alone() {
    let (limits, mut batch) = (Limits::default(), MetricBatch::default());
    let one = br#"{"series":[{"metric":"nulls","points":[[1,null],[2,3]]},{"metric":1},
        {"metric":"texts","points":[[1,"x"]]},{"metric":"good","points":[[1,2]]}]}"#;
    let refusals = datadog::decode_one(one, &limits, &mut batch).expect("a list");
    expect![[r#"
        nulls 3@2000
        good 2@1000
        1 × a point without a time or a value: "nulls"
        1 × a series cannot be read: invalid type: integer `1`, expected a string: "{\"metric\":1}"
        1 × a series cannot be read: invalid type: string "x", expected f64: "{\"metric\":\"texts\",\"points\":[[1,\"x\"]]}"
    "#]]
    .assert_eq(&and_refusals(&batch, &refusals));
    let two =
        br#"{"series":[{"metric":"nulls","points":[{"timestamp":1},{"timestamp":2,"value":3}]},
        {"points":[]},{"metric":"good","points":[{"timestamp":1,"value":2}]}]}"#;
    let refusals = datadog::decode_two(two, &limits, &mut batch).expect("a list");
    expect![[r#"
        nulls 3@2000
        good 2@1000
        1 × a point without a time or a value: "nulls"
        1 × a series cannot be read: missing field `metric`: "{\"points\":[]}"
    "#]]
    .assert_eq(&and_refusals(&batch, &refusals));
}

#[test]
fn csv_by_its_columns() {
    let format =
        Format::parse("2:metric:ask,3:metric:bid,1:label:ticker,5:time:unix_s").expect("valid");
    let lines = b"GOOG,1.23,4.56,ignored,1700000000\r\n\"A,\"\"B\"\"\",7,,x,1700000000.5\nshort,1\nX,abc,1,x,1\n";
    let mut batch = MetricBatch::default();
    let limits = Limits::default();
    let refusals = csv_import::decode(lines, &format, NOW_MS, &limits, &mut batch).expect("small");
    expect![[r#"
        ask{ticker="GOOG"} 1.23@1700000000000
        bid{ticker="GOOG"} 4.56@1700000000000
        ask{ticker="A,\"B\""} 7@1700000000500
        1 × too few columns: "short,1"
        1 × invalid number: "X,abc,1,x,1"
    "#]]
    .assert_eq(&and_refusals(&batch, &refusals));
    let format = Format::parse("1:metric:m,2:time:rfc3339").expect("valid");
    csv_import::decode(b"5,2023-11-14T22:13:20Z", &format, 0, &limits, &mut batch).expect("small");
    assert_eq!(printed(&batch), "m 5@1700000000000\n");
    for wrong in [
        "",
        "a:metric:b",
        "0:metric:a",
        "1:metric:",
        "1:label:a",
        "1:time:soon,2:metric:a",
        "1:x:y",
        "1:metric:a,1:metric:a",
        "1:metric:a,2:metric:a",
    ] {
        assert!(Format::parse(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (limits, mut batch) = (Limits::default(), MetricBatch::default());
        let format = Format::parse("1:metric:a,2:label:b,3:time:unix_ns").expect("valid");
        let _ = graphite::decode(&bytes, 0, &limits, &mut batch);
        let _ = opentsdb::decode(&bytes, 0, &limits, &mut batch);
        let _ = opentsdb::decode_lines(&bytes, &limits, &mut batch);
        let _ = datadog::decode_one(&bytes, &limits, &mut batch);
        let _ = json_lines::decode(&bytes, &limits, &mut batch);
        let _ = csv_import::decode(&bytes, &format, 0, &limits, &mut batch);
    }
}
