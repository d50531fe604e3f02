//! Discord's webhooks. Source: Alertmanager, `notify/discord/discord.go`.

use async_trait::async_trait;
use net::client::SecretText;
use serde_json::{Map, Value, json};
use settings::HttpUrl;
use settings::alertmanager::receivers::Discord as Settings;

use crate::courier::Courier;
use crate::filled::add_filled;
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::shortened;

/// Longest title, text, and text of the message itself, as Discord's manual has them.
const MAX_TITLE_CHARS: usize = 256;
const MAX_DESCRIPTION_CHARS: usize = 4_096;
const MAX_CONTENT_CHARS: usize = 2_000;

const RED: u32 = 0x0099_2d22;
const GREEN: u32 = 0x002e_cc71;

/// A webhook of Discord.
pub(crate) struct Discord {
    courier: Courier,
    url: Option<SecretText>,
    settings: Settings,
}

impl Discord {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        Discord { courier, url: secret_text(&settings.webhook_url), settings: settings.clone() }
    }
}

#[async_trait]
impl Channel for Discord {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let settings = &self.settings;
        let Some(url) = &self.url else {
            return Err(Failure::fatal("there is no webhook_url; add webhook_url_file"));
        };
        let title = message.noted(message.text(&settings.title)?);
        let description = message.text(&settings.message)?;
        let content = message.text(&settings.content)?;
        let mut body = Map::new();
        body.insert("content".to_owned(), shortened::in_chars(content, MAX_CONTENT_CHARS).into());
        let embed = json!({
            "title": shortened::in_chars(title, MAX_TITLE_CHARS),
            "description": shortened::in_chars(description, MAX_DESCRIPTION_CHARS),
            "color": if message.fires() { RED } else { GREEN },
        });
        body.insert("embeds".to_owned(), json!([embed]));
        let avatar = Some(settings.avatar_url.as_str()).filter(|url| HttpUrl::parse(url).is_ok());
        let named = [
            ("username", settings.username.as_str().into()),
            ("avatar_url", avatar.unwrap_or_default().into()),
        ];
        add_filled(&mut body, named);
        let url = message.secret_url(url).await?;
        let body = Value::Object(body).to_string();
        self.courier.post_json(message, &url, body).await?.check(message, &[])?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_peer::{
        NOW_NS, Peer, delivered, deliverer, failed, json as said, notification, resolved,
    };

    #[tokio::test]
    async fn an_embed() {
        let peer = Peer::start(|_, before| match before {
            0 | 1 => said(204, ""),
            _ => said(401, r#"{"message":"Invalid Webhook Token token-1234"}"#),
        })
        .await;
        let url = peer.url("/api/webhooks/7/token-1234");
        let keys = format!(
            "discord_configs: [{{webhook_url: '{url}', message: '{{{{ printf \"%05000d\" 7 }}}}', \
             content: hey, username: W, avatar_url: 'http://a/b.png'}}]"
        );
        let deliverer = deliverer(&keys);
        let note = Some("[no majority]");
        let outcome = deliverer.deliver_noted(&notification("discord"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        assert_eq!(deliverer.deliver(&resolved("discord"), NOW_NS).await, delivered());
        let requests = peer.requests();
        assert_eq!(requests[0].path, "/api/webhooks/7/token-1234");
        let mut body = requests[0].json();
        let text = body["embeds"][0]["description"].as_str().map(|text| text.chars().count());
        assert_eq!(text, Some(MAX_DESCRIPTION_CHARS));
        body["embeds"][0]["description"] = "D".into();
        assert_eq!(
            body,
            json!({
                "content": "hey",
                "username": "W",
                "avatar_url": "http://a/b.png",
                "embeds": [{
                    "title": "[no majority] [FIRING:1] Down (critical)",
                    "description": "D",
                    "color": 10_038_562,
                }],
            })
        );
        assert_eq!(requests[1].json()["embeds"][0]["color"], 3_066_993);
        let message = failed(deliverer.deliver(&notification("discord"), NOW_NS).await);
        assert!(message.contains("401") && !message.contains("token-1234"), "{message}");
    }
}
