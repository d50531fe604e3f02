//! What a cluster keeps, for how long, and where its segments lie: the same at all brokers.
//!
//! Any broker may come to do the job of removing what is too old. So what counts stands in the catalog, put
//! there by the first broker that opens. One that is told otherwise does not start; one that runs while it
//! is changed removes and merges nothing any more until it starts with what holds now.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use catalog::{CatalogError, Command, Expected, State};
use consensus::{Consensus, ConsensusError, ProposeError};
use metricstore::RetentionRules;
use model::Matcher;

use super::members::Members;
use super::tiers::{self, FormerStore, SegmentPlaces};
use super::writer::AGREE_DEADLINE;
use crate::BrokerConfig;
use crate::config::DEFAULT_LOGS_RETENTION_MS;

/// Where it stands.
const KEY: &str = "cluster/kept";

/// What a configuration keeps, in words. Equal ones say the same, others do not.
fn words(config: &BrokerConfig) -> String {
    let mut words = match config.retention.time_ms {
        Some(time_ms) => format!("retention {}", duration(time_ms)),
        None => "retention without end".to_owned(),
    };
    match config.retention.size_bytes {
        Some(bytes) => write!(words, ", at most {bytes} bytes"),
        None => write!(words, ", of any size"),
    }
    .expect("memory takes it");
    words.push_str("; rollups");
    for tier in &config.rollups {
        let (resolution, kept) = (duration(tier.resolution_ms), duration(tier.kept_ms));
        write!(words, " {resolution} for {kept},").expect("memory takes it");
    }
    none_or_end(&mut words, config.rollups.is_empty());
    words.push_str("; downsampling");
    for rule in config.downsampling.iter() {
        words.push(' ');
        push_selector(&mut words, &rule.selector);
        let (after, interval) = (duration(rule.after_ms), duration(rule.interval_ms));
        write!(words, " after {after} to {interval},").expect("memory takes it");
    }
    none_or_end(&mut words, config.downsampling.is_empty());
    // Programs that knew no logs say nothing of them, and mean what is kept unless it is told.
    match config.logs_retention_ms {
        DEFAULT_LOGS_RETENTION_MS => {}
        Some(kept_ms) => write!(words, "; logs {}", duration(kept_ms)).expect("memory takes it"),
        None => words.push_str("; logs without end"),
    }
    words
}

fn push_selector(words: &mut String, selector: &[Matcher]) {
    words.push('{');
    for (place, matcher) in selector.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let (name, op, value) = (&matcher.name, matcher.op.as_str(), &matcher.value);
        write!(words, "{comma}{name}{op}{value:?}").expect("memory takes it");
    }
    words.push('}');
}

/// Rules of retention in words. Equal ones say the same, others do not.
pub(super) fn rules_in_words(rules: &RetentionRules) -> String {
    let mut words = String::new();
    for (selector, kept_ms) in rules.iter() {
        push_selector(&mut words, selector);
        write!(words, " for {},", duration(kept_ms)).expect("memory takes it");
    }
    none_or_end(&mut words, rules.is_empty());
    words.trim_start().to_owned()
}

fn none_or_end(words: &mut String, is_empty: bool) {
    match is_empty {
        true => words.push_str(" none"),
        false => _ = words.pop(),
    }
}

/// In the largest unit that fits.
fn duration(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.into_iter().find(|(unit, _)| ms != 0 && ms % unit == 0);
    whole.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

/// A store of segments, as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The name that the store bears: two brokers may reach it by two URLs.
    pub(super) id: String,
    /// The URL by which it was first reached, for people.
    pub(super) url: String,
}

/// What the catalog says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// See [`words`].
    data: String,
    /// Where segments lie, if not with the blocks.
    segments: Option<Place>,
    /// Where they lay before the last change, if not with the blocks.
    before: Option<Place>,
}

const SEGMENTS: &str = "segments apart in ";
const BEFORE: &str = "segments before that in ";

impl Kept {
    /// One line each: none of them has the end of a line in it.
    fn encode(&self) -> String {
        let mut text = self.data.clone();
        for (what, place) in [(SEGMENTS, &self.segments), (BEFORE, &self.before)] {
            if let Some(Place { id, url }) = place {
                let url = url.replace(char::is_control, "");
                write!(text, "\n{what}{id} {url}").expect("memory takes it");
            }
        }
        text
    }

    fn decode(text: &str) -> Kept {
        let mut lines = text.split('\n');
        let data = lines.next().unwrap_or_default().to_owned();
        let mut kept = Kept { data, segments: None, before: None };
        for line in lines {
            let place = |rest: &str| {
                let (id, url) = rest.split_once(' ').unwrap_or((rest, ""));
                Some(Place { id: id.to_owned(), url: url.to_owned() })
            };
            if let Some(rest) = line.strip_prefix(SEGMENTS) {
                kept.segments = place(rest);
            } else if let Some(rest) = line.strip_prefix(BEFORE) {
                kept.before = place(rest);
            }
        }
        kept
    }

