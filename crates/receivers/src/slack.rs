//! Slack, by an incoming webhook or as an app. Source: Alertmanager, `notify/slack/slack.go`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use net::client::SecretText;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use settings::alertmanager::receivers::{Slack as Settings, SlackAction};

use crate::courier::{Courier, excerpt};
use crate::filled::{add_filled, filled};
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::shortened;

/// Longest title.
const MAX_TITLE_CHARS: usize = 1_024;

/// Where Markdown is shown unless the configuration says otherwise.
const MARKDOWN_IN: [&str; 3] = ["fallback", "pretext", "text"];

/// What is kept of the first message about a group, under Alertmanager's names.
const THREAD: &str = "threadTs";
const CHANNEL: &str = "channelId";

/// A channel of Slack.
pub(crate) struct Slack {
    courier: Courier,
    url: Option<SecretText>,
    settings: Settings,
}

/// What Slack's API answers.
#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    channel: String,
    #[serde(default)]
    ts: String,
}

/// The first message about a group.
struct First {
    channel: String,
    ts: String,
}

impl Slack {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        Slack { courier, url: secret_text(&settings.api_url), settings: settings.clone() }
    }

    /// The message, without where it goes.
    fn body(&self, message: &Message<'_>) -> Result<Map<String, Value>, Failure> {
        let settings = &self.settings;
        let text = |template: &String| message.text(template);
        let title = message.noted(text(&settings.title)?);
        let mut fields = Vec::with_capacity(settings.fields.len());
        for field in &settings.fields {
            let short = field.short.unwrap_or(settings.short_fields);
            let (title, value) = (text(&field.title)?, text(&field.value)?);
            let mut made = Map::new();
            add_filled(&mut made, [("title", title.into()), ("value", value.into())]);
            made.insert("short".to_owned(), short.into());
            fields.push(Value::Object(made));
        }
        let mut actions = Vec::with_capacity(settings.actions.len());
        for action in &settings.actions {
            actions.push(action_of(message, action)?);
        }
        let markdown_in: Vec<&str> = match settings.mrkdwn_in.is_empty() {
            true => MARKDOWN_IN.to_vec(),
            false => settings.mrkdwn_in.iter().map(String::as_str).collect(),
        };
        let mut attachment = Map::new();
        for (name, template) in [
            ("text", &settings.text),
            ("fallback", &settings.fallback),
            ("callback_id", &settings.callback_id),
            ("footer", &settings.footer),
        ] {
            attachment.insert(name.to_owned(), text(template)?.into());
        }
        add_filled(
            &mut attachment,
            [
                ("title", shortened::in_chars(title, MAX_TITLE_CHARS).into()),
                ("title_link", text(&settings.title_link)?.into()),
                ("pretext", text(&settings.pretext)?.into()),
                ("fields", fields.into()),
                ("actions", actions.into()),
                ("image_url", text(&settings.image_url)?.into()),
                ("thumb_url", text(&settings.thumb_url)?.into()),
                ("color", text(&settings.color)?.into()),
                ("mrkdwn_in", json!(markdown_in)),
            ],
        );
        let mut body = Map::new();
        body.insert("attachments".to_owned(), json!([attachment]));
        add_filled(
            &mut body,
            [
                ("username", text(&settings.username)?.into()),
                ("icon_emoji", text(&settings.icon_emoji)?.into()),
                ("icon_url", text(&settings.icon_url)?.into()),
                ("link_names", settings.link_names.into()),
                ("text", text(&settings.message_text)?.into()),
            ],
        );
        Ok(body)
    }

    /// Posts the message to a channel, with `more` fields. Yields where it stands, if Slack says so.
    async fn post(
        &self,
        message: &Message<'_>,
        url: &str,
        body: &Map<String, Value>,
        channel: &str,
        more: [(&str, &str); 1],
    ) -> Result<Option<First>, Failure> {
        let mut body = body.clone();
        let [(name, value)] = more;
        add_filled(&mut body, [("channel", channel.into()), (name, value.into())]);
        let in_channel = |failure: Failure| failure.while_doing(&format!("channel {channel:?}"));
        let body = Value::Object(body).to_string();
        let answer = self.courier.post_json(message, url, body).await?;
        answer.check(message, &[]).map_err(in_channel)?;
        let kind = answer.headers.get(http::header::CONTENT_TYPE);
        let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        if !is_json {
            // Incoming webhooks answer in a word.
            if answer.body == b"ok" {
                return Ok(None);
            }
            let text = format!("Slack answers {:?}", answer.excerpt(message));
            return Err(in_channel(Failure::fatal(text)));
        }
        let told: Answer = answer.json(message).map_err(in_channel)?;
        if !told.ok {
            let text = format!("Slack answers {:?}", excerpt(message, &told.error));
            return Err(in_channel(Failure::fatal(text)));
        }
        let is_known = !told.ts.is_empty() && !told.channel.is_empty();
        Ok(is_known.then_some(First { channel: told.channel, ts: told.ts }))
    }
}

