//! Microsoft Teams, by connectors and by workflows. Source: Alertmanager,
//! `notify/msteams/msteams.go`, `notify/msteamsv2/msteamsv2.go`.

use async_trait::async_trait;
use net::client::SecretText;
use serde_json::json;
use settings::alertmanager::receivers::{MsTeams as Settings, MsTeamsV2 as SettingsV2};

use crate::courier::Courier;
use crate::message::{Channel, Failure, Kept, Message, secret_text};

/// A connector of Teams.
pub(crate) struct MsTeams {
    courier: Courier,
    url: Option<SecretText>,
    settings: Settings,
}

/// A workflow of Teams.
pub(crate) struct MsTeamsV2 {
    courier: Courier,
    url: Option<SecretText>,
    settings: SettingsV2,
}

impl MsTeams {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        MsTeams { courier, url: secret_text(&settings.webhook_url), settings: settings.clone() }
    }
}

impl MsTeamsV2 {
    pub(crate) fn new(settings: &SettingsV2, courier: Courier) -> Self {
        MsTeamsV2 { courier, url: secret_text(&settings.webhook_url), settings: settings.clone() }
    }
}

async fn url(message: &Message<'_>, url: Option<&SecretText>) -> Result<String, Failure> {
    match url {
        Some(url) => message.secret_url(url).await,
        None => Err(Failure::fatal("there is no webhook_url; add webhook_url_file")),
    }
}

#[async_trait]
impl Channel for MsTeams {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let settings = &self.settings;
        let body = json!({
            "@context": "http://schema.org/extensions",
            "@type": "MessageCard",
            "title": message.noted(message.text(&settings.title)?),
            "summary": message.noted(message.text(&settings.summary)?),
            "text": message.text(&settings.text)?,
            "themeColor": if message.fires() { "8C1A1A" } else { "2DC72D" },
        });
        let url = url(message, self.url.as_ref()).await?;
        let answer = self.courier.post_json(message, &url, body.to_string()).await?;
        answer.check(message, &[])?;
        Ok(None)
    }
}

#[async_trait]
impl Channel for MsTeamsV2 {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let settings = &self.settings;
        let title = json!({
            "type": "TextBlock",
            "text": message.noted(message.text(&settings.title)?),
            "weight": "Bolder",
            "size": "Medium",
            "wrap": true,
            "style": "heading",
            "color": if message.fires() { "Attention" } else { "Good" },
        });
        let text =
            json!({"type": "TextBlock", "text": message.text(&settings.text)?, "wrap": true});
        let body = json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.2",
                    "body": [title, text],
                    "msteams": {"width": "full"},
                },
            }],
        });
        let url = url(message, self.url.as_ref()).await?;
        let answer = self.courier.post_json(message, &url, body.to_string()).await?;
        answer.check(message, &[])?;
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
    async fn a_card_of_a_connector() {
        let peer = Peer::saying((200, "text/plain", "1".to_owned())).await;
        let url = peer.url("/webhookb2/token-1234");
        let deliverer = deliverer(&format!("msteams_configs: [{{webhook_url: '{url}', text: X}}]"));
        let note = Some("[no majority]");
        let outcome = deliverer.deliver_noted(&notification("msteams"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        assert_eq!(deliverer.deliver(&resolved("msteams"), NOW_NS).await, delivered());
        let requests = peer.requests();
        assert_eq!(requests[0].path, "/webhookb2/token-1234");
        let title = "[no majority] [FIRING:1] Down (critical)";
        assert_eq!(
            requests[0].json(),
            json!({
                "@context": "http://schema.org/extensions",
                "@type": "MessageCard",
                "title": title,
                "summary": title,
                "text": "X",
                "themeColor": "8C1A1A",
            })
        );
        assert_eq!(requests[1].json()["themeColor"], "2DC72D");
    }

    #[tokio::test]
    async fn a_card_of_a_workflow() {
        let peer = Peer::start(|_, before| match before {
            0 => said(202, ""),
            _ => said(400, r#"{"error":{"message":"sig=signature-1234 is wrong"}}"#),
        })
        .await;
        let url = peer.url("/workflows/x?sig=signature-1234");
        let keys = format!("msteamsv2_configs: [{{webhook_url: '{url}', title: T, text: X}}]");
        let deliverer = deliverer(&keys);
        assert_eq!(deliverer.deliver(&notification("msteamsv2"), NOW_NS).await, delivered());
        let body = peer.request().json();
        let card = &body["attachments"][0]["content"];
        assert_eq!(card["body"][0]["text"], "T");
        assert_eq!(card["body"][0]["color"], "Attention");
        assert_eq!(card["body"][1], json!({"type": "TextBlock", "text": "X", "wrap": true}));
        assert_eq!(card["msteams"], json!({"width": "full"}));
        let message = failed(deliverer.deliver(&notification("msteamsv2"), NOW_NS).await);
        assert!(message.contains("sig=<secret> is wrong"), "{message}");
    }
}
