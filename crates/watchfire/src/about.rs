//! Facts about this process for `/api/v1/status/*`.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::{Config, ConsoleRole, ShownCluster};

/// Milliseconds since the epoch by the system's clock.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What the status endpoints tell.
pub(crate) fn about(config: &Config, collect: bool) -> console::About {
    let retention_days = config.retention_ms as f64 / 86_400_000.0;
    let mut retention = format!("{retention_days}d");
    if let Some(bytes) = config.retention_size_bytes {
        retention.push_str(&format!(" or {bytes}B"));
    }
    let mut flags = vec![
        ("agent.enabled".to_owned(), collect.to_string()),
        ("agent.interval".to_owned(), format!("{}ms", config.agent.interval_ms)),
        ("data".to_owned(), config.data.display().to_string()),
        ("listen".to_owned(), config.listen.to_string()),
        ("storage.flush_interval".to_owned(), format!("{}ms", config.flush_interval_ms)),
        ("storage.retention".to_owned(), retention.clone()),
    ];
    flags.sort();
    let logs_retention = match config.logs_retention_ms {
        ms if ms % DAY_MS == 0 => format!("{}d", ms / DAY_MS),
        ms => format!("{}h", ms / HOUR_MS),
    };
    let keeps_rules = config.alerting.is_on;
    console::About { logs_retention, keeps_rules, ..process(config, retention, flags) }
}

/// The same of a console in a process of its own. How long data is kept is its brokers' to say.
pub(crate) fn about_console(role: &ConsoleRole) -> console::About {
    let config = &role.config;
    let words: Vec<String> = role.clusters.iter().map(ShownCluster::words).collect();
    let flags = vec![
        ("cluster".to_owned(), words.join(" ")),
        ("cluster-label".to_owned(), role.cluster_label.clone().unwrap_or_default()),
        ("data".to_owned(), config.data.display().to_string()),
        ("listen".to_owned(), config.listen.to_string()),
        ("name".to_owned(), role.name.clone()),
    ];
    process(config, String::new(), flags)
}

fn process(config: &Config, retention: String, flags: Vec<(String, String)>) -> console::About {
    console::About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("WATCHFIRE_REVISION").unwrap_or_default().to_owned(),
        start_ms: now_ms(),
        directory: std::env::current_dir()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        hostname: config.agent.instance.clone(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        retention,
        logs_retention: String::new(),
        config_yaml: config.yaml.clone(),
        flags,
        keeps_rules: false,
    }
}
