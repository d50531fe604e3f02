//! Rules and notifications in a process with a broker.
//!
//! | module | what |
//! |---|---|
//! | `checking` | what is wrong with the files, for whoever starts nothing |
//! | `in_turn` | in a cluster: one broker evaluates and notifies, others wait for their turn |
//! | `passing_on` | requests that another broker of the cluster has to answer |

mod checking;
mod in_turn;
mod passing_on;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use alerting::notify::{Notification, NotifiedAlert, Outcome};
use alerting::rules::Defaults;
use anyhow::{Context, Result, anyhow};
use broker::Broker;
use broker::cluster::{Duty, HeldDuty};
use console::Executor;
use model::Labels;
use net::{NetMetrics, Routes};
use parking_lot::Mutex;
use receivers::{Deliverer, DeliveryOptions};
use ruler::alertmanagers::{Alertmanagers, PreparedAlertmanagers};
use ruler::api::{About, ClusterAbout, ClusterStatus, PeerAbout};
use ruler::notify::{
    ConfigurationError, Deliver, Driver, Ended, Files, Notifications, NotifyConfiguration, Tested,
};
use ruler::rules::{Parts, PreparedRules, Read, RuleSettings, Rules};
use ruler::{Boxed, Clock, Keep, Running, Seat};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::check::ThisMachine;
use crate::config::{AlertingConfig, Config};
use crate::rule_data::{BrokerKeep, DutyKeep, RuleQueries, RuleStore};

pub(crate) use checking::check_alerting;
use in_turn::InTurn;
pub(super) use passing_on::PassingOn;

/// What of Prometheus' configuration concerns rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct OfPrometheus {
    /// Patterns of files of rules.
    pub(super) files: Vec<String>,
    pub(super) defaults: Option<Defaults>,
    pub(super) external_labels: Labels,
    /// Alertmanagers elsewhere, and what becomes of the labels of alerts before they leave.
    pub(super) alerting: settings::prometheus::Alerting,
}

