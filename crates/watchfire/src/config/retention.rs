//! What the file says about how long series are kept, and in which form.

use anyhow::{Result, anyhow, ensure};
use broker::RollupTier;
use metricstore::{DownsamplingRule, RetentionRule};
use model::Matcher;

use super::{duration_ms, keys};

/// Below this a rule would hide what is still in the head, and each query would look for it there.
const MIN_KEPT_MS: i64 = 3_600_000;
/// Each rule is looked at by every query that reaches back beyond it.
const MAX_RULES: usize = 64;

/// What Watchfire's own collectors bear, and Node Exporters as most people name them.
const HOSTS: &str = "{job=\"node\"}";
/// Below this there is nothing to leave out of what agents collect.
const MIN_INTERVAL_MS: i64 = 2_000;
/// … and above it selectors would find nothing at most moments, within their lookback.
const MAX_INTERVAL_MS: i64 = 300_000;
/// How much longer the interval of a rule is at least than that of an earlier one for the same series.
const MIN_FACTOR: i64 = 3;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

/// Most tiers of rollups.
const MAX_TIERS: usize = 4;

/// The rollups that are kept for longer than samples; none where samples are kept for longer.
pub(super) fn rollups(
    keys: Option<&[keys::Rollups]>,
    retention_ms: i64,
) -> Result<Vec<RollupTier>> {
    let Some(keys) = keys else {
        let tier = RollupTier::default();
        return Ok(Vec::from_iter((tier.kept_ms > retention_ms).then_some(tier)));
    };
    ensure!(
        keys.len() <= MAX_TIERS,
        "storage.rollups: {} resolutions are more than {MAX_TIERS}; leave some out",
        keys.len()
    );
    let mut tiers: Vec<RollupTier> = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        let tier = tier(index, key, retention_ms, tiers.last())?;
        tiers.push(tier);
    }
    Ok(tiers)
}

fn tier(
    index: usize,
    key: &keys::Rollups,
    retention_ms: i64,
    finer: Option<&RollupTier>,
) -> Result<RollupTier> {
    let at = |name: &str| format!("storage.rollups[{index}].{name}");
    let resolution_ms = duration_ms(&at("resolution"), Some(&key.resolution))?.unwrap_or(0);
    ensure!(
        (MINUTE_MS..=DAY_MS).contains(&resolution_ms) && DAY_MS % resolution_ms == 0,
        "{}: {:?} does not fit; it must be from 1m to 1d, and a day a multiple of it",
        at("resolution"),
        key.resolution
    );
    let kept_ms = duration_ms(&at("for"), Some(&key.kept))?.unwrap_or(retention_ms);
    let Some(finer) = finer else {
        ensure!(
            kept_ms > retention_ms,
            "{}: {:?} is not longer than storage.retention, so there would be none; give more, or \
             no rollups: []",
            at("for"),
            key.kept
        );
        return Ok(RollupTier { resolution_ms, kept_ms });
    };
    ensure!(
        resolution_ms > finer.resolution_ms && resolution_ms % finer.resolution_ms == 0,
        "{}: {:?} is made of what stands before it, so it must be a multiple of that and more",
        at("resolution"),
        key.resolution
    );
    ensure!(
        kept_ms > finer.kept_ms,
        "{}: {:?} is not longer than what stands before it, so there would be none; give more, or \
         leave it out",
        at("for"),
        key.kept
    );
    Ok(RollupTier { resolution_ms, kept_ms })
}

/// The rules, checked against the retention of all.
pub(super) fn rules(keys: &[keys::RetentionRule], retention_ms: i64) -> Result<Vec<RetentionRule>> {
    ensure!(
        keys.len() <= MAX_RULES,
        "storage.retention_rules: {} rules are more than {MAX_RULES}; let one selector name more \
         series, as in {{env=~\"dev|test\"}}",
        keys.len()
    );
    keys.iter().enumerate().map(|(index, key)| rule(index, key, retention_ms)).collect()
}

