//! Cases that are told step by step, on the same clock.

use std::sync::Arc;
use std::time::Duration;

use broker::{BatchIdentity, Broker, CommitError, Incarnation, IngestOutcome, Lane};
use consensus::seed_chance;
use model::{DEFAULT_TENANT, MetricBatch, TimeRange};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::clients::Series;
use crate::plan::{Patience, Times};
use crate::{BEGAN, Cluster, START_MS, all, clients, member, query, read, right_clocks, set_clock};

fn on_its_own_clock(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        seed_chance(1);
        BEGAN.set(Some(Instant::now()));
        right_clocks();
        test.await;
    });
    runtime.shutdown_background();
}

/// What is written.
const SERIES: Series = Series { of: 's', number: 0, part: 0 };

/// Three brokers that are open.
async fn three() -> Cluster {
    three_that_flush_after(Patience::LONG.flush_interval).await
}

async fn three_that_flush_after(flush_interval: Duration) -> Cluster {
    // One that is cut off for long goes on.
    let adopt_after = Duration::from_secs(3_600);
    let patience = Patience { flush_interval, adopt_after, ..Patience::LONG };
    let mut cluster = Cluster::new(1, patience, Times::NOW);
    cluster.start(1).await.begin().await.expect("the first begins");
    for id in 2..=3 {
        let joining = cluster.start(id).await;
        joining.join(&[member(1)], Duration::from_secs(30)).await.expect("it is taken in");
    }
    cluster.all_open(3).await;
    sleep(Duration::from_secs(5)).await;
    cluster
}

fn send(broker: &Broker, t_ms: i64) -> oneshot::Receiver<Result<IngestOutcome, CommitError>> {
    let mut batch = MetricBatch::default();
    batch.push(&clients::labels(SERIES), t_ms, 1.0);
    let (reply, answer) = oneshot::channel();
    broker.ingest(DEFAULT_TENANT, &batch, move |result| _ = reply.send(result));
    answer
}

#[test]
fn what_waits_behind_a_segment_in_doubt_is_answered() {
    on_its_own_clock(async {
        let cluster = three().await;
        let id = cluster.nodes.iter().find(|(_, node)| node.consensus.is_leader());
        let id = *id.expect("one leads").0;
        let broker = cluster.site.brokers.lock()[&id].clone();
        send(&broker, START_MS).await.expect("answered").expect("stored");
        for other in (1..=3).filter(|other| *other != id) {
            cluster.world.cut.lock().extend([(id, other), (other, id)]);
        }
        let in_doubt = send(&broker, START_MS + 1);
        sleep(Duration::from_secs(2)).await;
        let behind = send(&broker, START_MS + 2);
        let told = timeout(Duration::from_secs(10), in_doubt).await.expect("in time");
        assert!(matches!(told, Ok(Err(CommitError::Unknown(_)))), "{told:?}");
        let told = timeout(Duration::from_secs(25), behind).await.expect("in time");
        assert!(matches!(told, Ok(Err(CommitError::NoQuorum(_)))), "{told:?}");
        // What was refused never counts, what was in doubt may; what comes then is stored.
        cluster.world.heal();
        sleep(Duration::from_secs(30)).await;
        send(&broker, START_MS + 3).await.expect("answered").expect("stored");
        let found = read(&broker, &[all()], TimeRange::all());
        let has = |t_ms| found.contains_key(&(SERIES, t_ms));
        assert!(has(START_MS) && !has(START_MS + 2) && has(START_MS + 3), "{found:?}");
    });
}

#[test]
fn a_start_goes_on_without_a_block_that_the_store_keeps_back_until_it_gives_it() {
    on_its_own_clock(async {
        let mut cluster = three().await;
        let broker = cluster.site.brokers.lock()[&1].clone();
        send(&broker, START_MS).await.expect("answered").expect("stored");
        sleep(Duration::from_secs(10)).await;
        drop(broker);
        let is_block = |key: &&String| key.starts_with("blocks/");
        let blocks: Vec<String> =
            cluster.world.objects.lock().keys().filter(is_block).cloned().collect();
        assert!(!blocks.is_empty());
        cluster.world.kept_back.lock().extend(blocks);
        cluster.crash(1);
        cluster.all_open(3).await;
        let broker = cluster.site.brokers.lock()[&1].clone();
        let missing = || broker.reader(DEFAULT_TENANT).missing(TimeRange::all());
        assert!(read(&broker, &[all()], TimeRange::all()).is_empty() && !missing().is_empty());
        send(&broker, START_MS + 1).await.expect("answered").expect("stored");
        cluster.world.kept_back.lock().clear();
        sleep(Duration::from_secs(5)).await;
        assert_eq!((read(&broker, &[all()], TimeRange::all()).len(), missing().len()), (2, 0));
    });
}

