//! The limit, its shares, and the thread that measures.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::account::{Account, Room};
use crate::system::{anonymous_bytes, memory_below};

/// Of what the process may use, this part is the limit by default. The rest is for the kernel, which
/// counts buffers and sockets as the process' own, and for what grows between two measurements.
const DEFAULT_SHARE_PERCENT: u64 = 75;
/// Less is not enough to run at all.
const MIN_DEFAULT_BYTES: u64 = 64 << 20;
/// Where the system does not tell.
const UNKNOWN_MEMORY_BYTES: u64 = 2 << 30;

/// Parts of the limit, in percent, as measured.
const NO_NEW_SERIES_PERCENT: u64 = 75;
const QUERIES_WAIT_PERCENT: u64 = 85;
const QUERIES_STOP_PERCENT: u64 = 95;
/// Above this a cache may keep half of what it otherwise may; while queries wait, nothing.
const HALF_CACHES_PERCENT: u64 = 75;
/// Above this heads are written to blocks early, if that gives back something.
const EARLY_FLUSH_PERCENT: u64 = 70;

/// How often memory is measured. In this time 16,000 new series come at the fastest, 5 MiB.
const MEASURE_EVERY: Duration = Duration::from_millis(50);
/// How often heads are asked for their size, in measurements: that looks at every label.
const ASK_HEADS_EVERY: u32 = 5;
/// After a query was stopped its memory takes a moment to come free.
const STOP_EVERY: Duration = Duration::from_millis(300);

/// What a new series takes in registry and head, as long as they were not asked. Measured, with six
/// labels and one sample: 267 bytes counted where labels repeat, 500 where two of them are unique.
const SERIES_BYTES: u64 = 512;

/// What is configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// `memory.limit_bytes`; `None` for three quarters of what the process may use.
    pub limit_bytes: Option<u64>,
    /// `limits.max_query_bytes`; `None` for all that queries may hold together.
    pub max_query_bytes: Option<usize>,
}

/// Asks for the bytes of all heads; `None` once there are none any more.
type AskHeads = Box<dyn FnMut() -> Option<u64> + Send>;

/// Lets a cache keep so many percent of what it otherwise may, and yields its bytes then; `None` once
/// there is no cache any more.
type AskCache = Box<dyn FnMut(usize) -> Option<u64> + Send>;

/// The budget of memory of this process.
pub struct Governor {
    limit_bytes: u64,
    max_query_bytes: usize,
    measured: AtomicU64,
    heads: AtomicU64,
    queries: AtomicUsize,
    accounts: Mutex<Vec<Weak<Account>>>,
    ask_heads: Mutex<Option<AskHeads>>,
    ask_cache: Mutex<Option<AskCache>>,
    cache: AtomicU64,
    refused_series: AtomicU64,
    early_flushes: AtomicU64,
    refused_queries: AtomicU64,
    stopped_queries: AtomicU64,
}

impl std::fmt::Debug for Governor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Governor").field("limit_bytes", &self.limit_bytes).finish_non_exhaustive()
    }
}

/// One number with its name, for `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// The metric's name.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Its value now.
    pub value: f64,
}

impl Settings {
    /// The limit in effect, bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes.unwrap_or_else(|| {
            let usable = memory_below(Path::new("/")).map(|memory| memory.usable_bytes());
            let usable = usable.unwrap_or(UNKNOWN_MEMORY_BYTES);
            (usable / 100 * DEFAULT_SHARE_PERCENT).max(MIN_DEFAULT_BYTES)
        })
    }
}

impl Governor {
    /// A budget that nobody measures yet.
    pub fn new(settings: Settings) -> Arc<Governor> {
        let limit_bytes = settings.limit_bytes();
        let all_queries = usize::try_from(limit_bytes / 4).unwrap_or(usize::MAX);
        let max_query_bytes = settings.max_query_bytes.unwrap_or(all_queries).min(all_queries);
        Arc::new(Governor {
            limit_bytes,
            max_query_bytes,
            measured: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            queries: AtomicUsize::new(0),
            accounts: Mutex::default(),
            ask_heads: Mutex::default(),
            ask_cache: Mutex::default(),
            cache: AtomicU64::new(0),
            refused_series: AtomicU64::new(0),
            early_flushes: AtomicU64::new(0),
            refused_queries: AtomicU64::new(0),
            stopped_queries: AtomicU64::new(0),
        })
    }

    /// A budget that is never used up, for what runs without a limit.
    pub fn unlimited() -> Arc<Governor> {
        Governor::new(Settings { limit_bytes: Some(u64::MAX / 100), max_query_bytes: None })
    }

