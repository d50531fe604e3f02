//! PagerDuty's events, version 2 and 1. Source: Alertmanager, `notify/pagerduty/pagerduty.go`.

use async_trait::async_trait;
use net::client::SecretText;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use settings::alertmanager::receivers::PagerDuty as Settings;

use crate::courier::{Answer, Courier, excerpt, origin};
use crate::filled::{add_filled, filled};
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::{shortened, structured};

/// Largest event in bytes.
const MAX_EVENT_BYTES: usize = 512_000;

/// Longest summary.
const MAX_SUMMARY_CHARS: usize = 1_024;

/// Where version 1 is, at the host of version 2.
const V1_PATH: &str = "/generic/2010-04-15/create_event.json";

/// A service of PagerDuty.
pub(crate) struct PagerDuty {
    courier: Courier,
    service_key: Option<SecretText>,
    routing_key: Option<SecretText>,
    settings: Settings,
}

/// What status 400 says.
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<String>,
}

impl PagerDuty {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        PagerDuty {
            courier,
            service_key: secret_text(&settings.service_key),
            routing_key: secret_text(&settings.routing_key),
            settings: settings.clone(),
        }
    }

    /// The key, once its template is expanded.
    async fn key(&self, message: &Message<'_>, key: &SecretText) -> Result<String, Failure> {
        let key = message.secret(key).await?;
        let key = message.text(&key)?;
        if key.is_empty() {
            return Err(Failure::fatal("the key is empty once its template is expanded"));
        }
        message.conceal(&key);
        Ok(key)
    }

    fn event_v1(&self, message: &Message<'_>, key: &str, details: Value) -> Result<Value, Failure> {
        let settings = &self.settings;
        let text = |template: &String| message.text(template).map(Value::from);
        let description = message.noted(message.text(&settings.description)?);
        let event_type = if message.fires() { "trigger" } else { "resolve" };
        let mut event = Map::new();
        add_filled(
            &mut event,
            [
                ("service_key", key.into()),
                ("event_type", event_type.into()),
                ("incident_key", message.key_hash().into()),
                ("description", shortened::in_chars(description, MAX_SUMMARY_CHARS).into()),
                ("details", details),
            ],
        );
        if message.fires() {
            let client =
                [("client", text(&settings.client)?), ("client_url", text(&settings.client_url)?)];
            add_filled(&mut event, client);
        }
        Ok(Value::Object(event))
    }

    fn event_v2(&self, message: &Message<'_>, key: &str, details: Value) -> Result<Value, Failure> {
        let settings = &self.settings;
        let text = |template: &String| message.text(template);
        let mut images = Vec::new();
        for image in &settings.images {
            let (src, alt, href) = (text(&image.src)?, text(&image.alt)?, text(&image.href)?);
            if !src.is_empty() {
                images.push(json!({"src": src, "alt": alt, "href": href}));
            }
        }
        let mut links = Vec::new();
        for link in &settings.links {
            let (href, shown) = (text(&link.href)?, text(&link.text)?);
            if !href.is_empty() {
                links.push(json!({"href": href, "text": shown}));
            }
        }
        let summary = message.noted(text(&settings.description)?);
        let severity = match settings.severity.is_empty() {
            true => "error".to_owned(),
            false => text(&settings.severity)?,
        };
        let mut payload = Map::new();
        let summary = shortened::in_chars(summary, MAX_SUMMARY_CHARS);
        payload.insert("summary".to_owned(), summary.into());
        payload.insert("source".to_owned(), text(&settings.source)?.into());
        payload.insert("severity".to_owned(), severity.into());
        add_filled(
            &mut payload,
            [
                ("class", text(&settings.class)?.into()),
                ("component", text(&settings.component)?.into()),
                ("group", text(&settings.group)?.into()),
                ("custom_details", details),
            ],
        );
        Ok(filled([
            ("routing_key", key.into()),
            ("dedup_key", message.key_hash().into()),
            ("event_action", if message.fires() { "trigger" } else { "resolve" }.into()),
            ("payload", Value::Object(payload)),
            ("client", text(&settings.client)?.into()),
            ("client_url", text(&settings.client_url)?.into()),
            ("images", images.into()),
            ("links", links.into()),
        ]))
    }

    fn details(&self, message: &Message<'_>) -> Result<Value, Failure> {
        let mut details = Map::new();
        for (name, value) in &self.settings.details {
            let value = structured::expanded(value, &mut |text| message.text(text));
            let value =
                value.map_err(|failure| failure.while_doing(&format!("details {name:?}")))?;
            details.insert(name.clone(), value);
        }
        Ok(Value::Object(details))
    }
}

#[async_trait]
impl Channel for PagerDuty {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let url = self.settings.url.as_ref().map(|url| url.reveal());
        let url = url.ok_or_else(|| Failure::fatal("there is no url; add url"))?;
        // Too many events are told by another status in each version.
        let (key, url, retried) = match (&self.service_key, &self.routing_key) {
            (Some(key), _) => (key, format!("{}{V1_PATH}", origin(url)), 403),
            (None, Some(key)) => (key, url.to_owned(), 429),
            (None, None) => return Err(Failure::fatal("there is no key; add routing_key_file")),
        };
        let key = self.key(message, key).await?;
        let event = |details| match self.service_key {
            Some(_) => self.event_v1(message, &key, details),
            None => self.event_v2(message, &key, details),
        };
        let mut body = event(self.details(message)?)?.to_string();
        if body.len() > MAX_EVENT_BYTES {
            let instead = json!({
                "error": "Custom details have been removed because the original event exceeds the \
                          maximum size of 512KB",
            });
            body = event(instead)?.to_string();
        }
        let answer = self.courier.post_json(message, &url, body).await?;
        if answer.status / 100 == 2 {
            return Ok(None);
        }
        Err(answer.failure(message, &[retried], &reason(message, &answer)))
    }
}

