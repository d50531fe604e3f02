//! Subscriptions: what arrives, what is dropped and told.

use super::*;
use model::MatchOp;

fn labels(job: &str) -> Labels {
    Labels::from_pairs([("__name__", "up"), ("job", job)]).expect("valid labels")
}

fn labels_of(ordinal: u32) -> Option<Labels> {
    Some(labels(if ordinal == 0 { "a" } else { "b" }))
}

fn hub_with(job: &str) -> (Arc<LiveHub>, Feed) {
    let hub = Arc::new(LiveHub::default());
    let matcher = Matcher::new("job", MatchOp::Equal, job).expect("no regex");
    let feed = hub.subscribe(TenantName::DEFAULT, vec![matcher]).expect("below the limit");
    (hub, feed)
}

#[tokio::test]
async fn only_what_was_asked_for_arrives() {
    let (hub, mut feed) = hub_with("b");
    hub.publish(
        TenantName::DEFAULT,
        [(0, 1, 1.0), (1, 1, 2.0), (1, 2, 3.0)].into_iter(),
        labels_of,
    );
    hub.publish(TenantName::parse("t1").expect("a name"), [(1, 9, 9.0)].into_iter(), labels_of);
    let batch = feed.next().await;
    assert_eq!(batch.series, [(0, labels("b"))]);
    assert_eq!(batch.samples, [(0, 1, 2.0), (0, 2, 3.0)]);
    hub.publish(TenantName::DEFAULT, [(1, 3, 4.0)].into_iter(), labels_of);
    let batch = feed.next().await;
    assert!(batch.series.is_empty(), "a series is told once");
    assert_eq!(batch.samples, [(0, 3, 4.0)]);
    drop(feed);
    assert!(hub.is_idle());
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed() {
    let (hub, mut feed) = hub_with("a");
    for t_ms in 0..(MAX_WAITING as i64 + 10) {
        hub.publish(TenantName::DEFAULT, [(0, t_ms, 0.0)].into_iter(), labels_of);
    }
    let batch = feed.next().await;
    assert_eq!(batch.missed, 10);
    assert_eq!(batch.samples.len(), MAX_TAKEN);
    assert_eq!(batch.samples[0].1, 10, "the oldest go first");
    let mut taken = batch.samples.len();
    while taken < MAX_WAITING {
        let batch = feed.next().await;
        assert_eq!(batch.missed, 0, "what was missed is told once");
        taken += batch.samples.len();
    }
    assert_eq!(taken, MAX_WAITING);
    assert_eq!(hub.counts().2, 10);
}

#[test]
fn one_tenant_leaves_subscriptions_to_others() {
    let hub = Arc::new(LiveHub::default());
    let fill = |name: &str| {
        let tenant = TenantName::parse(name).expect("a name");
        let feeds: Vec<Feed> =
            std::iter::from_fn(|| hub.subscribe(tenant, Vec::new()).ok()).collect();
        (feeds, hub.subscribe(tenant, Vec::new()).err().expect("full"))
    };
    let (first, refusal) = fill("first");
    assert_eq!(first.len(), 1_024);
    assert!(
        refusal.contains("tenant first has 1024") && refusal.contains("close some"),
        "{refusal}"
    );
    let (second, refusal) = fill("second");
    assert_eq!(second.len(), 341);
    assert!(refusal.contains("the limit is 341"), "{refusal}");
    drop(first);
    let (third, _) = fill("third");
    assert!(third.len() > 700, "{}", third.len());
}

#[tokio::test]
async fn many_slow_readers_share_what_one_could_have() {
    let (hub, mut feed) = hub_with("a");
    let others: Vec<Feed> = (0..99)
        .map(|_| hub.subscribe(TenantName::DEFAULT, Vec::new()).expect("below the limit"))
        .collect();
    hub.publish(TenantName::DEFAULT, (0..MAX_WAITING as i64).map(|t_ms| (0, t_ms, 0.0)), labels_of);
    assert_eq!(feed.next().await.missed, (MAX_WAITING - MIN_WAITING) as u64);
    drop(others);
}

#[tokio::test]
async fn a_series_is_looked_at_once_however_many_subscribe() {
    let (hub, mut first) = hub_with("a");
    let looks = AtomicUsize::new(0);
    let publish = |t_ms| {
        hub.publish(TenantName::DEFAULT, [(0, t_ms, 1.0), (1, t_ms, 2.0)].into_iter(), |ordinal| {
            looks.fetch_add(1, Ordering::Relaxed);
            labels_of(ordinal)
        });
    };
    let everything = || hub.subscribe(TenantName::DEFAULT, Vec::new()).expect("below the limit");
    let mut others: Vec<Feed> = (0..50).map(|_| everything()).collect();
    publish(1);
    publish(2);
    assert_eq!(looks.load(Ordering::Relaxed), 2);
    assert_eq!(first.next().await.samples, [(0, 1, 1.0), (0, 2, 1.0)]);
    for other in &mut others {
        assert_eq!(other.next().await.samples.len(), 4);
    }
    // Whoever comes later sees what was known before, and nobody sees it twice.
    let mut later = everything();
    publish(3);
    assert_eq!(later.next().await.samples, [(0, 3, 1.0), (1, 3, 2.0)]);
    assert_eq!(first.next().await.samples, [(0, 3, 1.0)]);
    assert_eq!(looks.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn who_is_gone_is_forgotten() {
    let (hub, mut stays) = hub_with("a");
    for t_ms in 0..20 {
        let passes_by = hub.subscribe(TenantName::DEFAULT, Vec::new()).expect("below the limit");
        hub.publish(TenantName::DEFAULT, [(0, t_ms, 1.0)].into_iter(), labels_of);
        drop(passes_by);
    }
    assert_eq!(stays.next().await.samples.len(), 20);
    let wanted = hub.subscriptions.read().wanted[&0].len();
    assert!(wanted <= 2, "{wanted} are kept of a series that one subscribes to");
    drop(stays);
    assert!(hub.subscriptions.read().wanted.is_empty() && hub.is_idle());
}

#[tokio::test]
async fn a_reused_ordinal_is_a_new_series() {
    let (hub, mut feed) = hub_with("a");
    hub.publish(TenantName::DEFAULT, [(0, 1, 1.0)].into_iter(), labels_of);
    feed.next().await;
    hub.forget(&[0]);
    hub.publish(TenantName::DEFAULT, [(0, 2, 1.0)].into_iter(), |_| Some(labels("b")));
    hub.publish(TenantName::DEFAULT, [(5, 3, 1.0)].into_iter(), |_| Some(labels("a")));
    let batch = feed.next().await;
    assert_eq!(batch.samples, [(1, 3, 1.0)]);
}

#[tokio::test]
async fn a_subscription_has_a_bounded_number_of_series() {
    let hub = Arc::new(LiveHub::default());
    let mut feed = hub.subscribe(TenantName::DEFAULT, Vec::new()).expect("below the limit");
    let rows = (0..MAX_SERIES as u32 + 5).map(|ordinal| (ordinal, 1, 0.0));
    hub.publish(TenantName::DEFAULT, rows, |ordinal| Some(labels(&ordinal.to_string())));
    let batch = feed.next().await;
    assert_eq!((batch.series.len(), batch.missed), (MAX_SERIES, 5));
    // A series that is forgotten makes room for another.
    hub.forget(&[7]);
    hub.publish(
        TenantName::DEFAULT,
        [(9, 2, 0.0), (MAX_SERIES as u32, 2, 0.0)].into_iter(),
        labels_of,
    );
    let mut last = feed.next().await;
    while last.samples.last() != Some(&(MAX_SERIES as u32, 2, 0.0)) {
        last = feed.next().await;
    }
    assert_eq!(last.missed, 0);
}