#[test]
fn heads_made_of_segments_go_when_nobody_needs_them_and_the_broker_answers() {
    on_its_own_clock(async {
        let cluster = three_that_flush_after(Duration::from_secs(400)).await;
        // Both hear the leader.
        let follows = |id: &u64| !cluster.nodes[id].consensus.is_leader();
        let ids: Vec<u64> = (1..=3).filter(follows).collect();
        let [asks, falls_silent] = ids[..] else { panic!("one leads: {ids:?}") };
        let broker = |id| cluster.site.brokers.lock()[&id].clone();
        send(&broker(falls_silent), START_MS).await.expect("answered").expect("stored");
        let bytes = || cluster.sum("watchfire_broker_foreign_head_bytes");
        let ask = async || {
            let (found, missing) = query(&broker(asks), Duration::ZERO).await;
            assert_eq!((found.expect("readable").len(), missing), (1, Vec::new()));
        };
        cluster.world.cut.lock().insert((asks, falls_silent));
        ask().await;
        assert!(bytes() > 0.0);
        cluster.world.heal();
        // The first makes somebody ask whom nobody waits for.
        for _ in 0..3 {
            sleep(Duration::from_secs(3)).await;
            ask().await;
        }
        assert!(bytes() > 0.0, "it may fall silent again");
        sleep(Duration::from_secs(130)).await;
        assert_eq!(bytes(), 0.0, "it answers");
        cluster.world.cut.lock().insert((asks, falls_silent));
        ask().await;
        assert!(bytes() > 0.0);
        sleep(Duration::from_secs(130)).await;
        assert!(bytes() > 0.0, "it is silent");
        sleep(Duration::from_secs(300)).await;
        assert_eq!(bytes(), 0.0, "all of it is in blocks");
    });
}

#[test]
fn a_query_asks_for_a_leader_once_however_much_it_selects() {
    on_its_own_clock(async {
        let cluster = three().await;
        let broker = cluster.site.brokers.lock()[&1].clone();
        send(&broker, START_MS).await.expect("answered").expect("stored");
        cluster.world.cut.lock().extend([(1, 2), (2, 1), (1, 3), (3, 1)]);
        // Whoever led does not any more.
        sleep(Duration::from_secs(10)).await;
        let reader = broker.reader(DEFAULT_TENANT);
        let began = Instant::now();
        for _ in 0..5 {
            let found = reader.select_in_task(&[all()], TimeRange::all()).await;
            assert_eq!(found.expect("readable").len(), 1);
        }
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
        let missing = reader.missing(TimeRange::all());
        assert!(missing.len() == 1 && missing[0].contains("no leader"), "{missing:?}");
    });
}

#[test]
fn who_writes_to_a_broker_whose_clock_is_behind_is_not_forgotten_by_the_others() {
    on_its_own_clock(async {
        let cluster = three().await;
        // Farther than anything is kept.
        set_clock(1, -400 * 86_400_000);
        sleep(Duration::from_secs(3)).await;
        let broker = cluster.site.brokers.lock()[&1].clone();
        let (agent, incarnation): (Arc<str>, _) = ("agent".into(), Incarnation([1; 16]));
        let (lane, seq, after_seq) = (Lane::Live, 1, 0);
        let identity =
            BatchIdentity { agent: Arc::clone(&agent), incarnation, lane, seq, after_seq };
        let mut batch = MetricBatch::default();
        batch.push(&clients::labels(SERIES), START_MS, 1.0);
        let (reply, answer) = oneshot::channel();
        broker.ingest_from_agent(DEFAULT_TENANT, &identity, &batch, |told| _ = reply.send(told));
        answer.await.expect("answered").expect("stored");
        // What is too old is looked for every minute.
        sleep(Duration::from_secs(150)).await;
        for node in cluster.nodes.values() {
            let marks = node.consensus.read(|state| state.marks_of(&agent, incarnation));
            assert_eq!(marks.live_through, 1);
        }
        let (reply, answer) = oneshot::channel();
        broker.ingest_from_agent(DEFAULT_TENANT, &identity, &batch, |told| _ = reply.send(told));
        let again = answer.await.expect("answered").expect("known");
        assert!(again.was_known);
    });
}