/// What status 400 says in words; of others the beginning of the answer.
fn reason(message: &Message<'_>, answer: &Answer) -> String {
    let refusal = answer.json::<Refusal>(message).ok().filter(|_| answer.status == 400);
    match refusal {
        Some(Refusal { message: text, errors }) => {
            excerpt(message, &format!("{text}: {}", errors.join(",")))
        }
        None => answer.excerpt(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_peer::{
        KEY_HASH, NOW_NS, Peer, delivered, deliverer, failed, json as said, notification, resolved,
        retried,
    };

    fn keys(peer: &Peer, more: &str) -> String {
        format!("pagerduty_configs: [{{url: '{}'{more}}}]", peer.url("/v2/enqueue"))
    }

    #[tokio::test]
    async fn an_event_of_version_2() {
        let peer = Peer::saying(said(202, r#"{"status":"success"}"#)).await;
        let more = ", routing_key: routing-1234, severity: '{{ .CommonLabels.severity }}', images: \
                    [{src: s, alt: a}, {alt: none}], links: [{href: h, text: t}], group: g, details: \
                    {firing: 'x', custom: {n: '{{ len .Alerts }}'}}";
        let deliverer = deliverer(&keys(&peer, more));
        let note = Some("[no majority]");
        let outcome = deliverer.deliver_noted(&notification("pagerduty"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        assert_eq!(deliverer.deliver(&resolved("pagerduty"), NOW_NS).await, delivered());
        let requests = peer.requests();
        assert_eq!(requests[0].path, "/v2/enqueue");
        let body = requests[0].json();
        let ended = &body["payload"]["custom_details"]["resolved"][0]["labels"]["instance"];
        assert_eq!(ended, "b");
        let mut body = body.clone();
        body["payload"]["custom_details"]["resolved"] = Value::Null;
        assert_eq!(
            body,
            json!({
                "routing_key": "routing-1234",
                "dedup_key": KEY_HASH,
                "event_action": "trigger",
                "client": "Alertmanager",
                "client_url": "http://w.example/#/alerts?receiver=ops",
                "images": [{"src": "s", "alt": "a", "href": ""}],
                "links": [{"href": "h", "text": "t"}],
                "payload": {
                    "summary": "[no majority] [FIRING:1] Down (critical)",
                    "source": "Alertmanager",
                    "severity": "critical",
                    "group": "g",
                    "custom_details": {
                        "firing": "x",
                        "resolved": null,
                        "num_firing": 1,
                        "num_resolved": 1,
                        "custom": {"n": 2},
                    },
                },
            })
        );
        assert_eq!(requests[1].json()["event_action"], "resolve");
    }

    #[tokio::test]
    async fn an_event_of_version_1() {
        let peer = Peer::saying(said(200, "{}")).await;
        let deliverer = deliverer(&keys(&peer, ", service_key: service-1234"));
        assert_eq!(deliverer.deliver(&notification("pagerduty"), NOW_NS).await, delivered());
        assert_eq!(deliverer.deliver(&resolved("pagerduty"), NOW_NS).await, delivered());
        let requests = peer.requests();
        assert_eq!(requests[0].path, V1_PATH);
        let body = requests[0].json();
        assert_eq!(body["service_key"], "service-1234");
        assert_eq!(body["event_type"], "trigger");
        assert_eq!(body["incident_key"], KEY_HASH);
        assert_eq!(body["client"], "Alertmanager");
        assert_eq!(requests[1].json()["event_type"], "resolve");
        assert_eq!(requests[1].json().get("client"), None);
    }

    #[tokio::test]
    async fn refusals() {
        let refusal = r#"{"status":"invalid event","message":"Event object is invalid","errors":["bad routing-1234","b"]}"#;
        let peer = Peer::start(move |_, before| match before {
            0 => said(400, refusal),
            1 => said(429, ""),
            _ => said(403, "Forbidden"),
        })
        .await;
        let of_v2 = deliverer(&keys(&peer, ", routing_key: routing-1234"));
        assert_eq!(
            failed(of_v2.deliver(&notification("pagerduty"), NOW_NS).await),
            "ops/pagerduty[0]: unexpected status code 400: Event object is invalid: bad <secret>,b"
        );
        retried(of_v2.deliver(&notification("pagerduty"), NOW_NS).await);
        failed(of_v2.deliver(&notification("pagerduty"), NOW_NS).await);
        let of_v1 = deliverer(&keys(&peer, ", service_key: service-1234"));
        retried(of_v1.deliver(&notification("pagerduty"), NOW_NS).await);
    }

    #[tokio::test]
    async fn an_event_that_is_too_large_loses_its_details() {
        let peer = Peer::saying(said(202, "{}")).await;
        let more = ", routing_key: routing-1234, details: {long: '{{ printf \"%0600000d\" 7 }}x'}";
        let deliverer = deliverer(&keys(&peer, more));
        assert_eq!(deliverer.deliver(&notification("pagerduty"), NOW_NS).await, delivered());
        let details = peer.request().json()["payload"]["custom_details"].clone();
        assert_eq!(details.as_object().map(Map::len), Some(1));
        assert!(details["error"].as_str().is_some_and(|text| text.contains("512KB")));
    }
}
