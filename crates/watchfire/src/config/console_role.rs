//! What is in effect for a console in a process of its own.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use super::keys::{self, File};
use super::{Config, effective, located, read};
use crate::cli::{ConsoleArguments, ServeArguments};
use crate::ranges;

const DEFAULT_LISTEN: &str = "127.0.0.1:9598";
const DEFAULT_DATA: &str = "watchfire-console-data";
/// Longest name of a cluster.
const MAX_NAME_BYTES: usize = 64;

/// Everything in effect for `watchfire console`.
#[derive(Debug, Clone)]
pub(crate) struct ConsoleRole {
    /// What concerns its HTTP port and its queries; what concerns a store has no effect.
    pub(crate) config: Config,
    /// At least one.
    pub(crate) clusters: Vec<ShownCluster>,
    /// The label by which their series are told apart.
    pub(crate) cluster_label: Option<String>,
    pub(crate) name: String,
}

/// A cluster whose data is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShownCluster {
    /// Empty if it is the only one and was given without.
    pub(crate) name: String,
    /// At least one.
    pub(crate) brokers: Vec<String>,
    pub(crate) join: Option<String>,
}

impl ShownCluster {
    /// Where the certificate is by which its brokers know this console.
    pub(crate) fn identity(&self, config: &Config) -> PathBuf {
        match self.name.as_str() {
            "" => config.data.join("tls"),
            name => config.data.join("clusters").join(name).join("tls"),
        }
    }

    /// Its brokers, with its name if it has one.
    pub(crate) fn words(&self) -> String {
        let brokers = self.brokers.join(",");
        if self.name.is_empty() { brokers } else { format!("{}={brokers}", self.name) }
    }
}

impl ConsoleRole {
    /// Reads the file if one is named and lets flags win.
    pub(crate) fn load(arguments: &ConsoleArguments) -> Result<ConsoleRole> {
        let read = arguments.config.as_deref().map(read).transpose()?;
        let (file, document) = read.unzip();
        let yaml = document.as_ref().map_or_else(String::new, |file| file.text().to_owned());
        ConsoleRole::effective(file.unwrap_or_default(), yaml, arguments)
            .and_then(|role| ranges::check(&role.config).map(|()| role))
            .map_err(|error| located(error, document.as_ref()))
    }

    fn effective(mut file: File, yaml: String, arguments: &ConsoleArguments) -> Result<Self> {
        let keys = std::mem::take(&mut file.console);
        let cluster_label = arguments.cluster_label.clone().or(keys.cluster_label.clone());
        let mut clusters = clusters(keys, arguments)?;
        check(&clusters, cluster_label.as_deref())?;
        give_tokens(&mut clusters, &arguments.join)?;
        file.data.get_or_insert_with(|| PathBuf::from(DEFAULT_DATA));
        file.listen.get_or_insert_with(|| DEFAULT_LISTEN.to_owned());
        let as_server = ServeArguments {
            data: arguments.data.clone(),
            listen: arguments.listen,
            peer_listen: None,
            otlp_grpc_listen: None,
            otlp_http_listen: None,
            graphite_listen: None,
            opentsdb_listen: None,
            syslog_udp_listen: None,
            syslog_tcp_listen: None,
            syslog_tls_listen: None,
            config: None,
            prometheus_config: None,
            alertmanager_config: None,
            own_metrics: None,
            builtin_rules: None,
            collectors: crate::cli::CollectorFiles::default(),
            cluster: crate::cli::ClusterArguments::default(),
            insecure_no_auth: arguments.insecure_no_auth,
            log: arguments.log.clone(),
        };
        let config = effective(file, yaml, &as_server, None)?;
        let name = arguments.name.clone().unwrap_or_else(|| config.agent.instance.clone());
        Ok(ConsoleRole { config, clusters, cluster_label, name })
    }
}

/// What is asked: by flags, or else by the file.
fn clusters(keys: keys::Console, arguments: &ConsoleArguments) -> Result<Vec<ShownCluster>> {
    let unnamed = |brokers: Vec<String>| ShownCluster { name: String::new(), brokers, join: None };
    if !arguments.broker.is_empty() {
        return Ok(vec![unnamed(arguments.broker.clone())]);
    }
    if !arguments.cluster.is_empty() {
        let shown = arguments.cluster.iter().cloned();
        let shown =
            shown.map(|one| ShownCluster { name: one.name, brokers: one.brokers, join: None });
        return Ok(shown.collect());
    }
    ensure!(
        keys.brokers.is_empty() || keys.clusters.is_empty(),
        "console.clusters: console.brokers is given too; give the brokers of one cluster in \
         console.brokers, or all clusters by name in console.clusters"
    );
    if !keys.brokers.is_empty() {
        return Ok(vec![unnamed(keys.brokers)]);
    }
    if keys.clusters.is_empty() {
        bail!(
            "a console needs a broker to ask: give --broker HOST:9596, --cluster NAME=HOST:9596, or \
             console.brokers or console.clusters in the configuration; `watchfire token create \
             --role console` on the broker's host prints the whole command"
        );
    }
    let shown = keys.clusters.into_iter();
    Ok(shown.map(|one| ShownCluster { name: one.name, brokers: one.brokers, join: None }).collect())
}

