//! Opsgenie's alerts. Source: Alertmanager, `notify/opsgenie/opsgenie.go`.

use async_trait::async_trait;
use http::Method;
use http::header::AUTHORIZATION;
use net::client::SecretText;
use serde_json::{Map, Value, json};
use settings::alertmanager::receivers::OpsGenie as Settings;

use crate::courier::{Courier, with_path, with_query};
use crate::filled::{add_filled, filled};
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::shortened;

/// Longest message.
const MAX_MESSAGE_CHARS: usize = 130;

/// An account of Opsgenie.
pub(crate) struct OpsGenie {
    courier: Courier,
    key: Option<SecretText>,
    settings: Settings,
}

/// One request: its method, what comes behind the API's URL, its body.
type Call = (Method, String, Value);

impl OpsGenie {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        OpsGenie { courier, key: secret_text(&settings.api_key), settings: settings.clone() }
    }

    fn calls(&self, message: &Message<'_>) -> Result<Vec<Call>, Failure> {
        let settings = &self.settings;
        let text = |template: &String| message.text(template);
        let alias = message.key_hash();
        let of_alert = |what: &str| format!("v2/alerts/{alias}/{what}?identifierType=alias");
        let source = text(&settings.source)?;
        if !message.fires() {
            return Ok(vec![(Method::POST, of_alert("close"), json!({"source": source}))]);
        }
        let told = message.noted(text(&settings.message)?);
        let told = shortened::in_chars(told, MAX_MESSAGE_CHARS);
        let description = text(&settings.description)?;
        let mut details = Map::new();
        for (name, value) in &message.data.common_labels {
            details.insert(name.clone(), value.as_str().into());
        }
        for (name, template) in &settings.details {
            details.insert(name.clone(), text(template)?.into());
        }
        let mut alert = Map::new();
        for (name, value) in [
            ("alias", alias.as_str().into()),
            ("message", told.as_str().into()),
            ("details", Value::Object(details)),
            ("source", source.into()),
        ] {
            alert.insert(name.to_owned(), value);
        }
        add_filled(
            &mut alert,
            [
                ("description", description.as_str().into()),
                ("responders", self.responders(message)?.into()),
                ("tags", parts(&text(&settings.tags)?).into()),
                ("note", text(&settings.note)?.into()),
                ("priority", text(&settings.priority)?.into()),
                ("entity", text(&settings.entity)?.into()),
                ("actions", parts(&text(&settings.actions)?).into()),
            ],
        );
        let mut calls = vec![(Method::POST, "v2/alerts".to_owned(), Value::Object(alert))];
        if settings.update_alerts {
            let told = filled([("message", told.into())]);
            let description = filled([("description", description.into())]);
            calls.push((Method::PUT, of_alert("message"), told));
            calls.push((Method::PUT, of_alert("description"), description));
        }
        Ok(calls)
    }

    fn responders(&self, message: &Message<'_>) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        for responder in &self.settings.responders {
            let text = |template: &String| message.text(template);
            let (id, name) = (text(&responder.id)?, text(&responder.name)?);
            let (username, kind) = (text(&responder.username)?, text(&responder.kind)?);
            // Templates may leave nothing of one.
            if [&id, &name, &username, &kind].iter().all(|text| text.is_empty()) {
                continue;
            }
            if kind == "teams" {
                let teams = parts(&name).into_iter();
                all.extend(teams.map(|name| json!({"name": name, "type": "team"})));
                continue;
            }
            let mut made = Map::new();
            made.insert("type".to_owned(), kind.into());
            let who = [("id", id.into()), ("name", name.into()), ("username", username.into())];
            add_filled(&mut made, who);
            all.push(Value::Object(made));
        }
        Ok(all)
    }
}