    fn segments_id(&self) -> Option<&str> {
        self.segments.as_ref().map(|place| &*place.id)
    }

    /// Whether both say the same. How they reach the store and what was before does not matter.
    fn is_same(&self, other: &Kept) -> bool {
        self.data == other.data && self.segments_id() == other.segments_id()
    }

    fn place(&self) -> String {
        match &self.segments {
            None => "with the blocks".to_owned(),
            Some(Place { id, url }) => format!("in {url} (store {id})"),
        }
    }
}

/// What holds, and the version of the key.
fn held(state: &State) -> Option<(Kept, u64)> {
    let entry = state.get(KEY)?;
    Some((Kept::decode(&String::from_utf8_lossy(&entry.value)), entry.version))
}

/// Sees to it that this broker keeps what the cluster keeps, where the cluster keeps it. Waits for the
/// cluster as long as it takes. Yields what was agreed upon.
///
/// # Errors
/// It keeps something else, or elsewhere, and was not told to change what the cluster keeps.
pub(super) async fn agree(
    consensus: &Consensus,
    config: &BrokerConfig,
    places: &SegmentPlaces,
) -> Result<Kept> {
    let data = words(config);
    loop {
        match consensus.catch_up(AGREE_DEADLINE).await {
            Ok(_) => {}
            Err(error @ ConsensusError::NoLeader { .. }) => {
                tracing::warn!(%error, "the start waits for the cluster");
                continue;
            }
            Err(error) => return Err(error).context("ask what the cluster keeps"),
        }
        let (held, cluster) = consensus.read(|state| (held(state), state.store()));
        let cluster = cluster.map(|id| id.to_string()).unwrap_or_default();
        let theirs = held.as_ref().map(|(theirs, _)| theirs);
        let known = theirs.and_then(|theirs| theirs.segments.as_ref());
        let found = match &places.apart {
            None => None,
            Some(apart) => Some((apart, tiers::find(apart, &cluster, known).await?)),
        };
        let mut own = Kept {
            data: data.clone(),
            segments: found.as_ref().map(|(_, found)| found.place.clone()),
            before: theirs.and_then(|theirs| theirs.before.clone()),
        };
        let expected = match &held {
            None => Expected::Absent,
            Some((theirs, _)) if theirs.is_same(&own) => return Ok(theirs.clone()),
            Some((theirs, version)) => {
                if config.change_kept != Some(*version) {
                    bail!(refusal(&own, theirs, *version));
                }
                if theirs.segments_id() != own.segments_id()
                    && let Some(before) = &theirs.segments
                {
                    former_is_there(places, &cluster, before).await?;
                    own.before = Some(before.clone());
                }
                Expected::Version(*version)
            }
        };
        if let Some((apart, found)) = &found
            && !found.is_marked
        {
            tiers::mark(apart, &cluster, &found.place).await?;
        }
        let (key, value) = (KEY.to_owned(), own.encode().into_bytes());
        match consensus.propose(Command::Put { key, value, expected }, AGREE_DEADLINE).await {
            Ok(_) if expected == Expected::Absent => {
                tracing::info!(
                    "the cluster keeps from now on: {}; segments {}",
                    own.data,
                    own.place()
                );
            }
            Ok(_) => tracing::warn!(
                "what the cluster keeps was changed to: {}; segments {}. Brokers that were told otherwise \
                 remove, merge and take over nothing until they are restarted with the same",
                own.data,
                own.place()
            ),
            // Another one was first, or it is not known: look again.
            Err(
                ProposeError::Catalog(CatalogError::VersionConflict { .. })
                | ProposeError::NoLeader(_)
                | ProposeError::Unknown(_),
            ) => {}
            Err(error) => return Err(error).context("say what the cluster keeps"),
        }
    }
}

/// Why a broker that was told something else does not start.
fn refusal(own: &Kept, theirs: &Kept, version: u64) -> String {
    if own.data != theirs.data {
        let (own, theirs) = (&own.data, &theirs.data);
        return format!(
            "this broker is told to keep something else than its cluster does, and each broker removes \
             what is too old for all. This one: {own}. The cluster: {theirs}. Give it the storage.retention, \
             storage.retention_size_bytes, storage.logs_retention, storage.rollups and storage.downsampling \
             of the others. To \
             change what the cluster keeps, change them at all brokers, then restart this one with \
             --change-kept {version}, and then the others without"
        );
    }
    let former = match &theirs.segments {
        None => String::new(),
        Some(place) => format!(
            " and --former-store-segments with the URL of {}, or `lost` if that has lost what it had,",
            place.url
        ),
    };
    format!(
        "this broker is told to keep segments elsewhere than its cluster does, and each broker reads what the \
         others wrote. This one: {}. The cluster: {}. Give it the --store-segments of the others, or none if \
         they have none; if it is the same store, somebody has emptied it. To move segments, restart this broker \
         with --change-kept {version}{former} and then the others with the same --store-segments",
        own.place(),
        theirs.place()
    )
}

