//! Stages as a user writes them: YAML of Promtail in, lines in, lines out. Cases are taken from what
//! the manuals of Promtail and Alloy say, and from behaviour their own tests hold them to.

use std::time::Duration;

use model::Labels;
use model::MetricBatch;
use proptest::prelude::*;
use settings::logs::promtail::parse_stages;
use settings::yaml::Document;
use wire::text_encode::TextEncoder;

use super::*;

mod cases;
mod faults;

use cases::CASES;

/// 2024-03-05T10:20:30Z, when all of this happens.
const WALL_NS: i64 = 1_709_634_030_000_000_000;

fn wall() -> i64 {
    WALL_NS
}

fn stages_of(yaml: &str) -> Result<Vec<Stage>, String> {
    let text = format!("pipeline_stages:\n{yaml}");
    let document = Document::parse("p.yml", text.as_bytes()).map_err(|faults| faults.render())?;
    parse_stages(&document, "pipeline_stages", &check_stage)
        .map(|(stages, _)| stages)
        .map_err(|faults| faults.render())
}

struct Run {
    pipeline: Box<dyn Pipeline>,
    counters: Arc<StageCounters>,
    now: Instant,
    offset: u64,
    out: Vec<Entry>,
}

impl Run {
    fn of(stages: Vec<Stage>) -> Self {
        let counters = Arc::new(StageCounters::default());
        let context = StageContext::new(&LineLimits::default(), Arc::clone(&counters));
        Self::with(stages, &context.with_wall(wall))
    }

    fn with(stages: Vec<Stage>, context: &StageContext) -> Self {
        let steps = vec![RouteStep::Stages(stages)];
        let routes = [LogRoute { steps, sinks: Vec::new() }];
        let pipeline = LogStages::new(&routes, context).expect("stages that were checked").start();
        let counters = Arc::clone(&context.counters);
        Run { pipeline, counters, now: Instant::now(), offset: 0, out: Vec::new() }
    }

    fn line(&mut self, labels: &[(&str, &str)], line: &[u8]) {
        let labels = Labels::from_pairs(labels.iter().copied()).expect("valid");
        let mut entry = Entry::default();
        entry.begin(self.offset, 1_000, &labels, line);
        self.offset += 10;
        self.pipeline.process(&mut entry, self.now, &mut self.out);
    }

    fn held(&self) -> Vec<u64> {
        let mut offsets = Vec::new();
        self.pipeline.held(&mut offsets);
        offsets.sort_unstable();
        offsets
    }

    fn shown(&self) -> Vec<String> {
        self.out.iter().map(shown).collect()
    }
}

/// `line {labels} [metadata] @time ~tenant`, each only where there is something to tell.
fn shown(entry: &Entry) -> String {
    let mut out = String::from_utf8_lossy(&entry.line).into_owned();
    if !entry.labels.is_empty() {
        out.push_str(&format!(" {}", entry.labels));
    }
    if !entry.metadata.is_empty() {
        let pairs: Vec<String> =
            entry.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
        out.push_str(&format!(" [{}]", pairs.join(",")));
    }
    if entry.timestamp_ns != 1_000 {
        out.push_str(&format!(" @{}", entry.timestamp_ns));
    }
    if let Some(tenant) = &entry.tenant {
        out.push_str(&format!(" ~{tenant}"));
    }
    out
}

fn run(yaml: &str, labels: &[(&str, &str)], lines: &[&str]) -> Vec<String> {
    let mut run = Run::of(stages_of(yaml).unwrap_or_else(|fault| panic!("{yaml}\n{fault}")));
    for line in lines {
        run.line(labels, line.as_bytes());
    }
    run.pipeline.flush(None, &mut run.out);
    assert_eq!(run.held(), [0_u64; 0], "nothing is held at the end");
    run.shown()
}

#[test]
fn stages_do_what_the_manuals_say() {
    for (_, yaml, labels, lines, want) in CASES {
        assert_eq!(run(yaml, labels, lines), *want, "{yaml}");
    }
}

