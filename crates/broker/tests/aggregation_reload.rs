//! Other rules of aggregation while the broker runs: every sample that is acknowledged is stored or
//! counts for a rule, at whatever moment rules change.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::channel;
use std::time::Duration;

use blockstore::{Disk, MemoryDisk};
use broker::{AggregationConfig, Broker, BrokerConfig};
use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, MetricBatch, TimeRange};
use settings::stream_aggregation::read_rules;
use settings::yaml::Document;
use support::chance::Chance;
use support::*;

/// Rules that count the samples of each of the metrics, and write their window when they end early.
fn counting(metrics: &[&str]) -> AggregationConfig {
    let rule = |metric: &&str| {
        format!(
            "- match: {metric}\n  interval: 10s\n  by: [job]\n  outputs: [count_samples]\n  \
             flush_on_shutdown: true\n"
        )
    };
    rules(&metrics.iter().map(rule).collect::<String>())
}

fn rules(yaml: &str) -> AggregationConfig {
    if yaml.is_empty() {
        return AggregationConfig::default();
    }
    let document = Document::parse("rules.yml", yaml.as_bytes()).expect("YAML");
    let parse = |text: &str| {
        Ok(vec![Matcher::new("__name__", MatchOp::Equal, text).expect("no expression")])
    };
    let rules = read_rules(&document, "", &parse).unwrap_or_else(|faults| panic!("{faults}"));
    AggregationConfig { rules, ..AggregationConfig::default() }
}

fn settings(now_ms: fn() -> i64, aggregation: AggregationConfig) -> BrokerConfig {
    let config = config(std::path::Path::new("/nowhere"), now_ms, NEVER_MS);
    BrokerConfig { aggregation, ..config }
}

fn put(broker: &Broker, aggregation: AggregationConfig) {
    let mut settings = broker.adjustable();
    settings.aggregation = aggregation;
    // Rules that were removed a moment ago may still be ending.
    let mut prepared = None;
    wait_until("rules that may begin", || {
        prepared = broker.prepare_settings(settings.clone()).ok();
        prepared.is_some()
    });
    broker.put_settings(prepared.expect("waited for"));
}

fn push(broker: &Broker, name: &str, pod: usize, t_ms: i64) {
    let pod = pod.to_string();
    let pairs = [("__name__", name), ("job", "j"), ("pod", pod.as_str())];
    let mut batch = MetricBatch::default();
    batch.push(&Labels::from_pairs(pairs).expect("valid"), t_ms, 1.0);
    let (sender, receiver) = channel();
    broker.ingest(DEFAULT_TENANT, &batch, move |result| {
        let _ = sender.send(result.map(|outcome| outcome.complaint()));
    });
    assert_eq!(receiver.recv().expect("an answer").expect("acknowledged"), None);
}

/// Samples of a metric that are stored as they came, and those that its rule counted.
fn found(broker: &Broker, name: &str) -> (u64, u64) {
    let any = Matcher::new("__name__", MatchOp::Regex, format!("{name}(:.+)?")).expect("valid");
    let selected = broker.reader(DEFAULT_TENANT).select(&[any], TimeRange::all());
    let selected = selected.expect("readable");
    let (mut stored, mut counted) = (0, 0);
    for (index, labels) in selected.labels().iter().enumerate() {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        selected.read(index, &mut timestamps, &mut values).expect("readable");
        match labels.metric_name() {
            Some(metric) if metric == name => stored += values.len() as u64,
            _ => counted += values.iter().sum::<f64>() as u64,
        }
    }
    (stored, counted)
}

clock!(ANY, any_ms);

#[test]
fn every_sample_is_stored_or_counted_while_rules_change() {
    const NAMES: [&str; 3] = ["m", "x", "y"];
    ANY.store(START_MS, SeqCst);
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, settings(any_ms, counting(&["m"])));
    let is_over = AtomicBool::new(false);
    let acknowledged: [AtomicU64; 3] = Default::default();
    std::thread::scope(|scope| {
        for pod in 0..3 {
            let (broker, is_over, acknowledged) = (&broker, &is_over, &acknowledged);
            scope.spawn(move || {
                for t_ms in START_MS.. {
                    if is_over.load(SeqCst) {
                        return;
                    }
                    for (name, count) in NAMES.iter().zip(acknowledged) {
                        push(broker, name, pod, t_ms);
                        count.fetch_add(1, SeqCst);
                    }
                }
            });
        }
        let mut chance = Chance(5);
        for _ in 0..60 {
            // Also at the end of a window, whose time is another sample's.
            ANY.fetch_add(1_000, SeqCst);
            let wanted: Vec<&str> =
                NAMES.iter().copied().filter(|_| chance.below(2) == 0).collect();
            put(&broker, counting(&wanted));
            std::thread::sleep(Duration::from_millis(chance.below(20)));
        }
        is_over.store(true, SeqCst);
    });
    ANY.fetch_add(1_000, SeqCst);
    put(&broker, counting(&[]));
    broker.stop();
    let mut all = BTreeMap::new();
    for (name, count) in NAMES.iter().zip(&acknowledged) {
        let (stored, counted) = found(&broker, name);
        assert_eq!(stored + counted, count.load(SeqCst), "{name}: {stored} and {counted}");
        all.insert(name, (stored, counted));
    }
    assert!(all.values().all(|(stored, counted)| *stored > 0 && *counted > 0), "{all:?}");
    drop(broker);
    // Nothing is left of what was, nor counts again.
    let again = open_on(&disk, settings(any_ms, counting(&[])));
    for (name, before) in all {
        assert_eq!(found(&again, name), before);
    }
    again.stop();
}

