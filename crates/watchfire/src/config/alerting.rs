//! `rules:` and `alertmanager:`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alerting::rules::{CatchUpLimits, Defaults, RuleLimits, builtin_rules};
use anyhow::{Result, ensure};
use ruler::alertmanagers::QueueLimits;
use ruler::rules::ManagedLimits;
use settings::alertmanager::MatcherMode;

use super::durations::{duration_ms, duration_or_none_ms};
use super::keys;
use crate::cli::ServeArguments;

/// The largest queue for an Alertmanager elsewhere, in alerts.
const MAX_QUEUE: usize = 1_000_000;

/// What rules are evaluated, and by which configuration receivers are told.
#[derive(Debug, Clone)]
pub(crate) struct AlertingConfig {
    /// Whether this process may evaluate and notify at all.
    pub(crate) is_on: bool,
    /// Patterns of files of rules over samples, and over lines.
    pub(crate) files: Vec<String>,
    pub(crate) log_files: Vec<String>,
    /// What groups have that say nothing else; `None` where the configuration of Prometheus says it.
    pub(crate) interval_ms: Option<i64>,
    pub(crate) query_offset_ms: Option<i64>,
    /// Built-in rules that are off; `None` if all are.
    pub(crate) builtin_off: Option<BTreeSet<String>>,
    pub(crate) limits: RuleLimits,
    pub(crate) catch_up: CatchUpLimits,
    pub(crate) groups_at_once: usize,
    pub(crate) managed: ManagedLimits,
    /// The shortest time between two notices of one alert that goes on.
    pub(crate) resend_delay: Duration,
    /// What waits for Alertmanagers elsewhere.
    pub(crate) notification_queue: QueueLimits,
    /// Alertmanager's own file.
    pub(crate) file: Option<PathBuf>,
    pub(crate) mode: MatcherMode,
    /// Where this server is reached from outside, if that is told.
    pub(crate) external_url: Option<String>,
    pub(crate) notifier: alerting::notify::Limits,
    /// For so long groups tell nothing after a start.
    pub(crate) start_delay: Duration,
}

pub(super) fn settings(
    rules: keys::Rules,
    alertmanager: keys::Alertmanager,
    arguments: &ServeArguments,
) -> Result<AlertingConfig> {
    let beside = arguments.config.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let joined = |patterns: Vec<String>| {
        let joined = patterns.iter().map(|one| beside.join(one).to_string_lossy().into_owned());
        joined.collect::<Vec<String>>()
    };
    let off: BTreeSet<String> = rules.builtin_off.into_iter().collect();
    if let Some(unknown) = off.iter().find(|name| builtin_rules().iter().all(|r| r.name != **name))
    {
        let known: Vec<&str> = builtin_rules().iter().map(|rule| rule.name).collect();
        anyhow::bail!(
            "rules.builtin_off: there is no built-in rule {unknown:?}; those there are: {}",
            known.join(", ")
        );
    }
    let default = RuleLimits::default();
    let catch_up = CatchUpLimits::default();
    let managed = ManagedLimits::default();
    let caught_up_ms = duration_ms("rules.catch_up", rules.catch_up.as_deref())?;
    let resend_ms = duration_or_none_ms("rules.resend_delay", rules.resend_delay.as_deref())?;
    let queue = QueueLimits::default();
    let notification_queue = QueueLimits {
        capacity: rules.notification_queue_capacity.unwrap_or(queue.capacity),
        batch: rules.notification_batch_size.unwrap_or(queue.batch),
    };
    for (key, value) in [
        ("notification_queue_capacity", notification_queue.capacity),
        ("notification_batch_size", notification_queue.batch),
    ] {
        ensure!(
            (1..=MAX_QUEUE).contains(&value),
            "rules.{key}: {value} is out of range; it must be from 1 to {MAX_QUEUE}"
        );
    }
    let external_url = alertmanager.external_url;
    if let Some(url) = &external_url {
        ensure!(
            url.starts_with("http://") || url.starts_with("https://"),
            "alertmanager.external_url: {url:?} is no URL; write it with http:// or https://, such as \
             https://watchfire.example.org"
        );
    }
    let start_delay_ms = duration_ms(
        "alertmanager.dispatch_start_delay",
        alertmanager.dispatch_start_delay.as_deref(),
    )?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let notifier = alerting::notify::Limits::default();
    let in_file = alertmanager.config_file.map(|path| beside.join(path));
    Ok(AlertingConfig {
        is_on: rules.enabled.unwrap_or(true),
        files: joined(rules.files),
        log_files: joined(rules.log_files),
        interval_ms: duration_ms(
            "rules.evaluation_interval",
            rules.evaluation_interval.as_deref(),
        )?,
        query_offset_ms: duration_ms("rules.query_offset", rules.query_offset.as_deref())?,
        builtin_off: arguments.builtin_rules.or(rules.builtin).unwrap_or(true).then_some(off),
        limits: RuleLimits {
            max_alerts: rules.max_alerts.unwrap_or(default.max_alerts),
            max_alerts_per_rule: rules.max_alerts_per_rule.unwrap_or(default.max_alerts_per_rule),
            max_series_per_rule: rules.max_series_per_rule.unwrap_or(default.max_series_per_rule),
            ..default
        },
        catch_up: CatchUpLimits {
            max_age_ms: caught_up_ms.unwrap_or(catch_up.max_age_ms),
            ..catch_up
        },
        groups_at_once: rules.groups_at_once.unwrap_or(2 * cores),
        managed: ManagedLimits {
            max_groups: rules.max_managed_groups.unwrap_or(managed.max_groups),
            max_rules_per_group: rules.max_rules_per_group.unwrap_or(managed.max_rules_per_group),
        },
        resend_delay: Duration::from_millis(resend_ms.unwrap_or(60_000).unsigned_abs()),
        notification_queue,
        file: arguments.alertmanager_config.clone().or(in_file),
        mode: match alertmanager.matchers {
            None | Some(keys::Matchers::Fallback) => MatcherMode::Fallback,
            Some(keys::Matchers::Utf8) => MatcherMode::Utf8,
            Some(keys::Matchers::Classic) => MatcherMode::Classic,
        },
        external_url: external_url.map(|url| url.trim_end_matches('/').to_owned()),
        notifier: alerting::notify::Limits {
            max_alerts: alertmanager.max_alerts.unwrap_or(notifier.max_alerts),
            max_alerts_per_name: alertmanager
                .max_alerts_per_name
                .unwrap_or(notifier.max_alerts_per_name),
            max_silences: alertmanager.max_silences.unwrap_or(notifier.max_silences),
            ..notifier
        },
        start_delay: Duration::from_millis(start_delay_ms.unwrap_or(0).unsigned_abs()),
    })
}

impl AlertingConfig {
    /// Where users reach this server, which reaches itself by `own_url`.
    pub(crate) fn external_url(&self, own_url: &str) -> String {
        self.external_url.clone().unwrap_or_else(|| own_url.to_owned())
    }

    /// What groups have that say nothing else, where the configuration of Prometheus says `of_prometheus`.
    pub(crate) fn defaults(&self, of_prometheus: Option<Defaults>) -> Defaults {
        let known = of_prometheus.unwrap_or_default();
        Defaults {
            interval_ms: self.interval_ms.unwrap_or(known.interval_ms),
            query_offset_ms: self.query_offset_ms.unwrap_or(known.query_offset_ms),
        }
    }
}
