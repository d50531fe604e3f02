//! The section `receivers`: whom to tell, and how. One file per kind.

mod dingtalk;
mod discord;
mod email;
mod feishu;
mod incidentio;
mod jira;
mod mattermost;
mod msteams;
mod opsgenie;
mod pagerduty;
mod pushover;
mod rocketchat;
mod slack;
mod sns;
mod telegram;
mod victorops;
mod webex;
mod webhook;
mod wechat;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::Global;
use super::go_duration::GoDuration;
use crate::NameValidation;
use crate::diagnostic::{Diagnostic, Faults};
use crate::prometheus::HttpClientConfig;
use crate::prometheus::read::http_client;
use crate::yaml::{Document, Section, read_labels};

pub use dingtalk::{DingTalk, DingTalkMessage};
pub use discord::Discord;
pub use email::{Email, EmailThreading, ThreadByDate};
pub use feishu::{Feishu, FeishuMessage};
pub use incidentio::IncidentIo;
pub use jira::{Jira, JiraApi, JiraField};
pub use mattermost::{Mattermost, MattermostAttachment, MattermostField, MattermostPriority};
pub use msteams::{MsTeams, MsTeamsV2};
pub use opsgenie::{OpsGenie, OpsGenieResponder};
pub use pagerduty::{PagerDuty, PagerDutyImage, PagerDutyLink};
pub use pushover::Pushover;
pub use rocketchat::{RocketChat, RocketChatAction, RocketChatField};
pub use slack::{Slack, SlackAction, SlackConfirmation, SlackField};
pub use sns::{Sns, SnsTarget};
pub use telegram::{Telegram, TelegramChat, TelegramParseMode};
pub use victorops::VictorOps;
pub use webex::Webex;
pub use webhook::Webhook;
pub use wechat::{WeChat, WeChatMessage};

/// Whom to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Receiver {
    /// The name by which routes refer to it.
    pub name: String,
    /// Labels for people and metrics, by ascending name; `name` is among them.
    pub labels: model::Labels,
    /// All the ways in which it is told, in the order in which Alertmanager numbers them: by kind,
    /// then as in the file.
    pub integrations: Vec<Integration>,
}

/// One way of telling a receiver.
#[derive(Debug, Clone, PartialEq)]
pub struct Integration {
    /// Its place among those of its kind in the receiver, from 0.
    pub index: usize,
    /// Whether it is told that alerts ended.
    pub send_resolved: bool,
    /// How long one attempt may take, if less than a notification may take altogether.
    pub timeout: Option<Duration>,
    /// How it is reached, if over HTTP.
    pub http: HttpClientConfig,
    /// What is its own.
    pub settings: IntegrationSettings,
}

macro_rules! kinds {
    ($($variant:ident($settings:ty) $name:literal $key:literal $type_name:literal
       $what:literal $module:ident $send_resolved:literal $null:ident $extras:ident,)+) => {
        /// What is an integration's own, by kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum IntegrationSettings {
            $(#[doc = concat!("`", $key, "`.")] $variant(Box<$settings>),)+
        }

        impl IntegrationSettings {
            /// The kind's name, as metrics and logs of notifications have it.
            pub fn kind(&self) -> &'static str {
                match self { $(IntegrationSettings::$variant(_) => $name,)+ }
            }
        }

        /// The kinds, in the order in which their integrations are numbered.
        const KINDS: &[Kind] = &[$(Kind {
            key: $key,
            type_name: $type_name,
            what: $what,
            send_resolved: $send_resolved,
            null: Null::$null,
            extras: Extras::$extras,
            read: |section, common| {
                IntegrationSettings::$variant(Box::new($module::read(section, common)))
            },
            inherit: |section, common, settings, global| {
                if let IntegrationSettings::$variant(settings) = settings {
                    settings.inherit(section, common, global);
                }
            },
        },)+];
    };
}