/// Without the stage a case is about, the case fails: none is held up by the others.
#[test]
fn no_case_passes_without_its_stage() {
    for (name, yaml, labels, lines, want) in CASES {
        let text = format!("pipeline_stages:\n{yaml}");
        let document = Document::parse("p.yml", text.as_bytes()).expect("YAML");
        let (all, _) = parse_stages(&document, "pipeline_stages", &check_stage).expect("stages");
        let is_meant = |stage: &Stage| {
            let debug = format!("{stage:?}");
            let kind = debug.split(['(', ' ', '{']).next().unwrap_or_default().to_lowercase();
            let wanted = match *name {
                "labelallow" => "labelkeep".to_owned(),
                other => other.replace('_', ""),
            };
            kind == wanted
        };
        let without: Vec<Stage> = all.iter().filter(|stage| !is_meant(stage)).cloned().collect();
        assert!(without.len() < all.len(), "{name} is not in {yaml}");
        let mut run = Run::of(without);
        for line in *lines {
            run.line(labels, line.as_bytes());
        }
        run.pipeline.flush(None, &mut run.out);
        assert_ne!(run.shown(), *want, "{yaml}");
    }
}

#[test]
fn a_zone_moves_times_that_name_none() {
    let yaml = "- regex: {expression: '^(?P<t>.*)$'}\n- timestamp: {source: t, format: '2006-01-02 \
                15:04:05', location: America/New_York}";
    if !std::path::Path::new("/usr/share/zoneinfo/America/New_York").exists() {
        return;
    }
    assert_eq!(
        run(yaml, &[], &["2020-01-15 12:00:00", "2020-07-15 12:00:00", "2020-03-08 02:30:00"]),
        [
            "2020-01-15 12:00:00 @1579107600000000000",
            "2020-07-15 12:00:00 @1594828800000000000",
            // An hour that no clock there showed: Go takes the offset that follows it.
            "2020-03-08 02:30:00 @1583649000000000000",
        ]
    );
}

#[test]
fn blocks_are_complete_after_a_while_and_held_until_then() {
    let stages = stages_of("- multiline: {firstline: '^S', max_wait_time: 2s}").expect("valid");
    let mut run = Run::of(stages);
    run.line(&[("s", "1")], b"S one");
    run.line(&[("s", "2")], b"S two");
    run.line(&[("s", "1")], b"more");
    assert_eq!((run.held(), run.out.len()), (vec![0, 10, 20], 0));
    let due = run.pipeline.deadline().expect("something waits");
    assert_eq!(due, run.now + Duration::from_secs(2));
    run.pipeline.flush(Some(due - Duration::from_millis(1)), &mut run.out);
    assert_eq!(run.out.len(), 0);
    run.pipeline.flush(Some(due), &mut run.out);
    assert_eq!(run.shown(), ["S one\nmore {s=\"1\"}", "S two {s=\"2\"}"]);
    assert_eq!((run.out[0].offset, run.held()), (0, vec![]));
    assert_eq!(run.pipeline.deadline(), None);
}

#[test]
fn parts_of_lines_are_held_with_all_their_offsets() {
    let yaml = "- cri: {}\n- multiline: {firstline: '^S'}";
    let mut run = Run::of(stages_of(yaml).expect("valid"));
    run.line(&[], b"2019-01-01T01:00:00Z stdout P S a");
    assert_eq!(run.held(), [0]);
    run.line(&[], b"2019-01-01T01:00:00Z stdout F bc");
    assert_eq!(run.held(), [0, 10]);
    run.line(&[], b"2019-01-01T01:00:00Z stdout F d");
    assert_eq!(run.held(), [0, 10, 20]);
    run.pipeline.flush(None, &mut run.out);
    assert_eq!(run.shown(), ["S abc\nd {stream=\"stdout\"} @1546304400000000000"]);
    assert_eq!(run.held(), [0_u64; 0]);
}

#[test]
fn too_many_parts_are_put_out() {
    let mut run = Run::of(stages_of("- cri: {max_partial_lines: 1}").expect("valid"));
    run.line(&[("c", "1")], b"2019-01-01T01:00:00Z stdout P a");
    run.line(&[("c", "2")], b"2019-01-01T01:00:00Z stdout P b");
    assert_eq!((run.out.len(), run.held()), (1, vec![10]));
    let mut page = Vec::new();
    run.counters.render(&mut TextEncoder::new(&mut page));
    let page = String::from_utf8(page).expect("text");
    assert!(page.contains("watchfire_agent_log_partial_lines_flushed_total 1"), "{page}");
}

