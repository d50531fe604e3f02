//! Rules of streaming aggregation: what windows say, through kills, power cuts and flushes.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;

use blockstore::MemoryDisk;
use broker::{
    AggregationConfig, BatchIdentity, Broker, BrokerConfig, Incarnation, IngestOutcome, Lane,
};
use metricstore::HistogramColumns;
use model::{DEFAULT_TENANT, Histogram, Labels, MatchOp, Matcher, MetricBatch, TimeRange};
use settings::stream_aggregation::read_rules;
use settings::yaml::Document;
use support::chance::Chance;
use support::*;

const INTERVAL_MS: i64 = 10_000;

/// Rules whose selectors are names of metrics.
fn rules(yaml: &str) -> AggregationConfig {
    let document = Document::parse("rules.yml", yaml.as_bytes()).expect("YAML");
    let parse = |text: &str| {
        Matcher::new("__name__", MatchOp::Equal, text)
            .map(|matcher| vec![matcher])
            .map_err(|error| error.to_string())
    };
    let rules = read_rules(&document, "", &parse).unwrap_or_else(|faults| panic!("{faults}"));
    AggregationConfig { rules, keep_input: false, drop_input: false }
}

fn settings(now_ms: fn() -> i64, aggregation: AggregationConfig) -> BrokerConfig {
    let config = config(std::path::Path::new("/nowhere"), now_ms, NEVER_MS);
    BrokerConfig { aggregation, ..config }
}

fn series(name: &str, pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs([("__name__", name)].into_iter().chain(pairs.iter().copied()))
        .expect("valid")
}

fn store(broker: &Broker, batch: &MetricBatch) -> IngestOutcome {
    let (sender, receiver) = channel();
    broker.ingest(DEFAULT_TENANT, batch, move |result| {
        let _ = sender.send(result);
    });
    receiver.recv().expect("an answer").expect("acknowledged")
}

fn push(broker: &Broker, rows: &[(&Labels, i64, f64)]) -> IngestOutcome {
    let mut batch = MetricBatch::default();
    rows.iter().for_each(|(labels, t_ms, value)| batch.push(labels, *t_ms, *value));
    store(broker, &batch)
}

/// All floats, by series.
fn stored(broker: &Broker) -> BTreeMap<String, Vec<(i64, f64)>> {
    let any = Matcher::new("__name__", MatchOp::Regex, ".+").expect("a regex");
    let selected = broker.reader(DEFAULT_TENANT).select(&[any], TimeRange::all());
    let selected = selected.expect("readable");
    let read = |(index, labels): (usize, &Labels)| {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        selected.read(index, &mut timestamps, &mut values).expect("readable");
        (labels.to_string(), timestamps.into_iter().zip(values).collect())
    };
    selected.labels().iter().enumerate().map(read).collect()
}

/// Waits until so many samples were written by rules.
#[track_caller]
fn wait_for_written(broker: &Broker, samples: f64) {
    let name = "watchfire_broker_aggregation_output_samples_total";
    wait_for(broker, name, |written| written >= samples);
    assert_eq!(metric(broker, name), samples);
}

clock!(OUTPUTS, outputs_ms);