impl OfPrometheus {
    /// `is_there` says whether there is a configuration of Prometheus at all.
    pub(crate) fn of(config: &settings::prometheus::Config, is_there: bool) -> Self {
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
    options: DeliveryOptions,
    limits: alerting::notify::Limits,
    start_delay: Duration,
    broker: Broker,
    executor: Arc<Executor>,
    /// Those elsewhere are found also while it is another's turn.
    alertmanagers: Alertmanagers,
    in_effect: Mutex<InEffect>,
    /// Held while something is put in effect or the seat is taken, so that who takes it has the latest.
    turn: tokio::sync::Mutex<()>,
    /// What ends with the process.
    working: tokio::sync::Mutex<Working>,
}

/// What rules and receivers are made from, as it was read last: whoever takes over reads no file anew, which may be
/// one that no reload would take.
#[derive(Clone)]
struct InEffect {
    configuration: NotifyConfiguration,
    deliver: Arc<dyn Deliver>,
    rules: PreparedRules,
    /// To be compared with what is at other brokers: equal ones say the same.
    words: String,
}

impl InEffect {
    /// Blocks: of thousands of rules a digest takes a while.
    fn new(
        configuration: NotifyConfiguration,
        deliver: Arc<dyn Deliver>,
        rules: PreparedRules,
    ) -> InEffect {
        let mut hasher = DefaultHasher::new();
        configuration.redacted.hash(&mut hasher);
        let (of_rules, receivers) = (rules.digest(), hasher.finish());
        let words = format!("rules {of_rules:016x}, alertmanager.yml {receivers:016x}");
        InEffect { configuration, deliver, rules, words }
    }
}

/// Who works here.
enum Working {
    /// One machine: it evaluates, always.
    Alone(Tasks),
    /// One of a cluster: it evaluates when it is its turn.
    InTurn(InTurn),
    /// Nobody any more.
    Nobody,
}

/// What evaluates and notifies.
struct Tasks {
    running: Running,
    evaluating: JoinHandle<()>,
    driving: JoinHandle<Ended>,
}

/// A task that ended was waited for by whoever noticed.
async fn ended<T>(task: JoinHandle<T>) {
    if !task.is_finished() {
        let _ = task.await;
    }
}

/// What can be put in effect: nothing about it can fail any more.
pub(super) struct PreparedAlerting {
    in_effect: InEffect,
    alertmanagers: PreparedAlertmanagers,
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
    /// Reads the configuration of rules and notifications. On one machine it takes up what was kept, and
    /// begins; in a cluster it does so as soon as it has the `duty`.
    pub(super) async fn start(
        config: &Config,
        of_prometheus: &OfPrometheus,
        broker: &Broker,
        executor: &Arc<Executor>,
        duty: Option<Arc<Duty>>,
        own_url: &str,
    ) -> Result<Arc<Alerting>> {
        let external_url = config.alerting.external_url(own_url);
        let options = DeliveryOptions::operator(&external_url);
        let configuration = configuration(&config.alerting)?;
        let deliver = deliver(&configuration, &options)?;
        tell_warnings(&configuration);
        let settings = rule_settings(&config.alerting, of_prometheus, &external_url);
        let read = move || {
            let rules = read_rules(settings)?;
            anyhow::Ok(InEffect::new(configuration, deliver, rules))
        };
        let read = tokio::task::spawn_blocking(read).await;
        let in_effect = read.context("read the rules")??;
        let alertmanagers = Alertmanagers::default();
        alertmanagers
            .put(open_alertmanagers(&alertmanagers, &config.alerting, of_prometheus).await?);
        let alerting = Arc::new(Alerting {
            seat: Seat::default(),
            external_url,
            options,
            limits: config.alerting.notifier.clone(),
            start_delay: config.alerting.start_delay,
            broker: broker.clone(),
            executor: Arc::clone(executor),
            alertmanagers,
            in_effect: Mutex::new(in_effect),
            turn: tokio::sync::Mutex::default(),
            working: tokio::sync::Mutex::new(Working::Nobody),
        });
        let working = match duty {
            None => Working::Alone(alerting.sit_down(None).await?),
            Some(duty) => Working::InTurn(InTurn::start(&alerting, duty)),
        };
        *alerting.working.lock().await = working;
        Ok(alerting)
    }

    /// Takes up what was kept, and begins.
    async fn sit_down(self: &Arc<Self>, held: Option<Arc<HeldDuty>>) -> Result<Tasks> {
        let _turn = self.turn.lock().await;
        let alerting = Arc::clone(self);
        let open = move || alerting.open(held);
        let opened = tokio::task::spawn_blocking(open).await.context("begin with rules")?;
        let (running, driver) = opened?;
        let evaluating = tokio::spawn(running.rules.clone().run());
        Ok(Tasks { running, evaluating, driving: tokio::spawn(driver.run()) })
    }

    fn open(&self, held: Option<Arc<HeldDuty>>) -> Result<(Running, Driver)> {
        let in_effect = self.in_effect.lock().clone();
        let clock = Arc::new(Clock::default());
        let keep: Arc<dyn Keep> = match &held {
            None => Arc::new(BrokerKeep(self.broker.clone())),
            Some(held) => Arc::new(DutyKeep::new(self.broker.clone(), Arc::clone(held))),
        };
        let (notifications, driver) = Notifications::open(
            Arc::clone(&keep),
            &in_effect.configuration,
            in_effect.deliver,
            self.limits.clone(),
            Arc::clone(&clock),
            self.start_delay,
        )?;
        let (rules, read) = Rules::open(Parts {
            prepared: in_effect.rules,
            forgets_at_once: held.is_none(),
            keep,
            queries: Arc::new(RuleQueries(Arc::clone(&self.executor))),
            store: Arc::new(RuleStore::new(self.broker.clone(), held)),
            notifications: notifications.clone(),
            alertmanagers: self.alertmanagers.clone(),
            clock,
        });
        tell_read(&read);
        let running = Running { notifications, rules };
        self.seat.take(running.clone());
        Ok((running, driver))
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
        let rules = read_rules(settings)?;
        let open = open_alertmanagers(&self.alertmanagers, config, of_prometheus);
        let alertmanagers = Handle::current().block_on(open)?;
        let in_effect = InEffect::new(configuration, deliver, rules);
        Ok(PreparedAlerting { in_effect, alertmanagers })
    }

