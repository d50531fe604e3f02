//! Mattermost's incoming webhooks. Source: Alertmanager, `notify/mattermost/mattermost.go`.

use async_trait::async_trait;
use net::client::SecretText;
use serde_json::{Map, Value, json};
use settings::alertmanager::receivers::{
    Mattermost as Settings, MattermostAttachment, MattermostPriority,
};

use crate::courier::Courier;
use crate::filled::{add_filled, filled};
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::shortened;

/// Longest text.
const MAX_TEXT_CHARS: usize = 16_383;

/// A webhook of Mattermost.
pub(crate) struct Mattermost {
    courier: Courier,
    url: Option<SecretText>,
    settings: Settings,
}

impl Mattermost {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        Mattermost { courier, url: secret_text(&settings.webhook_url), settings: settings.clone() }
    }

    fn body(&self, message: &Message<'_>, channel: &str) -> Result<Value, Failure> {
        let settings = &self.settings;
        let text = |template: &String| message.text(template).map(Value::from);
        let attachments = match settings.attachments.as_slice() {
            [] => std::slice::from_ref(&settings.attachment),
            own => own,
        };
        let mut all = Vec::with_capacity(attachments.len());
        for (n, attachment) in attachments.iter().enumerate() {
            all.push(attachment_of(message, attachment, n == 0)?);
        }
        let card = text(&settings.card)?;
        let priority = match &settings.priority {
            Some(priority) if !priority.priority.is_empty() => priority_of(message, priority)?,
            _ => Value::Null,
        };
        Ok(filled([
            ("channel", channel.into()),
            ("username", text(&settings.username)?),
            ("icon_url", text(&settings.icon_url)?),
            ("icon_emoji", text(&settings.icon_emoji)?),
            ("attachments", all.into()),
            ("type", text(&settings.kind)?),
            ("props", filled([("card", card)])),
            ("priority", priority),
        ]))
    }
}

#[async_trait]
impl Channel for Mattermost {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let Some(url) = &self.url else {
            return Err(Failure::fatal("there is no webhook_url; add webhook_url_file"));
        };
        let channel = message.text(&self.settings.channel)?;
        let body = self.body(message, &channel)?.to_string();
        let url = message.secret_url(url).await?;
        let answer = self.courier.post_json(message, &url, body).await?;
        let checked = answer.check(message, &[]);
        checked.map_err(|failure| failure.while_doing(&format!("channel {channel:?}")))?;
        Ok(None)
    }
}

fn attachment_of(
    message: &Message<'_>,
    attachment: &MattermostAttachment,
    is_first: bool,
) -> Result<Value, Failure> {
    let text = |template: &String| message.text(template).map(Value::from);
    let mut fields = Vec::with_capacity(attachment.fields.len());
    for field in &attachment.fields {
        let mut made = Map::new();
        let pairs = [("title", text(&field.title)?), ("value", text(&field.value)?)];
        add_filled(&mut made, pairs);
        if let Some(short) = field.short {
            made.insert("short".to_owned(), short.into());
        }
        fields.push(Value::Object(made));
    }
    let title = message.text(&attachment.title)?;
    let title = if is_first { message.noted(title) } else { title };
    let body = shortened::in_chars(message.text(&attachment.text)?, MAX_TEXT_CHARS);
    Ok(filled([
        ("fallback", text(&attachment.fallback)?),
        ("color", text(&attachment.color)?),
        ("pretext", text(&attachment.pretext)?),
        ("text", body.into()),
        ("author_name", text(&attachment.author_name)?),
        ("author_link", text(&attachment.author_link)?),
        ("author_icon", text(&attachment.author_icon)?),
        ("title", title.into()),
        ("title_link", text(&attachment.title_link)?),
        ("fields", fields.into()),
        ("thumb_url", text(&attachment.thumb_url)?),
        ("footer", text(&attachment.footer)?),
        ("footer_icon", text(&attachment.footer_icon)?),
        ("image_url", text(&attachment.image_url)?),
    ]))
}

/// Only what is important may ask to be acknowledged, and only what is urgent may insist:
/// Mattermost refuses other combinations.
fn priority_of(message: &Message<'_>, settings: &MattermostPriority) -> Result<Value, Failure> {
    let priority = message.text(&settings.priority)?.to_lowercase();
    let priority = match priority.as_str() {
        "urgent" | "important" => priority,
        _ => "standard".to_owned(),
    };
    Ok(json!({
        "requested_ack": settings.requested_ack && priority != "standard",
        "persistent_notifications": settings.persistent_notifications && priority == "urgent",
        "priority": priority,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_peer::{NOW_NS, Peer, delivered, deliverer, failed, notification};

    #[tokio::test]
    async fn a_post_with_an_attachment() {
        let peer = Peer::start(|_, before| match before {
            0 | 1 => (200, "text/plain", "ok".to_owned()),
            _ => (400, "text/plain", "no hook token-1234".to_owned()),
        })
        .await;
        let keys = |more: &str| {
            format!(
                "mattermost_configs: [{{webhook_url: '{}', channel: ops{more}}}]",
                peer.url("/hooks/token-1234")
            )
        };
        let more = ", text: X, fields: [{title: T, value: V, short: true}], props: {card: C}, priority: \
                    {priority: Important, requested_ack: true, persistent_notifications: true}";
        let note = Some("[no majority]");
        let outcome =
            deliverer(&keys(more)).deliver_noted(&notification("mattermost"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        let link = "http://w.example/#/alerts?receiver=ops";
        assert_eq!(
            peer.request().json(),
            json!({
                "channel": "ops",
                "username": "Alertmanager",
                "attachments": [{
                    "fallback": format!("[FIRING:1] Down (critical) | {link}"),
                    "color": "danger",
                    "text": "X",
                    "title": "[no majority] [FIRING:1] Down (critical)",
                    "title_link": link,
                    "fields": [{"title": "T", "value": "V", "short": true}],
                }],
                "props": {"card": "C"},
                "priority": {
                    "priority": "important",
                    "requested_ack": true,
                    "persistent_notifications": false,
                },
            })
        );
        let own = ", attachments: [{text: '{{ printf \"%020000d\" 7 }}'}, {text: b}]";
        let own = deliverer(&keys(own));
        assert_eq!(own.deliver(&notification("mattermost"), NOW_NS).await, delivered());
        let body = peer.requests()[1].json();
        let text = body["attachments"][0]["text"].as_str().map(|text| text.chars().count());
        assert_eq!(text, Some(MAX_TEXT_CHARS));
        assert_eq!(body["attachments"][1], json!({"text": "b"}));
        let message = failed(own.deliver(&notification("mattermost"), NOW_NS).await);
        assert!(message.contains("channel \"ops\": unexpected status code 400: no hook <secret>"));
    }
}
