//! `/metrics`: what Watchfire tells about itself, in Prometheus' text format.

use std::sync::{Arc, Weak};

use agent::logs::CollectionStatus;
use agent::{Agent, AgentCounters, CounterRow, HostAgent};
use axum::response::{IntoResponse, Response};
use broker::{Broker, MetricRow};
use console::{Brokers, Executor, Reloaded};
use model::TenantName;
use net::NetMetrics;
use net::auth::Principal;
use wire::text_encode::TextEncoder;

/// Everything that counts something.
pub(crate) struct Telemetry {
    broker: Broker,
    net: Arc<NetMetrics>,
    agent: Option<Arc<AgentCounters>>,
    executor: Option<Arc<Executor>>,
    others: Vec<Rows>,
    pages: Vec<Page>,
    collection: Option<Arc<CollectionStatus>>,
    start_seconds: f64,
}

/// Where rows come from that only some processes have.
pub(crate) type Rows = Box<dyn Fn() -> Vec<MetricRow> + Send + Sync>;

/// Whatever writes its metrics itself.
pub(crate) type Page = Box<dyn Fn(&mut TextEncoder<'_>) + Send + Sync>;

impl Telemetry {
    pub(crate) fn new(broker: Broker, net: Arc<NetMetrics>, agent: Option<&HostAgent>) -> Self {
        Telemetry {
            broker,
            net,
            agent: agent.map(|agent| Arc::clone(agent.counters())),
            executor: None,
            others: Vec::new(),
            pages: Vec::new(),
            collection: None,
            start_seconds: crate::about::now_ms() as f64 / 1_000.0,
        }
    }

    /// Adds the counters of queries.
    pub(crate) fn with_queries(mut self, executor: Arc<Executor>) -> Self {
        self.executor = Some(executor);
        self
    }

    /// Adds the rows of something this process has.
    pub(crate) fn with_rows(mut self, rows: Rows) -> Self {
        self.others.push(rows);
        self
    }

    /// Adds how the collection of lines goes, which pages of its own tell.
    pub(crate) fn with_collection(mut self, status: Arc<CollectionStatus>) -> Self {
        self.collection = Some(status);
        self
    }

    /// How the collection of lines goes, if there is one.
    pub(crate) fn collection(&self) -> Option<&Arc<CollectionStatus>> {
        self.collection.as_ref()
    }

    /// Adds the metrics of something this process has.
    pub(crate) fn with_page(mut self, page: Page) -> Self {
        self.pages.push(page);
        self
    }

    /// The page for a caller: the whole one, or of what is of one tenant alone that one's part.
    /// Everything else tells of the default tenant's hosts and targets.
    pub(crate) fn page(&self, caller: &Principal) -> Response {
        let mut body = Vec::with_capacity(16 << 10);
        let out = &mut TextEncoder::new(&mut body);
        if caller.sees(TenantName::DEFAULT) {
            self.render(out);
        } else {
            render_build(out);
        }
        self.broker.render_tenants((!caller.sees_all()).then_some(caller.tenant), out);
        ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
    }

    /// The whole page.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(64 << 10);
        let out = &mut TextEncoder::new(&mut body);
        self.render(out);
        self.broker.render_tenants(None, out);
        body
    }

    fn render(&self, out: &mut TextEncoder<'_>) {
        render_build(out);
        let others = self.others.iter().flat_map(|rows| rows());
        for row in self.broker.metrics().into_iter().chain(others) {
            out.family(row.name, row.kind, row.help);
            out.sample(row.name, &[], row.value);
        }
        self.broker.render_fleet(out);
        self.broker.render_remote_writes(out);
        self.pages.iter().for_each(|page| page(out));
        if let Some(executor) = &self.executor {
            render_queries(executor, out);
        }
        self.net.render(out);
        render_counters(self.agent.iter().flat_map(|agent| agent.rows()), out);
        render_process(self.start_seconds, out);
    }
}

/// What came of a reload by Prometheus' own names, so that its alerts work.
pub(crate) fn reload_rows(Reloaded { is_ok, in_effect_ms }: Reloaded) -> Vec<MetricRow> {
    let gauge = |name, help, value| MetricRow { name, help, kind: "gauge", value };
    vec![
        gauge(
            "prometheus_config_last_reload_success_timestamp_seconds",
            "When the configuration in effect came into it.",
            in_effect_ms as f64 / 1_000.0,
        ),
        gauge(
            "prometheus_config_last_reload_successful",
            "Whether the last attempt to reload the configuration succeeded.",
            f64::from(u8::from(is_ok)),
        ),
    ]
}

/// What a console in a process of its own tells about itself.
pub(crate) struct ConsoleTelemetry {
    brokers: Brokers,
    executor: Arc<Executor>,
    net: Arc<NetMetrics>,
    start_seconds: f64,
}

impl ConsoleTelemetry {
    pub(crate) fn new(brokers: Brokers, executor: Arc<Executor>, net: Arc<NetMetrics>) -> Self {
        let start_seconds = crate::about::now_ms() as f64 / 1_000.0;
        ConsoleTelemetry { brokers, executor, net, start_seconds }
    }

