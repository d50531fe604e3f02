//! InfluxDB's line protocol: what lines become, and what is said of those that cannot be read.

use expect_test::{Expect, expect};
use model::{Limits, MetricBatch};
use proptest::prelude::*;
use wire::decode_labels;
use wire::influx::{Options, Precision, Summary, decode};

const NOW_MS: i64 = 1_700_000_000_000;

fn decoded(body: &[u8], precision: Precision, database: &str) -> (MetricBatch, Summary) {
    let mut batch = MetricBatch::default();
    let options = Options { precision, now_ms: NOW_MS, database };
    let summary = decode(body, options, &Limits::default(), &mut batch).expect("small enough");
    (batch, summary)
}

fn printed(batch: &MetricBatch) -> String {
    let mut out = String::new();
    for series in &batch.series {
        let bytes = batch.label_bytes_of(series);
        match decode_labels(series.form, bytes, &Limits::default()) {
            Ok(labels) => out.push_str(&labels.to_string()),
            Err(error) => out.push_str(&error.to_string()),
        }
        let row = series.first_row as usize;
        out.push_str(&format!(" {} @{}\n", batch.values[row], batch.timestamps_ms[row] - NOW_MS));
    }
    out
}

fn check(lines: &str, expected: Expect) {
    let (batch, summary) = decoded(lines.as_bytes(), Precision::Nanoseconds, "");
    let mut text = printed(&batch);
    for refused in summary.refusals.iter() {
        text.push_str(&format!("{} × {}: {:?}\n", refused.series, refused.reason, refused.first));
    }
    if summary.texts_left_out > 0 {
        text.push_str(&format!("{} texts\n", summary.texts_left_out));
    }
    expected.assert_eq(&text);
}