#[async_trait]
impl Channel for Slack {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let Some(url) = &self.url else {
            return Err(Failure::fatal("there is no api_url; add api_url_file or app_token_file"));
        };
        let url = message.secret_url(url).await?;
        let body = self.body(message)?;
        let Settings { update_message, post_updates_to_thread, .. } = self.settings;
        let kept = |name| message.notification.store.get(name).filter(|text| !text.is_empty());
        let first = match (kept(THREAD), kept(CHANNEL)) {
            (Some(ts), Some(channel)) if update_message || post_updates_to_thread => {
                Some(First { channel: channel.clone(), ts: ts.clone() })
            }
            _ => None,
        };
        if let Some(First { channel, ts }) = first {
            if update_message {
                let url = update_url(&url);
                self.post(message, &url, &body, &channel, [("ts", &ts)]).await?;
            }
            if post_updates_to_thread {
                self.post(message, &url, &body, &channel, [("thread_ts", &ts)]).await?;
            }
            return Ok(None);
        }
        let channel = message.text(&self.settings.channel)?;
        let posted = self.post(message, &url, &body, &channel, [("thread_ts", "")]).await?;
        let Some(First { channel, ts }) = posted else { return Ok(None) };
        if !update_message && !post_updates_to_thread {
            return Ok(None);
        }
        if update_message && post_updates_to_thread {
            // What is written over later is kept in the thread. The channel knows already, so a
            // failure of this is not worth telling it twice.
            let _ = self.post(message, &url, &body, &channel, [("thread_ts", &ts)]).await;
        }
        Ok(Some(BTreeMap::from([(THREAD.to_owned(), ts), (CHANNEL.to_owned(), channel)])))
    }
}

/// Where messages are changed: beside where they are posted.
fn update_url(url: &str) -> String {
    match url.strip_suffix("chat.postMessage") {
        Some(api) => format!("{api}chat.update"),
        None => "https://slack.com/api/chat.update".to_owned(),
    }
}

fn action_of(message: &Message<'_>, action: &SlackAction) -> Result<Value, Failure> {
    let text = |template: &String| message.text(template).map(Value::from);
    let confirm = match &action.confirm {
        Some(confirm) => filled([
            ("text", text(&confirm.text)?),
            ("title", text(&confirm.title)?),
            ("ok_text", text(&confirm.ok_text)?),
            ("dismiss_text", text(&confirm.dismiss_text)?),
        ]),
        None => Value::Null,
    };
    Ok(filled([
        ("type", text(&action.kind)?),
        ("text", text(&action.text)?),
        ("url", text(&action.url)?),
        ("style", text(&action.style)?),
        ("name", text(&action.name)?),
        ("value", text(&action.value)?),
        ("confirm", confirm),
    ]))
}

#[cfg(test)]
mod tests {
    use alerting::notify::{Notification, Outcome};
    use settings::Secret;
    use settings::alertmanager::{Credential, IntegrationSettings};

    use super::*;
    use crate::test_peer::{
        NOW_NS, Peer, config, courier, delivered, deliverer, failed, json as said, notification,
        send,
    };

    #[tokio::test]
    async fn a_webhook_is_told_in_an_attachment() {
        let peer = Peer::saying((200, "text/html", "ok".to_owned())).await;
        let keys = format!(
            "slack_configs: [{{api_url: '{}', channel: '#ops', short_fields: true, fields: [{{title: \
             T, value: '{{{{ .Status }}}}'}}], actions: [{{type: button, text: Go, url: 'http://u'}}]}}]",
            peer.url("/services/T1/B2/token-1234")
        );
        let outcome = deliverer(&keys)
            .deliver_noted(&notification("slack"), NOW_NS, Some("[no majority]"))
            .await;
        assert_eq!(outcome, delivered());
        let link = "http://w.example/#/alerts?receiver=ops";
        assert_eq!(
            peer.request().json(),
            json!({
                "channel": "#ops",
                "username": "Alertmanager",
                "attachments": [{
                    "title": "[no majority] [FIRING:1] Down (critical)",
                    "title_link": link,
                    "text": "",
                    "fallback": format!("[FIRING:1] Down (critical) | {link}"),
                    "callback_id": "",
                    "footer": "",
                    "color": "danger",
                    "fields": [{"title": "T", "value": "firing", "short": true}],
                    "actions": [{"type": "button", "text": "Go", "url": "http://u"}],
                    "mrkdwn_in": ["fallback", "pretext", "text"],
                }],
            })
        );
    }