    /// The whole page.
    pub(crate) fn page(&self) -> Response {
        let mut body = Vec::with_capacity(8 << 10);
        let out = &mut TextEncoder::new(&mut body);
        render_build(out);
        self.brokers.render(out);
        render_queries(&self.executor, out);
        self.net.render(out);
        render_process(self.start_seconds, out);
        ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
    }
}

/// What an agent tells about itself.
pub(crate) struct AgentTelemetry {
    agent: Weak<Agent>,
    pages: Vec<Page>,
    net: Arc<NetMetrics>,
    start_seconds: f64,
}

impl AgentTelemetry {
    pub(crate) fn new(agent: Weak<Agent>, net: Arc<NetMetrics>, pages: Vec<Page>) -> Self {
        AgentTelemetry { agent, pages, net, start_seconds: crate::about::now_ms() as f64 / 1_000.0 }
    }

    /// The whole page: `host`, which is text already, and the agent's own metrics.
    pub(crate) fn page(&self, host: Option<&str>) -> Response {
        let mut body = Vec::with_capacity(128 << 10);
        body.extend_from_slice(host.unwrap_or_default().as_bytes());
        self.render(&mut TextEncoder::new(&mut body));
        ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
    }

    fn render(&self, out: &mut TextEncoder<'_>) {
        render_build(out);
        self.net.render(out);
        self.pages.iter().for_each(|page| page(out));
        render_counters(self.agent.upgrade().iter().flat_map(|agent| agent.rows()), out);
        render_process(self.start_seconds, out);
    }
}

fn render_build(out: &mut TextEncoder<'_>) {
    out.family("watchfire_build_info", "gauge", "Constant 1, labelled with the version.");
    out.sample("watchfire_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
}

fn render_queries(executor: &Executor, out: &mut TextEncoder<'_>) {
    for (name, help, kind, value) in executor.metrics() {
        out.family(name, kind, help);
        out.sample(name, &[], value);
    }
}

/// Rows of one family stand together already.
pub(crate) fn render_counters(rows: impl Iterator<Item = CounterRow>, out: &mut TextEncoder<'_>) {
    let mut family = "";
    for row in rows {
        if row.name != family {
            family = row.name;
            out.family(row.name, row.kind.as_str(), row.help);
        }
        out.sample(row.name, &row.labels, row.value);
    }
}

/// The names every Prometheus client library gives these.
fn render_process(start_seconds: f64, out: &mut TextEncoder<'_>) {
    let usage = usage();
    let rows = [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            usage.cpu_seconds,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            usage.resident_bytes,
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            usage.virtual_bytes,
        ),
        ("process_open_fds", "gauge", "Number of open file descriptors.", usage.open_files),
        ("process_threads", "gauge", "Number of threads.", usage.threads),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            start_seconds,
        ),
    ];
    for (name, kind, help, value) in rows {
        out.family(name, kind, help);
        out.sample(name, &[], value);
    }
}

/// What the kernel says of this process; zero where it says nothing.
#[derive(Debug, Default)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_files: f64,
    threads: f64,
}

/// Ticks per second and bytes per page are fixed for all of Linux' user space on the
/// architectures Rust has std for, but for pages on some arm64 kernels; those are read below in
/// kB from `status`.
const TICKS_PER_SECOND: f64 = 100.0;