/// The rules of downsampling. Without any in the file: what hosts are asked for each second is kept so
/// for a day, and for each 15 seconds until retention.
pub(super) fn downsampling(
    keys: Option<&[keys::Downsampling]>,
    retention_ms: i64,
) -> Result<Vec<DownsamplingRule>> {
    let Some(keys) = keys else {
        let selector = promql::parse_selector(HOSTS).expect("a selector");
        let rule = DownsamplingRule { selector, after_ms: DAY_MS, interval_ms: 15_000 };
        return Ok(Vec::from_iter((rule.after_ms < retention_ms).then_some(rule)));
    };
    ensure!(
        keys.len() <= MAX_RULES,
        "storage.downsampling: {} rules are more than {MAX_RULES}; let one selector name more series, \
         as in {{job=~\"node|process\"}}",
        keys.len()
    );
    let rule = |(index, key): (usize, &keys::Downsampling)| {
        let at = |name: &str| format!("storage.downsampling[{index}].{name}");
        let after_ms = duration_ms(&at("after"), Some(&key.after))?.unwrap_or(DAY_MS);
        ensure!(
            (MIN_KEPT_MS..retention_ms).contains(&after_ms),
            "{}: {:?} does not fit; it must be from 1h, and shorter than storage.retention, after which \
             no samples are left",
            at("after"),
            key.after
        );
        let interval_ms = duration_ms(&at("interval"), Some(&key.interval))?.unwrap_or(0);
        ensure!(
            (MIN_INTERVAL_MS..=MAX_INTERVAL_MS).contains(&interval_ms),
            "{}: {:?} does not fit; it must be from 2s to 5m, within which selectors look back; what \
             is kept less densely for longer are storage.rollups",
            at("interval"),
            key.interval
        );
        let selector = selector(&at("selector"), &key.selector)?;
        Ok(DownsamplingRule { selector, after_ms, interval_ms })
    };
    let rules: Vec<DownsamplingRule> = keys.iter().enumerate().map(rule).collect::<Result<_>>()?;
    for (index, (key, later)) in keys.iter().zip(&rules).enumerate() {
        // What an earlier rule left comes at its interval: a little more would go by chance, or not at all.
        let earlier = keys.iter().zip(&rules).filter(|(other, rule)| {
            other.selector == key.selector && rule.after_ms < later.after_ms
        });
        for (other, rule) in earlier {
            ensure!(
                later.interval_ms >= MIN_FACTOR * rule.interval_ms,
                "storage.downsampling[{index}].interval: {:?} is less than {MIN_FACTOR} times the {:?} that \
                 the same series have by then, so it would leave out what it happens to meet; give more, \
                 or leave the rule out",
                key.interval,
                other.interval
            );
        }
    }
    Ok(rules)
}

fn selector(key: &str, text: &str) -> Result<Vec<Matcher>> {
    promql::parse_selector(text)
        .map_err(|error| anyhow!("{key}: {text:?} is no selector such as {{env=\"dev\"}}: {error}"))
}

fn rule(index: usize, key: &keys::RetentionRule, retention_ms: i64) -> Result<RetentionRule> {
    let at = |name: &str| format!("storage.retention_rules[{index}].{name}");
    let selector = selector(&at("selector"), &key.selector)?;
    let kept_ms = duration_ms(&at("for"), Some(&key.kept))?.unwrap_or(retention_ms);
    ensure!(
        kept_ms >= MIN_KEPT_MS,
        "{}: {kept_ms} is out of range; it must be from {MIN_KEPT_MS} ms",
        at("for")
    );
    ensure!(
        kept_ms <= retention_ms,
        "{}: {:?} is longer than storage.retention, which holds for all series: a rule can only keep \
         less. Raise storage.retention, and give the other series a rule",
        at("for"),
        key.kept
    );
    Ok(RetentionRule { selector, kept_ms })
}