#[test]
fn limits_hold_the_source_up_or_drop_and_are_shared() {
    let yaml = "- limit: {rate: 10, burst: 1}";
    let counters = Arc::new(StageCounters::default());
    let context = StageContext::new(&LineLimits::default(), Arc::clone(&counters));
    let stages = stages_of(yaml).expect("valid");
    let mut one = Run::with(stages.clone(), &context);
    let mut other = Run::with(stages, &context);
    other.now = one.now;
    one.line(&[], b"1");
    assert_eq!(one.pipeline.ready_at(), None);
    // The second source of the job waits for what the first one took.
    other.line(&[], b"2");
    let ready = other.pipeline.ready_at().expect("it has to wait");
    assert_eq!(ready - one.now, Duration::from_millis(100));
    assert_eq!((one.out.len(), other.out.len()), (1, 1));

    let yaml = "- limit: {rate: 1, burst: 1, drop: true, by_label_name: ns}";
    let mut run = Run::of(stages_of(yaml).expect("valid"));
    for ns in ["a", "a", "b"] {
        run.line(&[("ns", ns)], b"x");
    }
    run.line(&[], b"no label, no limit");
    run.now += Duration::from_secs(1);
    run.line(&[("ns", "a")], b"later");
    assert_eq!(run.out.len(), 4);
    assert_eq!(run.counters.dropped_lines(), [("ratelimit_drop_stage".to_owned(), 1)].into());
}

#[test]
fn limits_of_all_lines_come_first() {
    let limits = LineLimits {
        rate: Some((1.0, 2)),
        max_line_bytes: 3,
        max_streams: 1,
        ..LineLimits::default()
    };
    let counters = Arc::new(StageCounters::default());
    let context = StageContext::new(&limits, Arc::clone(&counters));
    let mut run = Run::with(Vec::new(), &context);
    run.line(&[("a", "1")], b"abc");
    run.line(&[("a", "1")], b"abcd");
    run.line(&[("a", "1")], b"ab");
    run.now += Duration::from_secs(1);
    run.line(&[("a", "2")], b"new");
    assert_eq!(run.shown(), ["abc {a=\"1\"}"]);
    let reasons = ["max_line_size", "max_streams", "readline_rate"];
    assert_eq!(counters.dropped_lines(), reasons.map(|reason| (reason.to_owned(), 1)).into());
}

#[test]
fn sampling_lets_its_share_through() {
    let mut run = Run::of(stages_of("- sampling: {rate: 0.25}").expect("valid"));
    for _ in 0..10_000 {
        run.line(&[], b"x");
    }
    assert!((2_200..2_800).contains(&run.out.len()), "{}", run.out.len());
    assert_eq!(run.counters.dropped_lines()["sampling_stage"], 10_000 - run.out.len() as u64);
    assert_eq!(run_all("- sampling: {rate: 1}"), 100);
}

fn run_all(yaml: &str) -> usize {
    let mut run = Run::of(stages_of(yaml).expect("valid"));
    for _ in 0..100 {
        run.line(&[], b"x");
    }
    run.out.len()
}

