//! `msteams_configs` and `msteamsv2_configs`: Microsoft Teams, by connectors and by workflows.

use super::{Common, missing, template};
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::prometheus::ProxyConfig;
use crate::yaml::Section;

/// Teams' connectors. Texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct MsTeams {
    /// Where to; present.
    pub webhook_url: Credential,
    /// The title.
    pub title: String,
    /// What is shown in lists.
    pub summary: String,
    /// What happened.
    pub text: String,
}

/// Teams' workflows. Texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct MsTeamsV2 {
    /// Where to; present.
    pub webhook_url: Credential,
    /// The title.
    pub title: String,
    /// What happened.
    pub text: String,
}

/// What the two have in common with regard to reading.
pub(super) trait ReadTeams {
    fn read(section: &mut Section<'_>) -> Self;
}

pub(super) fn read<T: ReadTeams>(section: &mut Section<'_>, _: &mut Common) -> T {
    T::read(section)
}

fn webhook_url(section: &mut Section<'_>) -> Credential {
    let url = credential::read_url(section, "webhook_url", "webhook_url_file");
    if !url.is_set() {
        let message = "one of webhook_url or webhook_url_file must be configured";
        missing(section, "webhook_url", message);
    }
    url
}

impl ReadTeams for MsTeams {
    fn read(section: &mut Section<'_>) -> Self {
        MsTeams {
            webhook_url: webhook_url(section),
            title: template(section, "title", "msteams.default.title"),
            summary: template(section, "summary", "msteams.default.summary"),
            text: template(section, "text", "msteams.default.text"),
        }
    }
}

impl ReadTeams for MsTeamsV2 {
    fn read(section: &mut Section<'_>) -> Self {
        MsTeamsV2 {
            webhook_url: webhook_url(section),
            title: template(section, "title", "msteamsv2.default.title"),
            text: template(section, "text", "msteamsv2.default.text"),
        }
    }
}

impl MsTeams {
    pub(super) fn inherit(&mut self, _: &Section<'_>, _: &mut Common, _: &Global) {}
}

impl MsTeamsV2 {
    /// The global proxy also holds where `http_config` says nothing about proxies.
    pub(super) fn inherit(&mut self, _: &Section<'_>, common: &mut Common, global: &Global) {
        if common.http.proxy == ProxyConfig::default() {
            common.http.proxy = global.http.proxy.clone();
        }
    }
}
