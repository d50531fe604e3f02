//! Hot reload: the files are read again and put in effect, all of it or nothing.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use axum::extract::State;
use broker::{Adjustable, Broker, PreparedSettings};
use console::{Executor, Reloaded};
use http::{Method, StatusCode};
use metricstore::RetentionRules;
use net::{Access, Routes};
use parking_lot::RwLock;
use settings::yaml::Document;

use super::Scraping;
use super::alerting::Alerting;
use super::scraping::tell_refused;
use crate::about::now_ms;
use crate::config::Config;

/// Keys, with all below them, that a reload puts in effect.
const RELOADED: &[&str] = &[
    "alertmanager",
    "ha_tracker",
    "limits",
    "remote_write.limit_bytes",
    "rules",
    "storage.retention_rules",
    "stream_aggregation",
    "tenants",
];
/// … but for these: threads and the budget of memory are laid out by them at the start.
const NOT_RELOADED: &[&str] = &[
    "alertmanager.dispatch_start_delay",
    "alertmanager.external_url",
    "alertmanager.max_alerts",
    "alertmanager.max_alerts_per_name",
    "alertmanager.max_silences",
    "limits.max_concurrent_queries",
    "limits.max_query_bytes",
    "rules.enabled",
    "rules.groups_at_once",
];

/// What can be read again, and those it is put in effect for.
pub(super) struct Reloading {
    /// The configuration of the start, by whose flags the file is read again.
    start: Config,
    /// The file as it is in effect.
    yaml: RwLock<String>,
    last: RwLock<Reloaded>,
    broker: Broker,
    executor: Arc<Executor>,
    scraping: Option<Arc<Scraping>>,
    /// Rules and receivers, once they are there.
    alerting: OnceLock<Arc<Alerting>>,
    /// One at a time: the second would undo what it did not see.
    turn: tokio::sync::Mutex<()>,
}

