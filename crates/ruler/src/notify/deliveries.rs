//! What receivers were told last, for whoever asks why a message came or did not.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use alerting::notify::{Notification, Outcome};
use parking_lot::Mutex;
use serde::Serialize;

use super::counters::Way;

/// Deliveries that are remembered.
const REMEMBERED: usize = 1_000;
/// Ways of telling receivers whose last deliveries are remembered.
const MAX_WAYS: usize = 10_000;
/// Longest text of an error that is remembered.
const MAX_ERROR_BYTES: usize = 1_024;

/// An attempt to tell a receiver.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// When it began, milliseconds since 1970.
    pub at_ms: i64,
    /// How long it took, seconds.
    pub took_seconds: f64,
    /// Whom.
    pub receiver: String,
    /// The kind of the integration, such as `webhook`.
    pub integration: &'static str,
    /// Its place among those of its kind.
    pub index: usize,
    /// The group it was about.
    pub group_key: String,
    /// The labels of the group.
    pub group_labels: std::collections::BTreeMap<String, String>,
    /// Which route led there.
    pub route: String,
    /// Why the receiver was told.
    pub reason: &'static str,
    /// How many alerts of those it told of fire.
    pub firing: usize,
    /// How many had ended.
    pub resolved: usize,
    /// Names of the first alerts.
    pub alerts: Vec<String>,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// `delivered`, `retry` or `failed`.
    pub outcome: &'static str,
    /// What went wrong.
    pub error: Option<String>,
}

/// The last deliveries.
#[derive(Debug, Default)]
pub struct Deliveries {
    last: Mutex<VecDeque<Delivery>>,
    /// Of each way of telling a receiver, however long ago.
    of_each: Mutex<HashMap<Way, Latest>>,
}

/// What came last of telling a receiver in one way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latest {
    /// The last attempt that worked.
    pub delivered: Option<Delivery>,
    /// The last one that did not.
    pub failed: Option<Delivery>,
}

impl Deliveries {
    /// The last ones, the newest first; those of one receiver if one is named.
    pub fn newest(&self, receiver: Option<&str>, limit: usize) -> Vec<Delivery> {
        let last = self.last.lock();
        let of_receiver = |one: &&Delivery| receiver.is_none_or(|name| one.receiver == name);
        last.iter().rev().filter(of_receiver).take(limit).cloned().collect()
    }

    /// What came last of telling a receiver in one way: an integration's kind, and its place among
    /// those of its kind.
    pub fn latest(&self, receiver: &str, kind: &'static str, index: usize) -> Latest {
        let way = (receiver.to_owned(), kind, index);
        self.of_each.lock().get(&way).cloned().unwrap_or_default()
    }

    pub(super) fn note(
        &self,
        notification: &Notification,
        outcome: &Outcome,
        began_ns: i64,
        took: Duration,
    ) {
        let (word, error) = match outcome {
            Outcome::Delivered { .. } => ("delivered", None),
            Outcome::Retry { message, .. } => ("retry", Some(message)),
            Outcome::Failed { message } => ("failed", Some(message)),
        };
        let resolved = notification.alerts.iter().filter(|alert| alert.resolved).count();
        let mut names: Vec<String> = notification
            .alerts
            .iter()
            .map(|alert| alert.alert.labels.get("alertname").unwrap_or_default().to_owned())
            .take(100)
            .collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(5);
        let labels = notification.group_labels.iter();
        let delivery = Delivery {
            at_ms: began_ns.div_euclid(1_000_000),
            took_seconds: took.as_secs_f64(),
            receiver: notification.receiver.to_string(),
            integration: notification.kind,
            index: notification.index,
            group_key: notification.group_key.to_string(),
            group_labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            route: notification.route_id.to_string(),
            reason: notification.reason.as_str(),
            firing: notification.alerts.len() - resolved,
            resolved,
            alerts: names,
            attempt: notification.attempt,
            outcome: word,
            error: error.map(|text| shortened(text)),
        };
        {
            let mut of_each = self.of_each.lock();
            let way = (delivery.receiver.clone(), delivery.integration, delivery.index);
            // Receivers that went with a reload leave theirs behind.
            if of_each.len() >= MAX_WAYS && !of_each.contains_key(&way) {
                of_each.clear();
            }
            let latest = of_each.entry(way).or_default();
            let place =
                if word == "delivered" { &mut latest.delivered } else { &mut latest.failed };
            *place = Some(delivery.clone());
        }
        let mut last = self.last.lock();
        if last.len() >= REMEMBERED {
            last.pop_front();
        }
        last.push_back(delivery);
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= MAX_ERROR_BYTES {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(MAX_ERROR_BYTES)])
}
