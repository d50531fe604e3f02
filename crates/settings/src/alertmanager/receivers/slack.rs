//! `slack_configs`: Slack, by an incoming webhook or as an app with a token.

use super::{Common, mappings, missing, template};
use crate::HttpUrl;
use crate::alertmanager::Global;
use crate::alertmanager::credential::{self, Credential};
use crate::prometheus::Authorization;
use crate::yaml::Section;
use crate::{Secret, prometheus::HttpClientConfig};

/// Slack. All texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Slack {
    /// Where to post: the webhook, or the app's address.
    pub api_url: Credential,
    /// The app's token. In a configuration that was loaded it is in the header `Authorization`
    /// already.
    pub app_token: Credential,
    /// Where apps post.
    pub app_url: Option<HttpUrl>,
    /// The channel or user.
    pub channel: String,
    /// The name under which it is posted.
    pub username: String,
    /// The colour of the attachment.
    pub color: String,
    /// The title.
    pub title: String,
    /// Where the title leads.
    pub title_link: String,
    /// What stands above the attachment.
    pub pretext: String,
    /// The text of the attachment.
    pub text: String,
    /// The text of the message itself.
    pub message_text: String,
    /// Fields.
    pub fields: Vec<SlackField>,
    /// Whether fields are short unless they say so themselves.
    pub short_fields: bool,
    /// What stands below.
    pub footer: String,
    /// What clients show that cannot show attachments.
    pub fallback: String,
    /// The callback's name.
    pub callback_id: String,
    /// An emoji as the icon.
    pub icon_emoji: String,
    /// A picture as the icon.
    pub icon_url: String,
    /// A picture.
    pub image_url: String,
    /// A small picture.
    pub thumb_url: String,
    /// Whether names of channels and users become links.
    pub link_names: bool,
    /// Where Markdown is shown as such.
    pub mrkdwn_in: Vec<String>,
    /// Buttons.
    pub actions: Vec<SlackAction>,
    /// Whether a message is changed instead of another one being posted.
    pub update_message: bool,
    /// Whether what comes later is posted into the thread of the first message.
    pub post_updates_to_thread: bool,
}

/// A field; title and value are not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlackField {
    /// The title.
    pub title: String,
    /// The value.
    pub value: String,
    /// Whether it takes half of the width.
    pub short: Option<bool>,
}

/// A button; it has either a URL or a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlackAction {
    /// Its type; not empty.
    pub kind: String,
    /// What it says; not empty.
    pub text: String,
    /// Where it leads.
    pub url: String,
    /// How it looks.
    pub style: String,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What is asked first.
    pub confirm: Option<SlackConfirmation>,
}

/// What is asked before an action; the text is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlackConfirmation {
    /// The question.
    pub text: String,
    /// Its title.
    pub title: String,
    /// Yes.
    pub ok_text: String,
    /// No.
    pub dismiss_text: String,
}

/// Where bots post; only there messages can be changed.
const POST_MESSAGE: &str = "https://slack.com/api/chat.postMessage";

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> Slack {
    let slack = Slack {
        api_url: credential::read_url(section, "api_url", "api_url_file"),
        app_token: credential::read(section, "app_token", "app_token_file"),
        app_url: credential::plain_url(section, "app_url"),
        channel: section.value("channel"),
        username: template(section, "username", "slack.default.username"),
        color: template(section, "color", "slack.default.color"),
        title: template(section, "title", "slack.default.title"),
        title_link: template(section, "title_link", "slack.default.titlelink"),
        pretext: template(section, "pretext", "slack.default.pretext"),
        text: template(section, "text", "slack.default.text"),
        message_text: section.value("message_text"),
        fields: mappings(section, "fields", "slack.plain", read_field),
        short_fields: section.value("short_fields"),
        footer: template(section, "footer", "slack.default.footer"),
        fallback: template(section, "fallback", "slack.default.fallback"),
        callback_id: template(section, "callback_id", "slack.default.callbackid"),
        icon_emoji: template(section, "icon_emoji", "slack.default.iconemoji"),
        icon_url: template(section, "icon_url", "slack.default.iconurl"),
        image_url: section.value("image_url"),
        thumb_url: section.value("thumb_url"),
        link_names: section.value("link_names"),
        mrkdwn_in: section.value("mrkdwn_in"),
        actions: mappings(section, "actions", "slack.plain", read_action),
        update_message: section.value("update_message"),
        post_updates_to_thread: section.value("post_updates_to_thread"),
    };
    if slack.api_url.is_set() && slack.app_token.is_set() {
        let message = "at most one of api_url/api_url_file & app_token/app_token_file must be \
                       configured";
        section.fault("app_token", message, Some("keep one of them"));
    }
    let is_bot = matches!(&slack.api_url, Credential::Inline(url) if url.reveal() == POST_MESSAGE);
    for (key, set) in [
        ("update_message", slack.update_message),
        ("post_updates_to_thread", slack.post_updates_to_thread),
    ] {
        if set && !is_bot {
            let message = format!(
                "{key} can only be used with bot tokens. api_url must be set to {POST_MESSAGE}"
            );
            let help = "set api_url to it, and the token in http_config.authorization";
            section.fault(key, message, Some(help));
        }
    }
    slack
}

