//! What a cluster keeps, and for how long: the same at all brokers.
//!
//! Any broker may come to do the job of removing what is too old. So what counts stands in the catalog, put
//! there by the first broker that opens. One that is told otherwise does not start; one that runs while it
//! is changed removes and merges nothing any more until it starts with what holds now.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use catalog::{CatalogError, Command, Expected, State};
use consensus::{Consensus, ConsensusError, ProposeError};

use super::members::Members;
use super::writer::AGREE_DEADLINE;
use crate::BrokerConfig;

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
        words.push_str(" {");
        for (place, matcher) in rule.selector.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let (name, op, value) = (&matcher.name, matcher.op.as_str(), &matcher.value);
            write!(words, "{comma}{name}{op}{value:?}").expect("memory takes it");
        }
        let (after, interval) = (duration(rule.after_ms), duration(rule.interval_ms));
        write!(words, "}} after {after} to {interval},").expect("memory takes it");
    }
    none_or_end(&mut words, config.downsampling.is_empty());
    words
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

/// What holds, and the version of the key.
fn held(state: &State) -> Option<(String, u64)> {
    let entry = state.get(KEY)?;
    Some((String::from_utf8_lossy(&entry.value).into_owned(), entry.version))
}

/// Sees to it that this broker keeps what the cluster keeps. Waits for the cluster as long as it takes.
///
/// # Errors
/// It keeps something else, and was not told to change what the cluster keeps.
pub(super) async fn agree(consensus: &Consensus, config: &BrokerConfig) -> Result<()> {
    let own = words(config);
    loop {
        match consensus.catch_up(AGREE_DEADLINE).await {
            Ok(_) => {}
            Err(error @ ConsensusError::NoLeader { .. }) => {
                tracing::warn!(%error, "the start waits for the cluster");
                continue;
            }
            Err(error) => return Err(error).context("ask what the cluster keeps"),
        }
        let expected = match consensus.read(held) {
            None => Expected::Absent,
            Some((theirs, _)) if theirs == own => return Ok(()),
            Some((_, version)) if config.change_kept == Some(version) => Expected::Version(version),
            Some((theirs, version)) => bail!(
                "this broker is told to keep something else than its cluster does, and each broker removes \
                 what is too old for all. This one: {own}. The cluster: {theirs}. Give it the storage.retention, \
                 storage.retention_size_bytes, storage.rollups and storage.downsampling of the others. To \
                 change what the cluster keeps, change them at all brokers, then restart this one with \
                 --change-kept {version}, and then the others without"
            ),
        };
        let (key, value) = (KEY.to_owned(), own.clone().into_bytes());
        match consensus.propose(Command::Put { key, value, expected }, AGREE_DEADLINE).await {
            Ok(_) if expected == Expected::Absent => {
                tracing::info!("the cluster keeps from now on: {own}");
            }
            Ok(_) => tracing::warn!(
                "what the cluster keeps was changed to: {own}. Brokers that were told otherwise remove and merge \
                 nothing until they are restarted with the same"
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

/// Whether this broker may remove anything for good.
#[derive(Clone)]
pub(super) struct Keeping {
    own: Arc<str>,
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
         restarted with the same storage.retention, storage.rollups and storage.downsampling"
    )]
    Changed(String),
}

impl Keeping {
    pub(super) fn new(config: &BrokerConfig, members: &Arc<Members>) -> Self {
        Keeping { own: words(config).into(), members: Arc::clone(members) }
    }

    /// Whether it may now: its configuration is that of the cluster, and its clock is not alone with what it
    /// says.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn may_remove(&self) -> Result<(), MayNot> {
        let held = self.members.consensus().read(held);
        if let Some((theirs, _)) = held.filter(|(theirs, _)| **theirs != *self.own) {
            return Err(MayNot::Changed(theirs));
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
    use metricstore::{DownsamplingRule, DownsamplingRules};
    use model::{MatchOp, Matcher};

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
