//! Stages that let only some lines through: `drop`, `sampling`, `limit`, and limits of all lines.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use settings::logs::stage::{DropStage, LimitStage, SamplingStage};
use settings::logs::{LineLimits, StageFault};

use super::chain::{Link, Simple};
use super::metrics::StageCounters;
use super::{Clock, Line, Plan, finder};

/// All that is told has to hold for a line to be dropped.
pub(super) fn drop_stage(
    stage: &DropStage,
    counters: &Arc<StageCounters>,
) -> Result<Plan, StageFault> {
    let stage = Arc::new(stage.clone());
    let regex = stage.expression.as_deref().map(|text| finder("expression", text)).transpose()?;
    let counters = Arc::clone(counters);
    Ok(Plan::new(move || {
        let (stage, regex, counters) = (Arc::clone(&stage), regex.clone(), Arc::clone(&counters));
        let mut joined = String::new();
        Link::simple(move |line: &mut Line, clock: &Clock| {
            if let Some(limit) = stage.longer_than
                && line.text.len() as u64 <= limit
            {
                return true;
            }
            if let Some(age) = stage.older_than {
                let age_ns = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
                if line.timestamp_ns >= (clock.wall_ns)().saturating_sub(age_ns) {
                    return true;
                }
            }
            let matches = match (&regex, stage.sources.is_empty()) {
                (None, true) => true,
                (None, false) => stage.sources.iter().all(|name| line.value(name).is_some()),
                (Some(regex), true) => regex.is_match(&line.text),
                (Some(regex), false) => {
                    joined.clear();
                    let mut first = true;
                    for name in &stage.sources {
                        let Some(value) = line.value(name) else { continue };
                        // What is nothing is no text, and then nothing is dropped.
                        let Some(text) = line.value_text(name) else { return true };
                        debug_assert_eq!(value.text, text);
                        if !std::mem::take(&mut first) {
                            joined.push_str(&stage.separator);
                        }
                        joined.push_str(text);
                    }
                    regex.is_match(joined.as_bytes())
                }
            };
            if matches {
                counters.dropped(&stage.reason);
            }
            !matches
        })
    }))
}

/// Lets a share of the lines through.
pub(super) fn sampling(stage: &SamplingStage, counters: &Arc<StageCounters>) -> Plan {
    let stage = Arc::new(stage.clone());
    let counters = Arc::clone(counters);
    Plan::new(move || {
        let (stage, counters) = (Arc::clone(&stage), Arc::clone(&counters));
        let mut random = Random::new();
        Link::simple(move |line: &mut Line, _: &Clock| {
            let _ = line;
            let kept = random.share() < stage.rate;
            if !kept {
                counters.dropped(&stage.reason);
            }
            kept
        })
    })
}

/// Numbers that look random. Source: SplitMix64, Steele, Lea and Flood, 2014.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let mut seed = [0; 8];
        // Without a seed of the system the address of a value does.
        if getrandom::fill(&mut seed).is_err() {
            seed = (std::ptr::from_ref(&seed) as usize as u64).to_le_bytes();
        }
        Random(u64::from_le_bytes(seed))
    }

    /// At least 0, below 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A bucket of tokens, of which each line takes one.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    at: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(rate: f64, burst: u64) -> Self {
        Bucket { rate, burst: burst as f64, tokens: burst as f64, at: None }
    }

    fn fill(&mut self, now: Instant) {
        if let Some(at) = self.at {
            let passed = now.saturating_duration_since(at).as_secs_f64();
            self.tokens = (self.tokens + passed * self.rate).min(self.burst);
        }
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// Takes a token, if there is one.
    fn allow(&mut self, now: Instant) -> bool {
        self.fill(now);
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }

    /// Takes a token. Yields the moment at which there is another one, if that is later.
    fn reserve(&mut self, now: Instant) -> Option<Instant> {
        self.fill(now);
        self.tokens -= 1.0;
        (self.tokens < 0.0).then(|| now + Duration::from_secs_f64(-self.tokens / self.rate))
    }
}

/// Buckets by the value of a label. Two generations: what was not used for a whole one is forgotten.
#[derive(Debug)]
struct Buckets {
    young: HashMap<String, Bucket>,
    old: HashMap<String, Bucket>,
}

/// What a limit of lines shares among the sources that it is about.
#[derive(Debug)]
pub(super) struct SharedLimit {
    stage: LimitStage,
    bucket: Mutex<Bucket>,
    by_value: Mutex<Buckets>,
}

impl SharedLimit {
    pub(super) fn new(stage: &LimitStage) -> Self {
        SharedLimit {
            bucket: Mutex::new(Bucket::new(stage.rate, stage.burst)),
            by_value: Mutex::new(Buckets { young: HashMap::new(), old: HashMap::new() }),
            stage: stage.clone(),
        }
    }

    /// Whether a line of that value of the label may pass.
    fn allow_value(&self, value: &str, now: Instant) -> bool {
        let mut buckets = self.by_value.lock();
        if !buckets.young.contains_key(value) {
            let bucket = buckets.old.remove(value);
            let bucket = bucket.unwrap_or_else(|| Bucket::new(self.stage.rate, self.stage.burst));
            buckets.young.insert(value.to_owned(), bucket);
            if buckets.young.len() as u64 > self.stage.max_distinct_labels {
                let mut last = HashMap::new();
                last.extend(buckets.young.remove_entry(value));
                buckets.old = std::mem::replace(&mut buckets.young, last);
            }
        }
        buckets.young.get_mut(value).is_none_or(|bucket| bucket.allow(now))
    }
}

