//! What others use: a client for each integration, and what comes of a notification.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alerting::notify::routing::RouteTree;
use alerting::notify::{
    Notification, NotificationId, NotifiedAlert, Outcome, Reason, made_up_alert,
};
use alerting::templates::notice::{Kv, Templates};
use futures_util::future::join_all;
use model::Labels;
use net::client::{AddressCheck, ClientCounters, ClientError, ClientOptions, Dns};
use settings::alertmanager::{Config, Integration, IntegrationSettings};

use crate::courier::Courier;
use crate::dingtalk::DingTalk;
use crate::discord::Discord;
use crate::email::Email;
use crate::feishu::Feishu;
use crate::incidentio::IncidentIo;
use crate::jira::Jira;
use crate::mattermost::Mattermost;
use crate::message::{Channel, Failure, Message, Surroundings, route_labels};
use crate::msteams::{MsTeams, MsTeamsV2};
use crate::opsgenie::OpsGenie;
use crate::pagerduty::PagerDuty;
use crate::pushover::Pushover;
use crate::rocketchat::RocketChat;
use crate::slack::Slack;
use crate::sns::Sns;
use crate::telegram::Telegram;
use crate::throttle::Marks;
use crate::victorops::VictorOps;
use crate::webex::Webex;
use crate::webhook::Webhook;
use crate::wechat::WeChat;

/// How long a test may take, unless the integration's own time is shorter.
const TEST_TIME: Duration = Duration::from_secs(10);

/// How receivers are reached.
#[derive(Clone)]
pub struct DeliveryOptions {
    /// Where users reach this server: `.ExternalURL` of templates.
    pub external_url: String,
    /// Which addresses may be connected to.
    pub addresses: AddressCheck,
    /// Looks names up.
    pub dns: Arc<Dns>,
    /// What is counted of connections.
    pub counters: Arc<ClientCounters>,
    /// When receivers were told that punish who tells them too often. Give every [`Deliverer`] of
    /// the process the same, so that a reload of the configuration does not forget.
    pub marks: Arc<Marks>,
}

impl DeliveryOptions {
    /// For what the operator's own configuration names: [`net::client::operator_addresses`].
    pub fn operator(external_url: impl Into<String>) -> Self {
        let ClientOptions { addresses, dns, counters, .. } = ClientOptions::operator();
        let external_url = external_url.into();
        DeliveryOptions { external_url, addresses, dns, counters, marks: Arc::default() }
    }

    fn client_options(&self) -> ClientOptions {
        ClientOptions {
            addresses: Arc::clone(&self.addresses),
            dns: Arc::clone(&self.dns),
            counters: Arc::clone(&self.counters),
            ..ClientOptions::operator()
        }
    }
}

impl fmt::Debug for DeliveryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("DeliveryOptions");
        shown.field("external_url", &self.external_url).finish_non_exhaustive()
    }
}

/// Why a configuration cannot be used. No secret is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("receiver {receiver:?}, {kind}_configs[{index}]: {reason}")]
pub struct BuildError {
    /// The receiver.
    pub receiver: String,
    /// The kind of the integration, such as `webhook`.
    pub kind: &'static str,
    /// Its place among those of its kind.
    pub index: usize,
    /// What is wrong.
    pub reason: String,
}

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// The kind of the integration, such as `webhook`.
    pub kind: &'static str,
    /// Its place among those of its kind.
    pub index: usize,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// Tells the receivers of one configuration.
pub struct Deliverer {
    receivers: HashMap<String, Vec<Prepared>>,
    /// Labels of routes by their id.
    routes: HashMap<Arc<str>, Kv>,
    templates: Arc<Templates>,
    external_url: String,
}

/// One integration.
struct Prepared {
    kind: &'static str,
    index: usize,
    timeout: Option<Duration>,
    channel: Box<dyn Channel>,
}

