//! Deadlines, further attempts, and what is said about writes of which nobody knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use objects::{
    Backend, Fault, FaultyStore, MemoryStore, Operation, Store, StoreError, StoreOptions,
};
use tokio::time::Instant;

/// A store whose requests meet the given faults one after the other, and the last one for ever.
fn store(faults: &[Fault]) -> (Store, MemoryStore) {
    let (memory, met) = (MemoryStore::default(), AtomicUsize::new(0));
    let faults = faults.to_vec();
    let decide =
        move |_: &'static str, _: &str| faults[met.fetch_add(1, Relaxed).min(faults.len() - 1)];
    let faulty = FaultyStore::new(Arc::new(memory.clone()), Arc::new(decide));
    let options = StoreOptions { seed: Some(1), ..StoreOptions::cache() };
    (Store::with_backend(Arc::new(faulty), "", "faulty", options), memory)
}

fn bytes() -> Bytes {
    Bytes::from_static(b"a segment")
}

#[tokio::test(start_paused = true)]
async fn every_passing_fault_is_survived_within_the_deadline() {
    for (faults, attempts) in [
        (&[Fault::Before, Fault::None] as &[Fault], 2),
        (&[Fault::Busy, Fault::Busy, Fault::None], 3),
        (&[Fault::After, Fault::None], 2),
        (&[Fault::Hang, Fault::None], 2),
        (&[Fault::Hang, Fault::Before, Fault::After, Fault::None], 4),
    ] {
        let (store, memory) = store(faults);
        let began = Instant::now();
        store.put("k", bytes()).await.expect("the last attempt is served");
        assert!(began.elapsed() < Duration::from_secs(15), "{faults:?}: {:?}", began.elapsed());
        assert_eq!(store.counters().retries(Operation::Put), attempts - 1, "{faults:?}");
        assert_eq!(memory.get("k", 99).await.expect("it was written"), bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_of_which_nobody_knows_is_said_to_be_unknown() {
    for (faults, is_there) in [
        (&[Fault::Hang] as &[Fault], false),
        (&[Fault::After], true),
        // The last attempts were certainly not served, the first one was.
        (&[Fault::After, Fault::Before], true),
        (&[Fault::Late(Duration::from_secs(3_600)), Fault::Before], false),
        (&[Fault::After, Fault::Full], true),
    ] {
        let (store, memory) = store(faults);
        let began = Instant::now();
        let error = store.put("k", bytes()).await.expect_err("nobody confirmed it");
        assert!(matches!(error, StoreError::Unknown { .. }), "{faults:?}: {error}");
        assert!(error.to_string().contains("may still appear"), "{error}");
        assert!(began.elapsed() <= Duration::from_secs(15), "{faults:?}: {:?}", began.elapsed());
        assert_eq!(memory.get("k", 99).await.is_ok(), is_there, "{faults:?}");
        assert_eq!(store.counters().errors(Operation::Put), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_given_up_can_appear_later() {
    let (store, memory) = store(&[Fault::Late(Duration::from_secs(60))]);
    let error = store.put("k", bytes()).await.expect_err("nobody confirmed it");
    assert!(matches!(error, StoreError::Unknown { .. }), "{error}");
    assert!(memory.get("k", 99).await.is_err(), "it is not there yet");
    tokio::time::sleep(Duration::from_secs(61)).await;
    memory.get("k", 99).await.expect("it appeared: an orphan");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_certainly_not_served_is_not_unknown() {
    for (fault, kind, is_tried) in [
        (&[Fault::Before] as &[Fault], "unreachable", true),
        (&[Fault::Busy], "busy", true),
        (&[Fault::Full], "full", false),
    ] {
        let (store, memory) = store(fault);
        let error = store.put("k", bytes()).await.expect_err("it fails");
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(store.counters().retries(Operation::Put) > 9, is_tried, "{fault:?}");
        assert!(memory.get("k", 99).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_too_short_is_damaged_and_one_that_hangs_is_late() {
    let (torn, memory) = store(&[Fault::Torn]);
    memory.put("k", bytes()).await.expect("memory takes it");
    let error = torn.get_range("k", 0..9).await.expect_err("half of it came");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let (hanging, _) = store(&[Fault::Hang]);
    let began = Instant::now();
    let error = hanging.get("k").await.expect_err("nobody answers");
    assert!(matches!(error, StoreError::Late { .. }), "{error}");
    assert!(began.elapsed() <= Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn why_the_store_failed_is_told_although_the_last_attempt_ran_out_of_time() {
    for faults in
        [&[Fault::Before, Fault::Hang] as &[Fault], &[Fault::Hang, Fault::Before, Fault::Hang]]
    {
        let (store, _) = store(faults);
        let error = store.get("k").await.expect_err("nobody answers");
        assert_eq!(error.kind(), "unreachable", "{faults:?}: {error}");
    }
    let (hanging, _) = store(&[Fault::Hang]);
    let error = hanging.get("k").await.expect_err("nobody answers");
    // All attempts together, not only the last.
    assert!(error.to_string().contains("within 30.0 s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_listing_may_take_long_but_a_store_that_is_away_is_not_waited_for() {
    let (away, _) = store(&[Fault::Before]);
    let began = Instant::now();
    let error = away.list("").await.expect_err("nobody answers");
    assert_eq!(error.kind(), "unreachable", "{error}");
    assert!(began.elapsed() <= Duration::from_secs(30), "{:?}", began.elapsed());
    let (hanging, _) = store(&[Fault::Hang]);
    let began = Instant::now();
    let error = hanging.list("").await.expect_err("it never ends");
    assert_eq!(error.kind(), "late", "{error}");
    assert_eq!(began.elapsed().as_secs(), 300);
}

#[tokio::test(start_paused = true)]
async fn an_upload_whose_end_was_served_unheard_is_done() {
    let (memory, met) = (MemoryStore::default(), AtomicUsize::new(0));
    // The answer to the end of the upload is lost, and then there is no upload any more.
    let decide = move |kind: &'static str, _: &str| match kind {
        "finish" if met.fetch_add(1, Relaxed) == 0 => Fault::After,
        "finish" => Fault::Full,
        _ => Fault::None,
    };
    let faulty = FaultyStore::new(Arc::new(memory.clone()), Arc::new(decide));
    let store = Store::with_backend(Arc::new(faulty), "", "faulty", StoreOptions::cache());
    let mut upload = store.upload("k").await.expect("begun");
    upload.part(bytes()).await.expect("written");
    upload.finish().await.expect("the object is there, whole");
    assert_eq!(memory.get("k", 99).await.expect("it is there"), bytes());
}
