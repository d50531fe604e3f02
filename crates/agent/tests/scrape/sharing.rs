//! Scrapers that share targets: each scrape is one's alone, and moving ends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use agent::scrape::{Sharing, Whose};

use crate::support::{Scraped, Target};

const INTERVAL_MS: i64 = 200;

/// Everything is the first one's until a moment, and the second one's from then on.
struct Moves {
    at_ms: Arc<AtomicI64>,
    is_first: bool,
}

impl Sharing for Moves {
    fn whose(&self, _: u64, due_ms: i64) -> Whose {
        let is_firsts = due_ms < self.at_ms.load(Ordering::Relaxed);
        match is_firsts == self.is_first {
            true => Whose::Own,
            false => Whose::Of(if is_firsts { "first" } else { "second" }.to_owned()),
        }
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
        Some(Arc::new(Moves { at_ms, is_first }) as Arc<dyn Sharing>)
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
