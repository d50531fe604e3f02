//! incident.io. Source: Alertmanager, `notify/incidentio/incidentio.go`.

use async_trait::async_trait;
use http::Method;
use http::header::AUTHORIZATION;
use net::client::SecretText;
use serde::Deserialize;
use settings::alertmanager::receivers::IncidentIo as Settings;

use crate::courier::{Answer, Courier, excerpt};
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::standard_message;

/// Largest message in bytes.
const MAX_BYTES: usize = 512 << 10;

/// A source of alerts at incident.io.
pub(crate) struct IncidentIo {
    courier: Courier,
    url: Option<SecretText>,
    token: Option<SecretText>,
    settings: Settings,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    errors: Vec<String>,
}

impl IncidentIo {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        let (url, token) = (secret_text(&settings.url), secret_text(&settings.alert_source_token));
        IncidentIo { courier, url, token, settings: settings.clone() }
    }

    /// The message; of the first alert only if it would be too large with all of them.
    fn body(&self, message: &Message<'_>) -> Result<String, Failure> {
        let (mut data, truncated) = message.first_alerts(self.settings.max_alerts);
        let body = standard_message::write(message, &data, "1", truncated)?;
        if body.len() <= MAX_BYTES {
            return Ok(body);
        }
        data.alerts.truncate(1);
        let body = standard_message::write(message, &data, "1", truncated)?;
        if body.len() > MAX_BYTES {
            return Err(Failure::fatal(format!(
                "one alert has {} bytes, and incident.io takes {MAX_BYTES}; shorten its labels and \
                 annotations",
                body.len()
            )));
        }
        Ok(body)
    }
}

#[async_trait]
impl Channel for IncidentIo {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let Some(url) = &self.url else {
            return Err(Failure::fatal("there is no url; add url or url_file"));
        };
        let body = self.body(message)?;
        let url = message.secret_url(url).await?;
        let authorization = match &self.token {
            Some(token) => Some(format!("Bearer {}", message.secret(token).await?)),
            None => None,
        };
        let headers = authorization.iter().map(|value| (AUTHORIZATION, value.as_str()));
        let headers: Vec<_> = headers.collect();
        let method = Method::POST;
        let answer = self.courier.exchange(message, method, &url, &headers, body.into()).await?;
        if answer.status / 100 == 2 {
            return Ok(None);
        }
        Err(answer.failure(message, &[429], &reason(message, &answer)))
    }
}

fn reason(message: &Message<'_>, answer: &Answer) -> String {
    let Ok(Refusal { message: text, error, errors }) = answer.json::<Refusal>(message) else {
        return answer.excerpt(message);
    };
    let parts = [text, error, errors.join(", ")];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    excerpt(message, &parts.join(": "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::test_peer::{
        NOW_NS, Peer, alert, delivered, deliverer, failed, json as said, notification, retried,
    };

    fn keys(peer: &Peer, more: &str) -> String {
        format!(
            "incidentio_configs: [{{url: '{}', alert_source_token: token-1234{more}}}]",
            peer.url("/v2/alert_events/alertmanager/x")
        )
    }

    #[tokio::test]
    async fn the_standard_message_with_a_token() {
        let peer = Peer::start(|_, before| match before {
            0 => said(202, "{}"),
            1 => said(429, ""),
            _ => said(422, r#"{"message":"bad","errors":["token-1234","b"]}"#),
        })
        .await;
        let deliverer = deliverer(&keys(&peer, ", max_alerts: 1"));
        let note = Some("[no majority]");
        let outcome = deliverer.deliver_noted(&notification("incidentio"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        let request = peer.request();
        assert_eq!(request.header("authorization"), "Bearer token-1234");
        let body = request.json();
        assert_eq!(
            (&body["version"], &body["truncatedAlerts"], &body["note"]),
            (&"1".into(), &1.into(), &"[no majority]".into())
        );
        retried(deliverer.deliver(&notification("incidentio"), NOW_NS).await);
        let message = failed(deliverer.deliver(&notification("incidentio"), NOW_NS).await);
        assert!(message.ends_with("422: bad: <secret>, b"), "{message}");
    }

    #[tokio::test]
    async fn of_too_many_alerts_the_first_is_told() {
        let peer = Peer::saying(said(202, "{}")).await;
        let alerts = ["a", "b"]
            .map(|name| alert(&[("alertname", name), ("long", &name.repeat(300 << 10))], false));
        let mut large = notification("incidentio");
        large.alerts = Arc::from(alerts);
        assert_eq!(deliverer(&keys(&peer, "")).deliver(&large, NOW_NS).await, delivered());
        assert_eq!(peer.request().json()["alerts"].as_array().map(Vec::len), Some(1));
        let long = "x".repeat(600 << 10);
        large.alerts = Arc::from([alert(&[("alertname", "a"), ("long", &long)], false)]);
        let message = failed(deliverer(&keys(&peer, "")).deliver(&large, NOW_NS).await);
        assert!(message.contains("524288"), "{message}");
    }
}
