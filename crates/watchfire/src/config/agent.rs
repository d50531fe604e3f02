//! What the file says about collecting this host and shipping to a broker.

use std::collections::BTreeMap;

use agent::{
    AgentConfig, FullPolicy, Pace, ReductionRule, SpoolConfig, Statistic, WindowRule, WindowsConfig,
};
use anyhow::{Context, Result, ensure};
use model::Matcher;

use super::{duration_ms, keys};

/// A series that is reduced is shipped at least this often, unless told otherwise.
const DEFAULT_HEARTBEAT_MS: u64 = 60_000;

/// How an agent ships.
#[derive(Debug, Clone)]
pub(crate) struct Shipping {
    /// Brokers as `HOST:PORT`.
    pub(crate) brokers: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) spool: SpoolConfig,
    pub(crate) windows: WindowsConfig,
}

/// How this host is collected.
pub(super) fn collecting(keys: &keys::Agent) -> Result<AgentConfig> {
    let mut config = AgentConfig::default();
    if let Some(ms) = positive_ms("agent.interval", keys.interval.as_deref())? {
        config.interval_ms = ms;
    }
    if let Some(job) = &keys.job {
        config.job.clone_from(job);
    }
    if let Some(instance) = &keys.instance {
        config.instance.clone_from(instance);
    }
    if let Some(count) = keys.top_processes {
        config.top_processes = count;
    }
    for (root, given) in [
        (&mut config.proc_root, &keys.proc_root),
        (&mut config.sys_root, &keys.sys_root),
        (&mut config.root_fs, &keys.root_fs),
        (&mut config.udev_root, &keys.udev_root),
    ] {
        if let Some(given) = given {
            root.clone_from(given);
        }
    }
    config.enabled_collectors.clone_from(&keys.enabled_collectors);
    config.disabled_collectors.clone_from(&keys.disabled_collectors);
    config.textfile_directories.clone_from(&keys.textfile_directories);
    config.collectors = keys.collectors.clone();
    config.check_collectors()?;
    Ok(config)
}

/// How it ships, apart from what flags say.
pub(super) fn shipping(keys: &keys::Agent) -> Result<Shipping> {
    let default = SpoolConfig::default();
    let spool = SpoolConfig {
        limit_bytes: keys.spool.limit_bytes.unwrap_or(default.limit_bytes),
        disk_share_percent: keys.spool.disk_share_percent.unwrap_or(default.disk_share_percent),
        policy: match keys.spool.policy {
            None | Some(keys::Policy::DropOldest) => FullPolicy::DropOldest,
            Some(keys::Policy::Pause) => FullPolicy::Pause,
        },
        memory_bytes: keys.spool.memory_bytes.unwrap_or(default.memory_bytes),
    };
    for (key, value, range) in [
        ("limit_bytes", spool.limit_bytes, 1 << 20..=u64::MAX),
        ("disk_share_percent", spool.disk_share_percent.into(), 1..=100),
        ("memory_bytes", spool.memory_bytes, 64 << 10..=1 << 30),
    ] {
        let (min, max) = (range.start(), range.end());
        ensure!(
            range.contains(&value),
            "agent.spool.{key}: {value} is out of range; it must be from {min} to {max}"
        );
    }
    let windows = WindowsConfig {
        windows: keys.windows.iter().map(window).collect::<Result<_>>()?,
        reductions: keys.reductions.iter().map(reduction).collect::<Result<_>>()?,
    };
    windows.check()?;
    let (brokers, labels) = (keys.brokers.clone(), keys.labels.clone());
    Ok(Shipping { brokers, labels, spool, windows })
}

fn window(rule: &keys::Window) -> Result<WindowRule> {
    let window_ms = required_ms("agent.windows.window", &rule.window)?;
    let step_ms = positive_ms("agent.windows.step", rule.step.as_deref())?;
    Ok(WindowRule {
        matchers: matchers("agent.windows.match", &rule.selector)?,
        window_ms,
        step_ms: step_ms.unwrap_or(window_ms),
        statistics: rule
            .statistics
            .iter()
            .map(|statistic| match statistic {
                keys::Statistic::Min => Statistic::Min,
                keys::Statistic::Max => Statistic::Max,
                keys::Statistic::Mean => Statistic::Mean,
                keys::Statistic::Last => Statistic::Last,
                keys::Statistic::Count => Statistic::Count,
            })
            .collect(),
        replaces: rule.replaces,
    })
}

fn reduction(rule: &keys::Reduction) -> Result<ReductionRule> {
    let heartbeat_ms = positive_ms("agent.reductions.heartbeat", rule.heartbeat.as_deref())?;
    Ok(ReductionRule {
        matchers: matchers("agent.reductions.match", &rule.selector)?,
        tolerance: rule.tolerance,
        relative_tolerance: rule.relative_tolerance,
        heartbeat_ms: heartbeat_ms.unwrap_or(DEFAULT_HEARTBEAT_MS),
        pace: match rule.pace {
            keys::Pace::OnChange => Pace::OnChange,
            keys::Pace::Adaptive => Pace::Adaptive,
        },
    })
}

fn matchers(key: &str, selector: &str) -> Result<Vec<Matcher>> {
    promql::parse_selector(selector).map_err(|error| {
        anyhow::anyhow!("{key}: {selector:?} is no selector such as node_load1: {error}")
    })
}

fn required_ms(key: &str, text: &str) -> Result<u64> {
    positive_ms(key, Some(text))?.with_context(|| format!("{key} is missing"))
}

fn positive_ms(key: &str, text: Option<&str>) -> Result<Option<u64>> {
    let ms = duration_ms(key, text)?;
    ms.map(|ms| u64::try_from(ms).with_context(|| format!("{key} is negative"))).transpose()
}

/// First 16 hexadecimal digits of a text's hash.
pub(super) fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}
