//! Which queries run, which ones ran lately, and how one is stopped.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use governor::{Account, Held, Refused};
use model::TenantName;
use parking_lot::Mutex;
use promql::{EvalTime, SourceError};

use crate::data::Work;

/// Queries that are remembered after their end, and bytes of their texts.
const MAX_PAST: usize = 20_000;
const MAX_PAST_TEXT_BYTES: usize = 4 << 20;
/// Longest text that is remembered or shown whole.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// What somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What the text is written in.
    pub(crate) language: Language,
    /// The query, or the path and selectors of what is no query.
    pub(crate) text: String,
    /// First and last time asked for and the step, milliseconds; the step of an instant is 0.
    pub(crate) times_ms: (i64, i64, i64),
    /// Who asks: address and port.
    pub(crate) client: String,
    /// Whose data.
    pub(crate) tenant: TenantName,
}

/// The language of a text that is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    Promql,
    Logql,
    /// The path and selectors of what is no query.
    None,
}

impl Language {
    /// As it is told; empty for what is no query.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Language::Promql => "promql",
            Language::Logql => "logql",
            Language::None => "",
        }
    }
}

impl Asked {
    /// A query in PromQL.
    pub(crate) fn query(text: &str, time: EvalTime, client: &str, tenant: TenantName) -> Self {
        let times_ms = match time {
            EvalTime::Instant(t_ms) => (t_ms, t_ms, 0),
            EvalTime::Range { start_ms, end_ms, step_ms } => (start_ms, end_ms, step_ms),
        };
        let (text, client) = (text.to_owned(), client.to_owned());
        Asked { language: Language::Promql, text, times_ms, client, tenant }
    }

    /// Another request that reads.
    pub(crate) fn other(text: impl Into<String>, client: &str, tenant: TenantName) -> Self {
        let (text, client) = (text.into(), client.to_owned());
        Asked { language: Language::None, text, times_ms: (0, 0, 0), client, tenant }
    }
}

/// Queries that run, by their number, and some that ran.
#[derive(Debug)]
pub(crate) struct RunningQueries {
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, Arc<RunningQuery>>>,
    past: Mutex<Past>,
}

/// One that runs.
#[derive(Debug)]
pub(crate) struct RunningQuery {
    pub(crate) id: u64,
    pub(crate) asked: Asked,
    pub(crate) work: Work,
    pub(crate) begin: Instant,
    /// Samples read from the source so far.
    pub(crate) samples: AtomicU64,
    was_killed: AtomicBool,
}

impl RunningQuery {
    /// Whether somebody stopped it by its number.
    pub(crate) fn was_killed(&self) -> bool {
        self.was_killed.load(Ordering::Relaxed)
    }
}

/// A query's place in the list; it leaves when this is dropped, and is remembered.
pub(crate) struct Place {
    queries: Arc<RunningQueries>,
    pub(crate) query: Arc<RunningQuery>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queries.running.lock().remove(&self.query.id);
        self.queries.past.lock().add(&self.query);
    }
}

#[derive(Debug, Default)]
struct Past {
    queries: VecDeque<PastQuery>,
    text_bytes: usize,
}

#[derive(Debug)]
struct PastQuery {
    language: Language,
    tenant: TenantName,
    text: String,
    range_seconds: i64,
    duration: Duration,
    peak_bytes: usize,
    samples: u64,
    end: Instant,
}

/// What queries of one text over one length of time took together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TopQuery {
    pub(crate) language: Language,
    pub(crate) tenant: TenantName,
    pub(crate) text: String,
    pub(crate) range_seconds: i64,
    pub(crate) count: u64,
    pub(crate) total: Duration,
    pub(crate) longest: Duration,
    pub(crate) peak_bytes: usize,
    pub(crate) samples: u64,
}

impl TopQuery {
    pub(crate) fn average(&self) -> Duration {
        self.total / u32::try_from(self.count.max(1)).unwrap_or(u32::MAX)
    }
}

impl RunningQueries {
    pub(crate) fn new() -> Self {
        // Numbers differ from those before a restart, so that an old one stops nothing.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        RunningQueries {
            next: AtomicU64::new(u64::try_from(now.as_nanos()).unwrap_or(1)),
            running: Mutex::default(),
            past: Mutex::default(),
        }
    }

    /// Lists a query that begins now.
    pub(crate) fn begin(self: &Arc<Self>, asked: Asked, work: Work) -> Place {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (samples, was_killed) = (AtomicU64::new(0), AtomicBool::new(false));
        let query = RunningQuery { id, asked, work, begin: Instant::now(), samples, was_killed };
        let query = Arc::new(query);
        self.running.lock().insert(id, Arc::clone(&query));
        Place { queries: Arc::clone(self), query }
    }

    /// Those that run, the longest first.
    pub(crate) fn list(&self) -> Vec<Arc<RunningQuery>> {
        let mut all: Vec<_> = self.running.lock().values().cloned().collect();
        all.sort_by_key(|query| (query.begin, query.id));
        all
    }

    /// Stops a query; whether there is one with this number among those that `may` be stopped.
    pub(crate) fn kill(&self, id: u64, may: impl Fn(TenantName) -> bool) -> bool {
        let Some(query) = self.running.lock().get(&id).cloned() else { return false };
        if !may(query.asked.tenant) {
            return false;
        }
        query.was_killed.store(true, Ordering::Relaxed);
        query.work.stop("the query was stopped by an administrator".to_owned());
        true
    }

    /// What queries that ended within `lifetime` took, of those tenants that may be shown, by tenant,
    /// language, text and length of time, in no order.
    pub(crate) fn past(
        &self,
        lifetime: Duration,
        shown: impl Fn(TenantName) -> bool,
    ) -> Vec<TopQuery> {
        let past = self.past.lock();
        let mut by_text: HashMap<(TenantName, Language, &str, i64), TopQuery> = HashMap::new();
        let is_wanted = |query: &&PastQuery| query.end.elapsed() <= lifetime && shown(query.tenant);
        for query in past.queries.iter().filter(is_wanted) {
            let (tenant, language) = (query.tenant, query.language);
            let key = (tenant, language, query.text.as_str(), query.range_seconds);
            let top = by_text.entry(key).or_insert_with(|| TopQuery {
                language,
                tenant,
                text: query.text.clone(),
                range_seconds: query.range_seconds,
                count: 0,
                total: Duration::ZERO,
                longest: Duration::ZERO,
                peak_bytes: 0,
                samples: 0,
            });
            top.count += 1;
            top.total += query.duration;
            top.longest = top.longest.max(query.duration);
            top.peak_bytes = top.peak_bytes.max(query.peak_bytes);
            top.samples += query.samples;
        }
        by_text.into_values().collect()
    }
}