impl Deliverer {
    /// Prepares a client for each integration of each receiver. Nothing is connected to, and files
    /// are read when they are needed: they may come later, and are watched.
    ///
    /// # Errors
    /// The first integration whose settings can never work.
    pub fn new(
        config: &Config,
        templates: Arc<Templates>,
        options: DeliveryOptions,
    ) -> Result<Deliverer, BuildError> {
        let client_options = options.client_options();
        let mut receivers = HashMap::with_capacity(config.receivers.len());
        for receiver in &config.receivers {
            let mut all = Vec::with_capacity(receiver.integrations.len());
            for integration in &receiver.integrations {
                let (kind, index) = (integration.kind(), integration.index);
                let channel = channel(integration, &client_options, &options.marks);
                let channel = channel.map_err(|error| BuildError {
                    receiver: receiver.name.clone(),
                    kind,
                    index,
                    reason: error.to_string(),
                })?;
                all.push(Prepared { kind, index, timeout: integration.timeout, channel });
            }
            receivers.insert(receiver.name.clone(), all);
        }
        let tree = RouteTree::new(&config.route);
        let routes = tree.nodes().iter();
        let routes =
            routes.map(|node| (Arc::clone(&node.id), route_labels(&node.labels))).collect();
        let external_url = options.external_url;
        Ok(Deliverer { receivers, routes, templates, external_url })
    }

    /// Whether there is a receiver of this name.
    pub fn has_receiver(&self, name: &str) -> bool {
        self.receivers.contains_key(name)
    }

    /// Tells a receiver, within the notification's deadline. `now_ns` is the time now, in
    /// nanoseconds since 1970. Dropping the future gives the attempt up; the receiver may have been
    /// told nevertheless.
    ///
    /// Texts are made of templates on the thread that polls the future, which may take some
    /// milliseconds where thousands of alerts are told of.
    pub async fn deliver(&self, notification: &Notification, now_ns: i64) -> Outcome {
        self.deliver_noted(notification, now_ns, None).await
    }

    /// As [`Deliverer::deliver`], with a text for people in front: that this side of a cluster has
    /// no majority, for instance, so that what it tells may be told twice. It stands before the
    /// title, subject or summary that the receiver shows first, or before the message where there
    /// is none; in the message to webhooks and incident.io it is the field `note`.
    pub async fn deliver_noted(
        &self,
        notification: &Notification,
        now_ns: i64,
        note: Option<&str>,
    ) -> Outcome {
        let Notification { receiver, kind, index, .. } = notification;
        let prepared = self
            .receivers
            .get(&**receiver)
            .and_then(|all| all.get(notification.integration))
            .filter(|prepared| prepared.kind == *kind && prepared.index == *index);
        let Some(prepared) = prepared else {
            return Outcome::Failed {
                message: format!("{receiver}/{kind}[{index}]: the configuration has it no longer"),
            };
        };
        let left_ns = notification.deadline_ns.saturating_sub(now_ns).max(0);
        let left = Duration::from_nanos(left_ns.unsigned_abs());
        self.attempt(prepared, notification, now_ns, left, note).await
    }

    /// Tells a receiver of `alerts` in each of its ways, at once, and as the first message about a
    /// group of its own; of a made up alert if there are none. Empty if there is no such receiver.
    pub async fn test(
        &self,
        receiver: &str,
        alerts: Arc<[NotifiedAlert]>,
        now_ns: i64,
    ) -> Vec<TestResult> {
        let Some(all) = self.receivers.get(receiver) else { return Vec::new() };
        let alerts = match alerts.is_empty() {
            true => Arc::from_iter(made_up_alert(&BTreeMap::new(), now_ns)),
            false => alerts,
        };
        let test = async |(integration, prepared): (usize, &Prepared)| {
            let started = Instant::now();
            let notification = Notification {
                integration,
                kind: prepared.kind,
                index: prepared.index,
                ..test_notification(receiver, Arc::clone(&alerts), now_ns)
            };
            let time = prepared.timeout.unwrap_or(TEST_TIME).min(TEST_TIME);
            let outcome = self.attempt(prepared, &notification, now_ns, time, None).await;
            let Prepared { kind, index, .. } = *prepared;
            TestResult { kind, index, outcome, took: started.elapsed() }
        };
        join_all(all.iter().enumerate().map(test)).await
    }