/// What is in no block yet must be readable behind a change.
async fn former_is_there(places: &SegmentPlaces, cluster: &str, before: &Place) -> Result<()> {
    let is_there = match &places.former {
        FormerStore::Lost => true,
        FormerStore::At(store) => tiers::bears(&**store, cluster, &before.id).await?,
        FormerStore::None => false,
    };
    ensure!(
        is_there,
        "segments that are in no block yet lie in {} (store {}): name it with --former-store-segments while \
         they are moved; write `lost` instead of its URL if it has lost what it had",
        before.url,
        before.id
    );
    Ok(())
}

/// Refuses to go on without segments that may lie where they lay before.
///
/// # Errors
/// They may, and this broker was not told where that is.
pub(super) fn has_looked_everywhere(
    kept: &Kept,
    places: &SegmentPlaces,
    gone: usize,
) -> Result<()> {
    match (&kept.before, &places.former) {
        (Some(before), FormerStore::None) if gone > 0 => bail!(
            "{gone} segments of this broker are not where the cluster keeps segments now ({}); they may lie in \
             {} (store {}) still: name it with --former-store-segments, or write `lost` instead of its URL to \
             start without them",
            kept.place(),
            before.url,
            before.id
        ),
        _ => Ok(()),
    }
}

/// Whether this broker may remove anything for good.
#[derive(Clone)]
pub(super) struct Keeping {
    own: Arc<Kept>,
    members: Arc<Members>,
}

/// Why it may not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MayNot {
    /// It waits to hear of the others' clocks: some seconds after a start.
    #[error("the clocks of the other brokers are not known yet")]
    Unheard,
    /// Its clock, or that of the others, is wrong.
    #[error(
        "the clock of this broker is {0} s ahead of the median of its cluster (less than 0: behind); nothing \
         is merged or removed here until they agree within a minute: set the clocks right (NTP)"
    )]
    Clock(i64),
    /// What the cluster keeps was changed.
    #[error(
        "the cluster keeps something else by now: {0}. Nothing is merged or removed here until this broker is \
         restarted with the same storage.retention, storage.rollups, storage.downsampling and --store-segments"
    )]
    Changed(String),
}

impl Keeping {
    /// `own` is what was agreed upon when this broker started.
    pub(super) fn new(own: Kept, members: &Arc<Members>) -> Self {
        Keeping { own: Arc::new(own), members: Arc::clone(members) }
    }

    pub(super) fn members(&self) -> &Arc<Members> {
        &self.members
    }

