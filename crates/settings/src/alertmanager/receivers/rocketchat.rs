//! `rocketchat_configs`: Rocket.Chat.

use super::{Common, mappings, template};
use crate::HttpUrl;
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::yaml::Section;

/// Rocket.Chat. Texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct RocketChat {
    /// Where to; present in a configuration that was loaded.
    pub api_url: Option<HttpUrl>,
    /// The name of the token; present in a configuration that was loaded.
    pub token_id: Credential,
    /// The token; present in a configuration that was loaded.
    pub token: Credential,
    /// The channel or user.
    pub channel: String,
    /// The colour of the attachment.
    pub color: String,
    /// The title.
    pub title: String,
    /// Where the title leads.
    pub title_link: String,
    /// What happened.
    pub text: String,
    /// Fields.
    pub fields: Vec<RocketChatField>,
    /// Whether fields are short unless they say so themselves.
    pub short_fields: bool,
    /// An emoji as the icon.
    pub emoji: String,
    /// A picture as the icon.
    pub icon_url: String,
    /// A picture.
    pub image_url: String,
    /// A small picture.
    pub thumb_url: String,
    /// Whether names become links.
    pub link_names: bool,
    /// Buttons.
    pub actions: Vec<RocketChatAction>,
}

/// A field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RocketChatField {
    /// Whether it takes half of the width.
    pub short: Option<bool>,
    /// The title.
    pub title: String,
    /// The value.
    pub value: String,
}

/// A button.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RocketChatAction {
    /// Its type.
    pub kind: String,
    /// What it says.
    pub text: String,
    /// Where it leads.
    pub url: String,
    /// What it posts.
    pub msg: String,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> RocketChat {
    RocketChat {
        api_url: credential::plain_url(section, "api_url"),
        token_id: credential::read(section, "token_id", "token_id_file"),
        token: credential::read(section, "token", "token_file"),
        channel: section.value("channel"),
        color: section
            .or("color", "{{ if eq .Status \"firing\" }}red{{ else }}green{{ end }}".to_owned()),
        title: template(section, "title", "rocketchat.default.title"),
        title_link: template(section, "title_link", "rocketchat.default.titlelink"),
        text: template(section, "text", "rocketchat.default.text"),
        fields: mappings(section, "fields", "rocketchat.RocketchatAttachmentField", |inner| {
            RocketChatField {
                short: inner.read::<Option<bool>>("short").flatten(),
                title: inner.value("title"),
                value: inner.value("value"),
            }
        }),
        short_fields: section.value("short_fields"),
        emoji: template(section, "emoji", "rocketchat.default.emoji"),
        icon_url: template(section, "icon_url", "rocketchat.default.iconurl"),
        image_url: section.value("image_url"),
        thumb_url: section.value("thumb_url"),
        link_names: section.value("link_names"),
        actions: mappings(section, "actions", "rocketchat.RocketchatAttachmentAction", |inner| {
            RocketChatAction {
                kind: inner.value("type"),
                text: inner.value("text"),
                url: inner.value("url"),
                msg: inner.value("msg"),
            }
        }),
    }
}

impl RocketChat {
    pub(super) fn inherit(&mut self, section: &Section<'_>, _: &mut Common, global: &Global) {
        self.api_url = self.api_url.take().or_else(|| global.rocketchat_api_url.clone());
        self.token_id = std::mem::take(&mut self.token_id).or(&global.rocketchat_token_id);
        if !self.token_id.is_set() {
            let message = "no global Rocketchat TokenID set either inline or in a file";
            let help = "add token_id_file: …, or rocketchat_token_id_file to global";
            section.fault("token_id", message, Some(help));
        }
        self.token = std::mem::take(&mut self.token).or(&global.rocketchat_token);
        if !self.token.is_set() {
            let message = "no global Rocketchat Token set either inline or in a file";
            let help = "add token_file: …, or rocketchat_token_file to global";
            section.fault("token", message, Some(help));
        }
    }
}
