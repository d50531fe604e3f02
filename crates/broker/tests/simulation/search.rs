//! One seed after the other, for a while or so many.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a simulation went through.
pub(crate) struct Report {
    /// In words, for a human who looks at one seed.
    pub(crate) line: String,
    /// Bad things that were done to it.
    pub(crate) faults: u64,
    /// By its own clock.
    pub(crate) duration: Duration,
}

/// Sums of many.
#[derive(Default)]
struct Sums {
    seeds: AtomicU64,
    faults: AtomicU64,
    millis: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    invented: AtomicU64,
    otherwise: AtomicU64,
}

impl Sums {
    fn add(&self, report: &Report) {
        let millis = u64::try_from(report.duration.as_millis()).expect("some minutes");
        self.faults.fetch_add(report.faults, Ordering::Relaxed);
        self.millis.fetch_add(millis, Ordering::Relaxed);
    }

    /// Counts a failure by what the oracle said of it.
    fn count(&self, words: &str) {
        let kind = if words.ends_with("is lost") {
            &self.lost
        } else if words.ends_with("is invented") {
            &self.invented
        } else if words.ends_with("times") {
            &self.doubled
        } else {
            &self.otherwise
        };
        kind.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is searched.
pub(crate) struct Extent {
    /// The first seed.
    pub(crate) first: u64,
    /// So many, if time does not end before.
    pub(crate) seeds: Option<u64>,
    /// For so long: what has begun is ended.
    pub(crate) time: Option<Duration>,
    /// On so many threads.
    pub(crate) threads: usize,
}

/// Simulates seeds; yields whether none failed. Each that did is named with the command that shows it
/// again. The last line has the sums.
pub(crate) fn search(extent: &Extent, simulate: fn(u64) -> Report) -> bool {
    let Extent { first, seeds, time, threads } = *extent;
    let end = time.map(|time| Instant::now() + time);
    let sums = Sums::default();
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while end.is_none_or(|end| Instant::now() < end) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seeds.is_some_and(|seeds| seed - first >= seeds) {
                        return;
                    }
                    sums.seeds.fetch_add(1, Ordering::Relaxed);
                    match catch_unwind(AssertUnwindSafe(|| simulate(seed))) {
                        Ok(report) => sums.add(&report),
                        Err(panic) => sums.count(words_of(&*panic)),
                    }
                }
            });
        }
    });
    let of = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
    let failed = [&sums.lost, &sums.doubled, &sums.invented, &sums.otherwise].map(of);
    eprintln!(
        "simulate: seeds {first} to {}, {} faults, {:.1} simulated hours: {} lost, {} doubled, {} invented, \
         {} failed otherwise",
        first + of(&sums.seeds) - 1,
        of(&sums.faults),
        Duration::from_millis(of(&sums.millis)).as_secs_f64() / 3_600.0,
        failed[0],
        failed[1],
        failed[2],
        failed[3],
    );
    failed.iter().sum::<u64>() == 0
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default()
}
