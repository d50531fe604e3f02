//! `webhook_configs`: any server that takes JSON.

use serde_json::Value;

use super::{Common, missing};
use crate::alertmanager::credential::{self, Credential};
use crate::alertmanager::{Global, plain_value};
use crate::yaml::Section;

/// Any server that takes JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Where to; may be a template.
    pub url: Credential,
    /// Most alerts of one message; 0 for all.
    pub max_alerts: u64,
    /// What is sent instead of Alertmanager's own message; its texts are templates.
    pub payload: Option<Value>,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> Webhook {
    let context = section.context;
    let webhook = Webhook {
        url: credential::read_templated_url(section, "url", "url_file"),
        max_alerts: section.value("max_alerts"),
        payload: section
            .node("payload")
            .filter(|node| !node.is_null())
            .map(|node| plain_value::read(context, node)),
    };
    if !webhook.url.is_set() {
        missing(section, "url", "one of url or url_file must be configured");
    }
    webhook
}

impl Webhook {
    pub(super) fn inherit(&mut self, _: &Section<'_>, _: &mut Common, _: &Global) {}
}