kinds! {
    Webhook(Webhook) "webhook" "webhook_configs" "webhook.plain" "webhook" webhook true Refused Timeout,
    Email(Email) "email" "email_configs" "email.plain" "email" email false Refused NoHttp,
    PagerDuty(PagerDuty) "pagerduty" "pagerduty_configs" "pagerduty.plain" "pagerduty" pagerduty true Refused Timeout,
    OpsGenie(OpsGenie) "opsgenie" "opsgenie_configs" "opsgenie.plain" "opsgenie" opsgenie true Empty Http,
    WeChat(WeChat) "wechat" "wechat_configs" "wechat.plain" "wechat" wechat false Empty Http,
    Slack(Slack) "slack" "slack_configs" "slack.plain" "slack" slack false Empty Timeout,
    VictorOps(VictorOps) "victorops" "victorops_configs" "victorops.plain" "victorops" victorops true Refused Http,
    Pushover(Pushover) "pushover" "pushover_configs" "pushover.plain" "pushover" pushover true Refused Http,
    Sns(Sns) "sns" "sns_configs" "sns.plain" "sns" sns true Refused Http,
    Telegram(Telegram) "telegram" "telegram_configs" "telegram.plain" "telegram" telegram true Refused Timeout,
    Discord(Discord) "discord" "discord_configs" "discord.plain" "discord" discord true Refused Http,
    Webex(Webex) "webex" "webex_configs" "webex.plain" "webex" webex true Refused Http,
    MsTeams(MsTeams) "msteams" "msteams_configs" "msteams.plain" "msteams" msteams true Refused Http,
    MsTeamsV2(MsTeamsV2) "msteamsv2" "msteamsv2_configs" "msteamsv2.plain" "msteamsv2" msteams true Refused Http,
    Jira(Jira) "jira" "jira_configs" "jira.plain" "jira" jira true Refused Http,
    RocketChat(RocketChat) "rocketchat" "rocketchat_configs" "rocketchat.plain" "rocketchat" rocketchat false Empty Http,
    Mattermost(Mattermost) "mattermost" "mattermost_configs" "mattermost.plain" "mattermost" mattermost true Refused Http,
    IncidentIo(IncidentIo) "incidentio" "incidentio_configs" "incidentio.plain" "incidentio" incidentio true Refused Timeout,
    DingTalk(DingTalk) "dingtalk" "dingtalk_configs" "dingtalk.plain" "dingtalk" dingtalk true Refused Timeout,
    Feishu(Feishu) "feishu" "feishu_configs" "feishu.plain" "feishu" feishu true Refused Timeout,
}

impl Integration {
    /// The kind's name, as metrics and logs of notifications have it.
    pub fn kind(&self) -> &'static str {
        self.settings.kind()
    }
}

/// How the integrations of a kind are read.
struct Kind {
    /// The key of the receiver.
    key: &'static str,
    /// The type in Alertmanager's source.
    type_name: &'static str,
    /// What its messages call it.
    what: &'static str,
    /// Whether it is told that alerts ended, unless the file says otherwise.
    send_resolved: bool,
    null: Null,
    extras: Extras,
    /// Reads and checks what stands in the file.
    read: fn(&mut Section<'_>, &mut Common) -> IntegrationSettings,
    /// Adds what is global, and checks that nothing is missing then.
    inherit: fn(&Section<'_>, &mut Common, &mut IntegrationSettings, &Global),
}

/// What a lone `-` means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Null {
    /// A fault.
    Refused,
    /// An integration that says nothing.
    Empty,
}

/// Which keys it has besides its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extras {
    /// It is not reached over HTTP.
    NoHttp,
    /// `http_config`.
    Http,
    /// `http_config` and `timeout`.
    Timeout,
}

/// What integrations of all kinds have.
pub(super) struct Common {
    /// What the file says about HTTP, if it does.
    pub(super) own_http: Option<HttpClientConfig>,
    /// The same, or what is global; until then the default.
    pub(super) http: HttpClientConfig,
}

/// Reads `http_config`, if it is there.
pub(super) fn read_http(section: &mut Section<'_>) -> Option<HttpClientConfig> {
    let mut inner = section.section("http_config", "config.plain")?;
    let http = http_client::read(&mut inner, HttpClientConfig::default());
    inner.finish();
    Some(http)
}

/// Reads `receivers`.
pub(super) fn read(root: &mut Section<'_>, global: &Global) -> Vec<Receiver> {
    let context = root.context;
    let mut receivers = Vec::new();
    let mut names: HashSet<String> = HashSet::new();
    for node in root.items("receivers") {
        let Some(mut section) = Section::open(context, node, "config.plain") else { continue };
        let receiver = read_receiver(&mut section, global);
        if !receiver.name.is_empty() && !names.insert(receiver.name.clone()) {
            let message = format!("notification config name {:?} is not unique", receiver.name);
            section.fault("name", message, Some("give each receiver its own name"));
        }
        section.finish();
        receivers.push(receiver);
    }
    receivers
}

