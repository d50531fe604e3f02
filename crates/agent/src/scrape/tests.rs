//! Expositions of one target, one after the other, and what becomes of them.

mod starts;
mod type_and_unit;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use model::{LabelForm, Labels, MetricBatch, is_stale_nan};
use settings::NameValidation;
use settings::relabel::{Action, Regex, RelabelConfig, RelabelFields};

use super::append::{Appender, Format, SampleRules, Scratch, TimeLimit};
use super::cache::SeriesCache;
use super::histograms::HistogramRules;
use super::metadata::MetadataBook;
use super::series_rules::SeriesRules;

const TIMEOUT: Duration = Duration::from_secs(600);

struct Target {
    cache: SeriesCache,
    metadata: MetadataBook,
    series: SeriesRules,
    samples: SampleRules,
    scratch: Scratch,
    scrapes: i64,
    time_limit: TimeLimit,
}

impl Target {
    fn new() -> Self {
        let labels = [("instance", "h:1"), ("job", "j")];
        Target {
            cache: SeriesCache::new(7),
            metadata: MetadataBook::default(),
            series: SeriesRules {
                honor_labels: false,
                target_labels: Labels::from_pairs(labels).expect("labels"),
                metric_relabel_configs: Vec::new(),
                external_labels: Labels::empty(),
                names: NameValidation::Utf8,
                label_limit: 0,
                label_name_length_limit: 0,
                label_value_length_limit: 0,
            },
            samples: SampleRules {
                honor_timestamps: true,
                track_timestamps_staleness: false,
                sample_limit: 0,
                folds_created: false,
                type_and_unit_labels: false,
                histograms: HistogramRules::default(),
            },
            scratch: Scratch::default(),
            scrapes: 0,
            time_limit: TimeLimit { deadline: Instant::now() + TIMEOUT, timeout: TIMEOUT },
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Target)) -> Self {
        change(&mut self);
        self
    }

    fn relabel(mut self, source: &str, regex: &str, action: Action) -> Self {
        let fields = RelabelFields {
            // Rules over names of labels have no source.
            source_labels: Some(source.to_owned()).filter(|s| !s.is_empty()).into_iter().collect(),
            regex: Regex::new(regex).expect("a regex"),
            action,
            ..RelabelFields::default()
        };
        let rule = RelabelConfig::new(fields, NameValidation::Utf8).expect("a rule");
        self.series.metric_relabel_configs.push(rule);
        self
    }

    /// Scrapes every second, beginning at 1 s.
    fn scrape(&mut self, body: &str, format: Format) -> String {
        self.scrapes += 1;
        let t_ms = self.scrapes * 1_000;
        let mut batch = MetricBatch::default();
        let mut appender = Appender::new(
            &mut self.cache,
            &mut self.metadata,
            &self.series,
            &self.samples,
            &mut self.scratch,
            &mut batch,
            t_ms,
            t_ms,
            self.time_limit,
        );
        let outcome = appender.take(body.as_bytes(), format);
        let tally = appender.tally;
        let mut shown = format!(
            "-- {t_ms}: scraped {}, kept {}, added {}",
            tally.scraped, tally.kept, tally.series_added
        );
        for (what, count) in [
            ("duplicates", tally.duplicates),
            ("out of order", tally.out_of_order),
            ("out of bounds", tally.out_of_bounds),
            ("exemplars", tally.exemplars),
        ] {
            if count > 0 {
                write!(shown, ", {count} {what}").expect("a String takes every text");
            }
        }
        shown.push('\n');
        if let Err(error) = outcome {
            writeln!(shown, "error: {error}").expect("a String takes every text");
        }
        shown + &show(&batch)
    }
}