/// Lets so many lines through.
pub(super) fn limit(shared: Arc<SharedLimit>, counters: &Arc<StageCounters>) -> Plan {
    let counters = Arc::clone(counters);
    Plan::new(move || {
        let (shared, counters) = (Arc::clone(&shared), Arc::clone(&counters));
        Link::simple(Limit { shared, counters, ready_at: None })
    })
}

struct Limit {
    shared: Arc<SharedLimit>,
    counters: Arc<StageCounters>,
    ready_at: Option<Instant>,
}

/// How lines above a limit are counted, as in Promtail.
const LIMIT_REASON: &str = "ratelimit_drop_stage";

impl Simple for Limit {
    fn apply(&mut self, line: &mut Line, clock: &Clock) -> bool {
        let stage = &self.shared.stage;
        let allowed = match &stage.by_label_name {
            Some(label) => match line.label(label) {
                None => true,
                Some(value) => self.shared.allow_value(value, clock.now),
            },
            None if stage.drop => self.shared.bucket.lock().allow(clock.now),
            None => {
                self.ready_at = self.shared.bucket.lock().reserve(clock.now);
                true
            }
        };
        if !allowed {
            self.counters.dropped(LIMIT_REASON);
        }
        allowed
    }

    fn ready_at(&self) -> Option<Instant> {
        self.ready_at
    }
}

/// Limits of all lines of a collector, before any stage.
#[derive(Debug)]
pub(super) struct SharedLimits {
    limits: LineLimits,
    bucket: Option<Mutex<Bucket>>,
    streams: Mutex<HashMap<Vec<u8>, Instant>>,
}

/// A stream without a line for so long makes room for another one.
const IDLE_STREAM: Duration = Duration::from_secs(3_600);

impl SharedLimits {
    pub(super) fn new(limits: &LineLimits) -> Self {
        SharedLimits {
            bucket: limits.rate.map(|(rate, burst)| Mutex::new(Bucket::new(rate, burst))),
            streams: Mutex::new(HashMap::new()),
            limits: limits.clone(),
        }
    }

    /// Whether there is room for the stream.
    fn has_room(&self, key: &[u8], now: Instant) -> bool {
        let mut streams = self.streams.lock();
        if let Some(last) = streams.get_mut(key) {
            *last = now;
            return true;
        }
        let most = usize::try_from(self.limits.max_streams).unwrap_or(usize::MAX);
        if streams.len() >= most {
            streams.retain(|_, last| now.saturating_duration_since(*last) < IDLE_STREAM);
        }
        let room = streams.len() < most;
        if room {
            streams.insert(key.to_vec(), now);
        }
        room
    }
}

/// Limits before any stage: rate and length of lines. `None` if there are none.
pub(super) fn line_limits(
    shared: &Arc<SharedLimits>,
    counters: &Arc<StageCounters>,
) -> Option<Plan> {
    let limits = &shared.limits;
    (limits.rate.is_some() || limits.max_line_bytes > 0).then_some(())?;
    let (shared, counters) = (Arc::clone(shared), Arc::clone(counters));
    Some(Plan::new(move || {
        let (shared, counters) = (Arc::clone(&shared), Arc::clone(&counters));
        Link::simple(FirstLimits { shared, counters, ready_at: None })
    }))
}

struct FirstLimits {
    shared: Arc<SharedLimits>,
    counters: Arc<StageCounters>,
    ready_at: Option<Instant>,
}

impl Simple for FirstLimits {
    fn apply(&mut self, line: &mut Line, clock: &Clock) -> bool {
        let limits = &self.shared.limits;
        if let Some(bucket) = &self.shared.bucket {
            if !limits.drop_above_rate {
                self.ready_at = bucket.lock().reserve(clock.now);
            } else if !bucket.lock().allow(clock.now) {
                self.counters.dropped("readline_rate");
                return false;
            }
        }
        let most = usize::try_from(limits.max_line_bytes).unwrap_or(usize::MAX);
        if most > 0 && line.text.len() > most {
            if !limits.truncate_lines {
                self.counters.dropped("max_line_size");
                return false;
            }
            line.text.truncate(most);
            self.counters.truncated("line");
        }
        true
    }

    fn ready_at(&self) -> Option<Instant> {
        self.ready_at
    }
}

/// The limit of streams, behind all stages. `None` if there is none.
pub(super) fn stream_limit(
    shared: &Arc<SharedLimits>,
    counters: &Arc<StageCounters>,
) -> Option<Plan> {
    (shared.limits.max_streams > 0).then_some(())?;
    let (shared, counters) = (Arc::clone(shared), Arc::clone(counters));
    Some(Plan::new(move || {
        let (shared, counters) = (Arc::clone(&shared), Arc::clone(&counters));
        let mut key = Vec::new();
        Link::simple(move |line: &mut Line, clock: &Clock| {
            key.clear();
            line.stream_key(&mut key);
            let room = shared.has_room(&key, clock.now);
            if !room {
                counters.dropped("max_streams");
            }
            room
        })
    }))
}
