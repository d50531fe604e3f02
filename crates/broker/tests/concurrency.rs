//! Queries, writes, flushes and a stop at the same time: what was acknowledged is there, once.

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use broker::CommitError;
use model::{DEFAULT_TENANT, TimeRange};
use support::*;

clock!(FLUSHES, flushes_ms);

#[test]
fn a_query_during_flushes_sees_each_acknowledged_sample_once() {
    const SERIES: usize = 7;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = open(config(directory.path(), flushes_ms, 5));
    FLUSHES.store(START_MS + HOUR_MS, SeqCst);
    // Step n is written for all series at START_MS + n; steps below are acknowledged.
    let acknowledged = AtomicI64::new(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let started = Instant::now();
            // However busy the machine is: until enough flushes and merges have met queries.
            let is_enough = || {
                metric(&broker, "watchfire_broker_flushes_total") >= 20.0
                    && metric(&broker, "watchfire_broker_merges_total") >= 3.0
            };
            for step in 0.. {
                if is_enough() || started.elapsed() > Duration::from_secs(60) {
                    break;
                }
                let rows: Vec<_> = (0..SERIES).map(|s| (s, START_MS + step, step as f64)).collect();
                ingest(&broker, &rows).expect("stored");
                acknowledged.store(step + 1, SeqCst);
            }
            is_over.store(true, SeqCst);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    let at_least = acknowledged.load(SeqCst);
                    let mut steps: BTreeMap<String, i64> = BTreeMap::new();
                    // `read` itself refuses a time that comes twice.
                    for ((series, t_ms), bits) in read_all(&broker) {
                        let next = steps.entry(series).or_default();
                        assert_eq!(t_ms - START_MS, *next, "no step is left out");
                        assert_eq!(f64::from_bits(bits), *next as f64);
                        *next += 1;
                    }
                    for (series, steps) in &steps {
                        assert!(*steps >= at_least, "{series}: {steps} of {at_least} steps");
                    }
                    assert!(at_least == 0 || steps.len() == SERIES);
                }
            });
        }
    });
    let flushes = metric(&broker, "watchfire_broker_flushes_total");
    let merges = metric(&broker, "watchfire_broker_merges_total");
    assert!(flushes >= 20.0 && merges >= 3.0, "{flushes} flushes and {merges} merges in a minute");
    broker.stop();
}

clock!(STOP, stop_ms);

#[test]
fn a_stop_under_load_answers_every_batch_and_loses_none() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = open(config(directory.path(), stop_ms, 10));
    STOP.store(START_MS + HOUR_MS, SeqCst);
    let stored = Mutex::new(Samples::new());
    let refused = AtomicI64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..4_usize {
            let (broker, stored, refused) = (&broker, &stored, &refused);
            scope.spawn(move || {
                for step in 0.. {
                    let rows = [(writer, START_MS + step, step as f64)];
                    match ingest(broker, &rows) {
                        Ok(_) => note(&mut stored.lock().expect("no panic"), &rows),
                        Err(CommitError::Stopping) => {
                            refused.fetch_add(1, SeqCst);
                            return;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        // Answers that nobody waits for before the stop.
        let flood: Vec<_> = (0..300_i64)
            .map(|step| send(&broker, &batch(&[(9, START_MS + step, step as f64)])))
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        broker.stop();
        for (step, answer) in flood.iter().enumerate() {
            let rows = [(9, START_MS + step as i64, step as f64)];
            let answer = answer.try_recv().expect("answered when the stop is over");
            assert!(answer.is_ok(), "sent before the stop");
            note(&mut stored.lock().expect("no panic"), &rows);
        }
    });
    assert_eq!(refused.into_inner(), 4);
    let stored = stored.into_inner().expect("no panic");
    assert_same(&read_all(&broker), &stored, "after the stop");
    broker.stop();
    drop(broker);
    let broker = open(config(directory.path(), stop_ms, NEVER_MS));
    assert_same(&read_all(&broker), &stored, "after a restart");
}

clock!(LABELS, labels_ms);

#[test]
fn labels_of_an_acknowledged_sample_are_found_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = open(config(directory.path(), labels_ms, NEVER_MS));
    LABELS.store(START_MS + HOUR_MS, SeqCst);
    for step in 0..500_i64 {
        let t_ms = START_MS + step;
        ingest(&broker, &[(step as usize, t_ms, 1.0)]).expect("stored");
        // The head is asked only if its range reaches this far.
        let range = TimeRange::new(t_ms, t_ms + 1);
        let found = broker.reader(DEFAULT_TENANT).label_values("series", &[], range, usize::MAX);
        let found = found.expect("memory suffices");
        assert!(found.contains(&step.to_string()), "{step} is missing");
    }
    broker.stop();
}

clock!(JUMP, jump_ms);

#[test]
fn a_clock_that_jumps_ahead_takes_no_ordinal_from_a_batch_on_its_way() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = open(config(directory.path(), jump_ms, 5));
    let mut model = Samples::new();
    let started = Instant::now();
    // New series in every batch, and every jump makes all known ones look silent for hours.
    for step in 0.. {
        if started.elapsed() > Duration::from_secs(2) {
            break;
        }
        let t_ms = jump_ms();
        let sent: Vec<_> = (0..8)
            .map(|n| {
                let rows = [(step * 8 + n, t_ms, n as f64), (n, t_ms, step as f64)];
                note(&mut model, &rows);
                send(&broker, &batch(&rows))
            })
            .collect();
        JUMP.fetch_add(3 * HOUR_MS, SeqCst);
        for answer in sent {
            answer.recv().expect("every batch is answered").expect("stored");
        }
    }
    assert!(metric(&broker, "watchfire_broker_released_series_total") > 0.0);
    // Jumps are longer than the retention by now; look at what must still be there.
    let kept_ms = jump_ms() - 14 * DAY_MS;
    model.retain(|(_, t_ms), _| *t_ms >= kept_ms);
    let range = TimeRange::new(kept_ms, i64::MAX);
    assert_same(&read(&broker, range), &model, "after jumps");
    broker.stop();
    drop(broker);
    let broker = open(config(directory.path(), jump_ms, NEVER_MS));
    assert_same(&read(&broker, range), &model, "after a restart");
}