#[test]
fn every_output_is_what_it_says() {
    let config = rules(
        "- match: m\n  interval: 10s\n  by: [job]\n  outputs: [sum_samples, count_samples, avg, min, \
         max, last, stddev, stdvar, count_series, unique_samples, 'quantiles(0, 0.5, 1)']\n\
         - match: c\n  interval: 10s\n  without: [pod]\n  ignore_first_sample_interval: 0s\n  \
         outputs: [total, total_prometheus, increase, increase_prometheus, rate_sum, rate_avg]\n\
         - match: h\n  interval: 10s\n  by: [job]\n  outputs: [histogram_bucket]\n",
    );
    let broker = open_on(&Arc::new(MemoryDisk::new()), settings(outputs_ms, config));
    let m = |pod| series("m", &[("job", "j"), ("pod", pod)]);
    let c = |pod| series("c", &[("job", "j"), ("pod", pod)]);
    let (a, b) = (START_MS + 1_000, START_MS + 3_000);
    let outcome = push(
        &broker,
        &[(&m("1"), a, 1.0), (&m("1"), b, 4.0), (&m("2"), a, 4.0), (&m("2"), b, 7.0)],
    );
    assert_eq!((outcome.aggregated, outcome.appended.appended), (4, 0));
    // What is not newer, and what is no number, is left out.
    push(&broker, &[(&m("1"), b, 9.0), (&m("1"), a, 9.0), (&m("2"), b + 1, f64::NAN)]);
    push(&broker, &[(&c("1"), a, 10.0), (&c("2"), a, 100.0)]);
    push(&broker, &[(&c("1"), b, 16.0), (&c("2"), b, 4.0), (&series("other", &[]), b, 5.0)]);
    let mut batch = MetricBatch::default();
    for (step, value) in [0.0, 1.0, 1.05, 1_000.0, -2.0].into_iter().enumerate() {
        batch.push(&series("h", &[("job", "j"), ("pod", "1")]), a + step as i64, value);
    }
    // Native histograms are stored as they are, and their series is not lost.
    batch.push_histogram(&series("m", &[("job", "native")]), a, None, Histogram::stale());
    store(&broker, &batch);
    OUTPUTS.fetch_add(INTERVAL_MS, SeqCst);
    wait_for_written(&broker, 20.0);
    let all = stored(&broker);
    let t_ms = START_MS + INTERVAL_MS;
    let value = |name: &str, pairs: &[(&str, &str)]| {
        let samples = all.get(&series(name, pairs).to_string());
        let samples = samples.unwrap_or_else(|| panic!("{name} is not in {:?}", all.keys()));
        assert_eq!(samples.len(), 1, "{name}");
        assert_eq!(samples[0].0, t_ms, "{name} is at the end of its window");
        samples[0].1
    };
    for (output, expected) in [
        ("sum_samples", 16.0),
        ("count_samples", 4.0),
        ("avg", 4.0),
        ("min", 1.0),
        ("max", 7.0),
        ("last", 7.0),
        ("stdvar", 4.5),
        ("stddev", 4.5_f64.sqrt()),
        ("count_series", 2.0),
        ("unique_samples", 3.0),
    ] {
        assert_eq!(value(&format!("m:10s_by_job_{output}"), &[("job", "j")]), expected, "{output}");
    }
    for (phi, expected) in [("0", 1.0), ("0.5", 4.0), ("1", 7.0)] {
        let pairs = [("job", "j"), ("quantile", phi)];
        assert_eq!(value("m:10s_by_job_quantiles", &pairs), expected, "{phi}");
    }
    for (output, expected) in [
        ("total", 110.0 + 6.0 + 4.0),
        ("increase", 120.0),
        ("total_prometheus", 10.0),
        ("increase_prometheus", 10.0),
        ("rate_sum", 6.0 / 2.0 + 4.0 / 2.0),
        ("rate_avg", 2.5),
    ] {
        let found = value(&format!("c:10s_without_pod_{output}"), &[("job", "j")]);
        assert_eq!(found, expected, "{output}");
    }
    assert_eq!(all[&series("other", &[]).to_string()], [(b, 5.0)]);
    assert!(all.keys().all(|name| !name.contains("pod=")), "{:?}", all.keys());
    assert_eq!(metric(&broker, "watchfire_broker_aggregation_repeated_samples_total"), 2.0);
    assert_eq!(metric(&broker, "watchfire_broker_aggregation_nan_samples_total"), 1.0);

    let name = Matcher::new("__name__", MatchOp::Equal, "h:10s_by_job_histogram_bucket");
    let selected = broker.reader(DEFAULT_TENANT).select(&[name.expect("a name")], TimeRange::all());
    let selected = selected.expect("readable");
    let mut columns = HistogramColumns::default();
    selected.read_all(0, &mut Vec::new(), &mut Vec::new(), &mut columns).expect("readable");
    let histogram = columns.histograms[0].to_float();
    assert_eq!((histogram.count, histogram.zero_count, histogram.sum), (5.0, 1.0, 1_000.05));
    for bucket in histogram.buckets().filter(|bucket| bucket.count > 0.0) {
        let inside = [0.0, 1.0, 1.05, 1_000.0, -2.0].into_iter().filter(|value| {
            let (lower, upper) = (bucket.lower, bucket.upper);
            (*value > lower || bucket.has_lower && *value == lower)
                && (*value < upper || bucket.has_upper && *value == upper)
        });
        assert_eq!(inside.count() as f64, bucket.count, "{bucket:?}");
    }
}