fn check(clusters: &[ShownCluster], cluster_label: Option<&str>) -> Result<()> {
    let is_named = clusters.iter().all(|cluster| !cluster.name.is_empty());
    for (at, cluster) in clusters.iter().enumerate() {
        let ShownCluster { name, brokers, .. } = cluster;
        // It is the name of a directory, too.
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        ensure!(
            (clusters.len() == 1 && name.is_empty())
                || (begins && name.len() <= MAX_NAME_BYTES && name.chars().all(fits)),
            "console.clusters: {name:?} is not a name of a cluster; it must be of letters, digits, -, _ \
             and ., begin with a letter or digit, and have at most {MAX_NAME_BYTES} characters"
        );
        ensure!(!brokers.is_empty(), "console.clusters: {name:?} has no brokers; give HOST:9596");
        for other in &clusters[..at] {
            ensure!(other.name != *name, "console.clusters: {name:?} is named twice");
            let common = brokers.iter().find(|broker| other.brokers.contains(broker));
            if let Some(broker) = common {
                bail!(
                    "console.clusters: {broker} is in both {:?} and {name:?}; brokers of several \
                     clusters have different data",
                    other.name
                );
            }
        }
    }
    let Some(label) = cluster_label else { return Ok(()) };
    ensure!(
        model::is_legacy_label_name(label) && label != model::METRIC_NAME,
        "console.cluster_label: {label:?} is not a name of a label; give one such as cluster"
    );
    ensure!(
        is_named,
        "console.cluster_label: it tells clusters apart by name; give them names with --cluster \
         NAME=HOST:9596 or console.clusters instead of --broker"
    );
    Ok(())
}

/// Gives each cluster the token that is for it.
fn give_tokens(clusters: &mut [ShownCluster], tokens: &[String]) -> Result<()> {
    for token in tokens {
        let (name, token) = match token.split_once('=') {
            Some((name, token)) => (Some(name), token),
            None => (None, token.as_str()),
        };
        let cluster = match (name, &mut *clusters) {
            (None, [only]) => Some(only),
            (None, _) => bail!(
                "--join: there are several clusters, and each has its own token; give --join \
                 NAME=TOKEN for those that this console has not joined yet"
            ),
            (Some(name), all) => all.iter_mut().find(|cluster| cluster.name == name),
        };
        let Some(cluster) = cluster else {
            bail!("--join: there is no cluster {:?}", name.unwrap_or_default());
        };
        ensure!(cluster.join.is_none(), "--join: there are two tokens for one cluster; give one");
        cluster.join = Some(token.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};

    fn load(flags: &str, yaml: &str) -> Result<ConsoleRole> {
        let words = ["watchfire", "console"].into_iter().chain(flags.split_whitespace());
        let cli = <Cli as clap::Parser>::try_parse_from(words)?;
        let Some(Command::Console(arguments)) = cli.command else { bail!("not a console") };
        let file = match yaml {
            "" => File::default(),
            yaml => settings::yaml::Document::parse("c.yml", yaml.as_bytes())?.deserialize()?,
        };
        ConsoleRole::effective(file, yaml.to_owned(), &arguments)
    }

    fn words(role: &ConsoleRole) -> Vec<String> {
        role.clusters.iter().map(ShownCluster::words).collect()
    }

    #[test]
    fn brokers_are_of_one_cluster_or_of_several_with_names() {
        let one = load("--broker a:1,b:1 --join wfj_x", "").expect("valid");
        assert_eq!(words(&one), ["a:1,b:1"]);
        assert_eq!(one.clusters[0].join.as_deref(), Some("wfj_x"));
        assert!(one.clusters[0].identity(&one.config).ends_with("watchfire-console-data/tls"));
        let flags = "--cluster eu=a:1,b:1 --cluster us=c:1 --join us=wfj_y --cluster-label region";
        let several = load(flags, "console: {brokers: [z:1]}").expect("valid");
        assert_eq!(words(&several), ["eu=a:1,b:1", "us=c:1"]);
        assert_eq!(several.clusters[0].join, None);
        assert_eq!(several.clusters[1].join.as_deref(), Some("wfj_y"));
        let identity = several.clusters[1].identity(&several.config);
        assert!(identity.ends_with("clusters/us/tls"), "{identity:?}");
        assert_eq!(several.cluster_label.as_deref(), Some("region"));
        let yaml = "console:\n  clusters: [{name: eu, brokers: [a:1]}]\n  cluster_label: region\n";
        let in_file = load("", yaml).expect("valid");
        assert_eq!(
            (words(&in_file), in_file.cluster_label.as_deref()),
            (vec!["eu=a:1".to_owned()], Some("region"))
        );
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for (flags, yaml, expected) in [
            ("", "", "a console needs a broker"),
            ("--broker a:1 --cluster eu=b:1", "", "cannot be used with"),
            ("--cluster a:1", "", "such as eu=eu.example.com:9596"),
            ("--cluster eu=a", "", "give host and port"),
            ("--cluster ../x=a:1", "", "not a name of a cluster"),
            ("--cluster =a:1", "", "give a name and its brokers"),
            ("--cluster eu=a:1 --cluster eu=b:1", "", "named twice"),
            ("--cluster eu=a:1 --cluster us=a:1", "", "in both"),
            ("--cluster eu=a:1 --cluster us=b:1 --join wfj_x", "", "--join NAME=TOKEN"),
            ("--cluster eu=a:1 --join us=wfj_x", "", "there is no cluster"),
            ("--cluster eu=a:1 --join eu=x --join eu=y", "", "two tokens"),
            ("--broker a:1 --cluster-label region", "", "--cluster NAME=HOST:9596"),
            ("--cluster eu=a:1 --cluster-label a-b", "", "not a name of a label"),
            ("", "console: {brokers: [a:1], clusters: [{name: eu, brokers: [b:1]}]}", "given too"),
            ("", "console: {clusters: [{name: eu, brokers: []}]}", "has no brokers"),
        ] {
            let error = load(flags, yaml).expect_err(flags).to_string();
            assert!(error.contains(expected), "{flags}: {error}");
        }
    }
}
