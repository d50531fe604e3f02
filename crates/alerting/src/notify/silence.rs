//! Silences as the API has them, and when they hold. Source: Alertmanager, `silence/silence.go`,
//! `api/v2/api.go`.

use std::collections::BTreeMap;

use model::{Labels, MatchOp};
use serde::{Deserialize, Serialize};
use settings::alertmanager::{IntervalSpec, LabelMatcher, MatcherMode, TimeInterval, TimeZone};

/// Most matchers of a silence.
const MAX_MATCHERS: usize = 1_000;

/// Most intervals of a recurring silence.
const MAX_INTERVALS: usize = 100;

/// A matcher of a silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SilenceMatcher {
    /// The label.
    pub name: String,
    /// The value, or an expression for it.
    pub value: String,
    /// Whether the value is an expression.
    pub is_regex: bool,
    /// Whether it must match, or must not.
    #[serde(default = "yes")]
    pub is_equal: bool,
}

fn yes() -> bool {
    true
}

/// A silence as somebody wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostedSilence {
    /// The silence that is to be changed; empty for a new one.
    pub id: String,
    /// What alerts must match; not empty.
    pub matchers: Vec<SilenceMatcher>,
    /// From when on, in nanoseconds since 1970; from now on if not said.
    pub starts_at_ns: Option<i64>,
    /// Until when, in nanoseconds since 1970.
    pub ends_at_ns: i64,
    /// Who wants it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// What else is said about it.
    pub annotations: BTreeMap<String, String>,
    /// When it holds between its ends; always if none.
    pub intervals: Vec<IntervalSpec>,
}

/// A silence. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its name.
    pub id: String,
    /// What alerts must match.
    pub matchers: Vec<SilenceMatcher>,
    /// From when on.
    pub starts_at_ns: i64,
    /// Until when.
    pub ends_at_ns: i64,
    /// When it was changed last.
    pub updated_at_ns: i64,
    /// Who wants it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// What else is said about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// When it holds between its ends; always if none. This is Watchfire's own: a silence for
    /// every night is one silence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<IntervalSpec>,
}

/// Where a silence is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SilenceState {
    /// It has not started.
    Pending,
    /// It has started and has not ended. One that recurs may still not hold at the moment.
    Active,
    /// It has ended.
    Expired,
}

/// Why a silence is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    /// There is none of that id.
    #[error("silence {0:?} not found")]
    NotFound(String),
    /// It makes no sense.
    #[error("invalid silence: {0}")]
    Invalid(String),
    /// It is larger than allowed.
    #[error(
        "silence exceeded maximum size: {bytes} bytes (limit: {limit} bytes); shorten it, or \
         raise the limit"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// There are too many already.
    #[error(
        "exceeded maximum number of silences: {count} (limit: {limit}); wait until expired ones \
         are forgotten, or raise the limit"
    )]
    TooMany {
        /// How many there are.
        count: usize,
        /// What is allowed.
        limit: usize,
    },
}

impl Silence {
    /// Where it is in its life.
    pub fn state(&self, now_ns: i64) -> SilenceState {
        if now_ns < self.starts_at_ns {
            SilenceState::Pending
        } else if now_ns < self.ends_at_ns {
            SilenceState::Active
        } else {
            SilenceState::Expired
        }
    }

    /// How much memory its texts take.
    pub(crate) fn bytes(&self) -> usize {
        let matchers = self.matchers.iter().map(|m| m.name.len() + m.value.len() + 8);
        let annotations = self.annotations.iter().map(|(name, value)| name.len() + value.len());
        let spec = |spec: &IntervalSpec| {
            let texts = [&spec.weekdays, &spec.days_of_month, &spec.months, &spec.years];
            let texts = texts.into_iter().flatten().map(|text| text.len() + 8);
            let times = spec.times.iter().map(|t| t.start_time.len() + t.end_time.len() + 8);
            texts.chain(times).sum::<usize>() + spec.location.as_ref().map_or(0, String::len)
        };
        matchers.chain(annotations).chain(self.intervals.iter().map(spec)).sum::<usize>()
            + self.created_by.len()
            + self.comment.len()
            + self.id.len()
    }

    /// Whether changing it into `other` keeps what it was true: who looks back must see what was
    /// silenced when.
    pub(crate) fn can_become(&self, other: &Silence, now_ns: i64) -> bool {
        if self.matchers != other.matchers || self.intervals != other.intervals {
            return false;
        }
        let seconds = |ns: i64| ns.div_euclid(1_000_000_000);
        match self.state(now_ns) {
            SilenceState::Active => {
                seconds(self.starts_at_ns) == seconds(other.starts_at_ns)
                    && other.ends_at_ns >= now_ns
            }
            SilenceState::Pending => other.starts_at_ns >= now_ns,
            SilenceState::Expired => false,
        }
    }
}

/// What a silence's texts stand for.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    matchers: Vec<LabelMatcher>,
    intervals: Vec<TimeInterval>,
}

impl Compiled {
    /// Compiles and checks a silence.
    ///
    /// # Errors
    /// What is wrong with it, in Alertmanager's words.
    pub(crate) fn new(
        silence: &Silence,
        mode: MatcherMode,
        zone: &dyn Fn(&str) -> Option<TimeZone>,
    ) -> Result<Compiled, String> {
        if silence.matchers.is_empty() {
            return Err("at least one matcher required".to_owned());
        }
        if silence.matchers.len() > MAX_MATCHERS {
            let count = silence.matchers.len();
            return Err(format!("{count} matchers; {MAX_MATCHERS} are allowed: join some"));
        }
        if silence.intervals.len() > MAX_INTERVALS {
            let count = silence.intervals.len();
            return Err(format!("{count} intervals; {MAX_INTERVALS} are allowed: join some"));
        }
        let mut matchers = Vec::with_capacity(silence.matchers.len());
        for (at, matcher) in silence.matchers.iter().enumerate() {
            let invalid = |what| format!("invalid label matcher {at}: {what}");
            if !mode.is_label_name(&matcher.name) {
                return Err(invalid(format!("invalid label name {:?}", matcher.name)));
            }
            let op = match (matcher.is_regex, matcher.is_equal) {
                (false, true) => MatchOp::Equal,
                (false, false) => MatchOp::NotEqual,
                (true, true) => MatchOp::Regex,
                (true, false) => MatchOp::NotRegex,
            };
            let matcher =
                LabelMatcher::new(&matcher.name, op, &matcher.value).map_err(|error| {
                    invalid(format!("invalid regular expression {:?}: {error}", matcher.value))
                })?;
            matchers.push(matcher);
        }
        // A silence of everything that lacks a label is hardly meant. Negations do not count as
        // matching nothing, as in Alertmanager.
        let matches_empty = |matcher: &LabelMatcher| {
            matches!(matcher.op(), MatchOp::Equal | MatchOp::Regex) && matcher.matches("")
        };
        if matchers.iter().all(matches_empty) {
            return Err("at least one matcher must not match the empty string".to_owned());
        }
        if silence.ends_at_ns < silence.starts_at_ns {
            return Err("end time must not be before start time".to_owned());
        }
        let intervals = silence.intervals.iter().map(|spec| TimeInterval::from_spec(spec, zone));
        Ok(Compiled { matchers, intervals: intervals.collect::<Result<_, _>>()? })
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        LabelMatcher::all_match(&self.matchers, labels)
    }

    /// Whether a silence that is active holds at the moment.
    pub(crate) fn holds(&self, now_ns: i64) -> bool {
        self.intervals.is_empty() || self.intervals.iter().any(|interval| interval.contains(now_ns))
    }
}