fn read_receiver(section: &mut Section<'_>, global: &Global) -> Receiver {
    let context = section.context;
    let name: String = section.value("name");
    if name.is_empty() {
        section.fault("name", "missing name in receiver", Some("add name: …"));
    }
    let labels = section
        .node("labels")
        .map(|node| read_labels(context, node, NameValidation::Utf8))
        .unwrap_or_else(model::Labels::empty);
    if let Some(other) = labels.get("name").filter(|other| *other != name) {
        let message =
            format!("receiver label \"name\" must match receiver name {name:?}, got {other:?}");
        section.fault("labels", message, Some("remove the label: it is added anyhow"));
    }
    let mut builder = model::LabelsBuilder::from_labels(&labels);
    if !name.is_empty() {
        builder.set("name", &name);
    }
    let mut integrations = Vec::new();
    for kind in KINDS {
        for (index, node) in section.items(kind.key).into_iter().enumerate() {
            if node.is_null() && kind.null == Null::Refused {
                let message = format!("missing {} config", kind.what);
                context.fault(node.span, message, Some("remove the lone `-`".to_owned()));
                continue;
            }
            let Some(mut inner) = Section::open(context, node, kind.type_name) else { continue };
            integrations.push(kind.integration(&mut inner, index, Some(global)));
            inner.finish();
        }
    }
    Receiver { name, labels: builder.build(), integrations }
}

impl Kind {
    /// Reads one integration; without `global` it inherits nothing.
    fn integration(
        &self,
        section: &mut Section<'_>,
        index: usize,
        global: Option<&Global>,
    ) -> Integration {
        let own_http = if self.extras == Extras::NoHttp { None } else { read_http(section) };
        let mut common = Common { http: own_http.clone().unwrap_or_default(), own_http };
        let timeout = if self.extras == Extras::Timeout {
            section.read::<GoDuration>("timeout").map(|timeout| timeout.0)
        } else {
            None
        };
        let send_resolved = section.or("send_resolved", self.send_resolved);
        let mut settings = (self.read)(section, &mut common);
        if let Some(global) = global {
            if common.own_http.is_none() {
                common.http = global.http.clone();
            }
            (self.inherit)(section, &mut common, &mut settings, global);
        }
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        Integration { index, send_resolved, timeout, http: common.http, settings }
    }
}

/// Reads a document that is one integration of the kind whose key in a receiver is `key`, such as
/// `webhook_configs`. Nothing is inherited, and what only would be inherited is not missed.
///
/// # Errors
/// All that is wrong, each with its place; a key that is none.
pub fn parse_integration(key: &str, file: &str, bytes: &[u8]) -> Result<Integration, Faults> {
    let Some(kind) = KINDS.iter().find(|kind| kind.key == key) else {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.key).collect();
        let help = Some(format!("known here: {}", known.join(", ")));
        return Err(Diagnostic::of_file(file, format!("no receiver has {key}"), help).into());
    };
    let document = Document::parse(file, bytes)?;
    let context = crate::yaml::Context::new(document.source(), Path::new(""));
    let nothing = crate::yaml::Node::nothing((0, 0));
    let node = document.root().unwrap_or(&nothing);
    let integration = Section::open(&context, node, kind.type_name).map(|mut section| {
        let integration = kind.integration(&mut section, 0, None);
        section.finish();
        integration
    });
    let faults = context.finish().faults;
    match integration {
        Some(integration) if faults.is_empty() => Ok(integration),
        _ => Err(Faults::new(faults)),
    }
}

/// Notes that a key is missing.
fn missing(section: &Section<'_>, key: &'static str, message: &str) {
    section.fault(key, message, Some(&format!("add {key}: …")));
}

/// Texts by name, by ascending name.
fn texts(section: &mut Section<'_>, key: &'static str) -> Vec<(String, String)> {
    let context = section.context;
    let node = section.node(key);
    node.map(|node| crate::yaml::read_map(context, node)).unwrap_or_default()
}

/// A template that stands in for what is not said.
fn template(section: &mut Section<'_>, key: &'static str, name: &str) -> String {
    section.or(key, format!("{{{{ template \"{name}\" . }}}}"))
}

/// Items of a list, each a mapping that `read` reads.
fn mappings<T>(
    section: &mut Section<'_>,
    key: &'static str,
    type_name: &'static str,
    read: impl Fn(&mut Section<'_>) -> T,
) -> Vec<T> {
    let context = section.context;
    let mut all = Vec::new();
    for node in section.items(key) {
        let Some(mut inner) = Section::open(context, node, type_name) else { continue };
        all.push(read(&mut inner));
        inner.finish();
    }
    all
}
