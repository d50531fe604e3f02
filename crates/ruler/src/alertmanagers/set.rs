//! One block of `alerting.alertmanagers`: who discovery says is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alerting::notify::PostedAlert;
use bytes::Bytes;
use discovery::{Found, Prepared, Providers, Task, escape_path};
use model::{Labels, LabelsBuilder};
use net::client::{Client, ClientError, ClientOptions};
use parking_lot::Mutex;
use settings::TargetGroup;
use settings::prometheus::{AlertmanagerConfig, Discovery};
use settings::relabel::{LabelBuffer, relabel};
use tokio::sync::mpsc;

use super::Shared;
use super::member::Member;
use super::written::written;

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const PATH: &str = "__alerts_path__";

/// Members are brought up to date at most this often.
const SYNC_PAUSE: Duration = Duration::from_millis(500);
/// Reasons for which somebody is left out that are told apart and told.
const MAX_REASONS: usize = 100;

/// A block with everything it needs.
pub(super) enum Candidate {
    /// It runs already.
    Runs(Arc<Set>),
    /// It is new.
    New {
        config: Box<AlertmanagerConfig>,
        client: Arc<Client>,
        discovery: Vec<(Discovery, Option<Prepared>)>,
    },
}

/// A block at work. Everything about it ends with this.
pub(super) struct Set {
    view: Arc<View>,
    _task: Task,
}

/// What those who send see, and what discovery changes.
struct View {
    config: AlertmanagerConfig,
    client: Arc<Client>,
    shared: Arc<Shared>,
    members: Mutex<BTreeMap<String, Arc<Member>>>,
    dropped: Mutex<Vec<String>>,
}

/// What became of one that was discovered.
#[derive(Debug, PartialEq)]
enum Built {
    /// It is told, by this URL.
    Active(String),
    /// Relabeling dropped it.
    Dropped(String),
}

impl Candidate {
    /// Opens what a new block needs.
    ///
    /// # Errors
    /// An option that can never work.
    pub(super) async fn open(
        config: &AlertmanagerConfig,
        options: &ClientOptions,
    ) -> Result<Candidate, ClientError> {
        let client = Arc::new(Client::open(&config.http, options).await?);
        let mut discovery = Vec::with_capacity(config.discovery.len());
        for block in &config.discovery {
            discovery.push((block.clone(), Some(Prepared::new(block, options).await?)));
        }
        Ok(Candidate::New { config: Box::new(config.clone()), client, discovery })
    }

    /// Runs it, unless it runs already.
    pub(super) fn run(self, shared: &Arc<Shared>) -> Arc<Set> {
        let (config, client, discovery) = match self {
            Candidate::Runs(set) => return set,
            Candidate::New { config, client, discovery } => (*config, client, discovery),
        };
        let view = Arc::new(View {
            config,
            client,
            shared: Arc::clone(shared),
            members: Mutex::default(),
            dropped: Mutex::default(),
        });
        let (mut providers, news) = Providers::new(Arc::clone(&shared.discovery));
        providers.adopt(discovery);
        // Who is named in the file is told from the first alert on.
        let known = view.sync(&providers, &BTreeSet::new());
        let task = Task::spawn(Arc::clone(&view).follow(providers, news, known));
        Arc::new(Set { view, _task: task })
    }
}

impl Set {
    pub(super) fn config(&self) -> &AlertmanagerConfig {
        &self.view.config
    }

    /// Hands alerts to all members.
    pub(super) fn send(&self, alerts: &[PostedAlert]) {
        let members = self.members();
        if members.is_empty() {
            return;
        }
        let (rules, mut work) = (&self.view.config.alert_relabel_configs, LabelBuffer::new());
        let alerts: Vec<Bytes> =
            alerts.iter().filter_map(|alert| written(alert, rules, &mut work)).collect();
        if !alerts.is_empty() {
            members.iter().for_each(|member| member.add(&alerts));
        }
    }

    /// All members, by URL.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.view.members.lock().values().cloned().collect()
    }

    pub(super) fn active(&self) -> Vec<String> {
        self.view.members.lock().keys().cloned().collect()
    }

    pub(super) fn dropped(&self) -> Vec<String> {
        self.view.dropped.lock().clone()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.members().iter().any(|member| member.is_busy())
    }

    pub(super) fn waiting(&self) -> usize {
        self.members().iter().map(|member| member.waiting()).sum()
    }
}

impl View {
    /// Takes what discovery finds, for ever.
    async fn follow(
        self: Arc<Self>,
        mut providers: Providers,
        mut news: mpsc::Receiver<Found>,
        mut left_out: BTreeSet<String>,
    ) {
        while let Some(found) = news.recv().await {
            providers.note(found);
            while let Ok(found) = news.try_recv() {
                providers.note(found);
            }
            left_out = self.sync(&providers, &left_out);
            tokio::time::sleep(SYNC_PAUSE).await;
        }
    }

