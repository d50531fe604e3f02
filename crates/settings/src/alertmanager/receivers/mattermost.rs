//! `mattermost_configs`: Mattermost's incoming webhooks.

use super::{Common, mappings, missing, template};
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::yaml::Section;

/// Mattermost. Texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Mattermost {
    /// Where to; present in a configuration that was loaded.
    pub webhook_url: Credential,
    /// The channel.
    pub channel: String,
    /// The name under which it is posted.
    pub username: String,
    /// A picture as the icon.
    pub icon_url: String,
    /// An emoji as the icon.
    pub icon_emoji: String,
    /// The attachment that the keys of the configuration itself make.
    pub attachment: MattermostAttachment,
    /// Attachments of their own; they take the place of the other.
    pub attachments: Vec<MattermostAttachment>,
    /// The type of the post.
    pub kind: String,
    /// What is shown beside the post.
    pub card: String,
    /// How urgent the post is.
    pub priority: Option<MattermostPriority>,
}

/// An attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MattermostAttachment {
    /// What clients show that cannot show attachments.
    pub fallback: String,
    /// The colour.
    pub color: String,
    /// What stands above.
    pub pretext: String,
    /// What happened.
    pub text: String,
    /// The author.
    pub author_name: String,
    /// Where the author's name leads.
    pub author_link: String,
    /// The author's picture.
    pub author_icon: String,
    /// The title.
    pub title: String,
    /// Where the title leads.
    pub title_link: String,
    /// Fields.
    pub fields: Vec<MattermostField>,
    /// A small picture.
    pub thumb_url: String,
    /// What stands below.
    pub footer: String,
    /// The picture of what stands below.
    pub footer_icon: String,
    /// A picture.
    pub image_url: String,
}

/// A field; title and value are not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MattermostField {
    /// The title.
    pub title: String,
    /// The value.
    pub value: String,
    /// Whether it takes half of the width.
    pub short: Option<bool>,
}

/// How urgent a post is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MattermostPriority {
    /// The priority.
    pub priority: String,
    /// Whether it is to be acknowledged.
    pub requested_ack: bool,
    /// Whether it is told again until somebody reacts.
    pub persistent_notifications: bool,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> Mattermost {
    Mattermost {
        webhook_url: credential::read_url(section, "webhook_url", "webhook_url_file"),
        channel: section.value("channel"),
        username: template(section, "username", "mattermost.default.username"),
        icon_url: section.value("icon_url"),
        icon_emoji: section.value("icon_emoji"),
        attachment: read_attachment(section, template),
        attachments: mappings(section, "attachments", "mattermost.MattermostAttachment", |inner| {
            read_attachment(inner, |inner, key, _| inner.value(key))
        }),
        kind: section.value("type"),
        card: read_card(section),
        priority: read_priority(section),
    }
}

/// `text` reads a key that has a default in the configuration itself, but not in attachments.
fn read_attachment(
    section: &mut Section<'_>,
    text: fn(&mut Section<'_>, &'static str, &str) -> String,
) -> MattermostAttachment {
    MattermostAttachment {
        fallback: text(section, "fallback", "mattermost.default.fallback"),
        color: text(section, "color", "mattermost.default.color"),
        pretext: section.value("pretext"),
        text: text(section, "text", "mattermost.default.text"),
        author_name: section.value("author_name"),
        author_link: section.value("author_link"),
        author_icon: section.value("author_icon"),
        title: text(section, "title", "mattermost.default.title"),
        title_link: text(section, "title_link", "mattermost.default.titlelink"),
        fields: mappings(section, "fields", "mattermost.plain", read_field),
        thumb_url: section.value("thumb_url"),
        footer: section.value("footer"),
        footer_icon: section.value("footer_icon"),
        image_url: section.value("image_url"),
    }
}

fn read_field(inner: &mut Section<'_>) -> MattermostField {
    let field = MattermostField {
        title: inner.value("title"),
        value: inner.value("value"),
        short: inner.read::<Option<bool>>("short").flatten(),
    };
    if field.title.is_empty() {
        missing(inner, "title", "missing title in Mattermost field configuration");
    }
    if field.value.is_empty() {
        missing(inner, "value", "missing value in Mattermost field configuration");
    }
    field
}

fn read_card(section: &mut Section<'_>) -> String {
    let Some(mut inner) = section.section("props", "mattermost.MattermostProps") else {
        return String::new();
    };
    let card = inner.value("card");
    inner.finish();
    card
}

fn read_priority(section: &mut Section<'_>) -> Option<MattermostPriority> {
    let mut inner = section.section("priority", "mattermost.MattermostPriority")?;
    let priority = MattermostPriority {
        priority: inner.value("priority"),
        requested_ack: inner.value("requested_ack"),
        persistent_notifications: inner.value("persistent_notifications"),
    };
    inner.finish();
    Some(priority)
}

impl Mattermost {
    pub(super) fn inherit(&mut self, section: &Section<'_>, _: &mut Common, global: &Global) {
        self.webhook_url = std::mem::take(&mut self.webhook_url).or(&global.mattermost_webhook_url);
        if !self.webhook_url.is_set() {
            let message = "missing webhook_url or webhook_url_file on mattermost_config";
            let help = "add webhook_url_file: …, or mattermost_webhook_url_file to global";
            section.fault("webhook_url", message, Some(help));
        }
    }
}
