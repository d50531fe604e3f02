//! Alerts: what is posted, what is kept of it, and how two posts of one alert become one.
//!
//! Source: Alertmanager, `alert/alert.go`, `api/v2/api.go`, `provider/mem/mem.go`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use model::{LabelError, Labels};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use settings::alertmanager::MatcherMode;

use super::Limits;

/// What tells alerts apart: FNV-1a over their labels, as Alertmanager computes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// That of a label set.
    pub fn of(labels: &Labels) -> Fingerprint {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let mut hash = OFFSET;
        let mut add = |bytes: &[u8]| {
            for byte in bytes.iter().chain(&[0xff]) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
            }
        };
        for (name, value) in labels.iter() {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        Fingerprint(hash)
    }

    /// Reads the sixteen digits that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Fingerprint> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Fingerprint::parse(&text).ok_or_else(|| de::Error::custom("sixteen hexadecimal digits"))
    }
}

/// An alert as somebody posts it. Times are nanoseconds since 1970; `None` if they are not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostedAlert {
    /// Names and values, in any order. Those with an empty value are dropped.
    pub labels: Vec<(String, String)>,
    /// What is said about it beside its labels.
    pub annotations: BTreeMap<String, String>,
    /// Since when it fires; the time of the post if not said.
    pub starts_at_ns: Option<i64>,
    /// When it ended or will end; if not said, it ends unless it is posted again in time.
    pub ends_at_ns: Option<i64>,
    /// Where it comes from.
    pub generator_url: String,
}

/// Why an alert is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlertError {
    /// It ends before it starts.
    #[error("start time must be before end time")]
    EndsBeforeStart,
    /// It has no labels.
    #[error("at least one label pair required")]
    NoLabels,
    /// Its labels are none.
    #[error("invalid label set: {0}")]
    InvalidLabels(String),
    /// Its annotations are none.
    #[error("invalid annotations: invalid name {0:?}")]
    InvalidAnnotation(String),
    /// It is larger than allowed.
    #[error(
        "the alert has {bytes} bytes of labels and annotations; {limit} are allowed: shorten \
         them, or raise the limit"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// There are too many already.
    #[error(
        "there are {limit} alerts already, which is the limit: resolve some, or raise the limit"
    )]
    TooMany {
        /// What is allowed.
        limit: usize,
    },
    /// There are too many of that name already.
    #[error(
        "there are {limit} alerts named {name:?} already, which is the limit: resolve some, or \
         raise the limit"
    )]
    TooManyOfName {
        /// The value of `alertname`.
        name: String,
        /// What is allowed.
        limit: usize,
    },
    /// Another alert has the same fingerprint; two alerts are never mixed.
    #[error("another alert has the fingerprint {0}: change a label of one of them")]
    Collision(Fingerprint),
}

/// An alert as it is kept. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// What tells it from others; not empty.
    pub labels: Labels,
    /// What is said about it beside its labels.
    pub annotations: BTreeMap<String, String>,
    /// Since when it fires.
    pub starts_at_ns: i64,
    /// When it ended, or will unless it is posted again.
    pub ends_at_ns: i64,
    /// When it was posted last.
    pub updated_at_ns: i64,
    /// Whether the end was not said by whoever posted it.
    pub timed_out: bool,
    /// Where it comes from.
    pub generator_url: String,
}

