//! The life of samples: log, head, blocks, merges, restarts, retention; always read back bit by
//! bit against a naive model.

mod support;

use std::sync::atomic::Ordering::SeqCst;

use support::*;

clock!(LIFE, life_ms);

#[test]
fn samples_are_the_same_through_flush_merge_and_restart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut model = Samples::new();
    let broker = open(config(directory.path(), life_ms, 20));
    let stale = f64::from_bits(model::STALE_NAN_BITS);
    let odd_nan = f64::from_bits(0x7ff8_0000_dead_beef);
    for round in 0..12_i64 {
        let at = |step: i64| START_MS + (round * 20 + step) * MINUTE_MS;
        LIFE.store(at(20), SeqCst);
        for step in 0..20 {
            let t_ms = at(step);
            let mut rows: Vec<_> = (0..40).map(|s| (s, t_ms, (s as i64 * step) as f64)).collect();
            rows.push((41, t_ms, if step % 2 == 0 { stale } else { odd_nan }));
            // Late by an hour, and again: the second value must lose, whatever holds the first.
            rows.push((42, t_ms - HOUR_MS, 1.0 / (step + 1) as f64));
            rows.push((42, t_ms - HOUR_MS, -7.0));
            rows.push((5, t_ms, -1.0));
            ingest(&broker, &rows).expect("stored");
            note(&mut model, &rows);
        }
        assert_same(&read_all(&broker), &model, "in the head");
        wait_for_empty_head(&broker);
        assert_same(&read_all(&broker), &model, "in blocks");
    }
    // All windows are closed: parts become windows, windows quarters, quarters a day.
    LIFE.store(START_MS + 2 * DAY_MS, SeqCst);
    wait_for(&broker, "watchfire_broker_blocks", |blocks| blocks == 2.0);
    assert!(metric(&broker, "watchfire_broker_merges_total") >= 2.0);
    assert_same(&read_all(&broker), &model, "merged");
    broker.stop();
    drop(broker);
    let broker = open(config(directory.path(), life_ms, NEVER_MS));
    assert_same(&read_all(&broker), &model, "after a restart out of blocks");
    let late = [(7, START_MS + 3, 1.5), (99, START_MS + DAY_MS, f64::MIN_POSITIVE)];
    ingest(&broker, &late).expect("stored");
    note(&mut model, &late);
    broker.stop();
    drop(broker);
    let broker = open(config(directory.path(), life_ms, NEVER_MS));
    assert_eq!(broker.recovered().samples, 2);
    assert_same(&read_all(&broker), &model, "after a restart out of blocks and log");
}

clock!(EXPIRY, expiry_ms);

#[test]
fn what_is_older_than_the_retention_goes_and_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = open(config(directory.path(), expiry_ms, 20));
    ingest(&broker, &[(1, START_MS, 1.0), (1, START_MS + 1, 2.0)]).expect("stored");
    EXPIRY.store(START_MS + DAY_MS, SeqCst);
    ingest(&broker, &[(1, START_MS + DAY_MS, 3.0)]).expect("stored");
    wait_for_empty_head(&broker);
    EXPIRY.store(START_MS + 15 * DAY_MS + 2 * HOUR_MS + 1, SeqCst);
    wait_for(&broker, "watchfire_broker_expired_blocks_total", |expired| expired >= 1.0);
    let mut model = Samples::new();
    note(&mut model, &[(1, START_MS + DAY_MS, 3.0)]);
    assert_same(&read_all(&broker), &model, "after expiry");
    let outcome = ingest(&broker, &[(1, START_MS, 4.0)]).expect("refused row by row");
    assert!(outcome.complaint().expect("a complaint").contains("older than the retention"));
    assert_eq!(broker.recovered().samples, 0);
    broker.stop();
    drop(broker);
    let broker = open(config(directory.path(), expiry_ms, NEVER_MS));
    assert_same(&read_all(&broker), &model, "after a restart");
}

clock!(IDLE, idle_ms);

#[test]
fn ordinals_of_silent_series_go_to_others_and_nothing_is_mixed_up() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = open(config(directory.path(), idle_ms, 20));
    let mut model = Samples::new();
    let rows: Vec<_> = (0..100).map(|s| (s, START_MS, s as f64)).collect();
    ingest(&broker, &rows).expect("stored");
    note(&mut model, &rows);
    wait_for_empty_head(&broker);
    IDLE.fetch_add(3 * HOUR_MS, SeqCst);
    wait_for(&broker, "watchfire_broker_released_series_total", |released| released == 100.0);
    assert_eq!(metric(&broker, "watchfire_broker_head_series"), 0.0);
    assert_same(&read_all(&broker), &model, "of series that have no ordinal");
    IDLE.fetch_add(HOUR_MS, SeqCst);
    // Others get the ordinals, and some of the old series come back under new ones.
    for round in 0..5 {
        let t_ms = idle_ms() + round;
        let rows: Vec<_> = (50..250).map(|s| (s, t_ms, (s as i64 + round) as f64)).collect();
        ingest(&broker, &rows).expect("stored");
        note(&mut model, &rows);
        assert_same(&read_all(&broker), &model, "with ordinals used again");
    }
    broker.stop();
    drop(broker);
    let broker = open(config(directory.path(), idle_ms, NEVER_MS));
    assert_same(&read_all(&broker), &model, "after a restart");
}
