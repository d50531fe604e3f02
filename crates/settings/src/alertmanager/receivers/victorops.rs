//! `victorops_configs`: VictorOps (Splunk On-Call).

use super::{Common, missing, template, texts};
use crate::HttpUrl;
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::yaml::Section;

/// VictorOps. All texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct VictorOps {
    /// The key; present in a configuration that was loaded.
    pub api_key: Credential,
    /// Where to, with a slash at the end; present in a configuration that was loaded.
    pub api_url: Option<HttpUrl>,
    /// Which team; not empty.
    pub routing_key: String,
    /// `CRITICAL` unless said otherwise.
    pub message_type: String,
    /// What happened.
    pub entity_display_name: String,
    /// The same at length.
    pub state_message: String,
    /// What the alert comes from.
    pub monitoring_tool: String,
    /// More fields, by ascending name.
    pub custom_fields: Vec<(String, String)>,
}

/// Fields that the message has already.
const RESERVED: [&str; 7] = [
    "routing_key",
    "message_type",
    "state_message",
    "entity_display_name",
    "monitoring_tool",
    "entity_id",
    "entity_state",
];

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> VictorOps {
    let victorops = VictorOps {
        api_key: credential::read(section, "api_key", "api_key_file"),
        api_url: credential::plain_url(section, "api_url"),
        routing_key: section.value("routing_key"),
        message_type: section.or("message_type", "CRITICAL".to_owned()),
        entity_display_name: template(
            section,
            "entity_display_name",
            "victorops.default.entity_display_name",
        ),
        state_message: template(section, "state_message", "victorops.default.state_message"),
        monitoring_tool: template(section, "monitoring_tool", "victorops.default.monitoring_tool"),
        custom_fields: texts(section, "custom_fields"),
    };
    if victorops.routing_key.is_empty() {
        missing(section, "routing_key", "missing Routing key in VictorOps config");
    }
    for (name, _) in &victorops.custom_fields {
        if RESERVED.contains(&name.as_str()) {
            let message = format!(
                "victorOps config contains custom field {name} which cannot be used as it \
                 conflicts with the fixed/static fields"
            );
            section.fault("custom_fields", message, Some("give the field another name"));
        }
    }
    victorops
}

impl VictorOps {
    pub(super) fn inherit(&mut self, section: &Section<'_>, _: &mut Common, global: &Global) {
        let url = self.api_url.take().or_else(|| global.victorops_api_url.clone());
        self.api_url = url.map(credential::with_slash);
        if self.api_url.is_none() {
            let help = "add api_url: …, or victorops_api_url to global";
            section.fault("api_url", "no global VictorOps URL set", Some(help));
        }
        self.api_key = std::mem::take(&mut self.api_key).or(&global.victorops_api_key);
        if !self.api_key.is_set() {
            let help = "add api_key_file: …, or victorops_api_key_file to global";
            section.fault("api_key", "no global VictorOps API Key set", Some(help));
        }
    }
}