impl Alert {
    /// Makes an alert of what was posted at `now_ns`.
    ///
    /// # Errors
    /// What makes it no alert.
    pub(crate) fn from_posted(
        posted: PostedAlert,
        now_ns: i64,
        resolve_timeout_ns: i64,
        mode: MatcherMode,
        limits: &Limits,
    ) -> Result<Alert, AlertError> {
        let texts = posted.labels.iter().map(|(n, v)| n.len() + v.len());
        let more = posted.annotations.iter().map(|(n, v)| n.len() + v.len());
        let bytes = texts.chain(more).sum::<usize>() + posted.generator_url.len();
        if bytes > limits.max_alert_bytes {
            return Err(AlertError::TooLarge { bytes, limit: limits.max_alert_bytes });
        }
        if let Some((name, _)) = posted.labels.iter().find(|(name, _)| !mode.is_label_name(name)) {
            return Err(AlertError::InvalidLabels(format!("invalid name {name:?}")));
        }
        if let Some(name) = posted.annotations.keys().find(|name| !mode.is_label_name(name)) {
            return Err(AlertError::InvalidAnnotation(name.clone()));
        }
        let pairs = posted.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let labels = Labels::from_pairs(pairs)
            .map_err(|error: LabelError| AlertError::InvalidLabels(error.to_string()))?;
        if labels.is_empty() {
            return Err(AlertError::NoLabels);
        }
        let starts_at_ns = posted.starts_at_ns.or(posted.ends_at_ns).unwrap_or(now_ns);
        let timed_out = posted.ends_at_ns.is_none();
        let ends_at_ns =
            posted.ends_at_ns.unwrap_or_else(|| now_ns.saturating_add(resolve_timeout_ns));
        if ends_at_ns < starts_at_ns {
            return Err(AlertError::EndsBeforeStart);
        }
        Ok(Alert {
            labels,
            annotations: posted.annotations,
            starts_at_ns,
            ends_at_ns,
            updated_at_ns: now_ns,
            timed_out,
            generator_url: posted.generator_url,
        })
    }

    /// Whether it has ended.
    pub fn is_resolved_at(&self, now_ns: i64) -> bool {
        self.ends_at_ns <= now_ns
    }

    /// What is kept when `self` is posted while `old` is there: both in one if their times
    /// overlap, otherwise the new one alone.
    pub(crate) fn over(self, old: &Alert, now_ns: i64) -> Alert {
        let inside = |at: i64| old.starts_at_ns < at && at < old.ends_at_ns;
        if inside(self.ends_at_ns) || inside(self.starts_at_ns) {
            if self.updated_at_ns < old.updated_at_ns {
                old.clone().joined(&self, now_ns)
            } else {
                self.joined(old, now_ns)
            }
        } else {
            self
        }
    }

    /// `self` is the younger of the two.
    fn joined(mut self, older: &Alert, now_ns: i64) -> Alert {
        self.starts_at_ns = self.starts_at_ns.min(older.starts_at_ns);
        let later = older.ends_at_ns > self.ends_at_ns;
        let older_end_holds = if self.is_resolved_at(now_ns) {
            // Of two ends that both are past the later one counts.
            older.is_resolved_at(now_ns) && later
        } else {
            // An end that somebody said counts if it is later, one that was made up does not.
            later && !older.timed_out
        };
        if older_end_holds {
            self.ends_at_ns = older.ends_at_ns;
        }
        self
    }

    /// What alerts of a group are told in the order of: by job, by instance, then by all labels.
    pub(crate) fn order_key(&self) -> OrderKey {
        let part = |name| {
            let value = self.labels.get(name);
            (value.is_none(), value.unwrap_or_default().to_owned())
        };
        OrderKey(part("job"), part("instance"), LabelOrder(self.labels.clone()))
    }
}

/// Whether the label is absent, and its value: those without it come last.
type OrderPart = (bool, String);

/// The place of an alert among those it is told with.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OrderKey(OrderPart, OrderPart, LabelOrder);

/// Labels in the order of [`label_order`].
#[derive(Debug, PartialEq, Eq)]
struct LabelOrder(Labels);

