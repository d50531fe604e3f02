//! Scrapers that share targets: each scrape is one's alone, and moving ends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use agent::scrape::{Sharing, Whose};
use model::TimeRange;
use tokio::sync::watch;

use crate::support::{Scraped, Target};

const INTERVAL_MS: i64 = 200;

/// Everything is the first one's until a moment, and the second one's from then on.
struct Moves {
    at_ms: Arc<AtomicI64>,
    is_first: bool,
    gone: Option<watch::Sender<TimeRange>>,
}

impl Sharing for Moves {
    fn whose(&self, _: u64, due_ms: i64) -> Whose {
        let is_firsts = due_ms < self.at_ms.load(Ordering::Relaxed);
        match is_firsts == self.is_first {
            true => Whose::Own,
            false => Whose::Of(if is_firsts { "first" } else { "second" }.to_owned()),
        }
    }

    fn gone(&self) -> Option<watch::Receiver<TimeRange>> {
        self.gone.as_ref().map(watch::Sender::subscribe)
    }

    fn own_name(&self) -> String {
        if self.is_first { "first" } else { "second" }.to_owned()
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_millis()).expect("milliseconds")
}

#[tokio::test]
async fn a_target_moves_without_a_gap_a_double_or_a_marker() {
    let target = Target::text("a 1\n").await;
    let yaml = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs: [{{job_name: j, static_configs: [{{targets: ['{}']}}]}}]
",
        target.address
    );
    let at_ms = Arc::new(AtomicI64::new(i64::MAX));
    let sharing = |is_first| {
        let at_ms = Arc::clone(&at_ms);
        Some(Arc::new(Moves { at_ms, is_first, gone: None }) as Arc<dyn Sharing>)
    };
    let mut first = Scraped::start_sharing(&yaml, sharing(true)).await;
    let mut second = Scraped::start_sharing(&yaml, sharing(false)).await;
    let a = format!("a{{instance=\"{}\", job=\"j\"}}", target.address);
    first.until(|scraped| scraped.count(&a) >= 3).await;
    let scraped_by = |scraped: &Scraped| scraped.scraper.targets(None)[0].scraped_by.clone();
    assert_eq!(scraped_by(&first).as_deref(), Some("first"));
    assert_eq!(scraped_by(&second).as_deref(), Some("first"));
    at_ms.store(now_ms() + 500, Ordering::Relaxed);
    second.until(|scraped| scraped.count(&a) >= 3).await;
    first.during(Duration::from_millis(1)).await;
    second.during(Duration::from_millis(1)).await;
    // What it had is gone for good: nothing ends when the target is given up.
    at_ms.store(i64::MAX, Ordering::Relaxed);
    first.until(|scraped| scraped.count(&a) >= 6).await;
    second.during(Duration::from_millis(300)).await;
    assert_eq!(scraped_by(&second).as_deref(), Some("first"));
    let times = |scraped: &Scraped| -> Vec<i64> {
        scraped
            .of(&a)
            .iter()
            .map(|(t_ms, value)| {
                assert!(value.is_some(), "a marker at {t_ms}");
                *t_ms
            })
            .collect()
    };
    // One later than the tolerance bears its own time: still of its own interval.
    let mut ticks: Vec<i64> =
        times(&first).into_iter().chain(times(&second)).map(|t_ms| t_ms / INTERVAL_MS).collect();
    ticks.sort_unstable();
    let alone = ticks.windows(2).all(|pair| pair[0] != pair[1]);
    assert!(alone, "scraped twice: {ticks:?}");
    // One that was late may have taken the place of the next.
    let gap = ticks.windows(2).map(|pair| pair[1] - pair[0]).max().expect("several");
    assert!(gap <= 2, "a gap of {gap} intervals: {ticks:?}");
    // Each told of those it took.
    assert!(second.series.keys().any(|series| series.starts_with("up{")));
}

/// What one that is gone did not do any more is made up for at once, and what it did is not.
#[tokio::test]
async fn a_scrape_that_nobody_did_is_made_up_for() {
    let target = Target::text("a 1\n").await;
    let yaml = format!(
        "global: {{scrape_interval: 3s, scrape_timeout: 3s}}
scrape_configs: [{{job_name: j, static_configs: [{{targets: ['{}']}}]}}]
",
        target.address
    );
    let at_ms = Arc::new(AtomicI64::new(i64::MAX));
    let gone = watch::Sender::new(TimeRange::new(0, 0));
    let sharing = |is_first| {
        let (at_ms, gone) = (Arc::clone(&at_ms), Some(gone.clone()));
        Some(Arc::new(Moves { at_ms, is_first, gone }) as Arc<dyn Sharing>)
    };
    let mut first = Scraped::start_sharing(&yaml, sharing(true)).await;
    let mut second = Scraped::start_sharing(&yaml, sharing(false)).await;
    let a = format!("a{{instance=\"{}\", job=\"j\"}}", target.address);
    first.until(|scraped| scraped.count(&a) >= 1).await;
    let done_ms = first.of(&a)[0].0;
    drop(first);
    let wait_until = async |t_ms: i64| {
        let left = u64::try_from(t_ms - now_ms()).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(left)).await;
    };
    // It is gone behind a scrape, and so it is found before the next one: nothing is to be made up for.
    wait_until(done_ms + 1_000).await;
    at_ms.store(done_ms + 1_000, Ordering::Relaxed);
    gone.send_replace(TimeRange::new(done_ms + 500, done_ms + 1_000));
    second.during(Duration::from_millis(500)).await;
    assert_eq!(second.count(&a), 0, "{:?}", second.series);
    // It is found behind the next one.
    at_ms.store(i64::MAX, Ordering::Relaxed);
    wait_until(done_ms + 4_000).await;
    at_ms.store(done_ms + 4_000, Ordering::Relaxed);
    gone.send_replace(TimeRange::new(done_ms + 500, done_ms + 4_000));
    second.until(|scraped| scraped.count(&a) >= 2).await;
    let times: Vec<i64> = second.of(&a).iter().map(|(t_ms, _)| t_ms - done_ms).collect();
    assert!((4_000..5_500).contains(&times[0]), "{times:?}");
    assert!((5_900..9_000).contains(&times[1]), "back to its times: {times:?}");
}
