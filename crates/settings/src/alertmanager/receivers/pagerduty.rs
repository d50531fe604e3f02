//! `pagerduty_configs`: PagerDuty's events, version 2 by `routing_key`, version 1 by
//! `service_key`.

use serde_json::Value;

use super::{Common, mappings, missing, template};
use crate::HttpUrl;
use crate::alertmanager::credential::{self, Credential};
use crate::alertmanager::{Global, plain_value};
use crate::yaml::{FromNode, Section, pairs_of};

/// PagerDuty.
#[derive(Debug, Clone, PartialEq)]
pub struct PagerDuty {
    /// The key of version 1.
    pub service_key: Credential,
    /// The key of version 2.
    pub routing_key: Credential,
    /// Where to; present in a configuration that was loaded.
    pub url: Option<HttpUrl>,
    /// What the event says it comes from.
    pub client: String,
    /// A link to that.
    pub client_url: String,
    /// What happened.
    pub description: String,
    /// The affected system.
    pub source: String,
    /// How bad it is.
    pub severity: String,
    /// What the event is about, by ascending name; its texts are templates.
    pub details: Vec<(String, Value)>,
    /// Pictures.
    pub images: Vec<PagerDutyImage>,
    /// Links.
    pub links: Vec<PagerDutyLink>,
    /// The part of the system.
    pub component: String,
    /// A cluster or group of sources.
    pub group: String,
    /// The type of event.
    pub class: String,
}

/// A picture; all templates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PagerDutyImage {
    /// Where the picture is.
    pub src: String,
    /// What it shows.
    pub alt: String,
    /// Where a click leads.
    pub href: String,
}

/// A link; all templates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PagerDutyLink {
    /// Where it leads.
    pub href: String,
    /// What it shows.
    pub text: String,
}

/// Details that are there unless the file has others of those names.
const DETAILS: [(&str, &str); 4] = [
    ("firing", "{{ .Alerts.Firing | toJson }}"),
    ("resolved", "{{ .Alerts.Resolved | toJson }}"),
    ("num_firing", "{{ .Alerts.Firing | len }}"),
    ("num_resolved", "{{ .Alerts.Resolved | len }}"),
];

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> PagerDuty {
    let client = template(section, "client", "pagerduty.default.client");
    let source: String = section.value("source");
    let pagerduty = PagerDuty {
        service_key: credential::read(section, "service_key", "service_key_file"),
        routing_key: credential::read(section, "routing_key", "routing_key_file"),
        url: credential::plain_url(section, "url"),
        client_url: template(section, "client_url", "pagerduty.default.clientURL"),
        description: template(section, "description", "pagerduty.default.description"),
        source: if source.is_empty() { client.clone() } else { source },
        client,
        severity: section.value("severity"),
        details: read_details(section),
        images: mappings(section, "images", "pagerduty.PagerdutyImage", |inner| PagerDutyImage {
            src: inner.value("src"),
            alt: inner.value("alt"),
            href: inner.value("href"),
        }),
        links: mappings(section, "links", "pagerduty.PagerdutyLink", |inner| PagerDutyLink {
            href: inner.value("href"),
            text: inner.value("text"),
        }),
        component: section.value("component"),
        group: section.value("group"),
        class: section.value("class"),
    };
    if !pagerduty.routing_key.is_set() && !pagerduty.service_key.is_set() {
        missing(section, "routing_key", "missing service or routing key in PagerDuty config");
    }
    pagerduty
}

fn read_details(section: &mut Section<'_>) -> Vec<(String, Value)> {
    let context = section.context;
    let mut details: Vec<(String, Value)> = Vec::new();
    if let Some(node) = section.node("details") {
        for (key, value) in pairs_of(context, node) {
            let Some(name) = String::from_node(context, key) else { continue };
            details.push((name, plain_value::read(context, value)));
        }
    }
    for (name, text) in DETAILS {
        if !details.iter().any(|(other, _)| other == name) {
            details.push((name.to_owned(), Value::from(text)));
        }
    }
    details.sort_by(|a, b| a.0.cmp(&b.0));
    details
}

impl PagerDuty {
    pub(super) fn inherit(&mut self, section: &Section<'_>, _: &mut Common, global: &Global) {
        self.url = self.url.take().or_else(|| global.pagerduty_url.clone());
        if self.url.is_none() {
            let help = "add url: …, or pagerduty_url to global";
            section.fault("url", "no global PagerDuty URL set", Some(help));
        }
    }
}