clock!(TIMES, times_ms);

#[test]
fn totals_go_on_and_what_is_silent_is_forgotten() {
    let config = rules(
        "- match: c\n  interval: 10s\n  by: [job]\n  outputs: [total]\n  staleness_interval: 30s\n  \
         ignore_first_sample_interval: 20s\n\
         - match: g\n  interval: 10s\n  dedup_interval: 5s\n  outputs: [sum_samples]\n  \
         keep_metric_names: true\n  ignore_old_samples: true\n",
    );
    let broker = open_on(&Arc::new(MemoryDisk::new()), settings(times_ms, config));
    let c = |pod| series("c", &[("job", "j"), ("pod", pod)]);
    let mut written = 0.0;
    let mut window = |rows: &[(&Labels, i64, f64)], outputs: usize| {
        push(&broker, rows);
        TIMES.fetch_add(INTERVAL_MS, SeqCst);
        written += outputs as f64;
        wait_for(&broker, "watchfire_broker_aggregation_flushes_total", |ends| {
            ends >= ((times_ms() - START_MS) / INTERVAL_MS) as f64
        });
        wait_for_written(&broker, written);
    };
    let t = |second: i64| START_MS + second * 1_000;
    // The rule is new, and so is the counter: what it was before is not known.
    window(&[(&c("1"), t(1), 50.0)], 1);
    window(&[(&c("1"), t(11), 53.0)], 1);
    // Later a new one began at zero.
    window(&[(&c("1"), t(21), 54.0), (&c("2"), t(22), 7.0)], 1);
    window(&[], 1);
    window(&[], 1);
    // Pod 1 is forgotten after 30 s; so is the group, and then it begins anew.
    window(&[], 1);
    window(&[], 0);
    window(&[(&c("1"), t(71), 2.0)], 1);
    let total = stored(&broker).remove(&series("c:10s_by_job_total", &[("job", "j")]).to_string());
    let expected =
        [(10, 0.0), (20, 3.0), (30, 11.0), (40, 11.0), (50, 11.0), (60, 11.0), (80, 2.0)];
    assert_eq!(total.expect("written"), expected.map(|(second, value)| (t(second), value)));

    let g = series("g", &[("job", "j")]);
    // Of each five seconds the last counts; what is older than the window does not.
    window(&[(&g, t(79), 100.0), (&g, t(81), 1.0), (&g, t(83), 2.0), (&g, t(86), 4.0)], 2);
    assert_eq!(stored(&broker)[&g.to_string()], [(t(90), 6.0)]);
    assert_eq!(metric(&broker, "watchfire_broker_aggregation_old_samples_total"), 1.0);
}

clock!(CUTS, cuts_ms);

