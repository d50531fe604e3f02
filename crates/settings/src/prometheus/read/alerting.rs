//! The section `alerting`.

use std::time::Duration;

use super::{discovery, http_client, relabel, remote};
use crate::NameValidation;
use crate::prometheus::{Alerting, AlertmanagerConfig, HttpClientConfig};
use crate::yaml::{Milliseconds, Section};

/// Reads `alerting`.
pub(super) fn read(root: &mut Section<'_>, names: NameValidation) -> Alerting {
    let Some(mut section) = root.section("alerting", "config.plain") else {
        return Alerting::default();
    };
    let context = section.context;
    let alert_relabel_configs = relabel::read(
        &mut section,
        "alert_relabel_configs",
        names,
        "empty or null alert relabeling rule",
    );
    let mut alertmanagers = Vec::new();
    for node in section.items("alertmanagers") {
        if node.is_null() {
            let help = "remove the lone `-`".to_owned();
            context.fault(node.span, "empty or null Alertmanager config section", Some(help));
            continue;
        }
        let Some(mut inner) = Section::open(context, node, "config.AlertmanagerConfig") else {
            continue;
        };
        alertmanagers.push(read_alertmanager(&mut inner, names));
        inner.finish();
    }
    section.finish();
    Alerting { alert_relabel_configs, alertmanagers }
}

fn read_alertmanager(section: &mut Section<'_>, names: NameValidation) -> AlertmanagerConfig {
    let version: String = section.or("api_version", "v2".to_owned());
    if version != "v2" {
        let message =
            format!("expected Alertmanager api version to be one of [v2] but got {version}");
        section.fault("api_version", message, Some("write v2 or remove the key"));
    }
    let mut config = AlertmanagerConfig {
        discovery: Vec::new(),
        http: http_client::read(section, HttpClientConfig::default()),
        scheme: section.or("scheme", "http".to_owned()),
        path_prefix: section.value("path_prefix"),
        timeout: section
            .read::<Milliseconds>("timeout")
            .map_or(Duration::from_secs(10), Milliseconds::duration),
        relabel_configs: relabel::read(
            section,
            "relabel_configs",
            names,
            "empty or null Alertmanager target relabeling rule",
        ),
        alert_relabel_configs: relabel::read(
            section,
            "alert_relabel_configs",
            names,
            "empty or null Alertmanager alert relabeling rule",
        ),
    };
    let before = [
        ("__scheme__".to_owned(), config.scheme.clone()),
        ("__alerts_path__".to_owned(), format!("{}/api/v2/alerts", config.path_prefix)),
    ];
    config.discovery = discovery::read(section, &config.relabel_configs, &before);
    let authenticated = config.http.basic_auth.is_some()
        || config.http.authorization.is_some()
        || config.http.oauth2.is_some();
    if remote::read_sigv4(section) && authenticated {
        let message =
            "at most one of basic_auth, authorization, oauth2, & sigv4 must be configured";
        section.fault("sigv4", message, Some("keep one of them"));
    }
    config
}
