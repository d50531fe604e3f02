//! All silences, and which of them an alert matches.
//!
//! What a silence matches never changes, so an alert remembers those it matches and up to which
//! silence it has looked: a check looks at newer ones only.

use std::collections::{BTreeMap, HashMap};

use model::Labels;
use settings::alertmanager::{MatcherMode, TimeZone};

use super::Limits;
use super::silence::{Compiled, PostedSilence, Silence, SilenceError, SilenceState};

/// How long a silence is kept after its end, in nanoseconds: 120 hours.
const RETENTION_NS: i64 = 120 * 3_600 * 1_000_000_000;

/// All silences.
#[derive(Debug, Default)]
pub(crate) struct Silences {
    /// By the order in which they came.
    slots: BTreeMap<u64, Slot>,
    by_id: HashMap<String, u64>,
    last: u64,
}

#[derive(Debug)]
struct Slot {
    silence: Silence,
    compiled: Compiled,
}

/// What an alert remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// It has looked at all silences up to this one.
    up_to: u64,
    /// Those it matches.
    matching: Vec<u64>,
}

impl Silences {
    pub(crate) fn get(&self, id: &str) -> Option<&Silence> {
        self.by_id.get(id).and_then(|key| self.slots.get(key)).map(|slot| &slot.silence)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.slots.values().map(|slot| &slot.silence)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// When a silence may be forgotten.
    pub(crate) fn forgotten_at_ns(silence: &Silence) -> i64 {
        silence.ends_at_ns.saturating_add(RETENTION_NS)
    }

    /// Adds or changes a silence. Where a change would make untrue what was, the old one expires
    /// and a new one begins. Yields the ids of what changed, that of the silence last.
    pub(crate) fn set(
        &mut self,
        posted: PostedSilence,
        new_id: &mut dyn FnMut() -> String,
        now_ns: i64,
        mode: MatcherMode,
        limits: &Limits,
        zone: &dyn Fn(&str) -> Option<TimeZone>,
    ) -> Result<Vec<String>, SilenceError> {
        let invalid = |what: &str| Err(SilenceError::Invalid(what.to_owned()));
        let mut silence = Silence {
            id: posted.id,
            matchers: posted.matchers,
            starts_at_ns: posted.starts_at_ns.unwrap_or(now_ns),
            ends_at_ns: posted.ends_at_ns,
            updated_at_ns: now_ns,
            created_by: posted.created_by,
            comment: posted.comment,
            annotations: posted.annotations,
            intervals: posted.intervals,
        };
        if silence.starts_at_ns >= silence.ends_at_ns {
            return invalid("start time must be before end time");
        }
        if silence.ends_at_ns < now_ns {
            return invalid("end time can't be in the past");
        }
        let bytes = silence.bytes();
        if bytes > limits.max_silence_bytes {
            return Err(SilenceError::TooLarge { bytes, limit: limits.max_silence_bytes });
        }
        let compiled = Compiled::new(&silence, mode, zone).map_err(SilenceError::Invalid)?;
        let mut changed = Vec::new();
        if !silence.id.is_empty() {
            let Some(key) = self.by_id.get(&silence.id).copied() else {
                return Err(SilenceError::NotFound(silence.id));
            };
            let slot = self.slots.get_mut(&key).expect("an id leads to a slot");
            if slot.silence.can_become(&silence, now_ns) {
                let id = silence.id.clone();
                *slot = Slot { silence, compiled };
                return Ok(vec![id]);
            }
        }
        if self.slots.len() >= limits.max_silences {
            let (count, limit) = (self.slots.len(), limits.max_silences);
            return Err(SilenceError::TooMany { count, limit });
        }
        if !silence.id.is_empty() && self.expire(&silence.id, now_ns)? {
            changed.push(silence.id);
        }
        silence.id = new_id();
        silence.starts_at_ns = silence.starts_at_ns.max(now_ns);
        changed.push(silence.id.clone());
        self.insert(silence, compiled);
        Ok(changed)
    }

    fn insert(&mut self, silence: Silence, compiled: Compiled) {
        self.last += 1;
        self.by_id.insert(silence.id.clone(), self.last);
        self.slots.insert(self.last, Slot { silence, compiled });
    }

    /// Puts back a silence that was saved. One that makes no sense any more is left out, and why.
    pub(crate) fn restore(
        &mut self,
        silence: Silence,
        mode: MatcherMode,
        zone: &dyn Fn(&str) -> Option<TimeZone>,
    ) -> Result<(), String> {
        let compiled = Compiled::new(&silence, mode, zone)?;
        if !self.by_id.contains_key(&silence.id) {
            self.insert(silence, compiled);
        }
        Ok(())
    }

    /// Ends a silence now. Whether that changed anything: one that has ended stays as it is.
    pub(crate) fn expire(&mut self, id: &str, now_ns: i64) -> Result<bool, SilenceError> {
        let slot = self.by_id.get(id).and_then(|key| self.slots.get_mut(key));
        let Some(slot) = slot else { return Err(SilenceError::NotFound(id.to_owned())) };
        let silence = &mut slot.silence;
        match silence.state(now_ns) {
            SilenceState::Expired => return Ok(false),
            SilenceState::Active => {}
            SilenceState::Pending => silence.starts_at_ns = now_ns,
        }
        silence.ends_at_ns = now_ns;
        silence.updated_at_ns = now_ns;
        Ok(true)
    }

    /// Forgets a silence.
    pub(crate) fn forget(&mut self, id: &str) {
        if let Some(key) = self.by_id.remove(id) {
            self.slots.remove(&key);
        }
    }

    /// The silences that hold for an alert at the moment, by ascending id.
    pub(crate) fn silenced_by(&self, labels: &Labels, seen: &mut Seen, now_ns: i64) -> Vec<String> {
        if seen.up_to < self.last {
            let newer = self.slots.range(seen.up_to + 1..);
            let matching = newer.filter(|(_, slot)| slot.compiled.matches(labels));
            seen.matching.extend(matching.map(|(key, _)| *key));
            seen.up_to = self.last;
        }
        seen.matching.retain(|key| self.slots.contains_key(key));
        let holds = |key: &u64| {
            let Slot { silence, compiled } = self.slots.get(key)?;
            let holds = silence.state(now_ns) == SilenceState::Active && compiled.holds(now_ns);
            holds.then(|| silence.id.clone())
        };
        let mut ids: Vec<String> = seen.matching.iter().filter_map(holds).collect();
        ids.sort();
        ids
    }
}

#[cfg(test)]
mod tests {
    use settings::alertmanager::{IntervalSpec, TimeSpec};