/// What rules say is that of a naive count of what was acknowledged, whatever was cut in between.
#[test]
fn nothing_acknowledged_is_lost_or_counted_twice() {
    const YAML: &str = "- match: m\n  interval: 10s\n  by: [job]\n  staleness_interval: 1h\n  \
                        ignore_first_sample_interval: 0s\n  outputs: [count_samples, sum_samples, \
                        total, count_series]\n";
    for seed in 0..12 {
        let mut chance = Chance(seed);
        CUTS.store(START_MS, SeqCst);
        let mut disk = Arc::new(MemoryDisk::new());
        let open = |disk: &Arc<MemoryDisk>, seed: u64| {
            let mut config = settings(cuts_ms, rules(YAML));
            if seed.is_multiple_of(3) {
                // Blocks and log files without end.
                (config.flush_bytes, config.flush_interval_ms) = (1, 10);
            }
            open_on(disk, config)
        };
        let mut broker = open(&disk, seed);
        let pods: Vec<Labels> =
            (0..5).map(|pod| series("m", &[("job", "j"), ("pod", &pod.to_string())])).collect();
        let mut counters = [0.0_f64; 5];
        let mut seen = [false; 5];
        let (mut count, mut sum, mut total) = (0.0, 0.0, 0.0);
        let mut in_window = [false; 5];
        let mut expected: BTreeMap<&str, Vec<(i64, f64)>> = BTreeMap::new();
        let mut newest_ms = START_MS;
        for window in 1..=15_i64 {
            // In each at least one sample, so that its end can be waited for.
            for _ in 0..=chance.below(4) {
                let mut rows = Vec::new();
                newest_ms += 10;
                for pod in 0..pods.len() {
                    if pod > 0 && chance.below(3) == 0 {
                        continue;
                    }
                    let rise = chance.below(10) as f64;
                    counters[pod] += rise;
                    rows.push((&pods[pod], newest_ms, counters[pod]));
                    count += 1.0;
                    sum += counters[pod];
                    total += if seen[pod] { rise } else { counters[pod] };
                    (seen[pod], in_window[pod]) = (true, true);
                }
                push(&broker, &rows);
                if chance.below(4) == 0 {
                    disk = Arc::new(disk.crash(seed * 1_000 + newest_ms as u64));
                    broker = open(&disk, seed);
                }
                // The acknowledgement was lost, and it is sent again.
                if chance.below(4) == 0 {
                    push(&broker, &rows);
                }
            }
            let t_ms = START_MS + window * INTERVAL_MS;
            CUTS.store(t_ms, SeqCst);
            if count > 0.0 {
                expected.entry("count_samples").or_default().push((t_ms, count));
                expected.entry("sum_samples").or_default().push((t_ms, sum));
                let series = in_window.iter().filter(|is_in| **is_in).count();
                expected.entry("count_series").or_default().push((t_ms, series as f64));
            }
            if seen.contains(&true) {
                expected.entry("total").or_default().push((t_ms, total));
            }
            (count, sum, in_window) = (0.0, 0.0, [false; 5]);
            // Sometimes the cut comes while the window ends.
            if chance.below(3) == 0 {
                std::thread::sleep(std::time::Duration::from_millis(chance.below(150)));
                disk = Arc::new(disk.crash(seed * 1_000 + window as u64));
                broker = open(&disk, seed);
            }
            let complete = || {
                let all = stored(&broker);
                expected.iter().all(|(output, samples)| {
                    let name = series(&format!("m:10s_by_job_{output}"), &[("job", "j")]);
                    all.get(&name.to_string()).is_some_and(|found| found.len() >= samples.len())
                })
            };
            wait_until("the window's end", complete);
        }
        let all = stored(&broker);
        for (output, samples) in expected {
            let name = series(&format!("m:10s_by_job_{output}"), &[("job", "j")]).to_string();
            assert_eq!(all[&name], samples, "seed {seed}: {output}");
        }
        assert_eq!(metric(&broker, "watchfire_broker_samples_conflicting_total"), 0.0);
        broker.stop();
    }
}

clock!(STOPS, stops_ms);

#[test]
fn a_stop_keeps_windows_or_writes_them() {
    for (flush, expected) in [
        ("false", vec![(START_MS + INTERVAL_MS, 3.0)]),
        ("true", vec![(START_MS + 2_000, 1.0), (START_MS + INTERVAL_MS, 2.0)]),
    ] {
        STOPS.store(START_MS + 1_000, SeqCst);
        let yaml = format!(
            "- match: m\n  interval: 10s\n  outputs: [sum_samples]\n  keep_metric_names: true\n  \
             flush_on_shutdown: {flush}\n"
        );
        let disk = Arc::new(MemoryDisk::new());
        let broker = open_on(&disk, settings(stops_ms, rules(&yaml)));
        let m = series("m", &[("job", "j")]);
        push(&broker, &[(&m, START_MS + 1_000, 1.0)]);
        STOPS.store(START_MS + 2_000, SeqCst);
        broker.stop();
        drop(broker);
        STOPS.store(START_MS + 4_000, SeqCst);
        let broker = open_on(&disk, settings(stops_ms, rules(&yaml)));
        push(&broker, &[(&m, START_MS + 3_000, 2.0)]);
        STOPS.store(START_MS + INTERVAL_MS, SeqCst);
        wait_until("the window's end", || {
            stored(&broker).get(&m.to_string()).is_some_and(|found| found.len() == expected.len())
        });
        assert_eq!(stored(&broker)[&m.to_string()], expected, "flush_on_shutdown: {flush}");
    }
}

clock!(INPUTS, inputs_ms);

