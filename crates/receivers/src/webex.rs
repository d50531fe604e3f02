//! Webex. Source: Alertmanager, `notify/webex/webex.go`.

use async_trait::async_trait;
use serde_json::Value;
use settings::alertmanager::receivers::Webex as Settings;

use crate::courier::Courier;
use crate::filled::filled;
use crate::message::{Channel, Failure, Kept, Message};
use crate::shortened;

/// Longest message in bytes.
const MAX_MESSAGE_BYTES: usize = 7_439;

/// A room of Webex.
pub(crate) struct Webex {
    courier: Courier,
    settings: Settings,
}

impl Webex {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        Webex { courier, settings: settings.clone() }
    }
}

#[async_trait]
impl Channel for Webex {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let Some(url) = &self.settings.api_url else {
            return Err(Failure::fatal("there is no api_url; add api_url"));
        };
        let text = message.noted(message.text(&self.settings.message)?);
        let text = shortened::in_bytes(text, MAX_MESSAGE_BYTES);
        let room: Value = message.text(&self.settings.room_id)?.into();
        let body = filled([("markdown", text.into()), ("roomId", room)]).to_string();
        self.courier.post_json(message, url.reveal(), body).await?.check(message, &[])?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_peer::{
        NOW_NS, Peer, delivered, deliverer, failed, json as said, notification,
    };

    #[tokio::test]
    async fn a_message_and_a_refusal() {
        let peer = Peer::start(|_, before| match before {
            0 | 1 => said(200, "{}"),
            _ => said(401, r#"{"message":"bearer-1234 is wrong"}"#),
        })
        .await;
        let keys = |text: &str| {
            format!(
                "webex_configs: [{{api_url: '{}', room_id: '{{{{ .Receiver }}}}', message: '{text}', \
                 http_config: {{authorization: {{credentials: bearer-1234}}}}}}]",
                peer.url("/v1/messages")
            )
        };
        let note = Some("[no majority]");
        let outcome =
            deliverer(&keys("M")).deliver_noted(&notification("webex"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        let long = deliverer(&keys("{{ printf \"%08000d\" 7 }}"));
        assert_eq!(long.deliver(&notification("webex"), NOW_NS).await, delivered());
        let requests = peer.requests();
        assert_eq!(requests[0].header("authorization"), "Bearer bearer-1234");
        assert_eq!(requests[0].json(), json!({"markdown": "[no majority] M", "roomId": "ops"}));
        let text = requests[1].json()["markdown"].as_str().map(str::len);
        assert_eq!(text, Some(MAX_MESSAGE_BYTES));
        let message = failed(long.deliver(&notification("webex"), NOW_NS).await);
        assert!(message.contains("401: {\"message\":\"<secret> is wrong\"}"), "{message}");
    }
}