    async fn attempt(
        &self,
        prepared: &Prepared,
        notification: &Notification,
        now_ns: i64,
        time: Duration,
        note: Option<&str>,
    ) -> Outcome {
        let surroundings = Surroundings {
            templates: &self.templates,
            external_url: &self.external_url,
            route_labels: self.routes.get(&notification.route_id).cloned().unwrap_or_default(),
        };
        let started = Instant::now();
        let message = Message::new(notification, surroundings, now_ns, started + time, note);
        let sent = tokio::time::timeout(time, prepared.channel.send(&message)).await;
        match sent {
            Ok(Ok(store)) => Outcome::Delivered { store },
            Ok(Err(failure)) => outcome(&message, failure),
            Err(_) => outcome(
                &message,
                Failure::retry(format!(
                    "not done within {time:?}, which is the time of one attempt; the receiver or \
                     the way to it is too slow"
                )),
            ),
        }
    }
}

/// What a failure means to the notifier, with its receiver and without secrets.
pub(crate) fn outcome(message: &Message<'_>, failure: Failure) -> Outcome {
    let Notification { receiver, kind, index, .. } = message.notification;
    let told = message.redacted(&failure.message);
    let message = format!("{receiver}/{kind}[{index}]: {told}");
    match failure.retry {
        true => Outcome::Retry { message, after_ns: failure.after_ns },
        false => Outcome::Failed { message },
    }
}

impl fmt::Debug for Deliverer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.receivers.keys().collect();
        f.debug_struct("Deliverer").field("receivers", &names).finish_non_exhaustive()
    }
}

fn channel(
    integration: &Integration,
    options: &ClientOptions,
    marks: &Arc<Marks>,
) -> Result<Box<dyn Channel>, ClientError> {
    use IntegrationSettings as I;
    let courier = || Courier::new(&integration.http, options);
    let marks = || Arc::clone(marks);
    Ok(match &integration.settings {
        I::Webhook(settings) => Box::new(Webhook::new(settings, courier()?)),
        I::Email(settings) => Box::new(Email::new(settings, options)?),
        I::PagerDuty(settings) => Box::new(PagerDuty::new(settings, courier()?)),
        I::OpsGenie(settings) => Box::new(OpsGenie::new(settings, courier()?)),
        I::WeChat(settings) => Box::new(WeChat::new(settings, courier()?)),
        I::Slack(settings) => Box::new(Slack::new(settings, courier()?)),
        I::VictorOps(settings) => Box::new(VictorOps::new(settings, courier()?)),
        I::Pushover(settings) => Box::new(Pushover::new(settings, courier()?)),
        I::Sns(settings) => Box::new(Sns::new(settings, courier()?)),
        I::Telegram(settings) => Box::new(Telegram::new(settings, courier()?)),
        I::Discord(settings) => Box::new(Discord::new(settings, courier()?)),
        I::Webex(settings) => Box::new(Webex::new(settings, courier()?)),
        I::MsTeams(settings) => Box::new(MsTeams::new(settings, courier()?)),
        I::MsTeamsV2(settings) => Box::new(MsTeamsV2::new(settings, courier()?)),
        I::Jira(settings) => Box::new(Jira::new(settings, courier()?)),
        I::RocketChat(settings) => Box::new(RocketChat::new(settings, courier()?)),
        I::Mattermost(settings) => Box::new(Mattermost::new(settings, courier()?)),
        I::IncidentIo(settings) => Box::new(IncidentIo::new(settings, courier()?)),
        I::DingTalk(settings) => Box::new(DingTalk::new(settings, courier()?, marks())),
        I::Feishu(settings) => Box::new(Feishu::new(settings, courier()?, marks())),
    })
}