clock!(KILLED, killed_ms);

#[test]
fn what_counts_for_a_rule_that_is_new_counts_through_a_kill() {
    KILLED.store(START_MS, SeqCst);
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, settings(killed_ms, counting(&["m"])));
    push(&broker, "m", 0, START_MS);
    push(&broker, "x", 0, START_MS);
    put(&broker, counting(&["m", "x"]));
    push(&broker, "m", 0, START_MS + 1);
    push(&broker, "x", 0, START_MS + 1);
    push(&broker, "x", 0, START_MS + 2);
    let disk = Arc::new(disk.crash(1));
    let broker = open_on(&disk, settings(killed_ms, counting(&["m", "x"])));
    KILLED.fetch_add(10_000, SeqCst);
    // The window that was open goes on, and the one of the new rule began with it.
    wait_until("the window's end", || found(&broker, "m") == (0, 2) && found(&broker, "x").1 > 0);
    assert_eq!(found(&broker, "x"), (1, 2));
    broker.stop();
}

clock!(UNDONE, undone_ms);

/// … although the rule saw samples, of series that another one takes as well.
#[test]
fn what_is_prepared_and_not_put_changes_nothing() {
    const SERIES: &str = "watchfire_broker_aggregation_series";
    UNDONE.store(START_MS, SeqCst);
    let disk = Arc::new(MemoryDisk::new());
    let other = "- match: m\n  interval: 7s\n  outputs: [max]\n  flush_on_shutdown: true\n";
    for before in [true, false] {
        let known = || if before { counting(&["m"]) } else { counting(&[]) };
        let mut more = known();
        more.rules.extend(rules(other).rules);
        let broker = open_on(&disk, settings(undone_ms, known()));
        push(&broker, "m", 0, undone_ms());
        let known_series = f64::from(u8::from(before));
        wait_for(&broker, SERIES, |series| series == known_series);
        let mut settings = broker.adjustable();
        settings.aggregation = more;
        let prepared = broker.prepare_settings(settings).expect("room for it");
        push(&broker, "m", 0, undone_ms() + 1);
        if before {
            wait_for(&broker, SERIES, |series| series == 2.0);
        }
        drop(prepared);
        wait_for(&broker, SERIES, |series| series == known_series);
        push(&broker, "m", 0, undone_ms() + 2);
        UNDONE.fetch_add(10_000, SeqCst);
        let wanted = if before { (0, 3) } else { (3, 3) };
        wait_until("the window's end", || found(&broker, "m") == wanted);
        broker.stop();
        assert_eq!(found(&broker, "m"), wanted, "a rule that was never in effect wrote something");
    }
}

clock!(BACK, back_ms);

/// Windows of rules that come back are none of those before, whatever the clock said then.
#[test]
fn rules_may_come_back_after_the_clock_was_set_back() {
    BACK.store(START_MS, SeqCst);
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, settings(back_ms, counting(&["m"])));
    push(&broker, "m", 0, back_ms());
    BACK.fetch_add(10_000, SeqCst);
    wait_until("the window's end", || found(&broker, "m") == (0, 1));
    put(&broker, counting(&[]));
    wait_until("the file's end", || disk.list("aggregation").is_ok_and(|all| all.is_empty()));
    BACK.fetch_sub(60_000, SeqCst);
    put(&broker, counting(&["m"]));
    push(&broker, "m", 1, back_ms());
    BACK.fetch_add(10_000, SeqCst);
    wait_until("the end of a window before it", || found(&broker, "m") == (0, 2));
    broker.stop();
}

clock!(WIDE, wide_ms);

