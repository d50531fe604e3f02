//! Rules and notifications in a process with a broker.

use std::sync::Arc;
use std::time::Duration;

use alerting::notify::{Notification, NotifiedAlert, Outcome};
use alerting::rules::Defaults;
use anyhow::{Context, Result, anyhow};
use broker::Broker;
use console::Executor;
use model::Labels;
use net::{NetMetrics, Routes};
use parking_lot::RwLock;
use receivers::{Deliverer, DeliveryOptions};
use ruler::alertmanagers::{Alertmanagers, PreparedAlertmanagers};
use ruler::api::{About, ClusterAbout};
use ruler::notify::{Deliver, Ended, Files, Notifications, NotifyConfiguration, Tested};
use ruler::rules::{Parts, PreparedRules, Read, RuleSettings, Rules};
use ruler::{Boxed, Clock, Keep, Running, Seat};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::check::ThisMachine;
use crate::config::{AlertingConfig, Config};
use crate::rule_data::{RuleQueries, RuleStore};

/// What of Prometheus' configuration concerns rules.
#[derive(Debug, Clone, Default)]
pub(super) struct OfPrometheus {
    /// Patterns of files of rules.
    pub(super) files: Vec<String>,
    pub(super) defaults: Option<Defaults>,
    pub(super) external_labels: Labels,
    /// Alertmanagers elsewhere, and what becomes of the labels of alerts before they leave.
    pub(super) alerting: settings::prometheus::Alerting,
}

impl OfPrometheus {
    /// `is_there` says whether there is a configuration of Prometheus at all.
    pub(super) fn of(config: &settings::prometheus::Config, is_there: bool) -> Self {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        OfPrometheus {
            files: config.rule_files.clone(),
            defaults: is_there.then(|| Defaults {
                interval_ms: ms(config.global.evaluation_interval),
                query_offset_ms: ms(config.global.rule_query_offset),
            }),
            external_labels: config.global.external_labels.clone(),
            alerting: config.alerting.clone(),
        }
    }
}

/// Rules and notifications, and how they are put in effect anew.
pub(super) struct Alerting {
    seat: Seat,
    external_url: String,
    configuration: RwLock<NotifyConfiguration>,
    options: DeliveryOptions,
    tasks: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

/// What can be put in effect: nothing about it can fail any more.
pub(super) struct PreparedAlerting {
    configuration: NotifyConfiguration,
    deliver: Arc<dyn Deliver>,
    rules: Option<(PreparedRules, PreparedAlertmanagers)>,
}

/// Receivers of one configuration.
struct Receivers(Deliverer);

impl Deliver for Receivers {
    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        note: Option<&'static str>,
        now_ns: i64,
    ) -> Boxed<'a, Outcome> {
        Box::pin(self.0.deliver_noted(notification, now_ns, note))
    }

    fn test<'a>(
        &'a self,
        receiver: &'a str,
        alerts: Arc<[NotifiedAlert]>,
        now_ns: i64,
    ) -> Boxed<'a, Vec<Tested>> {
        Box::pin(async move {
            let results = self.0.test(receiver, alerts, now_ns).await.into_iter();
            let tested = |one: receivers::TestResult| Tested {
                kind: one.kind,
                index: one.index,
                outcome: one.outcome,
                took: one.took,
            };
            results.map(tested).collect()
        })
    }
}

impl Alerting {
    /// Reads the configuration of notifications, takes up what was kept, and begins.
    pub(super) async fn start(
        config: &Config,
        of_prometheus: &OfPrometheus,
        broker: &Broker,
        executor: &Arc<Executor>,
        keep: Arc<dyn Keep>,
        own_url: &str,
    ) -> Result<Arc<Alerting>> {
        let external_url = config.alerting.external_url(own_url);
        let options = DeliveryOptions::operator(&external_url);
        let configuration = configuration(&config.alerting)?;
        let deliver = deliver(&configuration, &options)?;
        tell_warnings(&configuration);
        let clock = Arc::new(Clock::default());
        let settings = rule_settings(&config.alerting, of_prometheus, &external_url);
        let (broker, executor) = (broker.clone(), Arc::clone(executor));
        let limits = config.alerting.notifier.clone();
        let known = configuration.clone();
        let alertmanagers = Alertmanagers::default();
        alertmanagers
            .put(open_alertmanagers(&alertmanagers, &config.alerting, of_prometheus).await?);
        let open = move || -> Result<_> {
            let (notifications, driver) = Notifications::open(
                Arc::clone(&keep),
                &known,
                deliver,
                limits,
                Arc::clone(&clock),
                Duration::ZERO,
            )?;
            let parts = Parts {
                settings,
                managed: Vec::new(),
                files: files(),
                keep,
                queries: Arc::new(RuleQueries(executor)),
                store: Arc::new(RuleStore(broker)),
                notifications: notifications.clone(),
                alertmanagers,
                clock,
            };
            let (rules, read) =
                Rules::open(parts).map_err(|faults| anyhow!("{}", faults.render()))?;
            Ok((notifications, driver, rules, read))
        };
        let opened = tokio::task::spawn_blocking(open).await.context("begin with rules")?;
        let (notifications, driver, rules, read) = opened?;
        tell_read(&read);
        let driving = tokio::spawn(async move {
            if driver.run().await == Ended::Superseded {
                tracing::warn!("another broker evaluates rules and notifies by now");
            }
        });
        let evaluating = tokio::spawn(rules.clone().run());
        let seat = Seat::default();
        seat.take(Running { notifications, rules });
        Ok(Arc::new(Alerting {
            seat,
            external_url,
            configuration: RwLock::new(configuration),
            options,
            tasks: parking_lot::Mutex::new(vec![evaluating, driving]),
        }))
    }

