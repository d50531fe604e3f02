//! `pushover_configs`: Pushover.

use std::time::Duration;

use super::{Common, missing, template};
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::alertmanager::go_duration::GoDuration;
use crate::yaml::Section;

/// Pushover. Texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Pushover {
    /// The user or group; present.
    pub user_key: Credential,
    /// The application; present.
    pub token: Credential,
    /// The title.
    pub title: String,
    /// What happened.
    pub message: String,
    /// A link.
    pub url: String,
    /// What the link shows.
    pub url_title: String,
    /// Which of the user's devices.
    pub device: String,
    /// Which sound.
    pub sound: String,
    /// -2 to 2.
    pub priority: String,
    /// How often an emergency is shown again.
    pub retry: Duration,
    /// How long an emergency is shown again.
    pub expire: Duration,
    /// How long the message is kept; zero for ever.
    pub ttl: Duration,
    /// Whether the message is HTML.
    pub html: bool,
    /// Whether the message has letters of one width.
    pub monospace: bool,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> Pushover {
    let minutes = |minutes: u64| GoDuration(Duration::from_secs(minutes * 60));
    let pushover = Pushover {
        user_key: credential::read(section, "user_key", "user_key_file"),
        token: credential::read(section, "token", "token_file"),
        title: template(section, "title", "pushover.default.title"),
        message: template(section, "message", "pushover.default.message"),
        url: template(section, "url", "pushover.default.url"),
        url_title: section.value("url_title"),
        device: section.value("device"),
        sound: section.value("sound"),
        priority: section
            .or("priority", "{{ if eq .Status \"firing\" }}2{{ else }}0{{ end }}".to_owned()),
        retry: section.or("retry", minutes(1)).0,
        expire: section.or("expire", minutes(60)).0,
        ttl: section.value::<GoDuration>("ttl").0,
        html: section.value("html"),
        monospace: section.value("monospace"),
    };
    if !pushover.user_key.is_set() {
        missing(section, "user_key", "one of user_key or user_key_file must be configured");
    }
    if !pushover.token.is_set() {
        missing(section, "token", "one of token or token_file must be configured");
    }
    if pushover.html && pushover.monospace {
        let message = "at most one of monospace & html must be configured";
        section.fault("monospace", message, Some("keep one of them"));
    }
    pushover
}

impl Pushover {
    pub(super) fn inherit(&mut self, _: &Section<'_>, _: &mut Common, _: &Global) {}
}