fn test_notification(receiver: &str, alerts: Arc<[NotifiedAlert]>, now_ns: i64) -> Notification {
    // A key of its own: real groups must not be closed or written over by a test.
    let name = alerts.first().and_then(|alert| alert.alert.labels.get("alertname"));
    let pairs = [("alertname", name.unwrap_or("WatchfireTest"))];
    let group_labels = Labels::from_pairs(pairs).unwrap_or_else(|_| Labels::empty());
    Notification {
        id: NotificationId(now_ns.unsigned_abs()),
        attempt: 1,
        receiver: Arc::from(receiver),
        integration: 0,
        kind: "",
        index: 0,
        group_key: Arc::from(format!("{{}}/test/{now_ns}")),
        group_labels,
        route_id: Arc::from(""),
        alerts,
        reason: Reason::FirstNotification,
        now_ns,
        repeat_interval_ns: 0,
        deadline_ns: now_ns,
        store: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_peer::{NOW_NS, Peer, config, deliverer, json as said, notification, retried};

    #[test]
    fn what_can_never_work_is_told_at_once() {
        let config = config(
            "webhook_configs: [{url: 'http://h/'}, {url: 'http://h/secret-path', http_config: \
             {tls_config: {ca: nonsense}}}]",
        );
        let templates =
            Templates::new(alerting::templates::notice::NOTICE_LIMITS, Arc::new(|_| None));
        let options = DeliveryOptions::operator("");
        let error =
            Deliverer::new(&config, Arc::new(templates), options).expect_err("no authority");
        assert_eq!((error.kind, error.index), ("webhook", 1));
        let told = error.to_string();
        assert!(told.starts_with("receiver \"ops\", webhook_configs[1]: tls_config: ca"), "{told}");
        assert!(!told.contains("secret-path"), "{told}");
    }

    #[test]
    fn deliveries_may_move_between_threads() {
        fn is_send(_: impl Send) {}
        let deliverer = deliverer("webhook_configs: [{url: 'http://h/'}]");
        is_send(deliverer.deliver(&notification("webhook"), NOW_NS));
        is_send(deliverer.test("ops", Default::default(), NOW_NS));
    }

    #[tokio::test]
    async fn nothing_that_is_printed_holds_a_secret() {
        let peer =
            Peer::start(|seen, _| (500, "text/plain", format!("{} {:?}", seen.path, seen.headers)))
                .await;
        let url = peer.url("/hook/path-secret").replacen("http://", "http://user:url-secret@", 1);
        let deliverer = deliverer(&format!(
            "webhook_configs: [{{url: '{url}', http_config: {{http_headers: {{X-Key: {{secrets: \
             [header-secret]}}}}}}}}]"
        ));
        assert_eq!(format!("{deliverer:?}"), "Deliverer { receivers: [\"ops\"], .. }");
        let message = retried(deliverer.deliver(&notification("webhook"), NOW_NS).await);
        for secret in ["path-secret", "url-secret", "header-secret"] {
            assert!(!message.contains(secret), "{message}");
        }
    }

    #[tokio::test]
    async fn tokens_that_are_fetched_are_not_shown_either() {
        let peer = Peer::start(|seen, _| match seen.path.as_str() {
            "/token" => said(200, r#"{"access_token":"fetched-1234","expires_in":3600}"#),
            _ => (500, "text/plain", seen.header("authorization").to_owned()),
        })
        .await;
        let deliverer = deliverer(&format!(
            "webhook_configs: [{{url: '{}', http_config: {{oauth2: {{client_id: c, client_secret: \
             client-secret, token_url: '{}'}}}}}}]",
            peer.url("/"),
            peer.url("/token")
        ));
        let message = retried(deliverer.deliver(&notification("webhook"), NOW_NS).await);
        assert_eq!(message, "ops/webhook[0]: unexpected status code 500: Bearer <secret>");
    }
}