/// One line per sample, sorted.
fn show(batch: &MetricBatch) -> String {
    let mut lines = Vec::new();
    for series in &batch.series {
        assert_eq!((series.form, series.rows), (LabelForm::Packed, 1));
        let labels = Labels::from_packed(batch.label_bytes_of(series)).expect("good labels");
        let row = series.first_row as usize;
        let value = batch.values[row];
        let value = if is_stale_nan(value) { "stale".to_owned() } else { value.to_string() };
        let since = match batch.start_ms(row) {
            0 => String::new(),
            start_ms => format!(" since {start_ms}"),
        };
        lines.push(format!("{labels} {value} @{}{since}\n", batch.timestamps_ms[row]));
    }
    for sample in &batch.histograms {
        let bytes = batch.label_bytes_of_histogram(sample);
        let labels = Labels::from_packed(bytes).expect("good labels");
        let what = if sample.histogram.is_stale() {
            "stale histogram".to_owned()
        } else {
            format!("histogram of sum {}", sample.histogram.sum())
        };
        lines.push(format!("{labels} {what} @{}\n", sample.t_ms));
    }
    for exemplar in &batch.exemplars {
        let bytes = batch.label_bytes_of_exemplar(exemplar);
        let labels = Labels::from_packed(bytes).expect("good labels");
        let own = batch.own_label_bytes(exemplar);
        let own = wire::decode_exemplar_labels(exemplar.own_form, own).expect("good labels");
        let (value, t_ms) = (exemplar.value, exemplar.t_ms);
        let dated = if exemplar.is_dated { "" } else { " undated" };
        lines.push(format!("{labels} # {own} {value} @{t_ms}{dated}\n"));
    }
    lines.sort();
    lines.concat()
}

fn check(mut target: Target, bodies: &[&str], expected: Expect) {
    let shown: Vec<String> = bodies.iter().map(|body| target.scrape(body, Format::Text)).collect();
    expected.assert_eq(&shown.concat());
}