    use super::super::silence::SilenceMatcher;
    use super::*;

    const S: i64 = 1_000_000_000;

    struct Set {
        silences: Silences,
        limits: Limits,
        ids: u32,
    }

    impl Set {
        fn new() -> Set {
            Set { silences: Silences::default(), limits: Limits::default(), ids: 0 }
        }

        fn post(&mut self, posted: PostedSilence, now: i64) -> Result<String, SilenceError> {
            let ids = &mut self.ids;
            let mut new_id = || {
                *ids += 1;
                format!("id{ids}")
            };
            let (mode, zone) = (MatcherMode::Fallback, |_: &str| Some(TimeZone::utc()));
            let changed =
                self.silences.set(posted, &mut new_id, now * S, mode, &self.limits, &zone)?;
            Ok(changed.last().expect("its own").clone())
        }

        fn silenced(&self, seen: &mut Seen, now: i64) -> Vec<String> {
            let labels = Labels::from_pairs([("a", "b")]).expect("labels");
            self.silences.silenced_by(&labels, seen, now * S)
        }
    }

    fn matcher(name: &str, value: &str) -> SilenceMatcher {
        SilenceMatcher { name: name.into(), value: value.into(), is_regex: false, is_equal: true }
    }

    fn posted(start: i64, end: i64) -> PostedSilence {
        PostedSilence {
            matchers: vec![matcher("a", "b")],
            starts_at_ns: Some(start * S),
            ends_at_ns: end * S,
            ..PostedSilence::default()
        }
    }

    #[test]
    fn alerts_look_at_new_silences_only() {
        let (mut set, mut seen) = (Set::new(), Seen::default());
        assert!(set.silenced(&mut seen, 1).is_empty());
        let first = set.post(posted(5, 10), 1).expect("a silence");
        assert!(set.silenced(&mut seen, 4).is_empty());
        assert_eq!(set.silenced(&mut seen, 5), vec![first.clone()]);
        let second = set.post(posted(6, 20), 6).expect("a silence");
        let mut other = posted(6, 20);
        other.matchers = vec![matcher("a", "c")];
        set.post(other, 6).expect("a silence");
        assert_eq!(set.silenced(&mut seen, 7), [first, second.clone()]);
        assert_eq!(set.silenced(&mut seen, 10), vec![second.clone()]);
        set.silences.forget(&second);
        assert!(set.silenced(&mut seen, 11).is_empty() && seen.matching.len() == 1);
    }

