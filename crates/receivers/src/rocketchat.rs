//! Rocket.Chat. Source: Alertmanager, `notify/rocketchat/rocketchat.go`.

use async_trait::async_trait;
use http::{HeaderName, Method};
use net::client::SecretText;
use serde::Deserialize;
use serde_json::{Map, Value};
use settings::alertmanager::receivers::RocketChat as Settings;

use crate::courier::{Courier, excerpt, with_path};
use crate::filled::{add_filled, filled};
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::shortened;

/// Longest title.
const MAX_TITLE_CHARS: usize = 1_024;

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
const USER: HeaderName = HeaderName::from_static("x-user-id");

/// A channel of Rocket.Chat.
pub(crate) struct RocketChat {
    courier: Courier,
    token: Option<SecretText>,
    token_id: Option<SecretText>,
    settings: Settings,
}

#[derive(Deserialize)]
struct Answer {
    success: bool,
    #[serde(default)]
    error: String,
}

impl RocketChat {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        RocketChat {
            courier,
            token: secret_text(&settings.token),
            token_id: secret_text(&settings.token_id),
            settings: settings.clone(),
        }
    }

    fn body(&self, message: &Message<'_>, channel: &str) -> Result<Value, Failure> {
        let settings = &self.settings;
        let text = |template: &String| message.text(template).map(Value::from);
        let title = message.noted(message.text(&settings.title)?);
        let mut fields = Vec::with_capacity(settings.fields.len());
        for field in &settings.fields {
            let mut made = Map::new();
            made.insert("short".to_owned(), field.short.unwrap_or(settings.short_fields).into());
            let pairs = [("title", text(&field.title)?), ("value", text(&field.value)?)];
            add_filled(&mut made, pairs);
            fields.push(Value::Object(made));
        }
        let mut actions = Vec::with_capacity(settings.actions.len());
        for action in &settings.actions {
            // There are no others.
            actions.push(filled([
                ("type", "button".into()),
                ("text", text(&action.text)?),
                ("url", text(&action.url)?),
                ("msg", text(&action.msg)?),
            ]));
        }
        let attachment = filled([
            ("title", shortened::in_chars(title, MAX_TITLE_CHARS).into()),
            ("title_link", text(&settings.title_link)?),
            ("text", text(&settings.text)?),
            ("image_url", text(&settings.image_url)?),
            ("thumb_url", text(&settings.thumb_url)?),
            ("color", text(&settings.color)?),
            ("fields", fields.into()),
            ("actions", actions.into()),
        ]);
        Ok(filled([
            ("channel", channel.into()),
            ("emoji", text(&settings.emoji)?),
            ("avatar", text(&settings.icon_url)?),
            ("attachments", vec![attachment].into()),
        ]))
    }
}

#[async_trait]
impl Channel for RocketChat {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let (Some(url), Some(token), Some(token_id)) =
            (&self.settings.api_url, &self.token, &self.token_id)
        else {
            return Err(Failure::fatal("there is no token; add token_file and token_id_file"));
        };
        let channel = message.text(&self.settings.channel)?;
        let in_channel = |failure: Failure| failure.while_doing(&format!("channel {channel:?}"));
        let body = self.body(message, &channel)?.to_string();
        let (token, token_id) = (message.secret(token).await?, message.secret(token_id).await?);
        let slash = if url.reveal().split(['?', '#']).next().unwrap_or_default().ends_with('/') {
            ""
        } else {
            "/"
        };
        let url = with_path(url.reveal(), &format!("{slash}api/v1/chat.postMessage"));
        let headers = [(TOKEN, token.as_str()), (USER, token_id.as_str())];
        let method = Method::POST;
        let answer = self.courier.exchange(message, method, &url, &headers, body.into()).await?;
        answer.check(message, &[]).map_err(in_channel)?;
        let told: Answer = answer.json(message).map_err(in_channel)?;
        if told.success {
            return Ok(None);
        }
        let text = format!("Rocket.Chat answers {:?}", excerpt(message, &told.error));
        Err(in_channel(Failure::fatal(text)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::test_peer::{
        NOW_NS, Peer, delivered, deliverer, failed, json as said, notification,
    };

    #[tokio::test]
    async fn a_message_and_a_refusal() {
        let peer = Peer::start(|_, before| match before {
            0 => said(200, r#"{"success":true}"#),
            1 => said(200, r#"{"success":false,"error":"invalid-channel token-1234"}"#),
            _ => said(401, r#"{"status":"error"}"#),
        })
        .await;
        let keys = format!(
            "rocketchat_configs: [{{api_url: '{}', token: token-1234, token_id: user-12345, channel: \
             '#ops', text: X, color: red, title_link: L, fields: [{{title: T, value: V}}], actions: \
             [{{text: Go, url: 'http://u'}}]}}]",
            peer.url("/chat")
        );
        let deliverer = deliverer(&keys);
        let note = Some("[no majority]");
        let outcome = deliverer.deliver_noted(&notification("rocketchat"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        let request = peer.request();
        assert_eq!(request.path, "/chat/api/v1/chat.postMessage");
        let sent = (request.header("x-auth-token"), request.header("x-user-id"));
        assert_eq!(sent, ("token-1234", "user-12345"));
        assert_eq!(
            request.json(),
            json!({
                "channel": "#ops",
                "attachments": [{
                    "title": "[no majority] [FIRING:1] Down (critical)",
                    "title_link": "L",
                    "text": "X",
                    "color": "red",
                    "fields": [{"title": "T", "value": "V", "short": false}],
                    "actions": [{"type": "button", "text": "Go", "url": "http://u"}],
                }],
            })
        );
        let message = failed(deliverer.deliver(&notification("rocketchat"), NOW_NS).await);
        assert!(message.contains("\"invalid-channel <secret>\""), "{message}");
        failed(deliverer.deliver(&notification("rocketchat"), NOW_NS).await);
    }
}
