//! Where alerts go.

use std::time::Duration;

use super::{Discovery, HttpClientConfig};
use crate::relabel::RelabelConfig;

/// The section `alerting`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Alerting {
    /// Rules over the labels of every alert.
    pub alert_relabel_configs: Vec<RelabelConfig>,
    /// The Alertmanagers.
    pub alertmanagers: Vec<AlertmanagerConfig>,
}

/// One group of Alertmanagers.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertmanagerConfig {
    /// How to speak to them.
    pub http: HttpClientConfig,
    /// Where they come from.
    pub discovery: Vec<Discovery>,
    /// The scheme. Default `http`.
    pub scheme: String,
    /// What stands before `/api/v2/alerts`.
    pub path_prefix: String,
    /// Time one request may take. Default 10 s.
    pub timeout: Duration,
    /// Rules over the labels of the Alertmanagers themselves.
    pub relabel_configs: Vec<RelabelConfig>,
    /// Rules over the labels of the alerts sent to this group.
    pub alert_relabel_configs: Vec<RelabelConfig>,
}
