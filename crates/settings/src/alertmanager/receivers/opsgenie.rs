//! `opsgenie_configs`: Opsgenie's alerts.

use super::{Common, mappings, template, texts};
use crate::HttpUrl;
use crate::alertmanager::credential::{self, Credential};
use crate::alertmanager::{Global, template_text};
use crate::yaml::Section;

/// Opsgenie. All texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct OpsGenie {
    /// The key; present in a configuration that was loaded.
    pub api_key: Credential,
    /// Where to, with a slash at the end; present in a configuration that was loaded.
    pub api_url: Option<HttpUrl>,
    /// What happened.
    pub message: String,
    /// The same at length.
    pub description: String,
    /// What the alert comes from.
    pub source: String,
    /// Details by ascending name.
    pub details: Vec<(String, String)>,
    /// The system the alert is about.
    pub entity: String,
    /// Who is to act.
    pub responders: Vec<OpsGenieResponder>,
    /// Actions, separated by commas.
    pub actions: String,
    /// Tags, separated by commas.
    pub tags: String,
    /// A note.
    pub note: String,
    /// P1 to P5.
    pub priority: String,
    /// Whether message and description of an alert that is there already are changed.
    pub update_alerts: bool,
}

/// Who is to act; one of `id`, `name` and `username` is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpsGenieResponder {
    /// By id.
    pub id: String,
    /// By name.
    pub name: String,
    /// By the name of a user.
    pub username: String,
    /// `team`, `teams`, `user`, `escalation`, `schedule`, or a template.
    pub kind: String,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> OpsGenie {
    OpsGenie {
        api_key: credential::read(section, "api_key", "api_key_file"),
        api_url: credential::plain_url(section, "api_url"),
        message: template(section, "message", "opsgenie.default.message"),
        description: template(section, "description", "opsgenie.default.description"),
        source: template(section, "source", "opsgenie.default.source"),
        details: texts(section, "details"),
        entity: section.value("entity"),
        responders: mappings(
            section,
            "responders",
            "opsgenie.OpsGenieConfigResponder",
            read_responder,
        ),
        actions: section.value("actions"),
        tags: section.value("tags"),
        note: section.value("note"),
        priority: section.value("priority"),
        update_alerts: section.value("update_alerts"),
    }
}

fn read_responder(inner: &mut Section<'_>) -> OpsGenieResponder {
    let mut responder = OpsGenieResponder {
        id: inner.value("id"),
        name: inner.value("name"),
        username: inner.value("username"),
        kind: inner.value("type"),
    };
    if responder.id.is_empty() && responder.name.is_empty() && responder.username.is_empty() {
        let message = "opsGenieConfig responder has to have at least one of id, username or name \
                       specified";
        inner.fault("id", message, Some("add name: …"));
    }
    match template_text::is_template(&responder.kind) {
        Ok(true) => {}
        Ok(false) => {
            responder.kind = responder.kind.to_lowercase();
            let known = ["team", "teams", "user", "escalation", "schedule"];
            if !known.contains(&responder.kind.as_str()) {
                let message = "opsGenieConfig responder type does not match valid options \
                               ^(team|teams|user|escalation|schedule)$";
                inner.fault("type", message, Some("write one of them"));
            }
        }
        Err(error) => {
            let message =
                format!("opsGenieConfig responder type contains invalid template syntax: {error}");
            inner.fault("type", message, Some("close the action with }}"));
        }
    }
    responder
}

impl OpsGenie {
    pub(super) fn inherit(&mut self, section: &Section<'_>, _: &mut Common, global: &Global) {
        let url = self.api_url.take().or_else(|| global.opsgenie_api_url.clone());
        self.api_url = url.map(credential::with_slash);
        if self.api_url.is_none() {
            let help = "add api_url: …, or opsgenie_api_url to global";
            section.fault("api_url", "no global OpsGenie URL set", Some(help));
        }
        self.api_key = std::mem::take(&mut self.api_key).or(&global.opsgenie_api_key);
        if !self.api_key.is_set() {
            let message = "no global OpsGenie API Key set either inline or in a file";
            let help = "add api_key_file: …, or opsgenie_api_key_file to global";
            section.fault("api_key", message, Some(help));
        }
    }
}