impl Reloading {
    pub(super) fn new(
        config: &Config,
        broker: Broker,
        executor: Arc<Executor>,
        scraping: Option<Arc<Scraping>>,
    ) -> Self {
        Reloading {
            start: config.clone(),
            yaml: RwLock::new(config.yaml.clone()),
            last: RwLock::new(Reloaded { is_ok: true, in_effect_ms: now_ms() }),
            broker,
            executor,
            scraping,
            alerting: OnceLock::new(),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// From now on rules and receivers are read again, too.
    pub(super) fn reload_also(&self, alerting: Arc<Alerting>) {
        let _ = self.alerting.set(alerting);
    }

    /// Whether there is a file that could be read again.
    fn is_possible(&self) -> bool {
        self.start.arguments.config.is_some()
            || self.start.alerting.file.is_some()
            || self.scraping.is_some()
    }

    /// Reads the files again and puts them in effect, all of it or nothing. Yields the keys that are
    /// not those of the start and need another one, ascending.
    ///
    /// # Errors
    /// What is wrong with the files; then everything stays as it is.
    pub(super) async fn reload(&self) -> Result<Vec<String>> {
        let _turn = self.turn.lock().await;
        // Both files as they were read are in it.
        let outcome = Box::pin(self.try_reload()).await;
        let mut last = self.last.write();
        last.is_ok = outcome.is_ok();
        match &outcome {
            Ok(kept) => {
                last.in_effect_ms = now_ms();
                tracing::info!(
                    in_effect_after_a_restart = kept.join(", "),
                    "the configuration is in effect"
                );
            }
            // Told to whoever asked as well, if they wait for it; who looks after the server may be
            // somebody else.
            Err(error) => tell_refused(error),
        }
        outcome
    }

    async fn try_reload(&self) -> Result<Vec<String>> {
        let refused = |_: &anyhow::Error| {
            self.scraping.iter().for_each(|scraping| scraping.scraper().count_refused());
        };
        let targets = match &self.scraping {
            Some(scraping) => Some((scraping, scraping.prepare().await.inspect_err(refused)?)),
            None => None,
        };
        let rules = match self.alerting.get() {
            None => None,
            Some(alerting) => {
                let of_prometheus = match &targets {
                    Some((_, prepared)) => prepared.of_prometheus().clone(),
                    None => Default::default(),
                };
                let (alerting, start) = (Arc::clone(alerting), self.start.clone());
                let prepare = move || {
                    let config = start.load_again()?.alerting;
                    let prepared = alerting.prepare(&config, &of_prometheus)?;
                    anyhow::Ok((alerting, prepared))
                };
                let prepared = tokio::task::spawn_blocking(prepare).await?;
                Some(prepared.inspect_err(refused)?)
            }
        };
        // Last, because it begins rules of aggregation: nothing that may fail comes between that and
        // their being in effect.
        let own = self.prepare().await.inspect_err(refused)?;
        if let Some((scraping, prepared)) = targets {
            scraping.put(prepared).await;
        }
        if let Some((alerting, prepared)) = rules {
            alerting.put(prepared).await;
        }
        let Some((config, prepared)) = own else { return Ok(Vec::new()) };
        let kept = needs_a_start(&self.start.yaml, &config.yaml);
        self.executor.set_limits(config.limits.clone(), config.tenants.limits.clone());
        let broker = self.broker.clone();
        tokio::task::spawn_blocking(move || broker.put_settings(prepared)).await?;
        *self.yaml.write() = config.yaml;
        Ok(kept)
    }

    /// The file, and all done of putting it in effect that may fail; `None` if there is no file.
    async fn prepare(&self) -> Result<Option<(Config, PreparedSettings)>> {
        let Some(path) = self.start.arguments.config.clone() else { return Ok(None) };
        let (start, broker) = (self.start.clone(), self.broker.clone());
        let prepare = move || {
            let config = start.load_again()?;
            let prepared = broker
                .prepare_settings(adjustable(&config))
                .with_context(|| format!("put {} in effect", path.display()))?;
            Ok(Some((config, prepared)))
        };
        tokio::task::spawn_blocking(prepare).await?
    }

    /// [`Reloading::reload`] for a signal, whose sender reads the log.
    pub(super) async fn reload_and_tell(&self) {
        if !self.is_possible() {
            tracing::info!(
                "SIGHUP: there is no --config, --prometheus-config or --alertmanager-config to read again"
            );
        } else {
            // The log has it.
            let _ = self.reload().await;
        }
    }

    /// What came of the last attempt.
    pub(super) fn last(&self) -> Reloaded {
        *self.last.read()
    }

    /// The file as it is in effect, keys that need another start included.
    pub(super) fn yaml(&self) -> String {
        self.yaml.read().clone()
    }
}

/// What of a configuration a broker takes over while it runs.
fn adjustable(config: &Config) -> Adjustable {
    Adjustable {
        limits: Arc::new(config.limits.clone()),
        tenants: config.tenants.clone(),
        retention_rules: RetentionRules::new(config.retention_rules.clone()),
        remote_write_limit_bytes: config.remote_write_limit_bytes,
        ha: config.ha.clone(),
        aggregation: config.aggregation.clone(),
    }
}

/// Keys that differ and that no reload puts in effect.
fn needs_a_start(start: &str, now: &str) -> Vec<String> {
    // Both were read before.
    let parsed = |text: &str| Document::parse("", text.as_bytes());
    let (Ok(start), Ok(now)) = (parsed(start), parsed(now)) else { return Vec::new() };
    let mut keys = start.differences(&now);
    keys.retain(|key| !is_reloaded(key));
    keys
}

/// Whether a reload puts a key in effect.
fn is_reloaded(key: &str) -> bool {
    let is_below = |top: &&str| {
        key.strip_prefix(*top).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    RELOADED.iter().any(is_below) && !NOT_RELOADED.iter().any(is_below)
}

/// `POST /-/reload`, as Prometheus has it.
pub(super) fn routes(reloading: &Arc<Reloading>) -> Routes {
    Routes::new()
        .route("/-/reload", [Method::POST, Method::PUT], Access::Admin, reload)
        .with_state(Arc::clone(reloading))
}

async fn reload(State(reloading): State<Arc<Reloading>>) -> (StatusCode, String) {
    if !reloading.is_possible() {
        let text = "there is nothing to read again: start with --config FILE, \
                    --prometheus-config FILE or --alertmanager-config FILE\n";
        return (StatusCode::BAD_REQUEST, text.to_owned());
    }
    // Also if the client does not wait: half of a reload must not be left.
    let reload = tokio::spawn(async move { reloading.reload().await });
    match reload.await.unwrap_or_else(|panic| Err(panic.into())) {
        Ok(kept) if kept.is_empty() => (StatusCode::OK, String::new()),
        Ok(kept) => {
            let keys = kept.join(", ");
            let text = format!("in effect, but for what takes effect at the next start: {keys}\n");
            (StatusCode::OK, text)
        }
        Err(error) => {
            let text = match error.downcast_ref::<settings::Faults>() {
                Some(faults) => faults.render(),
                None => format!("{error:#}"),
            };
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {text}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_need_a_start_are_named() {
        let start = "listen: 127.0.0.1:1\nlimits: {max_active_series: 5}\nstorage:\n  \
                     retention: 15d\n  retention_rules: [{selector: a, for: 1d}]\n";
        let now = "limits: {max_active_series: 6, max_query_bytes: 5000000}\n\
                   tenants: {a: {limits: {max_active_series: 1}}}\nstorage:\n  \
                   retention: 20d\n  retention_rules: []\nha_tracker: {enabled: true}\n\
                   agent: {labels: {a: b}}\n";
        assert_eq!(
            needs_a_start(start, now),
            ["agent.labels.a", "limits.max_query_bytes", "listen", "storage.retention"]
        );
        assert_eq!(needs_a_start(start, start), [""; 0]);
        assert_eq!(needs_a_start("", "# nothing\n"), [""; 0]);
    }

    #[test]
    fn the_documentation_says_of_each_key_whether_it_is_reloaded() {
        let text = include_str!("../../../../docs/operating/configuration.md");
        let table =
            text.split_once("| key | default | unit | range | reload | what |").expect("keys");
        let mut told = 0;
        for row in table.1.lines().skip(2).take_while(|row| row.starts_with('|')) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            for key in cells[0].split(", ") {
                let key = key.trim_matches('`').replace("[]", "");
                assert_eq!(cells[4], if is_reloaded(&key) { "yes" } else { "no" }, "{key}");
                told += 1;
            }
        }
        assert!(told > 70, "{told} keys");
    }
}
