//! The section `global`: what receivers inherit.

use std::time::Duration;

use super::HostPort;
use super::credential::{self, Credential};
use super::receivers::read_http;
use crate::HttpUrl;
use crate::prometheus::read::http_client::read_tls_keys;
use crate::prometheus::{HttpClientConfig, TlsConfig};
use crate::yaml::{Context, FromNode, Milliseconds, Node, Section};

/// Defaults for all receivers.
#[derive(Debug, Clone, PartialEq)]
pub struct Global {
    /// When an alert ends that was sent without an end and is not sent again.
    pub resolve_timeout: Duration,
    /// How receivers that say nothing speak to servers.
    pub http: HttpClientConfig,
    /// Mail.
    pub smtp: Smtp,
    /// Slack's incoming webhook.
    pub slack_api_url: Credential,
    /// The token of a Slack app.
    pub slack_app_token: Credential,
    /// Where Slack apps post.
    pub slack_app_url: Option<HttpUrl>,
    /// PagerDuty's events.
    pub pagerduty_url: Option<HttpUrl>,
    /// Opsgenie.
    pub opsgenie_api_url: Option<HttpUrl>,
    /// Opsgenie's key.
    pub opsgenie_api_key: Credential,
    /// WeChat Work.
    pub wechat_api_url: Option<HttpUrl>,
    /// WeChat Work's secret.
    pub wechat_api_secret: Credential,
    /// WeChat Work's company.
    pub wechat_api_corp_id: String,
    /// VictorOps.
    pub victorops_api_url: Option<HttpUrl>,
    /// VictorOps' key.
    pub victorops_api_key: Credential,
    /// Telegram.
    pub telegram_api_url: Option<HttpUrl>,
    /// The token of a Telegram bot.
    pub telegram_bot_token: Credential,
    /// Webex.
    pub webex_api_url: Option<HttpUrl>,
    /// Jira; there is no default.
    pub jira_api_url: Option<HttpUrl>,
    /// Rocket.Chat.
    pub rocketchat_api_url: Option<HttpUrl>,
    /// Rocket.Chat's token.
    pub rocketchat_token: Credential,
    /// The name of Rocket.Chat's token.
    pub rocketchat_token_id: Credential,
    /// Mattermost's incoming webhook.
    pub mattermost_webhook_url: Credential,
}

/// How mail is sent unless a receiver says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Smtp {
    /// The sender.
    pub from: String,
    /// The name this host gives itself.
    pub hello: String,
    /// The server.
    pub smarthost: Option<HostPort>,
    /// The user, for PLAIN, LOGIN and CRAM-MD5.
    pub auth_username: String,
    /// The password, for PLAIN and LOGIN.
    pub auth_password: Credential,
    /// The secret, for CRAM-MD5.
    pub auth_secret: Credential,
    /// The identity, for PLAIN.
    pub auth_identity: String,
    /// Whether mail is only sent over TLS.
    pub require_tls: bool,
    /// TLS towards the server.
    pub tls: TlsConfig,
    /// Whether TLS begins with the connection; by the port if not said.
    pub force_implicit_tls: Option<bool>,
}

impl Default for Smtp {
    fn default() -> Self {
        Smtp {
            from: String::new(),
            hello: "localhost".to_owned(),
            smarthost: None,
            auth_username: String::new(),
            auth_password: Credential::None,
            auth_secret: Credential::None,
            auth_identity: String::new(),
            require_tls: true,
            tls: TlsConfig::default(),
            force_implicit_tls: None,
        }
    }
}

impl Default for Global {
    fn default() -> Self {
        let url = |text| HttpUrl::parse(text).ok();
        Global {
            resolve_timeout: Duration::from_secs(300),
            http: HttpClientConfig::default(),
            smtp: Smtp::default(),
            slack_api_url: Credential::None,
            slack_app_token: Credential::None,
            slack_app_url: url("https://slack.com/api/chat.postMessage"),
            pagerduty_url: url("https://events.pagerduty.com/v2/enqueue"),
            opsgenie_api_url: url("https://api.opsgenie.com/"),
            opsgenie_api_key: Credential::None,
            wechat_api_url: url("https://qyapi.weixin.qq.com/cgi-bin/"),
            wechat_api_secret: Credential::None,
            wechat_api_corp_id: String::new(),
            victorops_api_url: url(
                "https://alert.victorops.com/integrations/generic/20131114/alert/",
            ),
            victorops_api_key: Credential::None,
            telegram_api_url: url("https://api.telegram.org"),
            telegram_bot_token: Credential::None,
            webex_api_url: url("https://webexapis.com/v1/messages"),
            jira_api_url: None,
            rocketchat_api_url: url("https://open.rocket.chat/"),
            rocketchat_token: Credential::None,
            rocketchat_token_id: Credential::None,
            mattermost_webhook_url: Credential::None,
        }
    }
}