    #[tokio::test]
    async fn answers_of_both_kinds() {
        for (answer, wanted) in [
            ((200, "text/plain", "no_service".to_owned()), "Slack answers \"no_service\""),
            (said(200, r#"{"ok":false,"error":"channel_not_found"}"#), "\"channel_not_found\""),
            (said(403, "action_prohibited token-1234"), "403: action_prohibited <secret>"),
        ] {
            let peer = Peer::saying(answer).await;
            let url = peer.url("/services/token-1234");
            let deliverer =
                deliverer(&format!("slack_configs: [{{api_url: '{url}', channel: c}}]"));
            let message = failed(deliverer.deliver(&notification("slack"), NOW_NS).await);
            assert!(message.contains(wanted) && message.contains("channel \"c\""), "{message}");
        }
    }

    #[tokio::test]
    async fn long_titles_are_cut() {
        let peer = Peer::saying((200, "text/plain", "ok".to_owned())).await;
        let keys = format!(
            "slack_configs: [{{api_url: '{}', title: '{{{{ printf \"%02000d\" 7 }}}}'}}]",
            peer.url("/")
        );
        let outcome = deliverer(&keys).deliver(&notification("slack"), NOW_NS).await;
        assert_eq!(outcome, delivered());
        let title = peer.request().json()["attachments"][0]["title"].as_str().map(str::to_owned);
        assert_eq!(title.expect("a title").chars().count(), 1_024);
    }

    fn bot(peer: &Peer, update: bool, thread: bool) -> Slack {
        let config = config("slack_configs: [{api_url: 'http://x/', channel: '#ops'}]");
        let integration = &config.receivers[0].integrations[0];
        let IntegrationSettings::Slack(settings) = &integration.settings else { panic!("slack") };
        let mut settings = settings.clone();
        settings.api_url = Credential::Inline(Secret::new(peer.url("/api/chat.postMessage")));
        settings.update_message = update;
        settings.post_updates_to_thread = thread;
        Slack::new(&settings, courier())
    }

    #[tokio::test]
    async fn later_messages_go_to_the_first() {
        let answer = r#"{"ok":true,"channel":"C1","ts":"17.5"}"#;
        for (update, thread, paths) in [
            (true, false, vec![("postMessage", "", ""), ("update", "17.5", "")]),
            (false, true, vec![("postMessage", "", ""), ("postMessage", "", "17.5")]),
            (
                true,
                true,
                vec![
                    ("postMessage", "", ""),
                    ("postMessage", "", "17.5"),
                    ("update", "17.5", ""),
                    ("postMessage", "", "17.5"),
                ],
            ),
            (false, false, vec![("postMessage", "", ""), ("postMessage", "", "")]),
        ] {
            let peer = Peer::saying(said(200, answer)).await;
            let slack = bot(&peer, update, thread);
            let outcome = send(&slack, &notification("slack")).await;
            let Outcome::Delivered { store } = outcome else { panic!("{outcome:?}") };
            assert_eq!(store.is_some(), update || thread);
            let store = store.unwrap_or_default();
            let next = Notification { store, ..notification("slack") };
            assert_eq!(send(&slack, &next).await, delivered());
            let requests = peer.requests();
            let seen: Vec<(String, Value, Value)> = requests
                .iter()
                .map(|seen| {
                    let body = seen.json();
                    (seen.path.clone(), body["ts"].clone(), body["thread_ts"].clone())
                })
                .collect();
            let none_if_empty =
                |text: &str| if text.is_empty() { Value::Null } else { text.into() };
            let wanted: Vec<(String, Value, Value)> = paths
                .into_iter()
                .map(|(method, ts, thread)| {
                    (format!("/api/chat.{method}"), none_if_empty(ts), none_if_empty(thread))
                })
                .collect();
            assert_eq!(seen, wanted);
            assert_eq!(requests[0].json()["channel"], "#ops");
        }
    }
}