fn read_field(inner: &mut Section<'_>) -> SlackField {
    let field = SlackField {
        title: inner.value("title"),
        value: inner.value("value"),
        short: inner.read::<Option<bool>>("short").flatten(),
    };
    if field.title.is_empty() {
        missing(inner, "title", "missing title in Slack field configuration");
    }
    if field.value.is_empty() {
        missing(inner, "value", "missing value in Slack field configuration");
    }
    field
}

fn read_action(inner: &mut Section<'_>) -> SlackAction {
    let mut action = SlackAction {
        kind: inner.value("type"),
        text: inner.value("text"),
        url: inner.value("url"),
        style: inner.value("style"),
        name: inner.value("name"),
        value: inner.value("value"),
        confirm: inner.section("confirm", "slack.plain").map(read_confirmation),
    };
    if action.kind.is_empty() {
        missing(inner, "type", "missing type in Slack action configuration");
    }
    if action.text.is_empty() {
        missing(inner, "text", "missing text in Slack action configuration");
    }
    if !action.url.is_empty() {
        // A button that leads somewhere sends nothing.
        action.name.clear();
        action.value.clear();
        action.confirm = None;
    } else if action.name.is_empty() {
        missing(inner, "url", "missing name or url in Slack action configuration");
    }
    action
}

fn read_confirmation(mut inner: Section<'_>) -> SlackConfirmation {
    let confirmation = SlackConfirmation {
        text: inner.value("text"),
        title: inner.value("title"),
        ok_text: inner.value("ok_text"),
        dismiss_text: inner.value("dismiss_text"),
    };
    if confirmation.text.is_empty() {
        missing(&inner, "text", "missing text in Slack confirmation configuration");
    }
    inner.finish();
    confirmation
}

impl Slack {
    pub(super) fn inherit(&mut self, section: &Section<'_>, common: &mut Common, global: &Global) {
        self.app_url = self.app_url.take().or_else(|| global.slack_app_url.clone());
        let Some(app_url) = &self.app_url else {
            let help = "add app_url: …, or slack_app_url to global";
            section.fault("app_url", "no global Slack App URL set", Some(help));
            return;
        };
        // Whoever has a webhook or credentials of its own does not want the global token.
        let authorized = |http: &HttpClientConfig| http.authorization.is_some();
        let own_way = common.own_http.as_ref().is_some_and(authorized)
            || matches!(self.api_url, Credential::Inline(_));
        if !self.app_token.is_set() && !own_way {
            self.app_token = global.slack_app_token.clone();
        }
        self.api_url = std::mem::take(&mut self.api_url).or(&global.slack_api_url);
        if !self.api_url.is_set() && !self.app_token.is_set() {
            let message = "no Slack API URL nor App token set either inline or in a file";
            let help = "add api_url_file: …, or slack_api_url_file to global";
            section.fault("api_url", message, Some(help));
        }
        let (credentials, credentials_file) = match &self.app_token {
            Credential::None => return,
            Credential::Inline(token) => (token.clone(), None),
            Credential::File(path) => (Secret::default(), Some(path.clone())),
        };
        if authorized(&common.http) {
            let message = "http authorization can't be set when using Slack App tokens";
            section.fault("http_config", message, Some("remove one of the two"));
        }
        let scheme = "Bearer".to_owned();
        common.http.authorization = Some(Authorization { scheme, credentials, credentials_file });
        self.api_url = Credential::Inline(Secret::new(app_url.reveal()));
    }
}
