//! `discord_configs`: Discord's webhooks.

use super::{Common, missing, template};
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::yaml::Section;

/// Discord. Texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Discord {
    /// Where to; present.
    pub webhook_url: Credential,
    /// The text of the message itself.
    pub content: String,
    /// The title of what is embedded.
    pub title: String,
    /// The text of what is embedded.
    pub message: String,
    /// The name under which it is posted.
    pub username: String,
    /// A picture as the icon.
    pub avatar_url: String,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> Discord {
    let discord = Discord {
        webhook_url: credential::read_url(section, "webhook_url", "webhook_url_file"),
        content: section.value("content"),
        title: template(section, "title", "discord.default.title"),
        message: template(section, "message", "discord.default.message"),
        username: section.value("username"),
        avatar_url: section.value("avatar_url"),
    };
    if !discord.webhook_url.is_set() {
        let message = "one of webhook_url or webhook_url_file must be configured";
        missing(section, "webhook_url", message);
    }
    discord
}

impl Discord {
    pub(super) fn inherit(&mut self, _: &Section<'_>, _: &mut Common, _: &Global) {}
}