#[test]
fn metrics_count_lines_and_values() {
    let yaml = "
- json: {expressions: {took: , size: , ok: , state: }}
- metrics:
    lines_total: {type: Counter, description: all, config: {match_all: true, action: inc}}
    bytes_total: {type: counter, config: {match_all: true, count_entry_bytes: true, action: add}}
    up_total: {type: Counter, source: state, config: {value: up, action: inc}}
    size: {type: Gauge, prefix: my_, config: {action: set}}
    level: {type: Gauge, source: size, config: {action: sub}}
    took_seconds: {type: Histogram, source: took, config: {buckets: [0.1, 1]}}
- drop: {source: state, value: down, drop_counter_reason: not_up}
";
    let mut run = Run::of(stages_of(yaml).expect("valid"));
    let labels = [("job", "j")];
    run.line(&labels, br#"{"took":"50ms","size":7,"state":"up"}"#);
    run.line(&labels, br#"{"took":"2s","size":"3","state":"down"}"#);
    run.line(&labels, b"{}");
    let mut page = Vec::new();
    run.counters.render(&mut TextEncoder::new(&mut page));
    let page = String::from_utf8(page).expect("text");
    for line in [
        "# HELP promtail_custom_lines_total all",
        "# TYPE promtail_custom_lines_total counter",
        "promtail_custom_lines_total{job=\"j\"} 3",
        "promtail_custom_bytes_total{job=\"j\"} 78",
        "promtail_custom_up_total{job=\"j\"} 1",
        "my_size{job=\"j\"} 3",
        "promtail_custom_level{job=\"j\"} -10",
        "promtail_custom_took_seconds_bucket{job=\"j\",le=\"0.1\"} 1",
        "promtail_custom_took_seconds_bucket{job=\"j\",le=\"1\"} 1",
        "promtail_custom_took_seconds_bucket{job=\"j\",le=\"+Inf\"} 2",
        "promtail_custom_took_seconds_sum{job=\"j\"} 2.05",
        "promtail_custom_took_seconds_count{job=\"j\"} 2",
        "watchfire_agent_log_lines_dropped_total{reason=\"not_up\"} 1",
    ] {
        assert!(page.lines().any(|known| known == line), "{line}\n{page}");
    }
    let mut batch = MetricBatch::default();
    run.counters.collect(&[("instance", "i"), ("job", "agent")], 5, &mut batch);
    assert_eq!(batch.rows(), 10);
    assert_eq!(batch.metadata.len(), 6);
}

#[test]
fn a_metric_with_another_meaning_is_refused() {
    let yaml = "- metrics: {m: {type: Counter, config: {match_all: true, action: inc}}}";
    let gauge = "- metrics: {m: {type: Gauge, config: {action: inc}}}";
    let context = StageContext::new(&LineLimits::default(), Arc::default());
    let routes = |yaml| {
        let steps = vec![RouteStep::Stages(stages_of(yaml).expect("valid"))];
        [LogRoute { steps, sinks: Vec::new() }]
    };
    LogStages::new(&routes(yaml), &context).expect("the first");
    LogStages::new(&routes(yaml), &context).expect("the same again");
    let fault = LogStages::new(&routes(gauge), &context).expect_err("another kind");
    assert!(fault.message.contains("there already, as a counter"), "{}", fault.message);
}

#[test]
fn bytes_that_are_no_text_pass_as_they_are() {
    let yaml = "- regex: {expression: '(?P<word>[a-z]+)'}\n- labels: {word: }";
    let mut run = Run::of(stages_of(yaml).expect("valid"));
    run.line(&[], b"\xff\xfeabc\x80");
    assert_eq!(run.out[0].line, b"\xff\xfeabc\x80");
    assert_eq!(run.out[0].labels.get("word"), Some("abc"));
}

#[test]
fn each_route_gets_all_lines() {
    let step = |yaml| RouteStep::Stages(stages_of(yaml).expect("valid"));
    let rules = settings::relabel::parse_rules(
        "r.yml",
        b"[{source_labels: [a], target_label: b, regex: '(.)', replacement: 'x$1'}, {regex: a, action: labeldrop}]",
        settings::NameValidation::Utf8,
    )
    .expect("rules");
    let external = Labels::from_pairs([("a", "ext"), ("c", "ext")]).expect("valid");
    let routes = [
        LogRoute { steps: vec![step("- static_labels: {r: one}")], sinks: vec![] },
        LogRoute { steps: vec![RouteStep::Relabel(rules)], sinks: vec![] },
        LogRoute { steps: vec![RouteStep::ExternalLabels(external)], sinks: vec![] },
    ];
    let context = StageContext::new(&LineLimits::default(), Arc::default());
    let mut pipeline = LogStages::new(&routes, &context).expect("valid").start();
    let labels = Labels::from_pairs([("a", "1")]).expect("valid");
    let mut entry = Entry::default();
    entry.begin(0, 1_000, &labels, b"x");
    let mut out: Vec<Entry> = Vec::new();
    pipeline.process(&mut entry, Instant::now(), &mut out);
    let shown: Vec<String> = out.iter().map(shown).collect();
    let want = ["x {a=\"1\", r=\"one\"}", "x {b=\"x1\"}", "x {a=\"1\", c=\"ext\"}"];
    assert_eq!(shown, want);
    // The same, parted behind a common step.
    let common = step("- static_labels: {z: all}");
    let parted =
        [LogRoute { steps: vec![common, RouteStep::Branches(routes.into())], sinks: vec![] }];
    let mut pipeline = LogStages::new(&parted, &context).expect("valid").start();
    entry.begin(0, 1_000, &labels, b"x");
    out.clear();
    pipeline.process(&mut entry, Instant::now(), &mut out);
    let parted: Vec<Option<&str>> = out.iter().map(|entry| entry.labels.get("z")).collect();
    assert_eq!(parted, [Some("all"); 3]);
    assert_eq!(out[2].labels.get("c"), Some("ext"));
}

/// A line that needs nothing new costs no allocation. (Lists and objects that are passed over cost one.)
#[test]
fn a_line_costs_no_allocation() {
    let yaml = "- json: {expressions: {level: , msg: , took: }}\n- labels: {level: }\n- timestamp: \
                {source: nosuch, format: Unix}\n- drop: {expression: nosuch}\n- output: {source: msg}";
    let routes = [LogRoute {
        steps: vec![RouteStep::Stages(stages_of(yaml).expect("valid"))],
        sinks: Vec::new(),
    }];
    let context = StageContext::new(&LineLimits::default(), Arc::default());
    let mut pipeline = LogStages::new(&routes, &context).expect("valid").start();
    let labels = Labels::from_pairs([("job", "j"), ("filename", "/f")]).expect("valid");
    struct Count(usize);
    impl Entries for Count {
        fn take(&mut self, entry: &Entry) {
            self.0 += entry.line.len();
        }
    }
    let (mut entry, mut count) = (Entry::default(), Count(0));
    let now = Instant::now();
    let mut feed = |times: usize, count: &mut Count| {
        for _ in 0..times {
            let line = br#"{"level":"info","msg":"a message","took":1.5,"more":"unread"}"#;
            entry.begin(0, 1, &labels, line);
            pipeline.process(&mut entry, now, count);
        }
    };
    feed(10, &mut count);
    let allocated = allocation_counter::measure(|| feed(1_000, &mut count)).count_total;
    assert_eq!(count.0, 1_010 * "a message".len());
    assert_eq!(allocated, 0);
}

proptest! {
    #[test]
    fn no_bytes_make_stages_panic(
        lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..12),
    ) {
        let yaml = "
- cri: {max_partial_lines: 2}
- docker: {}
- json: {expressions: {a: , b: 'x[0].y', c: '@'}}
- logfmt: {mapping: {l: level}, regex: '.'}
- regex: {expression: '(?P<r>\\S+)'}
- pattern: {pattern: '<p>:<_>'}
- timestamp: {source: r, format: 'Jan 2 15:04:05.000', fallback_formats: [Unix, RFC1123]}
- labels: {l: , r: }
- structured_metadata: {p: }
- replace: {expression: '(..)', replace: '{{ .Value | ToUpper }}'}
- template: {source: t, template: '{{ .Entry | trunc 5 }}{{ . }}'}
- luhn: {min_length: 2, delimiters: '- '}
- match: {selector: '{l=\"x\"} | json', stages: [{multiline: {firstline: '^a'}}]}
- multiline: {firstline: '^\\d', max_lines: 3}
- truncate: {rule: [{limit: 9B, suffix: 'é'}, {limit: 3B, source_type: extracted}]}
- split_json: {}
- decolorize: {}
- pack: {labels: [l]}
";
        let mut run = Run::of(stages_of(yaml).expect("valid"));
        for line in &lines {
            run.line(&[("s", "1")], line);
        }
        run.pipeline.flush(None, &mut run.out);
        prop_assert_eq!(run.held(), Vec::<u64>::new());
    }
}