    /// Puts what was read in effect.
    pub(super) async fn put(&self, prepared: PreparedAlerting) {
        let PreparedAlerting { in_effect, alertmanagers } = prepared;
        let _turn = self.turn.lock().await;
        self.alertmanagers.put(alertmanagers);
        tell_warnings(&in_effect.configuration);
        if let Some(running) = self.seat.running() {
            let InEffect { configuration, deliver, rules, .. } = in_effect.clone();
            running.notifications.reload(&configuration, deliver);
            tell_read(&running.rules.put(rules).await);
        }
        *self.in_effect.lock() = in_effect;
    }

    /// What rules and what configuration of notifications are in effect, to be compared with those of others.
    pub(super) fn in_words(&self) -> String {
        self.in_effect.lock().words.clone()
    }

    /// Ends both, when nobody asks any more.
    pub(super) async fn stop(&self) {
        match std::mem::replace(&mut *self.working.lock().await, Working::Nobody) {
            Working::Nobody => {}
            Working::Alone(tasks) => {
                self.seat.leave();
                tasks.end().await;
            }
            Working::InTurn(in_turn) => in_turn.stop().await,
        }
        self.alertmanagers.stop().await;
    }
}

impl Tasks {
    /// What is under way comes to its end.
    async fn end(self) {
        self.running.rules.stop();
        ended(self.evaluating).await;
        self.running.notifications.stop();
        ended(self.driving).await;
    }
}

/// What is told of rules, alerts and notifications, and how they are changed: by what sits in `seat`.
/// While nothing does, they say so.
pub(super) fn routes(
    seat: &Seat,
    broker: &Broker,
    external_url: String,
    started_ms: i64,
    net_metrics: Arc<NetMetrics>,
) -> Routes {
    let for_members = broker.clone();
    let about = Arc::new(About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("WATCHFIRE_REVISION").unwrap_or_default().to_owned(),
        started_ms,
        external_url,
        cluster: Box::new(move || cluster_about(&for_members)),
        net_metrics,
    });
    let for_finder = seat.clone();
    let finder: ruler::api::Finder =
        Arc::new(move || for_finder.running().map(|running| running.notifications));
    let of_alertmanager =
        ruler::api::alertmanager_routes(Arc::clone(&finder), Arc::clone(&about), seat.detour());
    ruler::rules::rule_routes(seat)
        .merge(ruler::api::rule_config_routes(seat, &about.net_metrics))
        .merge(ruler::api::rule_group_routes(seat, &about.net_metrics))
        .merge(of_alertmanager)
        .merge(ruler::api::notification_routes(finder, about, seat.detour()))
}

/// The brokers of the cluster, in Alertmanager's words.
fn cluster_about(broker: &Broker) -> ClusterAbout {
    let members = broker.cluster_members();
    let own = members.iter().find(|member| member.is_own);
    let Some(own) = own.map(|member| member.name.clone()) else { return ClusterAbout::default() };
    let alive = members.into_iter().filter(|member| member.is_alive || member.is_own);
    let peers = alive.map(|member| PeerAbout { name: member.name, address: member.address });
    ClusterAbout { name: Some(own), status: ClusterStatus::Ready, peers: peers.collect() }
}

fn files() -> Files {
    Arc::new(ThisMachine)
}

fn read_rules(settings: RuleSettings) -> Result<PreparedRules> {
    PreparedRules::read(settings, &files()).map_err(|faults| anyhow!("{}", faults.render()))
}

fn configuration(config: &AlertingConfig) -> Result<NotifyConfiguration, ConfigurationError> {
    match &config.file {
        None => Ok(NotifyConfiguration::without_file(config.mode, files())),
        Some(path) => NotifyConfiguration::load(path, config.mode, files()),
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
        managed: config.managed,
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
