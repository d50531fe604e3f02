//! VictorOps (Splunk On-Call). Source: Alertmanager, `notify/victorops/victorops.go`.

use async_trait::async_trait;
use net::client::SecretText;
use serde_json::{Map, Value};
use settings::alertmanager::receivers::VictorOps as Settings;

use crate::courier::{Courier, path_segment, with_path};
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::shortened;

/// Longest message.
const MAX_MESSAGE_CHARS: usize = 20_480;

/// How bad a message may be that tells of what fires.
const FIRING_TYPES: [&str; 3] = ["INFO", "WARNING", "CRITICAL"];

/// A team of VictorOps.
pub(crate) struct VictorOps {
    courier: Courier,
    key: Option<SecretText>,
    settings: Settings,
}

impl VictorOps {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        VictorOps { courier, key: secret_text(&settings.api_key), settings: settings.clone() }
    }
}

#[async_trait]
impl Channel for VictorOps {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let settings = &self.settings;
        let (Some(url), Some(key)) = (&settings.api_url, &self.key) else {
            return Err(Failure::fatal("there is no api_key; add api_key_file"));
        };
        let text = |template: &String| message.text(template);
        let mut kind = text(&settings.message_type)?;
        if !message.fires() {
            kind = "RECOVERY".to_owned();
        } else if !FIRING_TYPES.contains(&kind.as_str()) {
            kind = "CRITICAL".to_owned();
        }
        let state = shortened::in_chars(text(&settings.state_message)?, MAX_MESSAGE_CHARS);
        let name = message.noted(text(&settings.entity_display_name)?);
        let mut body = Map::new();
        for (field, value) in [
            ("message_type", kind),
            ("entity_id", message.key_hash()),
            ("entity_display_name", name),
            ("state_message", state),
            ("monitoring_tool", text(&settings.monitoring_tool)?),
        ] {
            body.insert(field.to_owned(), value.into());
        }
        for (field, template) in &settings.custom_fields {
            body.insert(field.clone(), text(template)?.into());
        }
        let routing_key = text(&settings.routing_key)?;
        let key = message.secret(key).await?;
        let path = format!("{}/{}", path_segment(&key), path_segment(&routing_key));
        let url = with_path(url.reveal(), &path);
        message.conceal_url(&url);
        let body = Value::Object(body).to_string();
        self.courier.post_json(message, &url, body).await?.check(message, &[])?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::test_peer::{
        KEY_HASH, NOW_NS, Peer, delivered, deliverer, failed, json as said, notification, resolved,
    };

    #[tokio::test]
    async fn an_event() {
        let peer = Peer::start(|_, before| match before {
            0 | 1 => said(200, "{}"),
            _ => said(404, "no key-12345"),
        })
        .await;
        let keys = format!(
            "victorops_configs: [{{api_url: '{}', api_key: key-12345, routing_key: '{{{{ .Receiver \
             }}}} a', message_type: '{{{{ .Status }}}}', state_message: S, custom_fields: {{f: '{{{{ \
             .Status }}}}'}}}}]",
            peer.url("/alert")
        );
        let deliverer = deliverer(&keys);
        let note = Some("[no majority]");
        let outcome = deliverer.deliver_noted(&notification("victorops"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        assert_eq!(deliverer.deliver(&resolved("victorops"), NOW_NS).await, delivered());
        let requests = peer.requests();
        assert_eq!(requests[0].path, "/alert/key-12345/ops%20a");
        assert_eq!(
            requests[0].json(),
            json!({
                "message_type": "CRITICAL",
                "entity_id": KEY_HASH,
                "entity_display_name": "[no majority] [FIRING:1] Down (critical)",
                "state_message": "S",
                "monitoring_tool": "Alertmanager",
                "f": "firing",
            })
        );
        assert_eq!(requests[1].json()["message_type"], "RECOVERY");
        let message = failed(deliverer.deliver(&notification("victorops"), NOW_NS).await);
        assert!(message.contains("404: no <secret>"), "{message}");
    }
}