#[test]
fn a_series_that_is_gone_gets_one_marker() {
    check(
        Target::new(),
        &["a 1\nb{x=\"1\"} 2\n", "b{x=\"1\"} 3\nc 4\n", "b{x=\"1\"} 3\nc 4\n", "a 1\n", ""],
        expect![[r#"
            -- 1000: scraped 2, kept 2, added 2
            a{instance="h:1", job="j"} 1 @1000
            b{instance="h:1", job="j", x="1"} 2 @1000
            -- 2000: scraped 2, kept 2, added 1
            a{instance="h:1", job="j"} stale @2000
            b{instance="h:1", job="j", x="1"} 3 @2000
            c{instance="h:1", job="j"} 4 @2000
            -- 3000: scraped 2, kept 2, added 0
            b{instance="h:1", job="j", x="1"} 3 @3000
            c{instance="h:1", job="j"} 4 @3000
            -- 4000: scraped 1, kept 1, added 1
            a{instance="h:1", job="j"} 1 @4000
            b{instance="h:1", job="j", x="1"} stale @4000
            c{instance="h:1", job="j"} stale @4000
            -- 5000: scraped 0, kept 0, added 0
            a{instance="h:1", job="j"} stale @5000
        "#]],
    );
}

#[test]
fn a_failed_scrape_stores_nothing_and_ends_everything() {
    check(
        Target::new(),
        &["a 1\nb 2\n", "a 1\nb{ 2\n", "a 1\nb{ 2\n", "a 1\nb 2\n"],
        expect![[r#"
            -- 1000: scraped 2, kept 2, added 2
            a{instance="h:1", job="j"} 1 @1000
            b{instance="h:1", job="j"} 2 @1000
            -- 2000: scraped 1, kept 1, added 0
            error: line 2: expected label name, got "2" ("INVALID") while parsing: "b{ 2"
            a{instance="h:1", job="j"} stale @2000
            b{instance="h:1", job="j"} stale @2000
            -- 3000: scraped 1, kept 1, added 0
            error: line 2: expected label name, got "2" ("INVALID") while parsing: "b{ 2"
            -- 4000: scraped 2, kept 2, added 0
            a{instance="h:1", job="j"} 1 @4000
            b{instance="h:1", job="j"} 2 @4000
        "#]],
    );
}

#[test]
fn labels_of_the_target_hide_those_it_exposes() {
    check(
        Target::new(),
        &["a{job=\"x\",exported_job=\"y\",instance=\"\"} 1\n"],
        expect![[r#"
            -- 1000: scraped 1, kept 1, added 1
            a{exported_exported_job="x", exported_job="y", instance="h:1", job="j"} 1 @1000
        "#]],
    );
    check(
        Target::new().with(|target| target.series.honor_labels = true),
        &["a{job=\"x\",instance=\"\"} 1\nb{z=\"\"} 2\n"],
        expect![[r#"
            -- 1000: scraped 2, kept 2, added 2
            a{job="x"} 1 @1000
            b{instance="h:1", job="j"} 2 @1000
        "#]],
    );
}

#[test]
fn rules_drop_and_merge_series() {
    check(
        Target::new().relabel("__name__", "drop_.*", Action::Drop).relabel(
            "",
            "x",
            Action::LabelDrop,
        ),
        &[
            "drop_me 1\na{x=\"1\"} 2\na{x=\"2\"} 3\nb 4\n",
            "b 4\na{x=\"2\"} 5\ndrop_me 1\n",
            "b 4\n",
        ],
        expect![[r#"
            -- 1000: scraped 4, kept 3, added 2, 1 duplicates
            a{instance="h:1", job="j"} 2 @1000
            b{instance="h:1", job="j"} 4 @1000
            -- 2000: scraped 3, kept 2, added 0
            a{instance="h:1", job="j"} 5 @2000
            b{instance="h:1", job="j"} 4 @2000
            -- 3000: scraped 1, kept 1, added 0
            a{instance="h:1", job="j"} stale @3000
            b{instance="h:1", job="j"} 4 @3000
        "#]],
    );
}

#[test]
fn a_series_written_in_another_way_is_the_same() {
    check(
        Target::new(),
        &["a{x=\"1\",y=\"2\"} 1\n", "a{y=\"2\", x=\"1\",} 2\n", "a{x=\"1\",y=\"2\"} 3\n"],
        expect![[r#"
            -- 1000: scraped 1, kept 1, added 1
            a{instance="h:1", job="j", x="1", y="2"} 1 @1000
            -- 2000: scraped 1, kept 1, added 1
            a{instance="h:1", job="j", x="1", y="2"} 2 @2000
            -- 3000: scraped 1, kept 1, added 1
            a{instance="h:1", job="j", x="1", y="2"} 3 @3000
        "#]],
    );
}

#[test]
fn timestamps_of_the_target() {
    let body = "a 1 500\na 2 400\na 3 500\na 1 500\nb 1\nb 2\nc 1 99999999\n";
    check(
        Target::new(),
        &[body, "b 1\n"],
        expect![[r#"
            -- 1000: scraped 7, kept 7, added 2, 2 duplicates, 1 out of order, 1 out of bounds
            a{instance="h:1", job="j"} 1 @500
            a{instance="h:1", job="j"} 2 @400
            a{instance="h:1", job="j"} 3 @500
            b{instance="h:1", job="j"} 1 @1000
            -- 2000: scraped 1, kept 1, added 0
            b{instance="h:1", job="j"} 1 @2000
        "#]],
    );
    check(
        Target::new().with(|target| target.samples.track_timestamps_staleness = true),
        &["a 1 500\n", "b 1\n"],
        expect![[r#"
            -- 1000: scraped 1, kept 1, added 1
            a{instance="h:1", job="j"} 1 @500
            -- 2000: scraped 1, kept 1, added 1
            a{instance="h:1", job="j"} stale @2000
            b{instance="h:1", job="j"} 1 @2000
        "#]],
    );
    check(
        Target::new().with(|target| target.samples.honor_timestamps = false),
        &["a 1 500\na 2 600\n"],
        expect![[r#"
            -- 1000: scraped 2, kept 2, added 1, 1 duplicates
            a{instance="h:1", job="j"} 1 @1000
        "#]],
    );
}

#[test]
fn limits_fail_the_scrape_and_say_by_how_much() {
    check(
        Target::new().with(|target| target.samples.sample_limit = 2).relabel(
            "__name__",
            "x",
            Action::Drop,
        ),
        &["a 1\nx 1\nb 1\n", "a 1\nb 1\nx 1\nc 1\nd 1\n", "a 1\nb 1\n"],
        expect![[r#"
            -- 1000: scraped 3, kept 2, added 2
            a{instance="h:1", job="j"} 1 @1000
            b{instance="h:1", job="j"} 1 @1000
            -- 2000: scraped 5, kept 4, added 0
            error: sample limit exceeded: more than 2 samples are left after metric relabeling
            a{instance="h:1", job="j"} stale @2000
            b{instance="h:1", job="j"} stale @2000
            -- 3000: scraped 2, kept 2, added 0
            a{instance="h:1", job="j"} 1 @3000
            b{instance="h:1", job="j"} 1 @3000
        "#]],
    );
    check(
        Target::new().with(|target| target.series.label_limit = 3),
        &["a 1\nb{x=\"1\"} 1\n"],
        expect![[r#"
            -- 1000: scraped 2, kept 1, added 1
            error: label_limit exceeded (metric: b, number of labels: 4, limit: 3)
        "#]],
    );
    check(
        Target::new().with(|target| target.series.label_name_length_limit = 8),
        &["a{long_name=\"1\"} 1\n"],
        expect![[r#"
            -- 1000: scraped 1, kept 0, added 0
            error: label_name_length_limit exceeded (metric: a, label name: long_name, length: 9, limit: 8)
        "#]],
    );
    check(
        Target::new().with(|target| target.series.label_value_length_limit = 3),
        &["a{x=\"1234\"} 1\n"],
        expect![[r#"
            -- 1000: scraped 1, kept 0, added 0
            error: label_value_length_limit exceeded (metric: a, label name: x, value: "1234", length: 4, limit: 3)
        "#]],
    );
}

/// The timeout covers reading, too: a large answer must not take a thread for as long as it likes.
#[test]
fn what_is_not_read_in_time_fails_the_scrape() {
    let many: String = (0..5_000).map(|index| format!("a{{i=\"{index}\"}} 1\n")).collect();
    let mut target = Target::new();
    let whole = target.scrape(&many, Format::Text);
    assert!(whole.starts_with("-- 1000: scraped 5000, kept 5000, added 5000\n"), "{whole}");
    let timeout = Duration::from_millis(1);
    target.time_limit = TimeLimit { deadline: Instant::now(), timeout };
    for format in [Format::Text, Format::OpenMetrics] {
        let late = target.scrape(&many, format);
        let error = "error: context deadline exceeded: the answer was not read within 1ms; raise \
                     `scrape_timeout` or expose less";
        assert!(late.contains(error) && !late.contains("scraped 5000"), "{late}");
    }
}

#[test]
fn names_and_labels_that_cannot_be_fail_the_scrape() {
    check(
        Target::new(),
        &["a{x=\"1\",x=\"2\"} 1\n"],
        expect![[r#"
            -- 1000: scraped 1, kept 0, added 0
            error: duplicate label name "x"; every label name may appear once per series in a{x="1",x="2"}
        "#]],
    );
    check(
        Target::new().with(|target| target.series.names = NameValidation::Legacy),
        &["{\"a.b\"} 1\n"],
        expect![[r#"
            -- 1000: scraped 1, kept 0, added 0
            error: invalid metric name or label names: {"a.b", instance="h:1", job="j"}
        "#]],
    );
    check(
        Target::new().relabel("", "__name__", Action::LabelDrop),
        &["a 1\n"],
        expect![[r#"
            -- 1000: scraped 1, kept 0, added 0
            error: missing metric name (__name__ label) after metric relabeling
        "#]],
    );
}

#[test]
fn openmetrics_has_its_end_and_its_exemplars() {
    let mut target = Target::new();
    let body = "# TYPE a counter\na_total 1 # {t=\"x\"} 1\na_created 5\n# EOF\n";
    let shown = [
        target.scrape(body, Format::OpenMetrics),
        target.scrape(body, Format::OpenMetrics),
        target.scrape("a_total 1\n", Format::OpenMetrics),
    ];
    expect![[r#"
        -- 1000: scraped 2, kept 2, added 2, 1 exemplars
        a_created{instance="h:1", job="j"} 5 @1000
        a_total{instance="h:1", job="j"} # {t="x"} 1 @1000 undated
        a_total{instance="h:1", job="j"} 1 @1000
        -- 2000: scraped 2, kept 2, added 0, 1 exemplars
        a_created{instance="h:1", job="j"} 5 @2000
        a_total{instance="h:1", job="j"} # {t="x"} 1 @2000 undated
        a_total{instance="h:1", job="j"} 1 @2000
        -- 3000: scraped 1, kept 1, added 0
        error: line 1: data does not end with # EOF
        a_created{instance="h:1", job="j"} stale @3000
        a_total{instance="h:1", job="j"} stale @3000
    "#]]
    .assert_eq(&shown.concat());
}

#[test]
fn bounds_are_canonical_under_their_type_only() {
    check(
        Target::new(),
        &["# TYPE h histogram\nh_bucket{le=\"1\"} 1\n", "# TYPE h gauge\nh_bucket{le=\"1\"} 1\n"],
        expect![[r#"
            -- 1000: scraped 1, kept 1, added 1
            h_bucket{instance="h:1", job="j", le="1.0"} 1 @1000
            -- 2000: scraped 1, kept 1, added 1
            h_bucket{instance="h:1", job="j", le="1"} 1 @2000
            h_bucket{instance="h:1", job="j", le="1.0"} stale @2000
        "#]],
    );
}

#[test]
fn metadata_is_sent_when_it_changes() {
    let mut target = Target::new();
    let mut told = |body: &str| {
        target.scrape(body, Format::Text);
        let mut batch = MetricBatch::default();
        let mut appender = Appender::new(
            &mut target.cache,
            &mut target.metadata,
            &target.series,
            &target.samples,
            &mut target.scratch,
            &mut batch,
            0,
            0,
            target.time_limit,
        );
        appender.take(body.as_bytes(), Format::Text).expect("a good body");
        batch.metadata.len()
    };
    assert_eq!(told("# TYPE a counter\n# HELP a one\n# TYPE b gauge\na 1\n"), 0);
    let list = target.metadata.list();
    assert_eq!(list.len(), 2);
    assert_eq!((list[0].metric.as_str(), list[0].help.as_str()), ("a", "one"));
    for _ in 0..20 {
        target.scrape("# TYPE a counter\n# HELP a two\na 1\n", Format::Text);
    }
    assert_eq!(target.metadata.list().len(), 1, "b is long gone");
    assert_eq!(target.metadata.get("a").expect("known").help, "two");
}

/// A target that stays as it is costs the same few allocations whatever its size.
#[test]
fn an_unchanged_target_costs_no_allocation_per_series() {
    let allocations = |series: usize| {
        let body: String = (0..series)
            .map(|index| {
                format!("# HELP m{index} Help.\n# TYPE m{index} gauge\nm{index}{{x=\"y\"}} 1\n")
            })
            .collect();
        let mut target = Target::new();
        let mut batch = MetricBatch::default();
        let mut scrape = |t_ms| {
            batch.clear();
            let mut appender = Appender::new(
                &mut target.cache,
                &mut target.metadata,
                &target.series,
                &target.samples,
                &mut target.scratch,
                &mut batch,
                t_ms,
                t_ms,
                target.time_limit,
            );
            appender.take(body.as_bytes(), Format::Text).expect("a good body");
            assert_eq!(appender.tally.kept, series);
        };
        for scrape_number in 0..3 {
            scrape(scrape_number * 1_000);
        }
        allocation_counter::measure(|| scrape(3_000)).count_total
    };
    let (few, many) = (allocations(10), allocations(2_000));
    assert!(few == many && many <= 4, "{few} {many}");
}

#[test]
fn memory_does_not_grow_with_what_comes_and_goes() {
    let mut target = Target::new();
    for round in 0..300 {
        let body: String =
            (0..100).map(|index| format!("a{{r=\"{round}\",i=\"{index}\"}} 1\n")).collect();
        let shown = target.scrape(&body, Format::Text);
        let samples = shown.lines().filter(|line| line.ends_with("1 @{}")).count();
        assert_eq!(samples, 0);
        let stale = shown.matches(" stale ").count();
        assert_eq!(stale, if round == 0 { 0 } else { 100 });
        // A body that fails, with other series every time.
        let body: String =
            (0..100).map(|index| format!("f{{r=\"{round}\",i=\"{index}\"}} 1\n")).collect();
        target.scrape(&(body + "{\n"), Format::Text);
        target.scrape(
            &(0..100)
                .map(|index| format!("a{{r=\"{round}\",i=\"{index}\"}} 1\n"))
                .collect::<String>(),
            Format::Text,
        );
    }
    let (entries, series, bytes) = target.cache.sizes();
    assert!(entries < 1_500 && series < 1_500 && bytes < 150_000, "{entries} {series} {bytes}");
}

proptest::proptest! {
    /// Whatever came before, a scrape yields what a target without a memory would yield, and
    /// markers for exactly the series that are gone.
    #[test]
    fn memory_changes_nothing(
        bodies in proptest::collection::vec(
            proptest::collection::vec((0..12_u8, 0..3_u8), 0..16),
            1..12,
        ),
        broken in proptest::collection::vec(proptest::bool::weighted(0.15), 12),
    ) {
        let mut target = Target::new().relabel("s", "[0-2]", Action::Drop);
        let mut tracked = std::collections::BTreeSet::new();
        for (body, broken) in bodies.iter().zip(broken) {
            // Series are written in two ways; those below 3 are dropped.
            let mut text: String = body
                .iter()
                .map(|(series, way)| match way {
                    0 => format!("m{{s=\"{series}\",t=\"x\"}} 1\n"),
                    1 => format!("m{{t=\"x\",s=\"{series}\"}} 1\n"),
                    _ => format!("# TYPE m gauge\nm{{s=\"{series}\",t=\"x\"}} 1\n"),
                })
                .collect();
            if broken {
                text.push_str("{\n");
            }
            let shown = target.scrape(&text, Format::Text);
            let mut now = std::collections::BTreeSet::new();
            if !broken {
                now.extend(body.iter().map(|(series, _)| *series).filter(|&series| series > 2));
            }
            let line = |series: &u8, what: &str| {
                format!(
                    "m{{instance=\"h:1\", job=\"j\", s=\"{series}\", t=\"x\"}} {what} @{}\n",
                    target.scrapes * 1_000
                )
            };
            let mut lines: Vec<String> = now.iter().map(|series| line(series, "1")).collect();
            lines.extend(tracked.difference(&now).map(|series| line(series, "stale")));
            lines.sort();
            let found: String = shown
                .lines()
                .filter(|line| line.starts_with("m{"))
                .map(|line| format!("{line}\n"))
                .collect();
            proptest::prop_assert_eq!(found, lines.concat());
            tracked = now;
        }
    }
}
