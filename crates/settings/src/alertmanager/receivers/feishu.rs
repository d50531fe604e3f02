//! `feishu_configs`: robots of Feishu (飞书) and Lark groups. These are Watchfire's own.

use super::{Common, missing};
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::yaml::Section;

/// Feishu. Texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Feishu {
    /// The robot's address, with its token; present.
    pub url: Credential,
    /// What requests are signed with, if the robot asks for that.
    pub secret: Credential,
    /// How the message is shown.
    pub message_type: FeishuMessage,
    /// The title, for posts and cards.
    pub title: String,
    /// What happened.
    pub message: String,
    /// A word the robot asks every message to have; it is added where it is missing.
    pub keyword: String,
    /// Ids of those who are called.
    pub at_user_ids: Vec<String>,
    /// Whether everybody is called.
    pub at_all: bool,
}

/// How a message is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FeishuMessage {
    /// As it is.
    Text,
    /// With a title.
    Post,
    /// As a card.
    #[default]
    Interactive,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> Feishu {
    let message_type: String = section.or("message_type", "interactive".to_owned());
    let mut feishu = Feishu {
        url: credential::read_url(section, "url", "url_file"),
        secret: credential::read(section, "secret", "secret_file"),
        message_type: match message_type.as_str() {
            "text" => FeishuMessage::Text,
            "post" => FeishuMessage::Post,
            "interactive" => FeishuMessage::Interactive,
            _ => {
                let message = format!("unknown message_type {message_type:?} in feishu config");
                let help = Some("write text, post or interactive");
                section.fault("message_type", message, help);
                FeishuMessage::Interactive
            }
        },
        title: section.or("title", "{{ template \"__subject\" . }}".to_owned()),
        message: section.or("message", "{{ template \"wechat.default.message\" . }}".to_owned()),
        keyword: section.value("keyword"),
        at_user_ids: Vec::new(),
        at_all: false,
    };
    if let Some(mut at) = section.section("at", "feishu.At") {
        feishu.at_user_ids = at.value("user_ids");
        feishu.at_all = at.value("all");
        at.finish();
    }
    if !feishu.url.is_set() {
        missing(section, "url", "one of url or url_file must be configured");
    }
    feishu
}

impl Feishu {
    pub(super) fn inherit(&mut self, _: &Section<'_>, _: &mut Common, _: &Global) {}
}