#[test]
fn lines_become_series() {
    check(
        "cpu,host=web-1,cpu=cpu0 usage_idle=98.5,usage_user=1i,n=7u,up=t,down=FALSE 1700000000000999999\n\
         \n# a comment\r\n   mem free=1e3 1699999999999999999\r\nnow v=-1.5\n",
        expect![[r#"
            cpu_usage_idle{cpu="cpu0", host="web-1"} 98.5 @0
            cpu_usage_user{cpu="cpu0", host="web-1"} 1 @0
            cpu_n{cpu="cpu0", host="web-1"} 7 @0
            cpu_up{cpu="cpu0", host="web-1"} 1 @0
            cpu_down{cpu="cpu0", host="web-1"} 0 @0
            mem_free 1000 @-1
            now_v -1.5 @0
        "#]],
    );
}

#[test]
fn escapes_and_texts() {
    check(
        "  # a=\"comment\nmy\\ disk\\,1,path\\ name=C:\\\\a\\,b\\=c used\\ bytes=1,s=\"a b, c=\\\"d\\\"\",n=\"42\" 1700000000000000000\n\
         two s=\"line\nbreak\",v=2\nthree v=3",
        expect![[r#"
            {"my disk,1_used bytes", "path name"="C:\\\\a,b=c"} 1 @0
            {"my disk,1_n", "path name"="C:\\\\a,b=c"} 42 @0
            two_v 2 @0
            three_v 3 @0
            2 texts
        "#]],
    );
}

#[test]
fn wrong_lines_are_named_and_the_others_taken() {
    check(
        "good v=1\nfoo\nfoo bar\nfoo bar=\nfoo =1\nfoo bar=\"x\nnext v=2\n\nfoo bar=1 soon\nfoo bar=1i2\n\
         foo,tag v=1\nfoo,=x v=1\nfoo,t= v=1\nfoo bar=1, 5\ninf v=inf\ngood v=3",
        expect![[r#"
            good_v 1 @0
            1 × missing fields: "foo"
            1 × invalid field format: "foo bar"
            1 × missing field value: "foo bar="
            1 × missing field key: "foo =1"
            1 × unbalanced quotes: "foo bar=\"x\nnext v=2\n\nfoo bar=1 soon\nfoo bar=1i2\nfoo,tag v=1\nfoo,=x v=1\nfoo,t= v=1\nfoo bar=1, 5\ninf v=inf\ngood v=3"
        "#]],
    );
    check(
        "foo bar=1 soon\nfoo bar=1i2\nfoo,tag v=1\nfoo,=x v=1\nfoo,t= v=1\nfoo bar=1, 5\ninf v=inf\n\
         far v=1 9223372036854775808\ngood v=3",
        expect![[r#"
            good_v 3 @0
            2 × bad timestamp: "foo bar=1 soon"
            2 × invalid number: "foo bar=1i2"
            2 × missing tag value: "foo,tag v=1"
            1 × missing tag key: "foo,=x v=1"
            1 × invalid field format: "foo bar=1, 5"
        "#]],
    );
}

#[test]
fn the_database_is_a_label_and_the_precision_a_unit() {
    for (precision, timestamp) in [
        (Precision::Microseconds, 1_700_000_000_123_456_i64),
        (Precision::Milliseconds, 1_700_000_000_123),
    ] {
        let line = format!("m v=1 {timestamp}");
        let (batch, _) = decoded(line.as_bytes(), precision, "telegraf");
        assert_eq!(printed(&batch), "m_v{db=\"telegraf\"} 1 @123\n");
    }
    let (batch, _) = decoded(b"m,db=own v=1 1700000001", Precision::Seconds, "telegraf");
    assert_eq!(printed(&batch), "m_v{db=\"own\"} 1 @1000\n");
    let (_, summary) = decoded(b"m v=1 9223372036854775807", Precision::Hours, "");
    let reason = summary.refusals.iter().map(|refused| refused.reason.as_str()).next();
    assert_eq!(reason, Some("time outside range"));
    for (name, wanted) in [("µ", Precision::Microseconds), ("", Precision::Nanoseconds)] {
        assert_eq!(Precision::from_name(name), Some(wanted));
    }
    assert_eq!(Precision::from_name("fortnight"), None);
}

#[test]
fn labels_cannot_grow_without_bound() {
    let tag = "x".repeat(100_000);
    let fields: Vec<_> = (0..5_000).map(|index| format!("f{index}=1")).collect();
    let line = format!("m,t={tag} {}", fields.join(","));
    let limits = Limits { max_body_bytes: 1 << 20, ..Limits::default() };
    let options = Options { precision: Precision::Seconds, now_ms: 0, database: "" };
    let mut batch = MetricBatch::default();
    let error = decode(line.as_bytes(), options, &limits, &mut batch).expect_err("too much");
    assert!(error.is_limit(), "{error}");
    assert!(batch.series.is_empty() && batch.label_bytes.capacity() < 32 << 20);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        decoded(&bytes, Precision::Nanoseconds, "db");
    }

    #[test]
    fn anything_like_lines_is_read_without_panic(text in "[a-z,= \"\\\\\n0-9i.]{0,80}") {
        let (batch, _) = decoded(text.as_bytes(), Precision::Seconds, "");
        for series in &batch.series {
            let _ = decode_labels(series.form, batch.label_bytes_of(series), &Limits::default());
        }
    }

    #[test]
    fn tags_come_back(
        tags in proptest::collection::btree_map("[a-zé=, ]{1,8}", "[a-zé=, ]{1,8}", 0..5)
    ) {
        let escaped = |text: &str| {
            text.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ")
        };
        let mut line = "m".to_owned();
        for (name, value) in &tags {
            line.push_str(&format!(",{}={}", escaped(name), escaped(value)));
        }
        line.push_str(" v=1");
        let (batch, summary) = decoded(line.as_bytes(), Precision::Seconds, "");
        prop_assert!(summary.refusals.is_empty(), "{line}");
        let bytes = batch.label_bytes_of(&batch.series[0]);
        let labels = decode_labels(batch.series[0].form, bytes, &Limits::default()).expect("valid");
        let back: Vec<_> =
            labels.without_name().iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        prop_assert_eq!(back, tags.into_iter().collect::<Vec<_>>());
    }
}