    /// Whether this broker reads segments where the others write them now.
    ///
    /// # Errors
    /// That was changed since it started.
    pub(super) fn reads_segments(&self) -> Result<(), MayNot> {
        match self.members.consensus().read(held) {
            Some((theirs, _)) if theirs.segments_id() != self.own.segments_id() => {
                Err(MayNot::Changed(format!("{}; segments {}", theirs.data, theirs.place())))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may now: its configuration is that of the cluster, and its clock is not alone with what it
    /// says.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn may_remove(&self) -> Result<(), MayNot> {
        let held = self.members.consensus().read(held);
        if let Some((theirs, _)) = held.filter(|(theirs, _)| !theirs.is_same(&self.own)) {
            return Err(MayNot::Changed(format!("{}; segments {}", theirs.data, theirs.place())));
        }
        let (others_may_come, ahead_ms) = self.members.clocks();
        judge(others_may_come, ahead_ms)
    }
}

/// Clocks that differ by more are not taken for one time.
const MAX_SKEW_MS: i64 = 60_000;

/// Whether the own clock goes with the median of all. `ahead_ms` is how far those of other brokers that are
/// alive are ahead of it.
fn judge(others_may_come: bool, mut ahead_ms: Vec<i64>) -> Result<(), MayNot> {
    if ahead_ms.is_empty() {
        // Alone there is nothing to compare it with.
        return if others_may_come { Err(MayNot::Unheard) } else { Ok(()) };
    }
    ahead_ms.push(0);
    ahead_ms.sort_unstable();
    // Of an even number both in the middle: of two that differ nobody knows which is right.
    let middle = [ahead_ms[(ahead_ms.len() - 1) / 2], ahead_ms[ahead_ms.len() / 2]];
    match middle.into_iter().max_by_key(|ms| ms.unsigned_abs()) {
        Some(ms) if ms.saturating_abs() > MAX_SKEW_MS => Err(MayNot::Clock(-(ms / 1_000))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use blockstore::Retention;
    use metricstore::{DownsamplingRule, DownsamplingRules, RetentionRule};
    use model::MatchOp;

    use super::*;
    use crate::RollupTier;

    #[test]
    fn a_clock_that_is_off_removes_nothing() {
        const YEAR: i64 = 365 * 86_400_000;
        assert_eq!(judge(false, vec![]), Ok(()));
        assert_eq!(judge(true, vec![]), Err(MayNot::Unheard));
        assert_eq!(judge(true, vec![-900, 59_000]), Ok(()));
        assert_eq!(judge(true, vec![-YEAR, -YEAR]), Err(MayNot::Clock(YEAR / 1_000)));
        assert_eq!(judge(true, vec![YEAR, YEAR]), Err(MayNot::Clock(-YEAR / 1_000)));
        // Another's does not keep this one from working, unless there are but two.
        assert_eq!(judge(true, vec![0, YEAR]), Ok(()));
        assert_eq!(judge(true, vec![0, 0, -YEAR]), Ok(()));
        assert_eq!(judge(true, vec![YEAR]), Err(MayNot::Clock(-YEAR / 1_000)));
        assert!(judge(true, vec![0, YEAR, YEAR]).is_err(), "two against two");
        assert!(judge(true, vec![i64::MIN, i64::MIN]).is_err());
    }

    #[test]
    fn what_is_kept_is_read_as_it_was_written() {
        let place = |id: &str, url: &str| Some(Place { id: id.to_owned(), url: url.to_owned() });
        let data = "retention 15d; rollups none".to_owned();
        let apart = place("a1", "redis://r:1/p; segments before that in x y");
        let before = place("b2", "file:///a b");
        for segments in [None, apart] {
            for before in [None, before.clone()] {
                let kept = Kept { data: data.clone(), segments: segments.clone(), before };
                assert_eq!(Kept::decode(&kept.encode()), kept);
                let moved = Kept { segments: place("c3", "redis://r:1/p"), ..kept.clone() };
                assert!(kept.is_same(&kept) && !moved.is_same(&kept));
            }
        }
        // Of a version that knew one store alone.
        let old = Kept::decode(&data);
        assert_eq!(old, Kept { data, segments: None, before: None });
        let broken = Kept { segments: place("a", "x\nsegments apart in z"), ..old.clone() };
        assert_eq!(Kept::decode(&broken.encode()).segments_id(), Some("a"));
    }

    #[test]
    fn words_tell_rules_of_retention_apart() {
        let matcher = |value| Matcher::new("job", MatchOp::Equal, value).expect("no regex");
        let rule = |value, kept_ms| RetentionRule { selector: vec![matcher(value)], kept_ms };
        let told = |rules| rules_in_words(&RetentionRules::new(rules));
        assert_eq!(told(vec![]), "none");
        let two = vec![rule("b", 172_800_000), rule("a", 86_400_000)];
        assert_eq!(told(two), "{job=\"a\"} for 1d,{job=\"b\"} for 2d");
    }

    #[test]
    fn words_tell_configurations_apart() {
        let config = BrokerConfig::new("unused".into(), || 0);
        assert_eq!(
            words(&config),
            "retention 15d, of any size; rollups 5m for 365d; downsampling none"
        );
        let matcher = |value| Matcher::new("job", MatchOp::Equal, value).expect("no regex");
        let rule = |value| DownsamplingRule {
            selector: vec![matcher(value), matcher("b")],
            after_ms: 90_000,
            interval_ms: 1_500,
        };
        let others = [
            BrokerConfig {
                retention: Retention { time_ms: None, size_bytes: None },
                ..config.clone()
            },
            BrokerConfig {
                retention: Retention { size_bytes: Some(7), ..config.retention },
                ..config.clone()
            },
            BrokerConfig { rollups: Vec::new(), ..config.clone() },
            BrokerConfig { logs_retention_ms: None, ..config.clone() },
            BrokerConfig { logs_retention_ms: Some(86_400_000), ..config.clone() },
            BrokerConfig {
                rollups: vec![RollupTier { kept_ms: 1, ..RollupTier::default() }],
                ..config.clone()
            },
            BrokerConfig {
                downsampling: DownsamplingRules::new(vec![rule("a")]),
                ..config.clone()
            },
            BrokerConfig {
                downsampling: DownsamplingRules::new(vec![rule("a\"")]),
                ..config.clone()
            },
        ];
        let all: std::collections::BTreeSet<String> =
            others.iter().chain([&config]).map(words).collect();
        assert_eq!(all.len(), others.len() + 1, "{all:#?}");
        assert!(all.iter().any(|one| one.ends_with("{job=\"a\",job=\"b\"} after 90s to 1500ms")));
    }
}
