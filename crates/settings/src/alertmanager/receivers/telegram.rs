//! `telegram_configs`: Telegram bots.

use std::path::PathBuf;

use super::{Common, missing, template};
use crate::HttpUrl;
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::prometheus::read::http_client::optional_path;
use crate::yaml::Section;

/// Telegram.
#[derive(Debug, Clone, PartialEq)]
pub struct Telegram {
    /// Where to; present in a configuration that was loaded.
    pub api_url: Option<HttpUrl>,
    /// The bot; present in a configuration that was loaded.
    pub bot_token: Credential,
    /// The chat.
    pub chat: TelegramChat,
    /// The topic of a group; 0 for none.
    pub message_thread_id: i64,
    /// What happened, a template.
    pub message: String,
    /// Whether it comes without a sound.
    pub disable_notifications: bool,
    /// How the message is written.
    pub parse_mode: TelegramParseMode,
}

/// A chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TelegramChat {
    /// Its number.
    Id(i64),
    /// The file that holds its number.
    File(PathBuf),
}

/// How a message is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TelegramParseMode {
    /// As it is.
    Plain,
    /// `Markdown`.
    Markdown,
    /// `MarkdownV2`.
    MarkdownV2,
    /// `HTML`.
    #[default]
    Html,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> Telegram {
    let id: i64 = section.value("chat_id");
    let file = optional_path(section, "chat_id_file");
    if id == 0 && file.is_none() {
        missing(section, "chat_id", "missing chat_id or chat_id_file on telegram_config");
    }
    if id != 0 && file.is_some() {
        let message = "at most one of chat_id & chat_id_file must be configured";
        section.fault("chat_id_file", message, Some("keep one of them"));
    }
    let mode: String = section.or("parse_mode", "HTML".to_owned());
    let parse_mode = match mode.as_str() {
        "" => TelegramParseMode::Plain,
        "Markdown" => TelegramParseMode::Markdown,
        "MarkdownV2" => TelegramParseMode::MarkdownV2,
        "HTML" => TelegramParseMode::Html,
        _ => {
            let message = "unknown parse_mode on telegram_config, must be Markdown, MarkdownV2, \
                           HTML or empty string";
            section.fault("parse_mode", message, Some("write one of them"));
            TelegramParseMode::Html
        }
    };
    Telegram {
        api_url: credential::plain_url(section, "api_url"),
        bot_token: credential::read(section, "bot_token", "bot_token_file"),
        chat: file.map_or(TelegramChat::Id(id), TelegramChat::File),
        message_thread_id: section.value("message_thread_id"),
        message: template(section, "message", "telegram.default.message"),
        disable_notifications: section.value("disable_notifications"),
        parse_mode,
    }
}

impl Telegram {
    pub(super) fn inherit(&mut self, section: &Section<'_>, _: &mut Common, global: &Global) {
        self.api_url = self.api_url.take().or_else(|| global.telegram_api_url.clone());
        self.bot_token = std::mem::take(&mut self.bot_token).or(&global.telegram_bot_token);
        if !self.bot_token.is_set() {
            let message = "missing bot_token or bot_token_file on telegram_config";
            let help = "add bot_token_file: …, or telegram_bot_token_file to global";
            section.fault("bot_token", message, Some(help));
        }
    }
}