impl PartialOrd for LabelOrder {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LabelOrder {
    fn cmp(&self, other: &Self) -> Ordering {
        label_order(&self.0, &other.0)
    }
}

/// The order of label sets: fewer labels first; of the first name that only one of them has, the
/// one without it; otherwise by values.
pub(crate) fn label_order(a: &Labels, b: &Labels) -> Ordering {
    if a.len() != b.len() {
        return a.len().cmp(&b.len());
    }
    for ((a_name, a_value), (b_name, b_value)) in a.iter().zip(b.iter()) {
        match a_name.cmp(b_name) {
            // The smaller name is one the other set lacks.
            Ordering::Less => return Ordering::Greater,
            Ordering::Greater => return Ordering::Less,
            Ordering::Equal if a_value != b_value => return a_value.cmp(b_value),
            Ordering::Equal => {}
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).expect("labels")
    }

    fn posted(start: Option<i64>, end: Option<i64>) -> PostedAlert {
        PostedAlert {
            labels: vec![("a".into(), "b".into()), ("none".into(), String::new())],
            starts_at_ns: start.map(|s| s * S),
            ends_at_ns: end.map(|s| s * S),
            ..PostedAlert::default()
        }
    }

    fn alert(start: Option<i64>, end: Option<i64>, now: i64) -> Alert {
        Alert::from_posted(
            posted(start, end),
            now * S,
            300 * S,
            MatcherMode::Fallback,
            &Limits::default(),
        )
        .expect("an alert")
    }

    #[test]
    fn fingerprints_are_alertmanagers() {
        // Go: model.LabelSet{}.Fingerprint() and of {"a": "b"}.
        assert_eq!(Fingerprint::of(&Labels::empty()).to_string(), "cbf29ce484222325");
        let one = Fingerprint::of(&labels(&[("a", "b")]));
        assert_eq!(Fingerprint::parse(&one.to_string()), Some(one));
        assert_ne!(one, Fingerprint::of(&labels(&[("ab", "")])));
        assert_eq!(Fingerprint::parse("+bf29ce484222325"), None);
    }

    #[test]
    fn times_are_filled_in() {
        let open = alert(None, None, 10);
        assert_eq!((open.starts_at_ns, open.ends_at_ns), (10 * S, 310 * S));
        assert!(open.timed_out && open.labels.len() == 1);
        let ended = alert(None, Some(7), 10);
        assert_eq!((ended.starts_at_ns, ended.timed_out), (7 * S, false));
        assert!(ended.is_resolved_at(7 * S) && !ended.is_resolved_at(7 * S - 1));
    }

    #[test]
    fn what_is_no_alert_is_refused() {
        let limits = Limits { max_alert_bytes: 8, ..Limits::default() };
        let make = |posted, mode| Alert::from_posted(posted, 0, S, mode, &limits);
        let mode = MatcherMode::Fallback;
        assert_eq!(make(PostedAlert::default(), mode), Err(AlertError::NoLabels));
        assert_eq!(make(posted(Some(2), Some(1)), mode), Err(AlertError::EndsBeforeStart));
        let named = |name: &str| PostedAlert {
            labels: vec![(name.into(), "v".into())],
            ..PostedAlert::default()
        };
        assert!(make(named("a-b"), mode).is_ok());
        assert!(make(named("a-b"), MatcherMode::Classic).is_err());
        assert!(make(named(""), mode).is_err());
        assert!(matches!(make(named("123456789"), mode), Err(AlertError::TooLarge { .. })));
        let mut twice = named("a");
        twice.labels.push(("a".into(), "w".into()));
        assert!(matches!(make(twice, mode), Err(AlertError::InvalidLabels(_))));
    }

    #[test]
    fn overlapping_posts_become_one() {
        let old = alert(Some(1), Some(100), 2);
        let new = alert(Some(50), None, 51).over(&old, 51 * S);
        assert_eq!((new.starts_at_ns, new.ends_at_ns), (S, 351 * S));
        // An end that was said and is later than one made up counts.
        let old = alert(Some(1), Some(1_000), 2);
        assert_eq!(alert(Some(50), None, 51).over(&old, 51 * S).ends_at_ns, 1_000 * S);
        // An end that was made up yields to one that is said.
        let old = alert(Some(1), None, 2);
        let new = alert(Some(50), Some(100), 51).over(&old, 51 * S);
        assert_eq!((new.ends_at_ns, new.timed_out), (100 * S, false));
        // Of two past ends the later one counts.
        let old = alert(Some(1), Some(48), 47);
        let new = alert(Some(2), Some(41), 50).over(&old, 50 * S);
        assert_eq!((new.starts_at_ns, new.ends_at_ns), (S, 48 * S));
        // What began anew is not what ended before.
        let old = alert(Some(1), Some(5), 5);
        assert_eq!(alert(Some(6), None, 7).over(&old, 7 * S).starts_at_ns, 6 * S);
    }

    #[test]
    fn alerts_are_told_in_order() {
        let of = |pairs: &[(&str, &str)]| Alert { labels: labels(pairs), ..alert(None, None, 0) };
        let sorted = [
            of(&[("job", "a"), ("z", "1")]),
            of(&[("job", "b"), ("instance", "1")]),
            of(&[("job", "b")]),
            of(&[("x", "1")]),
            of(&[("x", "2")]),
            of(&[("w", "9"), ("x", "1")]),
        ];
        for pair in sorted.windows(2) {
            assert!(pair[0].order_key() < pair[1].order_key(), "{pair:?}");
        }
    }
}
