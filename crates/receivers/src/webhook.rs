//! Any server that takes JSON. Source: Alertmanager, `notify/webhook/webhook.go`.

use async_trait::async_trait;
use net::client::SecretText;
use settings::alertmanager::receivers::Webhook as Settings;

use crate::courier::Courier;
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::{standard_message, structured};

/// A webhook.
pub(crate) struct Webhook {
    courier: Courier,
    url: Option<SecretText>,
    settings: Settings,
}

impl Webhook {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        Webhook { courier, url: secret_text(&settings.url), settings: settings.clone() }
    }
}

#[async_trait]
impl Channel for Webhook {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let Some(url) = &self.url else {
            return Err(Failure::fatal("there is no url; add url or url_file"));
        };
        let (data, truncated) = message.first_alerts(self.settings.max_alerts);
        let body = match &self.settings.payload {
            None => standard_message::write(message, &data, "4", truncated)?,
            Some(payload) => {
                let mut expand = |text: &str| message.text_of(text, &data);
                let mut body = structured::expanded(payload, &mut expand)
                    .map_err(|failure| failure.while_doing("payload"))?;
                if let (Some(note), Some(fields)) = (message.note, body.as_object_mut()) {
                    fields.entry("note").or_insert_with(|| note.into());
                }
                format!("{body}\n")
            }
        };
        let url = message.secret_url(url).await?;
        let url = message.text_of(&url, &data).map_err(|failure| failure.while_doing("url"))?;
        if url.is_empty() {
            return Err(Failure::fatal("the url is empty once its template is expanded"));
        }
        message.conceal_url(&url);
        self.courier.post_json(message, &url, body).await?.check(message, &[])?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use alerting::notify::Outcome;
    use serde_json::json;

    use crate::test_peer::{
        NOW_NS, Peer, delivered, deliverer, failed, json as said, notification, retried,
    };

    #[tokio::test]
    async fn the_message_is_alertmanagers() {
        let peer = Peer::saying(said(200, "{}")).await;
        let keys = format!("webhook_configs: [{{url: '{}', max_alerts: 1}}]", peer.url("/h?a=1"));
        let outcome = deliverer(&keys).deliver(&notification("webhook"), NOW_NS).await;
        assert_eq!(outcome, delivered());
        let request = peer.request();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/h?a=1"));
        assert_eq!(request.header("content-type"), "application/json");
        assert!(request.header("user-agent").starts_with("Watchfire/"));
        let text = request.text();
        assert!(
            text.starts_with("{\"receiver\":\"ops\",\"status\":\"firing\",\"alerts\":[{"),
            "{text}"
        );
        assert!(text.contains("it \\u003cis\\u003e down"), "{text}");
        assert!(text.ends_with(
            "\"version\":\"4\",\"groupKey\":\"{}:{alertname=\\\"Down\\\"}\",\"truncatedAlerts\":1}\n"
        ));
        assert_eq!(
            request.json(),
            json!({
                "receiver": "ops",
                "status": "firing",
                "alerts": [{
                    "status": "firing",
                    "labels": {"alertname": "Down", "instance": "a", "severity": "critical"},
                    "annotations": {"summary": "it <is> down"},
                    "startsAt": "2023-11-14T22:12:20Z",
                    "endsAt": "0001-01-01T00:00:00Z",
                    "generatorURL": "http://p/graph?a=b&c",
                    "fingerprint": notification("webhook").alerts[0].fingerprint.to_string(),
                }],
                "notification_reason": "first notification",
                "groupLabels": {"alertname": "Down"},
                "commonLabels": {"alertname": "Down", "instance": "a", "severity": "critical"},
                "commonAnnotations": {"summary": "it <is> down"},
                "routeLabels": {"team": "ops"},
                "externalURL": "http://w.example",
                "version": "4",
                "groupKey": "{}:{alertname=\"Down\"}",
                "truncatedAlerts": 1,
            })
        );
    }