    /// Measures from now on, on a thread of its own, as long as somebody has the governor.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let governor = Arc::downgrade(self);
        let measure = move || {
            let mut ticks = 0;
            let mut stopped: Option<Instant> = None;
            while let Some(governor) = governor.upgrade() {
                if let Some(bytes) = anonymous_bytes() {
                    governor.measured.store(bytes, Ordering::Relaxed);
                }
                governor.measure_cache();
                if ticks % ASK_HEADS_EVERY == 0 {
                    governor.measure_heads();
                }
                ticks += 1;
                let has_stopped = stopped.is_some_and(|at| at.elapsed() < STOP_EVERY);
                if governor.is_above(QUERIES_STOP_PERCENT)
                    && !has_stopped
                    && governor.stop_largest_query()
                {
                    stopped = Some(Instant::now());
                }
                drop(governor);
                std::thread::sleep(MEASURE_EVERY);
            }
        };
        std::thread::Builder::new().name("memory".to_owned()).spawn(measure).map(drop)
    }

    /// `ask` yields the bytes of series and samples in heads, and `None` when there are no heads any
    /// more.
    pub fn watch_heads(&self, ask: impl FnMut() -> Option<u64> + Send + 'static) {
        *self.ask_heads.lock() = Some(Box::new(ask));
        self.measure_heads();
    }

    fn measure_heads(&self) {
        let mut ask = self.ask_heads.lock();
        let Some(asked) = ask.as_mut().map(|ask| ask()) else { return };
        if asked.is_none() {
            *ask = None;
        }
        self.heads.store(asked.unwrap_or(0), Ordering::Relaxed);
    }

    /// `ask` lets a cache keep so many percent of what it otherwise may, gives up what is more, and
    /// yields its bytes then; `None` when there is no cache any more.
    pub fn watch_cache(&self, ask: impl FnMut(usize) -> Option<u64> + Send + 'static) {
        *self.ask_cache.lock() = Some(Box::new(ask));
        self.measure_cache();
    }

    /// What is kept to be quicker goes before anything that somebody waits for is refused.
    fn measure_cache(&self) {
        let percent = match () {
            () if self.is_above(QUERIES_WAIT_PERCENT) => 0,
            () if self.is_above(HALF_CACHES_PERCENT) => 50,
            () => 100,
        };
        let mut ask = self.ask_cache.lock();
        let Some(asked) = ask.as_mut().map(|ask| ask(percent)) else { return };
        if asked.is_none() {
            *ask = None;
        }
        self.cache.store(asked.unwrap_or(0), Ordering::Relaxed);
    }

    fn is_above(&self, percent: u64) -> bool {
        self.measured.load(Ordering::Relaxed) > self.limit_bytes / 100 * percent
    }

    /// The limit of all, bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// What series and samples of heads may take.
    pub fn heads_limit_bytes(&self) -> u64 {
        self.limit_bytes / 2
    }

    /// Samples of heads above this are written to blocks.
    pub fn flush_bytes(&self) -> u64 {
        self.limit_bytes / 4
    }

    /// What all queries may hold together.
    pub fn queries_limit_bytes(&self) -> usize {
        usize::try_from(self.limit_bytes / 4).unwrap_or(usize::MAX)
    }

    /// How many new series may be taken now.
    pub fn room_for_series(&self) -> usize {
        if self.is_above(NO_NEW_SERIES_PERCENT) {
            return 0;
        }
        let heads = self.heads.load(Ordering::Relaxed);
        let left = self.heads_limit_bytes().saturating_sub(heads) / SERIES_BYTES;
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// What the sender of a new series gets when there is no room for it.
    pub fn series_refusal(&self) -> String {
        format!(
            "memory is short: {} bytes are in use and memory.limit_bytes is {}, of which series \
             and fresh samples take {} and may take {}: the new series was not stored, series \
             that are known still are; find labels with too many values (/api/v1/status/tsdb) and \
             drop them at the source, or give the process more memory",
            self.measured.load(Ordering::Relaxed),
            self.limit_bytes,
            self.heads.load(Ordering::Relaxed),
            self.heads_limit_bytes()
        )
    }

    /// Counts series that were taken until heads are asked again.
    pub fn add_series(&self, series: usize) {
        self.heads.fetch_add(series as u64 * SERIES_BYTES, Ordering::Relaxed);
    }

    /// Counts series that were refused.
    pub fn count_refused_series(&self, series: u64) {
        self.refused_series.fetch_add(series, Ordering::Relaxed);
    }

    /// Whether heads take three quarters of what they may, so that what is idle should go.
    pub fn heads_are_nearly_full(&self) -> bool {
        self.heads.load(Ordering::Relaxed) > self.heads_limit_bytes() / 4 * 3
    }

    /// Whether new series are refused now.
    pub fn is_short(&self) -> bool {
        self.room_for_series() == 0
    }

    /// Whether heads with so many bytes of samples should be written to blocks before their time.
    pub fn wants_flush(&self, head_bytes: u64) -> bool {
        self.is_above(EARLY_FLUSH_PERCENT) && head_bytes >= self.limit_bytes / 16
    }

    /// Counts a flush that memory made due.
    pub fn count_early_flush(&self) {
        self.early_flushes.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a query may begin; if not, it waits.
    pub fn admits_query(&self) -> bool {
        !self.is_above(QUERIES_WAIT_PERCENT)
    }

    /// Why a query may not begin.
    pub fn query_refusal(&self) -> String {
        format!(
            "memory is short: {} bytes are in use and memory.limit_bytes is {}; ask again later, \
             or give the process more memory",
            self.measured.load(Ordering::Relaxed),
            self.limit_bytes
        )
    }

    /// Counts a query that was refused.
    pub fn count_refused_query(&self) {
        self.refused_queries.fetch_add(1, Ordering::Relaxed);
    }

    /// The account of a new query.
    pub fn account(self: &Arc<Self>) -> Arc<Account> {
        let account = Arc::new(Account::new(Arc::clone(self), self.max_query_bytes));
        let mut accounts = self.accounts.lock();
        accounts.retain(|known| known.strong_count() > 0);
        accounts.push(Arc::downgrade(&account));
        account
    }

    /// Memory for background work, out of what queries may hold.
    ///
    /// # Errors
    /// Why there is not so much now.
    pub fn room(self: &Arc<Self>, bytes: usize) -> Result<Room, String> {
        self.take(bytes)?;
        Ok(Room { governor: Arc::clone(self), bytes })
    }

    /// Stops the query that holds most; whether there was one that was not stopped yet.
    fn stop_largest_query(&self) -> bool {
        let running: Vec<Arc<Account>> =
            self.accounts.lock().iter().filter_map(Weak::upgrade).collect();
        let running = running.iter().filter(|account| !account.is_cancelled());
        let Some(largest) = running.max_by_key(|account| account.bytes()) else { return false };
        if largest.bytes() == 0 {
            return false;
        }
        self.stopped_queries.fetch_add(1, Ordering::Relaxed);
        largest.stop(format!(
            "the query was stopped because it held most ({} bytes) when the process came near \
             memory.limit_bytes, which is {}: select fewer series, use a shorter range or a longer \
             step, or give the process more memory",
            largest.bytes(),
            self.limit_bytes
        ));
        true
    }

    pub(crate) fn take(&self, bytes: usize) -> Result<(), String> {
        let limit = self.queries_limit_bytes();
        let fits = |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
        let taken = self.queries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(drop).map_err(|held| {
            format!(
                "the queries that run now hold {held} bytes and may hold {limit}, a quarter of \
                 memory.limit_bytes: ask again later, select fewer series, or give the process \
                 more memory"
            )
        })
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.queries.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Own metrics.
    pub fn rows(&self) -> Vec<Row> {
        let gauge = |name, help, value: u64| Row { name, help, kind: "gauge", value: value as f64 };
        let counter = |name, help, value: &AtomicU64| Row {
            name,
            help,
            kind: "counter",
            value: value.load(Ordering::Relaxed) as f64,
        };
        vec![
            gauge(
                "watchfire_governor_limit_bytes",
                "Memory the process may take, memory.limit_bytes.",
                self.limit_bytes,
            ),
            gauge(
                "watchfire_governor_measured_bytes",
                "Anonymous memory the process has, as measured 20 times a second.",
                self.measured.load(Ordering::Relaxed),
            ),
            gauge(
                "watchfire_governor_heads_bytes",
                "Series and samples in heads.",
                self.heads.load(Ordering::Relaxed),
            ),
            gauge(
                "watchfire_governor_heads_limit_bytes",
                "Above this no new series is taken.",
                self.heads_limit_bytes(),
            ),
            gauge(
                "watchfire_governor_cache_bytes",
                "What is kept of blocks for queries to come; less while memory is short.",
                self.cache.load(Ordering::Relaxed),
            ),
            gauge(
                "watchfire_governor_queries_bytes",
                "Memory that running queries hold, as counted.",
                self.queries.load(Ordering::Relaxed) as u64,
            ),
            gauge(
                "watchfire_governor_queries_limit_bytes",
                "What running queries may hold together.",
                self.queries_limit_bytes() as u64,
            ),
            counter(
                "watchfire_governor_series_refused_total",
                "New series refused because memory was short; one that comes again counts again.",
                &self.refused_series,
            ),
            counter(
                "watchfire_governor_early_flushes_total",
                "Flushes made because memory was short.",
                &self.early_flushes,
            ),
            counter(
                "watchfire_governor_queries_refused_total",
                "Queries refused because others held all there is, or memory was short.",
                &self.refused_queries,
            ),
            counter(
                "watchfire_governor_queries_stopped_total",
                "Queries stopped because the process came near its limit and they held most.",
                &self.stopped_queries,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Refused;

    fn governor(limit_bytes: u64, max_query_bytes: Option<usize>) -> Arc<Governor> {
        Governor::new(Settings { limit_bytes: Some(limit_bytes), max_query_bytes })
    }

    #[test]
    fn queries_share_a_quarter() {
        let governor = governor(4_000, Some(800));
        let (one, two) = (governor.account(), governor.account());
        let held = one.hold(700).expect("room");
        assert!(matches!(one.take(200), Err(Refused::TooLarge(text)) if text.contains("800")));
        two.take(250).expect("room");
        // It holds something, so it does not wait.
        assert!(matches!(two.take(100), Err(Refused::Later(text)) if text.contains("1000")));
        drop(held);
        two.take(500).expect("what the other one gave back");
        assert_eq!((two.bytes(), one.bytes(), one.peak_bytes()), (750, 0, 700));
        drop(two);
        assert_eq!(governor.queries.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn background_work_shares_with_queries_and_does_not_wait() {
        let governor = governor(4_000, Some(100));
        let mut room = governor.room(600).expect("more than one query may hold");
        let account = governor.account();
        account.take(100).expect("room");
        assert!(room.resize(901).is_err_and(|text| text.contains("1000")));
        room.resize(900).expect("the rest");
        assert!(governor.room(1).is_err());
        drop((room, account));
        assert_eq!(governor.queries.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_holds_nothing_waits() {
        let governor = governor(400, None);
        let first = governor.account();
        first.take(100).expect("room");
        let second = governor.account();
        let waiting = std::thread::spawn(move || second.take(60));
        std::thread::sleep(Duration::from_millis(50));
        first.give_back(100);
        waiting.join().expect("no panic").expect("there is room now");
    }

    #[test]
    fn the_largest_query_is_stopped_near_the_limit() {
        let governor = governor(40 << 20, None);
        governor.start().expect("a thread");
        let (small, large) = (governor.account(), governor.account());
        small.take(1_000).expect("room");
        large.take(2_000).expect("room");
        let taken = vec![1_u8; 64 << 20];
        let begin = Instant::now();
        while !large.is_cancelled() {
            assert!(begin.elapsed() < Duration::from_secs(10), "nothing was stopped");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(large.why_stopped().is_some_and(|why| why.contains("memory.limit_bytes")));
        assert_eq!(large.take(1), Err(Refused::Cancelled));
        assert!(!governor.admits_query() && governor.is_short(), "{} bytes", taken.len());
    }

    #[test]
    fn a_cache_gives_way() {
        let governor = governor(1_000, None);
        let kept = Arc::new(AtomicUsize::new(0));
        let cache = Arc::downgrade(&kept);
        governor.watch_cache(move |percent| {
            cache.upgrade()?.store(percent, Ordering::Relaxed);
            Some(percent as u64 * 2)
        });
        let cache_bytes = || {
            let rows = governor.rows();
            let row = rows.iter().find(|row| row.name == "watchfire_governor_cache_bytes");
            row.expect("a row").value
        };
        for (measured, percent) in [(750, 100), (751, 50), (850, 50), (851, 0), (700, 100)] {
            governor.measured.store(measured, Ordering::Relaxed);
            governor.measure_cache();
            assert_eq!(kept.load(Ordering::Relaxed), percent, "{measured}");
            assert_eq!(cache_bytes(), percent as f64 * 2.0);
        }
        drop(kept);
        governor.measure_cache();
        assert_eq!(cache_bytes(), 0.0);
    }

    #[test]
    fn heads_have_a_half() {
        let governor = governor(800_000, None);
        governor.watch_heads(|| Some(100_000));
        assert_eq!(governor.room_for_series(), 585);
        governor.add_series(500);
        assert_eq!(governor.room_for_series(), 85);
        governor.watch_heads(|| Some(500_000));
        assert!(governor.is_short());
        assert!(governor.series_refusal().contains("may take 400000"));
    }
}
