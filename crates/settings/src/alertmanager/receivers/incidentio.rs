//! `incidentio_configs`: incident.io.

use super::{Common, missing};
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::yaml::Section;

/// incident.io.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentIo {
    /// Where to; present.
    pub url: Credential,
    /// The token, if it is not in `http_config.authorization`.
    pub alert_source_token: Credential,
    /// Most alerts of one message; 0 for all.
    pub max_alerts: u64,
}

pub(super) fn read(section: &mut Section<'_>, common: &mut Common) -> IncidentIo {
    let incidentio = IncidentIo {
        url: credential::read_url(section, "url", "url_file"),
        alert_source_token: credential::read(
            section,
            "alert_source_token",
            "alert_source_token_file",
        ),
        max_alerts: section.value("max_alerts"),
    };
    if !incidentio.url.is_set() {
        missing(section, "url", "one of url or url_file must be configured");
    }
    let token = incidentio.alert_source_token.is_set();
    let authorized = common.own_http.as_ref().map(|http| http.authorization.is_some());
    if token && authorized == Some(true) {
        let message = "cannot specify alert_source_token or alert_source_token_file when using \
                       http_config.authorization";
        section.fault("alert_source_token", message, Some("keep one of them"));
    }
    if !token && authorized == Some(false) {
        let message = "at least one of alert_source_token, alert_source_token_file or \
                       http_config.authorization must be configured";
        missing(section, "alert_source_token", message);
    }
    incidentio
}

impl IncidentIo {
    pub(super) fn inherit(&mut self, _: &Section<'_>, _: &mut Common, _: &Global) {}
}
