//! Live samples of all brokers at any of them.

use super::*;
use crate::LiveBatch;

const PATIENCE: Duration = Duration::from_secs(30);

/// The next sample of each series that is told, by the number after its time.
fn told(runtime: &Runtime, feed: &mut crate::Feed, names: &mut BTreeMap<u32, String>) -> LiveBatch {
    let next = runtime.block_on(async { tokio::time::timeout(PATIENCE, feed.next()).await });
    let batch = next.expect("something is told");
    names.extend(
        batch.series.iter().map(|(number, labels)| {
            (*number, labels.get("series").expect("all have it").to_owned())
        }),
    );
    batch
}

#[test]
fn who_subscribes_at_one_broker_sees_what_all_take() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let disks: Vec<MemoryDisk> = (0..2).map(|_| MemoryDisk::new()).collect();
    let first = start(&runtime, &site, 1, &disks[0]);
    let second = start(&runtime, &site, 2, &disks[1]);
    let matcher = Matcher::new("__name__", MatchOp::Equal, "m").expect("no regex");
    let tenant = TenantName::DEFAULT;
    let mut feed = first.broker.subscribe(tenant, vec![matcher.clone()]).expect("below the limit");
    let mut here = first.broker.subscribe_here(tenant, vec![matcher]).expect("below the limit");
    let mut names = BTreeMap::new();
    // The other one is subscribed to a moment later.
    let mut t_ms = START_MS;
    let begin = std::time::Instant::now();
    let mut seen = LiveBatch::default();
    while seen.samples.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "nothing of the other one is told");
        t_ms += 1;
        send(&second.broker, &batch("there", t_ms, 1.0)).recv().expect("an answer").expect("kept");
        std::thread::sleep(Duration::from_millis(20));
        let next = runtime
            .block_on(async { tokio::time::timeout(Duration::from_millis(50), feed.next()).await });
        if let Ok(next) = next {
            seen = next;
        }
    }
    names.extend(
        seen.series.iter().map(|(number, labels)| {
            (*number, labels.get("series").expect("all have it").to_owned())
        }),
    );
    assert_eq!(names.values().collect::<Vec<_>>(), ["there"]);

    // The same series keeps its number whoever takes it, and each sample is told once.
    let next_ms = START_MS + 30_000;
    send(&first.broker, &batch("there", next_ms, 2.0)).recv().expect("an answer").expect("kept");
    let mut seen = told(&runtime, &mut feed, &mut names);
    while seen.samples.last().is_some_and(|(_, at_ms, _)| *at_ms < next_ms) {
        seen = told(&runtime, &mut feed, &mut names);
    }
    assert_eq!(seen.samples.last().map(|(_, at_ms, value)| (*at_ms, *value)), Some((next_ms, 2.0)));
    assert_eq!(names.len(), 1, "{names:?}");
    // Who asked for one broker's alone got no more.
    let own = told(&runtime, &mut here, &mut BTreeMap::new());
    assert_eq!(own.samples, [(0, next_ms, 2.0)]);

    // When the other one comes back, readers are told to look up what they missed.
    second.stop(&runtime, &site, 2);
    let second = start(&runtime, &site, 2, &disks[1]);
    let mut missed = 0;
    let begin = std::time::Instant::now();
    while missed == 0 {
        assert!(begin.elapsed() < PATIENCE, "nobody says that something was missed");
        missed += told(&runtime, &mut feed, &mut names).missed;
    }
    second.stop(&runtime, &site, 2);
    first.stop(&runtime, &site, 1);
}