    /// Where handlers find what runs.
    pub(super) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Reads all files again. Blocks.
    pub(super) fn prepare(
        &self,
        config: &AlertingConfig,
        of_prometheus: &OfPrometheus,
    ) -> Result<PreparedAlerting> {
        let configuration = configuration(config)?;
        let deliver = deliver(&configuration, &self.options)?;
        let settings = rule_settings(config, of_prometheus, &self.external_url);
        let rules = match self.seat.running() {
            None => None,
            Some(running) => {
                let prepared = running.rules.prepare(settings, &[]);
                let prepared = prepared.map_err(|faults| anyhow!("{}", faults.render()))?;
                let alertmanagers = running.rules.alertmanagers();
                let open = open_alertmanagers(alertmanagers, config, of_prometheus);
                Some((prepared, Handle::current().block_on(open)?))
            }
        };
        Ok(PreparedAlerting { configuration, deliver, rules })
    }

    /// Puts what was read in effect. Blocks.
    pub(super) fn put(&self, prepared: PreparedAlerting) {
        let PreparedAlerting { configuration, deliver, rules } = prepared;
        tell_warnings(&configuration);
        if let Some(running) = self.seat.running() {
            running.notifications.reload(&configuration, deliver);
            if let Some((rules, alertmanagers)) = rules {
                running.rules.alertmanagers().put(alertmanagers);
                tell_read(&running.rules.put(rules));
            }
        }
        *self.configuration.write() = configuration;
    }

    /// Ends both, when nobody asks any more.
    pub(super) async fn stop(&self) {
        let Some(running) = self.seat.leave() else { return };
        running.rules.stop();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let driving = tasks.pop();
        for task in tasks {
            let _ = task.await;
        }
        running.rules.alertmanagers().stop().await;
        running.notifications.stop();
        if let Some(driving) = driving {
            let _ = driving.await;
        }
    }
}

/// What is told of rules, alerts and notifications, and how they are changed: by what sits in `seat`.
/// While nothing does, they say so.
pub(super) fn routes(
    seat: &Seat,
    external_url: String,
    started_ms: i64,
    net_metrics: Arc<NetMetrics>,
) -> Routes {
    let about = Arc::new(About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("WATCHFIRE_REVISION").unwrap_or_default().to_owned(),
        started_ms,
        external_url,
        cluster: Box::new(ClusterAbout::default),
        net_metrics,
    });
    let for_finder = seat.clone();
    let finder: ruler::api::Finder =
        Arc::new(move || for_finder.running().map(|running| running.notifications));
    ruler::rules::rule_routes(seat)
        .merge(ruler::api::alertmanager_routes(Arc::clone(&finder), Arc::clone(&about)))
        .merge(ruler::api::notification_routes(finder, about))
}

fn files() -> Files {
    Arc::new(ThisMachine)
}

fn configuration(config: &AlertingConfig) -> Result<NotifyConfiguration> {
    match &config.file {
        None => Ok(NotifyConfiguration::without_file(config.mode, files())),
        Some(path) => Ok(NotifyConfiguration::load(path, config.mode, files())?),
    }
}

fn deliver(
    configuration: &NotifyConfiguration,
    options: &DeliveryOptions,
) -> Result<Arc<dyn Deliver>> {
    let templates = Arc::clone(&configuration.templates);
    let deliverer = Deliverer::new(&configuration.config, templates, options.clone());
    let named = || match &configuration.file {
        Some(path) => path.display().to_string(),
        None => "the receivers".to_owned(),
    };
    Ok(Arc::new(Receivers(deliverer.with_context(named)?)))
}

/// Receivers of a configuration, for who runs them without the rest.
#[cfg(test)]
pub(crate) fn receivers_of(
    configuration: &NotifyConfiguration,
    external_url: &str,
) -> Result<Arc<dyn Deliver>> {
    deliver(configuration, &DeliveryOptions::operator(external_url))
}

fn rule_settings(
    config: &AlertingConfig,
    of_prometheus: &OfPrometheus,
    external_url: &str,
) -> RuleSettings {
    RuleSettings {
        promql_files: of_prometheus.files.iter().chain(&config.files).cloned().collect(),
        logql_files: config.log_files.clone(),
        defaults: config.defaults(of_prometheus.defaults),
        builtin_off: config.builtin_off.clone(),
        external_labels: of_prometheus.external_labels.clone(),
        alert_relabel_configs: of_prometheus.alerting.alert_relabel_configs.clone(),
        external_url: external_url.to_owned(),
        limits: config.limits,
        resend_delay: config.resend_delay,
        catch_up: config.catch_up,
        groups_at_once: config.groups_at_once,
    }
}

/// Alertmanagers elsewhere that the configuration of Prometheus names.
async fn open_alertmanagers(
    alertmanagers: &Alertmanagers,
    config: &AlertingConfig,
    of_prometheus: &OfPrometheus,
) -> Result<PreparedAlertmanagers> {
    let blocks = &of_prometheus.alerting.alertmanagers;
    let prepared = alertmanagers.prepare(blocks, config.notification_queue).await;
    prepared.context("begin with alerting.alertmanagers")
}

/// What in the file has no effect; nobody would see it otherwise.
fn tell_warnings(configuration: &NotifyConfiguration) {
    for warning in &configuration.warnings {
        tracing::warn!("{warning}");
    }
}

fn tell_read(read: &Read) {
    for warning in &read.warnings {
        tracing::warn!("{warning}");
    }
    let changes = &read.changes;
    tracing::info!(
        new = changes.added,
        changed = changes.changed,
        as_before = changes.kept,
        gone = changes.removed,
        "groups of rules are in effect"
    );
}
