//! Pushover. Source: Alertmanager, `notify/pushover/pushover.go`; Pushover's manual.
//!
//! Alertmanager sends the fields, the keys among them, in the URL. Here they are the body, as the
//! manual shows it: URLs end up in the logs of proxies.

use async_trait::async_trait;
use form_urlencoded::Serializer;
use http::Method;
use http::header::CONTENT_TYPE;
use net::client::SecretText;
use settings::alertmanager::receivers::Pushover as Settings;

use crate::courier::Courier;
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::shortened;

const API_URL: &str = "https://api.pushover.net/1/messages.json";

/// Longest title, message and link, as the manual has them.
const MAX_TITLE_CHARS: usize = 250;
const MAX_MESSAGE_CHARS: usize = 1_024;
const MAX_URL_CHARS: usize = 512;

/// What is told instead of nothing, which Pushover refuses.
const NOTHING: &str = "(no details)";

/// A user of Pushover.
pub(crate) struct Pushover {
    courier: Courier,
    api_url: String,
    token: Option<SecretText>,
    user: Option<SecretText>,
    settings: Settings,
}

impl Pushover {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        Pushover {
            courier,
            api_url: API_URL.to_owned(),
            token: secret_text(&settings.token),
            user: secret_text(&settings.user_key),
            settings: settings.clone(),
        }
    }

    async fn key(
        &self,
        message: &Message<'_>,
        key: Option<&SecretText>,
        name: &str,
    ) -> Result<String, Failure> {
        let Some(key) = key else {
            return Err(Failure::fatal(format!("there is no {name}; add {name}_file")));
        };
        let key = message.secret(key).await?;
        let key = message.text(&key)?;
        message.conceal(&key);
        Ok(key)
    }
}

#[async_trait]
impl Channel for Pushover {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let settings = &self.settings;
        let text = |template: &String| message.text(template);
        let token = self.key(message, self.token.as_ref(), "token").await?;
        let user = self.key(message, self.user.as_ref(), "user_key").await?;
        let told = match settings.html {
            true => message.html(&settings.message)?,
            false => text(&settings.message)?,
        };
        let told = shortened::in_chars(told, MAX_MESSAGE_CHARS);
        let told = Some(told.trim()).filter(|told| !told.is_empty()).unwrap_or(NOTHING);
        let title = message.noted(text(&settings.title)?);
        let seconds = |duration: std::time::Duration| duration.as_secs().to_string();
        let mut fields = vec![
            ("token", token),
            ("user", user),
            ("title", shortened::in_chars(title, MAX_TITLE_CHARS)),
            ("message", told.to_owned()),
            ("url", shortened::in_chars(text(&settings.url)?, MAX_URL_CHARS)),
            ("url_title", text(&settings.url_title)?),
            ("priority", text(&settings.priority)?),
            ("retry", seconds(settings.retry)),
            ("expire", seconds(settings.expire)),
            ("device", text(&settings.device)?),
            ("sound", text(&settings.sound)?),
        ];
        for (name, is_set) in [("html", settings.html), ("monospace", settings.monospace)] {
            if is_set {
                fields.push((name, "1".to_owned()));
            }
        }
        if settings.ttl.as_secs() > 0 {
            fields.push(("ttl", seconds(settings.ttl)));
        }
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        let headers = [(CONTENT_TYPE, "application/x-www-form-urlencoded")];
        let (method, url) = (Method::POST, &self.api_url);
        let answer = self.courier.exchange(message, method, url, &headers, body.into()).await?;
        answer.check(message, &[])?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settings::alertmanager::IntegrationSettings;

    use super::*;
    use crate::test_peer::{
        Peer, Seen, config, courier, delivered, failed, json as said, notification, send,
    };

    fn pushover(peer: &Peer, more: &str) -> Pushover {
        let keys = format!("pushover_configs: [{{user_key: user-12345, token: token-1234{more}}}]");
        let config = config(&keys);
        let integration = &config.receivers[0].integrations[0];
        let IntegrationSettings::Pushover(settings) = &integration.settings else {
            panic!("pushover")
        };
        Pushover { api_url: peer.url("/1/messages.json"), ..Pushover::new(settings, courier()) }
    }

    #[tokio::test]
    async fn a_message_is_a_form() {
        let peer = Peer::saying(said(200, r#"{"status":1}"#)).await;
        let more = ", title: T, message: '<b>{{ .CommonAnnotations.summary }}</b>', html: true, ttl: 1h, \
                    device: d";
        assert_eq!(send(&pushover(&peer, more), &notification("pushover")).await, delivered());
        let request = peer.request();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/1/messages.json"));
        assert_eq!(request.header("content-type"), "application/x-www-form-urlencoded");
        let fields: BTreeMap<String, String> = Seen::pairs(request.text()).into_iter().collect();
        let wanted = [
            ("device", "d"),
            ("expire", "3600"),
            ("html", "1"),
            ("message", "<b>it &lt;is&gt; down</b>"),
            ("priority", "2"),
            ("retry", "60"),
            ("sound", ""),
            ("title", "T"),
            ("token", "token-1234"),
            ("ttl", "3600"),
            ("url", "http://w.example/#/alerts?receiver=ops"),
            ("url_title", ""),
            ("user", "user-12345"),
        ];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields, BTreeMap::from(wanted));
    }

    #[tokio::test]
    async fn limits_and_refusals() {
        let peer = Peer::saying(said(400, r#"{"errors":["token-1234 is invalid"]}"#)).await;
        let more = ", message: ' ', title: '{{ printf \"%0300d\" 7 }}'";
        let message = failed(send(&pushover(&peer, more), &notification("pushover")).await);
        assert!(message.contains("400") && !message.contains("token-1234"), "{message}");
        let fields: BTreeMap<String, String> =
            Seen::pairs(peer.request().text()).into_iter().collect();
        assert_eq!(fields["message"], NOTHING);
        assert_eq!(fields["title"].chars().count(), MAX_TITLE_CHARS);
    }
}