    /// Brings the members in line with what is known; those that stay keep what waits for them. Yields why
    /// others were left out, of which the log is told what it does not know yet.
    fn sync(&self, providers: &Providers, known: &BTreeSet<String>) -> BTreeSet<String> {
        let (mut urls, mut dropped) = (BTreeSet::new(), Vec::new());
        let mut reasons = BTreeSet::new();
        let mut work = LabelBuffer::new();
        for group in providers.groups() {
            for target in &group.targets {
                match build(target, group, &self.config, &mut work) {
                    Ok(Built::Active(url)) => drop(urls.insert(url)),
                    Ok(Built::Dropped(url)) => dropped.push(url),
                    Err(reason) if reasons.len() < MAX_REASONS => {
                        if !known.contains(&reason) {
                            let group = &group.source;
                            tracing::warn!(group, reason, "Alertmanager left out");
                        }
                        reasons.insert(reason);
                    }
                    Err(_) => {}
                }
            }
        }
        *self.dropped.lock() = dropped;
        let mut members = self.members.lock();
        members.retain(|url, _| urls.contains(url));
        for url in urls {
            members.entry(url).or_insert_with_key(|url| {
                let (client, timeout) = (Arc::clone(&self.client), self.config.timeout);
                Arc::new(Member::start(url.clone(), client, timeout, &self.shared))
            });
        }
        reasons
    }
}

/// Makes an Alertmanager of what was discovered.
fn build(
    target: &Labels,
    group: &TargetGroup,
    config: &AlertmanagerConfig,
    work: &mut LabelBuffer,
) -> Result<Built, String> {
    let discovered = discovered_labels(target, group, config);
    work.load(&discovered);
    if !relabel(&config.relabel_configs, work) {
        return Ok(Built::Dropped(url(|name| discovered.get(name).unwrap_or_default())));
    }
    let address = work.get(ADDRESS);
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    Ok(Built::Active(url(|name| work.get(name))))
}

/// The labels before relabeling: those of the target, over which the block's scheme and path win, and those
/// of its group that are not there yet, in Prometheus' order.
fn discovered_labels(target: &Labels, group: &TargetGroup, config: &AlertmanagerConfig) -> Labels {
    let mut labels = LabelsBuilder::from_labels(target);
    labels.set(SCHEME, &config.scheme);
    labels.set(PATH, &alerts_path(&config.path_prefix));
    for (name, value) in group.labels.iter().filter(|(name, _)| target.get(name).is_none()) {
        labels.set(name, value);
    }
    labels.build()
}

/// The prefix and what follows it as one path, without empty and dotted parts.
fn alerts_path(prefix: &str) -> String {
    let mut parts = Vec::new();
    for part in prefix.split('/').chain(["api", "v2", "alerts"]) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Scheme, host and path as one.
fn url<'a>(label: impl Fn(&str) -> &'a str) -> String {
    let mut url = String::new();
    let (scheme, path) = (label(SCHEME), label(PATH));
    if !scheme.is_empty() {
        url.push_str(scheme);
        url.push(':');
    }
    url.push_str("//");
    url.push_str(label(ADDRESS));
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    escape_path(path, &mut url);
    url
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use settings::prometheus::{Config, Surroundings};

    use super::*;

    struct Nothing(&'static str);

    impl Surroundings for Nothing {
        fn read(&self, _: &Path) -> std::io::Result<Vec<u8>> {
            Ok(self.0.as_bytes().to_vec())
        }

        fn list(&self, _: &Path) -> std::io::Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn variable(&self, _: &str) -> Option<String> {
            None
        }
    }

    fn built(yaml: &'static str) -> Vec<Result<Built, String>> {
        let loaded = Config::load(Path::new("p.yml"), &Nothing(yaml)).expect("a configuration");
        // Nothing of it is without effect.
        let warns = |one: &settings::Diagnostic| one.severity == settings::Severity::Warning;
        assert!(!loaded.warnings.iter().any(warns), "{:?}", loaded.warnings);
        let config = &loaded.config.alerting.alertmanagers[0];
        let Discovery::Static(groups) = &config.discovery[0] else { panic!("not static") };
        let mut work = LabelBuffer::new();
        let each =
            groups.iter().flat_map(|group| group.targets.iter().map(move |one| (one, group)));
        each.map(|(target, group)| build(target, group, config, &mut work)).collect()
    }

    #[test]
    fn urls_are_made_of_labels() {
        let active = |url: &str| Ok(Built::Active(url.to_owned()));
        let dropped = |url: &str| Ok(Built::Dropped(url.to_owned()));
        assert_eq!(
            built(
                "alerting:\n  alertmanagers:\n  - scheme: https\n    path_prefix: am//x/../y z/\n    \
                 relabel_configs:\n    - {source_labels: [env], regex: dev, action: drop}\n    \
                 - {source_labels: [port], regex: (.+), target_label: __address__, replacement: 'h:$1'}\n    \
                 static_configs:\n    - targets: [a:9093, '[::1]:9093']\n    - targets: [b]\n      labels: \
                 {env: dev}\n    - targets: [c]\n      labels: {port: '1'}\n    - targets: [d]\n      labels: \
                 {__scheme__: http, __alerts_path__: x}\n"
            ),
            [
                active("https://a:9093/am/y%20z/api/v2/alerts"),
                active("https://[::1]:9093/am/y%20z/api/v2/alerts"),
                dropped("https://b/am/y%20z/api/v2/alerts"),
                active("https://h:1/am/y%20z/api/v2/alerts"),
                active("http://d/x"),
            ]
        );
    }

    #[test]
    fn what_is_no_address_is_left_out() {
        let told = built(
            "alerting:\n  alertmanagers:\n  - relabel_configs:\n    - {target_label: __address__, \
             replacement: 'a/b'}\n    static_configs: [{targets: [a]}]\n",
        );
        assert_eq!(told, [Err("\"a/b\" is not a valid hostname".to_owned())]);
    }
}