#[async_trait]
impl Channel for OpsGenie {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let (Some(url), Some(key)) = (&self.settings.api_url, &self.key) else {
            return Err(Failure::fatal("there is no api_key; add api_key_file"));
        };
        let calls = self.calls(message)?;
        let key = message.secret(key).await?;
        let key = message.text(&key)?.trim().to_owned();
        message.conceal(&key);
        let authorization = format!("GenieKey {key}");
        for (method, path, body) in calls {
            let (path, query) = path.split_once('?').unwrap_or((&path, ""));
            let mut url = with_path(url.reveal(), path);
            if let Some((name, value)) = query.split_once('=') {
                url = with_query(&url, &[(name, value)]);
            }
            let headers = [(AUTHORIZATION, authorization.as_str())];
            let body = body.to_string().into();
            let answer = self.courier.exchange(message, method, &url, &headers, body).await?;
            answer.check(message, &[429])?;
        }
        Ok(None)
    }
}

/// What stands between commas, without what is empty.
fn parts(text: &str) -> Vec<String> {
    text.trim().split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_peer::{
        KEY_HASH, NOW_NS, Peer, delivered, deliverer, failed, json as said, notification, resolved,
        retried,
    };

    fn keys(peer: &Peer, more: &str) -> String {
        format!("opsgenie_configs: [{{api_url: '{}', api_key: key-12345{more}}}]", peer.url("/"))
    }

    #[tokio::test]
    async fn an_alert_is_created_changed_and_closed() {
        let peer = Peer::saying(said(202, "{}")).await;
        let more = ", message: M, description: D, source: S, tags: ' a,,b', priority: P1, details: {x: \
                    '{{ .Status }}'}, update_alerts: true, responders: [{name: 't1,t2', type: teams}, \
                    {name: '{{ .CommonLabels.none }}', type: '{{ .CommonLabels.none }}'}, {username: u, \
                    type: user}]";
        let deliverer = deliverer(&keys(&peer, more));
        let note = Some("[no majority]");
        let outcome = deliverer.deliver_noted(&notification("opsgenie"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        assert_eq!(deliverer.deliver(&resolved("opsgenie"), NOW_NS).await, delivered());
        let requests = peer.requests();
        let calls: Vec<(String, String)> =
            requests.iter().map(|seen| (seen.method.to_string(), seen.path.clone())).collect();
        let of_alert = |what| format!("/v2/alerts/{KEY_HASH}/{what}?identifierType=alias");
        let wanted = [
            ("POST", "/v2/alerts".to_owned()),
            ("PUT", of_alert("message")),
            ("PUT", of_alert("description")),
            ("POST", of_alert("close")),
        ]
        .map(|(method, path)| (method.to_owned(), path));
        assert_eq!(calls, wanted);
        assert!(requests.iter().all(|seen| seen.header("authorization") == "GenieKey key-12345"));
        assert_eq!(
            requests[0].json(),
            json!({
                "alias": KEY_HASH,
                "message": "[no majority] M",
                "description": "D",
                "details": {"alertname": "Down", "severity": "critical", "x": "firing"},
                "source": "S",
                "responders": [
                    {"name": "t1", "type": "team"},
                    {"name": "t2", "type": "team"},
                    {"username": "u", "type": "user"},
                ],
                "tags": ["a", "b"],
                "priority": "P1",
            })
        );
        assert_eq!(requests[1].json(), json!({"message": "[no majority] M"}));
        assert_eq!(requests[3].json(), json!({"source": "S"}));
    }

    #[tokio::test]
    async fn refusals_and_long_messages() {
        let peer = Peer::start(|_, before| match before {
            0 => said(422, r#"{"message":"key-12345 is wrong"}"#),
            _ => said(429, ""),
        })
        .await;
        let deliverer = deliverer(&keys(&peer, ", message: '{{ printf \"%0200d\" 7 }}'"));
        let message = failed(deliverer.deliver(&notification("opsgenie"), NOW_NS).await);
        assert!(message.contains("422: {\"message\":\"<secret> is wrong\"}"), "{message}");
        retried(deliverer.deliver(&notification("opsgenie"), NOW_NS).await);
        let told = peer.requests()[0].json()["message"].as_str().map(|text| text.chars().count());
        assert_eq!(told, Some(MAX_MESSAGE_CHARS));
    }
}
