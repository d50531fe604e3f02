//! `wechat_configs`: WeChat Work (企业微信) applications.

use super::{Common, template};
use crate::HttpUrl;
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::yaml::Section;

/// WeChat Work. All texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct WeChat {
    /// The secret of the application; present in a configuration that was loaded.
    pub api_secret: Credential,
    /// Where to, with a slash at the end; present in a configuration that was loaded.
    pub api_url: Option<HttpUrl>,
    /// The company; not empty in a configuration that was loaded.
    pub corp_id: String,
    /// What happened.
    pub message: String,
    /// How the message is shown.
    pub message_type: WeChatMessage,
    /// The application.
    pub agent_id: String,
    /// Members, separated by `|`.
    pub to_user: String,
    /// Departments, separated by `|`.
    pub to_party: String,
    /// Tags, separated by `|`.
    pub to_tag: String,
}

/// How a message is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WeChatMessage {
    /// As it is.
    #[default]
    Text,
    /// As Markdown.
    Markdown,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> WeChat {
    let message_type: String = section.value("message_type");
    let wechat = WeChat {
        api_secret: credential::read(section, "api_secret", "api_secret_file"),
        api_url: credential::plain_url(section, "api_url"),
        corp_id: section.value("corp_id"),
        message: template(section, "message", "wechat.default.message"),
        message_type: match message_type.as_str() {
            "markdown" => WeChatMessage::Markdown,
            _ => WeChatMessage::Text,
        },
        agent_id: template(section, "agent_id", "wechat.default.agent_id"),
        to_user: template(section, "to_user", "wechat.default.to_user"),
        to_party: template(section, "to_party", "wechat.default.to_party"),
        to_tag: template(section, "to_tag", "wechat.default.to_tag"),
    };
    if !matches!(message_type.as_str(), "" | "text" | "markdown") {
        let message = format!(
            "weChat message type {message_type:?} does not match valid options ^(text|markdown)$"
        );
        section.fault("message_type", message, Some("write text or markdown"));
    }
    wechat
}

impl WeChat {
    pub(super) fn inherit(&mut self, section: &Section<'_>, _: &mut Common, global: &Global) {
        let url = self.api_url.take().or_else(|| global.wechat_api_url.clone());
        self.api_url = url.map(credential::with_slash);
        if self.api_url.is_none() {
            let help = "add api_url: …, or wechat_api_url to global";
            section.fault("api_url", "no global Wechat URL set", Some(help));
        }
        self.api_secret = std::mem::take(&mut self.api_secret).or(&global.wechat_api_secret);
        if !self.api_secret.is_set() {
            let message = "no global Wechat Api Secret set either inline or in a file";
            let help = "add api_secret_file: …, or wechat_api_secret_file to global";
            section.fault("api_secret", message, Some(help));
        }
        if self.corp_id.is_empty() {
            self.corp_id.clone_from(&global.wechat_api_corp_id);
        }
        if self.corp_id.is_empty() {
            let help = "add corp_id: …, or wechat_api_corp_id to global";
            section.fault("corp_id", "no global Wechat CorpID set", Some(help));
        }
    }
}
