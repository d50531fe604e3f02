//! What is in effect for a console in a process of its own.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::keys::File;
use super::{Config, effective, located, read};
use crate::cli::{ConsoleArguments, ServeArguments};
use crate::ranges;

const DEFAULT_LISTEN: &str = "127.0.0.1:9598";
const DEFAULT_DATA: &str = "watchfire-console-data";

/// Everything in effect for `watchfire console`.
#[derive(Debug, Clone)]
pub(crate) struct ConsoleRole {
    /// What concerns its HTTP port and its queries; what concerns a store has no effect.
    pub(crate) config: Config,
    /// At least one.
    pub(crate) brokers: Vec<String>,
    pub(crate) join: Option<String>,
    pub(crate) name: String,
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
        let in_file = std::mem::take(&mut file.console.brokers);
        let brokers = if arguments.broker.is_empty() { in_file } else { arguments.broker.clone() };
        if brokers.is_empty() {
            bail!(
                "a console needs a broker to ask: give --broker HOST:9596, or console.brokers in \
                 the configuration; `watchfire token create --role console` on the broker's host \
                 prints the whole command"
            );
        }
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
            config: None,
            prometheus_config: None,
            cluster: crate::cli::ClusterArguments::default(),
            insecure_no_auth: arguments.insecure_no_auth,
            log: arguments.log.clone(),
        };
        let config = effective(file, yaml, &as_server, None)?;
        let name = arguments.name.clone().unwrap_or_else(|| config.agent.instance.clone());
        Ok(ConsoleRole { config, brokers, join: arguments.join.clone(), name })
    }
}