#[test]
fn input_is_kept_or_dropped_as_told() {
    INPUTS.store(START_MS, SeqCst);
    let yaml = "- match: m\n  interval: 10s\n  outputs: [sum_samples]\n";
    for (keep_input, drop_input, expected) in
        [(false, false, vec!["other"]), (true, false, vec!["m", "other"]), (false, true, vec![])]
    {
        let config = AggregationConfig { keep_input, drop_input, ..rules(yaml) };
        let broker = open_on(&Arc::new(MemoryDisk::new()), settings(inputs_ms, config));
        let outcome = push(
            &broker,
            &[(&series("m", &[]), START_MS, 1.0), (&series("other", &[]), START_MS, 2.0)],
        );
        assert_eq!(outcome.complaint(), None);
        assert_eq!(outcome.aggregated, 1);
        let expected: Vec<_> =
            expected.into_iter().map(|name| series(name, &[]).to_string()).collect();
        assert_eq!(stored(&broker).into_keys().collect::<Vec<_>>(), expected);
    }
}

clock!(AGENTS, agents_ms);

/// What an agent sends again counts once: its mark moves in the frame that holds what is aggregated.
#[test]
fn batches_of_agents_count_once() {
    AGENTS.store(START_MS + 1_000, SeqCst);
    let yaml =
        "- match: m\n  interval: 10s\n  outputs: [count_samples]\n  keep_metric_names: true\n";
    let mut disk = Arc::new(MemoryDisk::new());
    let mut broker = open_on(&disk, settings(agents_ms, rules(yaml)));
    let (m, other) = (series("m", &[("job", "j")]), series("other", &[]));
    for (seq, again) in [(1, false), (1, true), (2, false), (2, true)] {
        let mut batch = MetricBatch::default();
        for n in 0..3 {
            batch.push(&m, START_MS + seq as i64 * 100 + n, n as f64);
        }
        batch.push(&other, START_MS + seq as i64 * 100, 1.0);
        let identity = BatchIdentity {
            agent: "a".into(),
            incarnation: Incarnation([7; 16]),
            lane: Lane::Live,
            seq,
            after_seq: seq - 1,
        };
        let (sender, receiver) = channel();
        broker.ingest_from_agent(DEFAULT_TENANT, &identity, &batch, move |result| {
            let _ = sender.send(result);
        });
        let delivery = receiver.recv().expect("an answer").expect("acknowledged");
        assert_eq!(delivery.was_known, again, "batch {seq}");
        disk = Arc::new(disk.crash(seq));
        broker = open_on(&disk, settings(agents_ms, rules(yaml)));
    }
    AGENTS.store(START_MS + INTERVAL_MS, SeqCst);
    wait_until("the window's end", || stored(&broker).contains_key(&m.to_string()));
    let all = stored(&broker);
    assert_eq!(all[&m.to_string()], [(START_MS + INTERVAL_MS, 6.0)]);
    assert_eq!(all[&other.to_string()].len(), 2);
}

clock!(REFUSALS, refusals_ms);

/// What is refused on its way into the store and on its way to the rules is refused once.
#[test]
fn a_refusal_of_input_that_is_kept_counts_once() {
    let yaml = "- match: m\n  interval: 10s\n  outputs: [sum_samples]\n";
    let config = AggregationConfig { keep_input: true, ..rules(yaml) };
    let mut config = settings(refusals_ms, config);
    config.limits.max_labels_per_series = 2;
    let broker = open_on(&Arc::new(MemoryDisk::new()), config);
    let wide = series("m", &[("a", "1"), ("b", "2")]);
    let outcome = push(&broker, &[(&wide, START_MS, 1.0), (&series("m", &[]), START_MS, 1.0)]);
    assert_eq!((outcome.refused_samples(), outcome.rejects.len()), (1, 1), "{outcome:?}");
    assert_eq!((outcome.appended.appended, outcome.aggregated), (1, 1));
    assert_eq!(metric(&broker, "watchfire_broker_samples_rejected_total"), 1.0);
}

clock!(PACES, paces_ms);

