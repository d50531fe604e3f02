//! Lines as they come, of all brokers at any of them.

use model::{LogBatch, LogRecord, NO_TENANT};

use super::*;
use crate::{LineFeed, LiveLines};

const PATIENCE: Duration = Duration::from_secs(30);

fn push(broker: &Broker, tenant: TenantName, text: &str) {
    let mut batch = LogBatch::default();
    batch.stream(&Labels::from_pairs([("app", "shop")]).expect("valid"));
    batch.push(START_MS * 1_000_000, text.as_bytes(), &[]).expect("short");
    let id = broker.tenant_for_write(tenant).expect("there is room");
    let (reply, answer) = channel();
    broker.ingest_logs(id, batch, None, move |result| _ = reply.send(result.is_ok()));
    assert!(answer.recv().expect("answered"));
}

fn texts(found: &LiveLines) -> Vec<String> {
    let (mut records, mut metadata) = (found.batch.records(), Vec::new());
    let mut texts = Vec::new();
    while let Some(record) = records.next_record(&mut metadata).expect("whole") {
        if let LogRecord::Line { line, .. } = record {
            texts.push(String::from_utf8(line.to_vec()).expect("text"));
        }
    }
    texts
}

/// What is told until `is_enough` of the lines and notes so far.
fn told(
    runtime: &Runtime,
    feed: &mut LineFeed,
    is_enough: impl Fn(&[String], &[String]) -> bool,
) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut notes) = (Vec::new(), Vec::new());
    while !is_enough(&lines, &notes) {
        let next = runtime.block_on(async { tokio::time::timeout(PATIENCE, feed.next()).await });
        let next = next.unwrap_or_else(|_| panic!("no more than {lines:?} {notes:?}"));
        let next = next.expect("it does not stop");
        lines.extend(texts(&next));
        notes.extend(next.notes);
    }
    (lines, notes)
}

#[test]
fn who_follows_lines_at_one_broker_sees_what_all_take() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let disks: Vec<MemoryDisk> = (0..3).map(|_| MemoryDisk::new()).collect();
    let start_one = |id: usize| start(&runtime, &site, id as u64, &disks[id - 1]);
    let (first, second, third) = (start_one(1), start_one(2), start_one(3));
    let tenant = TenantName::parse("new").expect("a name");
    assert_eq!(first.broker.tenant_id(tenant), NO_TENANT);
    let mut feed = first.broker.subscribe_lines(tenant, Vec::new()).expect("below the limit");
    let mut here = second.broker.subscribe_lines_here(tenant, Vec::new()).expect("below the limit");
    runtime.block_on(feed.begun());
    // From here on nothing is missed, also of a tenant that is not yet.
    let mut wanted = Vec::new();
    for (id, at) in [(3, &third), (1, &first), (2, &second), (3, &third)] {
        wanted.push(format!("line {} at {id}", wanted.len()));
        push(&at.broker, tenant, wanted.last().expect("just put"));
        push(&at.broker, TenantName::DEFAULT, "of another tenant");
    }
    let (mut lines, notes) = told(&runtime, &mut feed, |lines, _| lines.len() >= 4);
    // Those of one broker are in order.
    lines.sort();
    assert_eq!((lines, notes), (wanted, Vec::new()));
    let (lines, _) = told(&runtime, &mut here, |lines, _| !lines.is_empty());
    assert_eq!(lines, ["line 2 at 2"], "of one broker alone");

    third.kill(&runtime, &site, 3);
    let (_, notes) = told(&runtime, &mut feed, |_, notes| !notes.is_empty());
    assert!(notes[0].starts_with("broker b3 does not answer ("), "{notes:?}");
    push(&second.broker, tenant, "the others go on");
    let (lines, notes) = told(&runtime, &mut feed, |lines, _| !lines.is_empty());
    assert_eq!((lines, notes.len()), (vec!["the others go on".to_owned()], 0), "{notes:?}");

    let third = start_one(3);
    let (_, notes) = told(&runtime, &mut feed, |_, notes| !notes.is_empty());
    assert!(notes[0].starts_with("broker b3 answers again"), "{notes:?}");
    push(&third.broker, tenant, "back");
    let (lines, _) = told(&runtime, &mut feed, |lines, _| !lines.is_empty());
    assert_eq!(lines, ["back"]);

    // Nobody follows at the others when nobody does here.
    drop((feed, here));
    let all = [first, second, third];
    let subscriptions = |one: &Running| one.broker.inner.lines.heads.hub().subscriptions();
    let end = Instant::now() + PATIENCE;
    while all.iter().any(|one| subscriptions(one) > 0) {
        assert!(Instant::now() < end, "they are not let go");
        std::thread::sleep(Duration::from_millis(20));
    }
    for (id, one) in (1..).zip(all) {
        one.kill(&runtime, &site, id);
    }
}