/// Whether a rule wants a series is known only of one that its limits let in.
#[test]
fn a_series_that_limits_refused_counts_for_its_rule_when_they_are_raised() {
    WIDE.store(START_MS, SeqCst);
    let mut config = settings(wide_ms, counting(&["m"]));
    config.limits.max_labels_per_series = 2;
    let broker = open_on(&Arc::new(MemoryDisk::new()), config);
    let pairs = [("__name__", "m"), ("job", "j"), ("pod", "0")];
    let labels = Labels::from_pairs(pairs).expect("valid");
    let mut batch = MetricBatch::default();
    batch.push(&labels, START_MS, 1.0);
    let (sender, receiver) = channel();
    broker.ingest(DEFAULT_TENANT, &batch, move |result| {
        let _ = sender.send(result.map(|outcome| outcome.refused_samples()));
    });
    assert_eq!(receiver.recv().expect("an answer"), Ok(1), "three labels are more than two");
    let mut settings = broker.adjustable();
    settings.limits = Arc::default();
    broker.put_settings(broker.prepare_settings(settings).expect("nothing that may fail"));
    push(&broker, "m", 0, START_MS);
    WIDE.fetch_add(10_000, SeqCst);
    wait_until("the window's end", || found(&broker, "m") == (0, 1));
    broker.stop();
}

clock!(GONE, gone_ms);

/// Without rules nothing is kept of the series they took, and rules that come back begin anew.
#[test]
fn rules_that_are_gone_leave_nothing_and_may_come_back() {
    GONE.store(START_MS, SeqCst);
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, settings(gone_ms, counting(&[])));
    for round in 0..3 {
        put(&broker, counting(&["m"]));
        push(&broker, "m", round, gone_ms());
        wait_for(&broker, "watchfire_broker_aggregation_series", |series| series == 1.0);
        GONE.fetch_add(1_001, SeqCst);
        put(&broker, counting(&[]));
        wait_for(&broker, "watchfire_broker_aggregation_series", |series| series == 0.0);
        push(&broker, "m", round, gone_ms());
        wait_until("what the rule counted", || {
            found(&broker, "m") == (round as u64 + 1, round as u64 + 1)
        });
        wait_until("the file's end", || disk.list("aggregation").is_ok_and(|all| all.is_empty()));
    }
    broker.stop();
}

clock!(ROOM, room_ms);

/// A rule whose windows wait for room holds up neither its end nor the limits that make room.
#[test]
fn a_rule_that_brings_too_many_series_can_be_removed() {
    const PODS: usize = 9;
    ROOM.store(START_MS, SeqCst);
    let many = "- match: many\n  interval: 10s\n  outputs: [max, min, count_samples]\n";
    let of_x = "- match: x\n  interval: 10s\n  outputs: [count_samples]\n";
    let of_y = of_x.replace("match: x", "match: y");
    let of_z =
        "- match: z\n  interval: 1h\n  outputs: [count_samples]\n  flush_on_shutdown: true\n";
    let mut config = settings(room_ms, rules(&format!("{many}{of_x}{of_z}")));
    // Ten at once, and as the clock stands no more.
    config.limits.max_new_series_per_second = 1;
    let broker = open_on(&Arc::new(MemoryDisk::new()), config);
    for pod in 0..PODS {
        push(&broker, "many", pod, START_MS);
    }
    push(&broker, "z", 0, START_MS);
    ROOM.fetch_add(10_000, SeqCst);
    wait_until("what there is room for", || found(&broker, "many").1 > 0);
    // What comes meanwhile is of windows that nobody ends before there is room, however many they are.
    for _ in 0..3 {
        for pod in 0..PODS {
            push(&broker, "many", pod, room_ms());
        }
        ROOM.fetch_add(1_000, SeqCst);
    }
    ROOM.fetch_add(7_000, SeqCst);
    // A rule that is refused ends none of the others, when there is room.
    let mut settings = broker.adjustable();
    settings.aggregation = rules(&format!("{many}{of_x}{of_y}{of_z}"));
    let refusal = broker.prepare_settings(settings).err().expect("the follower is busy");
    assert!(format!("{refusal:#}").contains("wait for room"), "{refusal:#}");
    let started = std::time::Instant::now();
    let mut settings = broker.adjustable();
    settings.aggregation = rules(of_x);
    settings.limits = Arc::default();
    let prepared = broker.prepare_settings(settings).expect("no rule is new");
    broker.put_settings(prepared);
    assert!(started.elapsed() < Duration::from_secs(5), "it waited for room");
    push(&broker, "many", 0, room_ms());
    push(&broker, "x", 0, room_ms());
    // Of each pod its greatest and least value, and how many there were.
    let counted = PODS as u64 * (1 + 1 + 1 + 1 + 1 + 3);
    wait_until("what waited", || found(&broker, "many") == (1, counted));
    wait_until("the window that was open", || found(&broker, "z") == (0, 1));
    ROOM.fetch_add(10_000, SeqCst);
    wait_until("the window's end", || found(&broker, "x") == (0, 1));
    broker.stop();
}