    #[tokio::test]
    async fn payloads_and_urls_are_templates() {
        let peer = Peer::saying(said(204, "")).await;
        let keys = format!(
            "webhook_configs: [{{url: '{}/{{{{ .GroupLabels.alertname }}}}', payload: {{text: \
             '{{{{ .Status }}}}', count: '{{{{ len .Alerts }}}}', all: ['{{{{ .CommonLabels | toJson \
             }}}}']}}}}]",
            peer.url("")
        );
        let deliverer = deliverer(&keys);
        let outcome = deliverer.deliver(&notification("webhook"), NOW_NS).await;
        assert_eq!(outcome, delivered());
        let note = Some("[no majority]");
        let outcome = deliverer.deliver_noted(&notification("webhook"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        let requests = peer.requests();
        assert_eq!(requests[0].path, "/Down");
        let common = json!({"alertname": "Down", "severity": "critical"});
        assert_eq!(requests[0].json(), json!({"text": "firing", "count": 2, "all": [common]}));
        assert_eq!(requests[1].json()["note"], "[no majority]");
    }

    #[tokio::test]
    async fn statuses_say_whether_to_try_again() {
        let peer = Peer::start(|request, _| {
            let status = request.path[1..4].parse().expect("a status");
            (status, "retry-after: 30", "bad token-12345678".to_owned())
        })
        .await;
        let outcome = async |status: u16| {
            let url = peer.url(&format!("/{status}/token-12345678"));
            let deliverer = deliverer(&format!("webhook_configs: [{{url: '{url}'}}]"));
            deliverer.deliver(&notification("webhook"), NOW_NS).await
        };
        for status in [400, 401, 404, 302] {
            let message = failed(outcome(status).await);
            assert_eq!(
                message,
                format!("ops/webhook[0]: unexpected status code {status}: bad <secret>")
            );
        }
        for status in [500, 503, 429] {
            let outcome = outcome(status).await;
            let Outcome::Retry { message, after_ns } = outcome else { panic!("{outcome:?}") };
            assert!(!message.contains("12345678"), "{message}");
            assert_eq!(after_ns, Some(30_000_000_000));
        }
    }

    #[tokio::test]
    async fn who_is_not_there_may_come() {
        let deliverer = deliverer("webhook_configs: [{url: 'http://127.0.0.1:1/secret-path'}]");
        let message = retried(deliverer.deliver(&notification("webhook"), NOW_NS).await);
        assert!(message.contains("cannot connect to 127.0.0.1:1"), "{message}");
        assert!(!message.contains("secret-path"), "{message}");
    }

    #[tokio::test]
    async fn secrets_go_to_the_host_they_are_for() {
        let other = Peer::saying(said(200, "")).await;
        let to = format!("location: http://localhost:{}/stolen", other.address.port());
        let to: &'static str = Box::leak(to.into_boxed_str());
        let peer = Peer::saying((307, to, String::new())).await;
        let keys = format!("webhook_configs: [{{url: '{}'}}]", peer.url("/token-12345678"));
        let message = retried(deliverer(&keys).deliver(&notification("webhook"), NOW_NS).await);
        assert!(message.contains("redirects to another host or port"), "{message}");
        assert!(other.requests().is_empty());
    }

    #[tokio::test]
    async fn metadata_services_are_told_nothing() {
        let deliverer = deliverer("webhook_configs: [{url: 'http://169.254.169.254/latest'}]");
        let message = failed(deliverer.deliver(&notification("webhook"), NOW_NS).await);
        assert!(message.contains("metadata service"), "{message}");
    }

    #[tokio::test]
    async fn files_with_urls_are_read_again() {
        let peer = Peer::saying(said(200, "")).await;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("url");
        let deliverer =
            deliverer(&format!("webhook_configs: [{{url_file: '{}'}}]", path.display()));
        let message = retried(deliverer.deliver(&notification("webhook"), NOW_NS).await);
        assert!(message.contains("cannot read"), "{message}");
        std::fs::write(&path, format!("{}\n", peer.url("/x"))).expect("written");
        let outcome = deliverer.deliver(&notification("webhook"), NOW_NS).await;
        assert_eq!(outcome, delivered());
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_costs_the_attempt_only() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let deliverer = deliverer(&format!("webhook_configs: [{{url: '{url}'}}]"));
        let mut slow = notification("webhook");
        slow.deadline_ns = NOW_NS + 50_000_000;
        let message = retried(deliverer.deliver(&slow, NOW_NS).await);
        assert!(message.contains("within"), "{message}");
        slow.kind = "slack";
        let message = failed(deliverer.deliver(&slow, NOW_NS).await);
        assert!(message.contains("no longer"), "{message}");
    }

    #[tokio::test]
    async fn tests_are_sent_in_all_ways() {
        let good = Peer::saying(said(200, "")).await;
        let bad = Peer::saying(said(500, "no")).await;
        let deliverer = deliverer(&format!(
            "webhook_configs: [{{url: '{}'}}, {{url: '{}'}}]",
            good.url("/"),
            bad.url("/")
        ));
        let results = deliverer.test("ops", Default::default(), NOW_NS).await;
        assert_eq!(results.len(), 2);
        assert_eq!(results[0].outcome, delivered());
        assert_eq!((results[1].kind, results[1].index), ("webhook", 1));
        assert_eq!(
            retried(results[1].outcome.clone()),
            "ops/webhook[1]: unexpected status code 500: no"
        );
        assert_eq!(good.request().json()["groupLabels"]["alertname"], "WatchfireTest");
        assert!(deliverer.test("nobody", Default::default(), NOW_NS).await.is_empty());
    }
}