/// A URL of the file, or the default if the key is absent; `null` means none.
fn url_or(
    section: &mut Section<'_>,
    key: &'static str,
    default: Option<HttpUrl>,
) -> Option<HttpUrl> {
    if section.has(key) {
        return credential::plain_url(section, key);
    }
    // So that a slip of the pen is told from the keys that are known.
    section.node(key);
    default
}

/// Reads `global`.
pub(super) fn read(root: &mut Section<'_>) -> Global {
    let default = Global::default();
    let Some(mut section) = root.section("global", "config.plain") else { return default };
    let s = &mut section;
    let secret = credential::read;
    let global = Global {
        resolve_timeout: s
            .read::<Milliseconds>("resolve_timeout")
            .map_or(default.resolve_timeout, Milliseconds::duration),
        http: read_http(s).unwrap_or_default(),
        smtp: read_smtp(s),
        slack_api_url: credential::read_url(s, "slack_api_url", "slack_api_url_file"),
        slack_app_token: secret(s, "slack_app_token", "slack_app_token_file"),
        slack_app_url: url_or(s, "slack_app_url", default.slack_app_url),
        pagerduty_url: url_or(s, "pagerduty_url", default.pagerduty_url),
        opsgenie_api_url: url_or(s, "opsgenie_api_url", default.opsgenie_api_url),
        opsgenie_api_key: secret(s, "opsgenie_api_key", "opsgenie_api_key_file"),
        wechat_api_url: url_or(s, "wechat_api_url", default.wechat_api_url),
        wechat_api_secret: secret(s, "wechat_api_secret", "wechat_api_secret_file"),
        wechat_api_corp_id: s.value("wechat_api_corp_id"),
        victorops_api_url: url_or(s, "victorops_api_url", default.victorops_api_url),
        victorops_api_key: secret(s, "victorops_api_key", "victorops_api_key_file"),
        telegram_api_url: url_or(s, "telegram_api_url", default.telegram_api_url),
        telegram_bot_token: secret(s, "telegram_bot_token", "telegram_bot_token_file"),
        webex_api_url: url_or(s, "webex_api_url", default.webex_api_url),
        jira_api_url: url_or(s, "jira_api_url", None),
        rocketchat_api_url: url_or(s, "rocketchat_api_url", default.rocketchat_api_url),
        rocketchat_token: secret(s, "rocketchat_token", "rocketchat_token_file"),
        rocketchat_token_id: secret(s, "rocketchat_token_id", "rocketchat_token_id_file"),
        mattermost_webhook_url: credential::read_url(
            s,
            "mattermost_webhook_url",
            "mattermost_webhook_url_file",
        ),
    };
    check_slack(s, &global);
    section.finish();
    global
}

/// A token and a webhook are two ways to the same place. Where the webhook is that place itself,
/// both are allowed: it was the way to use tokens before there were keys for them.
fn check_slack(section: &Section<'_>, global: &Global) {
    if !global.slack_app_token.is_set() || !global.slack_api_url.is_set() {
        return;
    }
    let same = match (&global.slack_api_url, &global.slack_app_url) {
        (Credential::Inline(webhook), Some(app)) => webhook.reveal() == app.reveal(),
        _ => false,
    };
    if !same {
        let message = "at most one of slack_app_token/slack_app_token_file & \
                       slack_api_url/slack_api_url_file must be configured";
        let key = if section.is_set("slack_app_token") {
            "slack_app_token"
        } else {
            "slack_app_token_file"
        };
        section.fault(key, message, Some("keep one of them"));
    }
}

fn read_smtp(s: &mut Section<'_>) -> Smtp {
    let default = Smtp::default();
    Smtp {
        from: s.value("smtp_from"),
        hello: s.or("smtp_hello", default.hello),
        smarthost: read_address(s, "smtp_smarthost"),
        auth_username: s.value("smtp_auth_username"),
        auth_password: credential::read(s, "smtp_auth_password", "smtp_auth_password_file"),
        auth_secret: credential::read(s, "smtp_auth_secret", "smtp_auth_secret_file"),
        auth_identity: s.value("smtp_auth_identity"),
        require_tls: s.or("smtp_require_tls", default.require_tls),
        tls: s.section("smtp_tls_config", "config.plain").map(read_tls_keys).unwrap_or_default(),
        force_implicit_tls: s.read::<Option<bool>>("smtp_force_implicit_tls").flatten(),
    }
}

/// An empty text is no address; it yields one without a port.
impl FromNode for HostPort {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let text = String::from_node(context, node)?;
        if text.is_empty() {
            return Some(HostPort::default());
        }
        HostPort::parse(&text)
            .map_err(|message| {
                let help = "write host:port, such as mail.example.org:587".to_owned();
                context.fault(node.span, message, Some(help));
            })
            .ok()
    }
}

/// Reads an address. `None` if there is none, or after a fault.
pub(super) fn read_address(section: &mut Section<'_>, key: &'static str) -> Option<HostPort> {
    section.read::<HostPort>(key).filter(|address| !address.port.is_empty())
}
