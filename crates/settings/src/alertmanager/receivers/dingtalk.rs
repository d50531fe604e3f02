//! `dingtalk_configs`: robots of DingTalk (钉钉) groups. These are Watchfire's own.

use super::{Common, missing};
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::yaml::Section;

/// DingTalk. Texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct DingTalk {
    /// The robot's address, with its token; present.
    pub url: Credential,
    /// What requests are signed with, if the robot asks for that.
    pub secret: Credential,
    /// How the message is shown.
    pub message_type: DingTalkMessage,
    /// The title, for Markdown and cards.
    pub title: String,
    /// What happened.
    pub message: String,
    /// A word the robot asks every message to have; it is added where it is missing.
    pub keyword: String,
    /// Telephone numbers of those who are called.
    pub at_mobiles: Vec<String>,
    /// Ids of those who are called.
    pub at_user_ids: Vec<String>,
    /// Whether everybody is called.
    pub at_all: bool,
}

/// How a message is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DingTalkMessage {
    /// As it is.
    Text,
    /// As Markdown.
    #[default]
    Markdown,
    /// As a card with a link.
    ActionCard,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> DingTalk {
    let message_type: String = section.or("message_type", "markdown".to_owned());
    let mut dingtalk = DingTalk {
        url: credential::read_url(section, "url", "url_file"),
        secret: credential::read(section, "secret", "secret_file"),
        message_type: match message_type.as_str() {
            "text" => DingTalkMessage::Text,
            "markdown" => DingTalkMessage::Markdown,
            "actionCard" => DingTalkMessage::ActionCard,
            _ => {
                let message = format!("unknown message_type {message_type:?} in dingtalk config");
                let help = Some("write text, markdown or actionCard");
                section.fault("message_type", message, help);
                DingTalkMessage::Markdown
            }
        },
        title: section.or("title", "{{ template \"__subject\" . }}".to_owned()),
        message: section.or("message", "{{ template \"wechat.default.message\" . }}".to_owned()),
        keyword: section.value("keyword"),
        at_mobiles: Vec::new(),
        at_user_ids: Vec::new(),
        at_all: false,
    };
    if let Some(mut at) = section.section("at", "dingtalk.At") {
        dingtalk.at_mobiles = at.value("mobiles");
        dingtalk.at_user_ids = at.value("user_ids");
        dingtalk.at_all = at.value("all");
        at.finish();
    }
    if !dingtalk.url.is_set() {
        missing(section, "url", "one of url or url_file must be configured");
    }
    dingtalk
}

impl DingTalk {
    pub(super) fn inherit(&mut self, _: &Section<'_>, _: &mut Common, _: &Global) {}
}