/// Input is acknowledged: what it says waits until new series may come.
#[test]
fn what_windows_say_waits_for_room() {
    let yaml = "- match: m\n  interval: 10s\n  outputs: [sum_samples, count_samples, max]\n";
    let mut config = settings(paces_ms, rules(yaml));
    // Ten at once, and then one per second.
    config.limits.max_new_series_per_second = 1;
    let broker = open_on(&Arc::new(MemoryDisk::new()), config);
    let pods: Vec<Labels> = (0..10).map(|pod| series("m", &[("pod", &pod.to_string())])).collect();
    let rows: Vec<_> = pods.iter().map(|pod| (pod, START_MS, 1.0)).collect();
    assert_eq!(push(&broker, &rows).aggregated, 10);
    for written in [10, 20, 30] {
        PACES.fetch_add(INTERVAL_MS, SeqCst);
        wait_until("what there is room for", || stored(&broker).len() == written);
    }
    let t_ms = START_MS + INTERVAL_MS;
    assert!(stored(&broker).values().all(|samples| samples.len() == 1 && samples[0].0 == t_ms));
}

clock!(BACK, back_ms);

/// Windows go on when the clock is set right, also after a kill, and of a series that has timestamps
/// of that time.
#[test]
fn a_clock_that_stood_ahead_stops_nothing() {
    const AHEAD_MS: i64 = 60 * 60 * 1_000;
    let yaml = "- match: m\n  interval: 10s\n  outputs: [sum_samples]\n  keep_metric_names: true\n";
    BACK.store(START_MS + AHEAD_MS, SeqCst);
    let mut disk = Arc::new(MemoryDisk::new());
    let mut broker = open_on(&disk, settings(back_ms, rules(yaml)));
    let m = series("m", &[("job", "j")]);
    push(&broker, &[(&m, back_ms(), 1.0)]);
    BACK.fetch_add(INTERVAL_MS, SeqCst);
    wait_for_written(&broker, 1.0);
    push(&broker, &[(&m, back_ms(), 2.0)]);
    // What is in the open window is written at the time there is.
    BACK.store(START_MS + 1_000, SeqCst);
    wait_for_written(&broker, 2.0);
    push(&broker, &[(&m, START_MS + 2_000, 4.0)]);
    disk = Arc::new(disk.crash(1));
    broker = open_on(&disk, settings(back_ms, rules(yaml)));
    for window in 1..=3 {
        let t_ms = START_MS + window * INTERVAL_MS;
        BACK.store(t_ms, SeqCst);
        wait_until("the window's end", || {
            stored(&broker)[&m.to_string()].contains(&(t_ms, 4.0 * window as f64))
        });
        push(&broker, &[(&m, t_ms + 1_000, 4.0 * (window + 1) as f64)]);
    }
    let samples = &stored(&broker)[&m.to_string()];
    assert!(samples.contains(&(START_MS + 1_000, 2.0)), "{samples:?}");
    assert_eq!(samples.len(), 5, "{samples:?}");
    assert_eq!(metric(&broker, "watchfire_broker_samples_conflicting_total"), 0.0);
}

clock!(CHANGES, changes_ms);

/// A rule that is new does not count what came before it, although a start reads that again.
#[test]
fn a_rule_counts_from_when_it_is_there() {
    let yaml = |output: &str| format!("- match: m\n  interval: 10s\n  outputs: [{output}]\n");
    let mut disk = Arc::new(MemoryDisk::new());
    let mut broker = open_on(&disk, settings(changes_ms, rules(&yaml("sum_samples"))));
    let m = series("m", &[("job", "j")]);
    push(&broker, &[(&m, START_MS + 1_000, 5.0), (&m, START_MS + 2_000, 5.0)]);
    CHANGES.fetch_add(INTERVAL_MS, SeqCst);
    wait_for_written(&broker, 1.0);
    // Twice, so that the windows' file is one of a start that had not read everything.
    for start in 1..=2 {
        disk = Arc::new(disk.crash(start));
        broker = open_on(&disk, settings(changes_ms, rules(&yaml("count_samples"))));
    }
    push(&broker, &[(&m, START_MS + 11_000, 5.0)]);
    CHANGES.fetch_add(INTERVAL_MS, SeqCst);
    let name = series("m:10s_count_samples", &[("job", "j")]).to_string();
    wait_until("the window's end", || stored(&broker).contains_key(&name));
    assert_eq!(stored(&broker)[&name], [(START_MS + 2 * INTERVAL_MS, 1.0)]);
}