impl Past {
    fn add(&mut self, query: &RunningQuery) {
        let text = shortened(&query.asked.text);
        self.text_bytes += text.len();
        let (start_ms, end_ms, _) = query.asked.times_ms;
        self.queries.push_back(PastQuery {
            language: query.asked.language,
            tenant: query.asked.tenant,
            text,
            range_seconds: end_ms.saturating_sub(start_ms) / 1_000,
            duration: query.begin.elapsed(),
            peak_bytes: query.work.peak_bytes(),
            samples: query.samples.load(Ordering::Relaxed),
            end: Instant::now(),
        });
        while self.queries.len() > MAX_PAST || self.text_bytes > MAX_PAST_TEXT_BYTES {
            let Some(oldest) = self.queries.pop_front() else { return };
            self.text_bytes -= oldest.text.len();
        }
    }
}

/// A text as it is shown: cut off where it is very long.
pub(crate) fn shortened(text: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT_BYTES)])
}

/// The memory of one query, as the evaluator counts it.
pub(crate) struct EvaluationMemory(pub(crate) Work);

impl promql::Memory for EvaluationMemory {
    fn take(&self, bytes: usize) -> Result<(), SourceError> {
        self.0.take(bytes).map_err(refused)
    }

    fn give_back(&self, bytes: usize) {
        self.0.give_back(bytes);
    }
}

/// What a refusal of memory is to the evaluator.
pub(crate) fn refused(refused: Refused) -> SourceError {
    match refused {
        Refused::TooLarge(text) => SourceError::Limit(text),
        Refused::Later(text) => SourceError::Unavailable(text),
        Refused::Cancelled => SourceError::Cancelled,
    }
}

/// As [`Account::hold`], with the error of a source.
pub(crate) fn hold(work: &Arc<Account>, bytes: usize) -> Result<Held, SourceError> {
    work.hold(bytes).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries() -> (Arc<RunningQueries>, Arc<governor::Governor>) {
        (Arc::new(RunningQueries::new()), governor::Governor::unlimited())
    }

    #[test]
    fn a_query_is_listed_while_it_runs_and_remembered_after() {
        let (queries, governor) = queries();
        let range = EvalTime::Range { start_ms: 1_000, end_ms: 61_000, step_ms: 5_000 };
        let up = |client| Asked::query("up", range, client, TenantName::DEFAULT);
        let first = queries.begin(up("10.0.0.1:5"), governor.account());
        let second = queries.begin(up("10.0.0.2:5"), governor.account());
        first.query.work.take(100).expect("room");
        let ids: Vec<u64> = queries.list().iter().map(|query| query.id).collect();
        assert_eq!(ids, [first.query.id, second.query.id]);
        drop((first, second));
        assert!(queries.list().is_empty());
        let of_lines = Asked { language: Language::Logql, ..up("10.0.0.1:6") };
        drop(queries.begin(of_lines, governor.account()));
        let mut past = queries.past(Duration::from_secs(60), |_| true);
        past.sort_by_key(|top| top.language.as_str());
        let languages: Vec<_> = past.iter().map(|top| (top.language, top.count)).collect();
        assert_eq!(languages, [(Language::Logql, 1), (Language::Promql, 2)]);
        past.remove(0);
        let top = (past[0].text.as_str(), past[0].range_seconds, past[0].count, past[0].peak_bytes);
        assert_eq!(top, ("up", 60, 2, 100));
    }

    #[test]
    fn a_query_is_stopped_by_its_number() {
        let (queries, governor) = queries();
        let place =
            queries.begin(Asked::other("/federate", "c", TenantName::DEFAULT), governor.account());
        assert!(!queries.kill(place.query.id + 1, |_| true));
        assert!(!queries.kill(place.query.id, |tenant| !tenant.is_default()), "not theirs");
        assert!(!place.query.work.is_cancelled());
        assert!(queries.kill(place.query.id, |_| true));
        assert!(place.query.work.is_cancelled() && place.query.was_killed());
    }

    #[test]
    fn texts_that_are_remembered_are_bounded() {
        let (queries, governor) = queries();
        let long = "x".repeat(1 << 20);
        let asked = |text: String| Asked::other(text, "c", TenantName::DEFAULT);
        for number in 0..2_000 {
            drop(queries.begin(asked(format!("{number}{long}")), governor.account()));
        }
        let past = queries.past.lock();
        assert!(past.text_bytes <= MAX_PAST_TEXT_BYTES && past.queries.len() > 1_000);
    }
}
