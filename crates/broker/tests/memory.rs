//! What is kept in memory to be quicker, and gives way when memory is short.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use governor::{Governor, Settings};

use support::*;

const LIMIT_BYTES: u64 = 512 << 20;
/// With what a test takes besides, 5 to 35 MiB: caches give way from 85 % of the limit on, and from 95 %
/// on queries are stopped.
const BALLAST_BYTES: u64 = LIMIT_BYTES / 100 * 88;

clock!(CLOCK, now_ms);

fn counted_bytes(governor: &Governor) -> f64 {
    let rows = governor.rows();
    rows.iter().find(|row| row.name == "watchfire_governor_cache_bytes").expect("a row").value
}

#[test]
fn pages_of_blocks_are_counted_and_go_when_memory_is_short() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings { limit_bytes: Some(LIMIT_BYTES), max_query_bytes: None };
    let governor = Governor::new(settings);
    governor.start().expect("a thread");
    let config = broker::BrokerConfig {
        governor: Arc::clone(&governor),
        ..config(directory.path(), now_ms, 20)
    };
    let broker = open(config);
    let mut model = Samples::new();
    let rows: Vec<_> = (0..5_000).map(|n| (n % 50, START_MS + n as i64, n as f64)).collect();
    ingest(&broker, &rows).expect("stored");
    note(&mut model, &rows);
    CLOCK.fetch_add(HOUR_MS, SeqCst);
    wait_for_empty_head(&broker);
    let pages = "watchfire_broker_page_cache_bytes";
    let read_often = || (0..3).for_each(|_| assert_same(&read_all(&broker), &model, "in blocks"));
    read_often();
    assert!(metric(&broker, pages) > 0.0, "what is wanted again and again is not kept");
    wait_until("the governor to count", || counted_bytes(&governor) == metric(&broker, pages));
    let ballast = vec![1_u8; BALLAST_BYTES as usize];
    wait_for(&broker, pages, |bytes| bytes == 0.0);
    read_often();
    assert_eq!(metric(&broker, pages), 0.0, "{} bytes are in use", ballast.len());
    drop(ballast);
    wait_until("the pages to be kept again", || {
        read_often();
        metric(&broker, pages) > 0.0
    });
    wait_until("the governor to count", || counted_bytes(&governor) == metric(&broker, pages));
}