fn usage() -> Usage {
    let mut usage = Usage::default();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything; fields are counted behind it.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let field = |place: usize| fields.get(place).and_then(|f| f.parse::<f64>().ok());
    usage.cpu_seconds = (field(11).unwrap_or(0.0) + field(12).unwrap_or(0.0)) / TICKS_PER_SECOND;
    usage.threads = field(17).unwrap_or(0.0);
    usage.virtual_bytes = field(20).unwrap_or(0.0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    usage.resident_bytes = kilobytes.unwrap_or(0.0) * 1_024.0;
    usage.open_files =
        std::fs::read_dir("/proc/self/fd").map_or(0.0, |entries| entries.count() as f64);
    usage
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use broker::Pushgateway;

    use super::*;
    use crate::source::BrokerData;

    /// Name, type and help of every family, as rows of the document without labels.
    fn shown(page: &str) -> BTreeSet<String> {
        let of = |what: &'static str| page.lines().filter_map(move |line| line.strip_prefix(what));
        of("# HELP ")
            .zip(of("# TYPE "))
            .map(|(help, kind)| {
                let (name, help) = help.split_once(' ').expect("a name and a text");
                let kind = kind.strip_prefix(name).expect("help and type of a family").trim();
                format!("| `{name}` | {kind} | {help} |")
            })
            .collect()
    }

    /// The rows of a document, without labels.
    fn listed(document: &str) -> BTreeSet<String> {
        document
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| match line.split_once('{') {
                Some((name, rest)) => {
                    format!("{name}{}", rest.split_once('}').expect("a closing brace").1)
                }
                None => line.to_owned(),
            })
            .collect()
    }

    #[tokio::test]
    async fn every_metric_of_a_console_is_documented_and_no_other() {
        let authority = "ab".repeat(32).parse().expect("a fingerprint");
        let brokers = Brokers::new(console::RemoteSettings {
            clusters: vec![console::ClusterSettings {
                name: String::new(),
                brokers: vec!["127.0.0.1:9".to_owned()],
                tls: net::tls::ClientTls::pinning(authority).expect("valid"),
            }],
            cluster_label: None,
            limits: model::Limits::default(),
            tenants: std::collections::BTreeMap::new(),
            max_query_bytes: 1 << 20,
            governor: governor::Governor::unlimited(),
        });
        let mut page = Vec::new();
        brokers.expect("a valid address").render(&mut TextEncoder::new(&mut page));
        let shown = shown(std::str::from_utf8(&page).expect("the text format is UTF-8"));
        let document = include_str!("../../../docs/operating/console.md");
        let document = document.split_once("## Own metrics").expect("a section").1;
        assert_eq!(shown, listed(document), "docs/operating/console.md lists others");
    }

    /// Rules and notifications that nobody runs.
    fn alerting_of(broker: &Broker, executor: &Arc<Executor>) -> ruler::Running {
        let keep = || Arc::new(crate::rule_data::BrokerKeep(broker.clone())) as Arc<_>;
        let files = || Arc::new(crate::check::ThisMachine) as ruler::notify::Files;
        let mode = settings::alertmanager::MatcherMode::Fallback;
        let configuration = ruler::notify::NotifyConfiguration::without_file(mode, files());
        let clock = Arc::new(ruler::Clock::default());
        let deliver = crate::serve::receivers_of(&configuration, "http://w").expect("none");
        let limits = alerting::notify::Limits::default();
        let (notifications, _) = ruler::notify::Notifications::open(
            keep(),
            &configuration,
            deliver,
            limits,
            Arc::clone(&clock),
            Duration::ZERO,
        )
        .expect("nothing was kept");
        let settings = ruler::rules::RuleSettings {
            promql_files: Vec::new(),
            logql_files: Vec::new(),
            defaults: alerting::rules::Defaults::default(),
            builtin_off: Some(BTreeSet::new()),
            external_labels: model::Labels::empty(),
            alert_relabel_configs: Vec::new(),
            external_url: "http://w".to_owned(),
            limits: alerting::rules::RuleLimits::default(),
            resend_delay: Duration::from_secs(60),
            catch_up: alerting::rules::CatchUpLimits::default(),
            groups_at_once: 1,
            managed: ruler::rules::ManagedLimits::default(),
        };
        let (rules, _) = ruler::rules::Rules::open(ruler::rules::Parts {
            prepared: ruler::rules::PreparedRules::read(settings, &files()).expect("built in"),
            forgets_at_once: true,
            keep: keep(),
            queries: Arc::new(crate::rule_data::RuleQueries(Arc::clone(executor))),
            store: Arc::new(crate::rule_data::RuleStore::new(broker.clone(), None)),
            notifications: notifications.clone(),
            alertmanagers: ruler::alertmanagers::Alertmanagers::default(),
            clock,
        });
        ruler::Running { notifications, rules }
    }

    #[tokio::test]
    async fn every_metric_is_documented_and_no_other() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = broker::BrokerConfig::new(directory.path().to_owned(), crate::about::now_ms);
        let net = Arc::new(NetMetrics::default());
        let broker = Broker::open(config, Arc::clone(&net)).expect("the store opens");
        let (agent, _receiver) =
            HostAgent::start(agent::AgentConfig::default()).expect("this host is collected");
        let data = Arc::new(BrokerData(broker.clone()));
        let executor = Arc::new(Executor::new(
            data,
            model::Limits::default(),
            Arc::clone(broker.governor()),
            1,
            1,
        ));
        let pushes = Pushgateway::start(broker.clone(), Duration::from_secs(60));
        let running = alerting_of(&broker, &executor);
        let telemetry = Telemetry::new(broker, net, Some(&agent))
            .with_queries(executor)
            .with_rows(Box::new(move || pushes.rows()))
            .with_rows(Box::new(|| reload_rows(Reloaded { is_ok: true, in_effect_ms: 0 })))
            .with_page(Box::new(move |out| {
                let status = agent::logs::CollectionStatus::default();
                render_counters(status.rows().into_iter(), out);
                status.render_files(out);
                agent::logs::StageCounters::default().render(out);
                agent::logs::PushCounters::render(&std::collections::BTreeMap::new(), out);
                let seat = ruler::Seat::default();
                seat.take(running.clone());
                ruler::render(&seat, out);
            }));
        let mut page = Vec::new();
        let out = &mut TextEncoder::new(&mut page);
        telemetry.render(out);
        telemetry.broker.render_tenants(None, out);
        let shown = shown(std::str::from_utf8(&page).expect("the text format is UTF-8"));
        let document = include_str!("../../../docs/operating/metrics.md");
        let listed = listed(document);
        let unlisted: Vec<_> = shown.difference(&listed).collect();
        let unknown: Vec<_> = listed.difference(&shown).collect();
        assert!(
            unlisted.is_empty() && unknown.is_empty(),
            "docs/operating/metrics.md lacks {unlisted:#?} and lists what there is not: \
             {unknown:#?}"
        );
    }
}