    #[test]
    fn a_change_that_rewrites_the_past_makes_a_new_one() {
        let mut set = Set::new();
        let id = set.post(posted(1, 100), 1).expect("a silence");
        let change = |id: &str, start, end| PostedSilence { id: id.into(), ..posted(start, end) };
        assert_eq!(set.post(change(&id, 1, 200), 50), Ok(id.clone()));
        let other = set.post(change(&id, 40, 200), 50).expect("another");
        assert_ne!(other, id);
        assert_eq!(set.silences.get(&id).expect("kept").state(50 * S), SilenceState::Expired);
        assert_eq!(set.silences.get(&other).expect("new").starts_at_ns, 50 * S);
        assert_eq!(
            set.post(change("nobody", 1, 200), 50),
            Err(SilenceError::NotFound("nobody".into()))
        );
        // One that has not started may move, but not into the past.
        let pending = set.post(posted(70, 100), 50).expect("a silence");
        assert_eq!(set.post(change(&pending, 80, 90), 51), Ok(pending.clone()));
        assert_ne!(set.post(change(&pending, 10, 90), 51).expect("another"), pending);
    }

    #[test]
    fn it_ends_when_it_is_expired() {
        let mut set = Set::new();
        let (active, pending) = (set.post(posted(1, 9), 1), set.post(posted(5, 9), 1));
        for id in [active.expect("a silence"), pending.expect("a silence")] {
            assert_eq!(set.silences.expire(&id, 3 * S), Ok(true));
            assert_eq!(set.silences.expire(&id, 4 * S), Ok(false));
            let silence = set.silences.get(&id).expect("kept");
            assert_eq!((silence.state(3 * S), silence.ends_at_ns), (SilenceState::Expired, 3 * S));
        }
        assert!(set.silences.expire("x", 0).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        let mut set = Set::new();
        let with = |matchers: Vec<SilenceMatcher>| PostedSilence { matchers, ..posted(1, 9) };
        let regex = |value: &str| SilenceMatcher { is_regex: true, ..matcher("a", value) };
        for (posted, want) in [
            (posted(9, 9), "start time must be before end time"),
            (posted(-9, -5), "end time can't be in the past"),
            (with(Vec::new()), "at least one matcher required"),
            (with(vec![matcher("", "b")]), "invalid label name \"\""),
            (with(vec![regex("(")]), "invalid regular expression"),
            (with(vec![regex("b?")]), "must not match the empty string"),
        ] {
            let error = set.post(posted, 1).expect_err(want).to_string();
            assert!(error.contains(want), "{error}");
        }
        let negated = SilenceMatcher { is_equal: false, ..regex("x") };
        assert!(set.post(with(vec![negated]), 1).is_ok());
        set.limits.max_silences = 1;
        assert!(matches!(set.post(posted(1, 9), 1), Err(SilenceError::TooMany { .. })));
        set.limits.max_silence_bytes = 3;
        assert!(matches!(set.post(posted(1, 9), 1), Err(SilenceError::TooLarge { .. })));
    }

    #[test]
    fn one_may_recur() {
        let (mut set, mut seen) = (Set::new(), Seen::default());
        let night = TimeSpec { start_time: "01:00".into(), end_time: "02:00".into() };
        let intervals = vec![IntervalSpec { times: vec![night], ..IntervalSpec::default() }];
        set.post(PostedSilence { intervals, ..posted(0, 100 * 86_400) }, 0).expect("a silence");
        for (at, silenced) in [(0, 0), (3_600, 1), (7_199, 1), (7_200, 0), (86_400 + 5_000, 1)] {
            assert_eq!(set.silenced(&mut seen, at).len(), silenced, "{at}");
        }
        let bad = vec![IntervalSpec { weekdays: vec!["x".into()], ..IntervalSpec::default() }];
        assert!(set.post(PostedSilence { intervals: bad, ..posted(0, 9) }, 0).is_err());
    }
}
