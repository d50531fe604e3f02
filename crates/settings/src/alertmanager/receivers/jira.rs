//! `jira_configs`: issues in Jira.

use std::time::Duration;

use serde_json::Value;

use super::{Common, missing, template};
use crate::HttpUrl;
use crate::alertmanager::{Global, credential, plain_value};
use crate::yaml::{FromNode, Milliseconds, Section, pairs_of};

/// Jira. Texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Jira {
    /// Where to; present in a configuration that was loaded.
    pub api_url: Option<HttpUrl>,
    /// Which of Jira's interfaces.
    pub api: JiraApi,
    /// The project; not empty.
    pub project: String,
    /// The summary.
    pub summary: JiraField,
    /// The description.
    pub description: JiraField,
    /// Labels.
    pub labels: Vec<String>,
    /// The priority.
    pub priority: String,
    /// The type of the issue; not empty.
    pub issue_type: String,
    /// How an issue is opened again.
    pub reopen_transition: String,
    /// How an issue is resolved.
    pub resolve_transition: String,
    /// Issues with this resolution are not opened again.
    pub wont_fix_resolution: String,
    /// How long after its end an issue is opened again; zero for ever.
    pub reopen_duration: Duration,
    /// More fields by ascending name.
    pub fields: Vec<(String, Value)>,
}

/// Which of Jira's interfaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JiraApi {
    /// By the host of the URL.
    #[default]
    Auto,
    /// Cloud.
    Cloud,
    /// Data Center.
    DataCenter,
}

/// A field and whether it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JiraField {
    /// The text.
    pub template: String,
    /// Whether it is changed in an issue that is there already.
    pub enable_update: bool,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> Jira {
    let context = section.context;
    let api_type: String = section.or("api_type", "auto".to_owned());
    let api = match api_type.as_str() {
        "auto" => JiraApi::Auto,
        "cloud" => JiraApi::Cloud,
        "datacenter" => JiraApi::DataCenter,
        _ => {
            let message = "unknown api_type on jira_config, must be auto, cloud or datacenter";
            section.fault("api_type", message, Some("write one of them"));
            JiraApi::Auto
        }
    };
    let mut fields: Vec<(String, Value)> = Vec::new();
    if let Some(node) = section.node("fields") {
        for (key, value) in pairs_of(context, node) {
            let Some(name) = String::from_node(context, key) else { continue };
            fields.push((name, plain_value::read(context, value)));
        }
    }
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    let jira = Jira {
        api_url: credential::plain_url(section, "api_url"),
        api,
        project: section.value("project"),
        summary: read_field(section, "summary", "jira.default.summary"),
        description: read_field(section, "description", "jira.default.description"),
        labels: section.value("labels"),
        priority: template(section, "priority", "jira.default.priority"),
        issue_type: section.value("issue_type"),
        reopen_transition: section.value("reopen_transition"),
        resolve_transition: section.value("resolve_transition"),
        wont_fix_resolution: section.value("wont_fix_resolution"),
        reopen_duration: section.value::<Milliseconds>("reopen_duration").duration(),
        fields,
    };
    if jira.project.is_empty() {
        missing(section, "project", "missing project in jira_config");
    }
    if jira.issue_type.is_empty() {
        missing(section, "issue_type", "missing issue_type in jira_config");
    }
    jira
}

/// A text, or a mapping with one.
fn read_field(section: &mut Section<'_>, key: &'static str, name: &str) -> JiraField {
    let context = section.context;
    let default = || format!("{{{{ template \"{name}\" . }}}}");
    let Some(node) = section.node(key) else {
        return JiraField { template: default(), enable_update: true };
    };
    if node.is_scalar() {
        let template = String::from_node(context, node).unwrap_or_default();
        return JiraField { template, enable_update: true };
    }
    let Some(mut inner) = Section::open(context, node, "jira.plain") else {
        return JiraField::default();
    };
    let field = JiraField {
        template: inner.or("template", default()),
        enable_update: inner.read::<Option<bool>>("enable_update").flatten().unwrap_or(true),
    };
    inner.finish();
    field
}

impl Jira {
    pub(super) fn inherit(&mut self, section: &Section<'_>, _: &mut Common, global: &Global) {
        self.api_url = self.api_url.take().or_else(|| global.jira_api_url.clone());
        if self.api_url.is_none() {
            let help = "add api_url: …, or jira_api_url to global";
            section.fault("api_url", "no global Jira Cloud URL set", Some(help));
        }
    }
}
