//! What a notification tells.

use std::collections::BTreeMap;

use gotemplate::{Class, Element, Value};
use model::go_time::GoTime;

use super::labels;

/// Labels or annotations.
pub type Kv = BTreeMap<String, String>;

/// What a notification tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// `Receiver`: its name, with what means something to regular expressions escaped.
    pub receiver: String,
    /// `Status`: `firing` if one of the alerts is, else `resolved`.
    pub status: String,
    /// `Alerts`
    pub alerts: Vec<DataAlert>,
    /// `NotificationReason`: why the notification is sent.
    pub notification_reason: String,
    /// `GroupLabels`: what the alerts are grouped by.
    pub group_labels: Kv,
    /// `CommonLabels`: what all alerts have.
    pub common_labels: Kv,
    /// `CommonAnnotations`: what all alerts have.
    pub common_annotations: Kv,
    /// `RouteLabels`: labels of the route.
    pub route_labels: Kv,
    /// Whether these are texts already, and no templates.
    pub route_labels_rendered: bool,
    /// `ExternalURL`: where users reach the server.
    pub external_url: String,
    /// What `now` is and `since` reckons with.
    pub now_ns: i64,
}

/// One alert of a notification.
#[derive(Debug, Clone, PartialEq)]
pub struct DataAlert {
    /// `Status`: `firing` or `resolved`.
    pub status: String,
    /// `Labels`
    pub labels: Kv,
    /// `Annotations`
    pub annotations: Kv,
    /// `StartsAt`
    pub starts_at: GoTime,
    /// `EndsAt`; year 1 while nobody knows.
    pub ends_at: GoTime,
    /// `GeneratorURL`: what caused the alert.
    pub generator_url: String,
    /// `Fingerprint`: which alert it is, by its labels.
    pub fingerprint: String,
}

impl Data {
    /// A notification of these alerts: what they have in common is found out, and whether one of
    /// them fires.
    pub fn of(receiver: &str, group_labels: Kv, alerts: Vec<DataAlert>) -> Self {
        let firing = alerts.iter().any(|alert| alert.status == "firing");
        let common = |pick: fn(&DataAlert) -> &Kv| {
            let Some((first, others)) = alerts.split_first() else { return Kv::new() };
            let mut common = pick(first).clone();
            for alert in others {
                common.retain(|name, value| pick(alert).get(name) == Some(value));
            }
            common
        };
        Data {
            receiver: quoted(receiver),
            status: if firing { "firing" } else { "resolved" }.to_owned(),
            notification_reason: String::new(),
            group_labels,
            common_labels: common(|alert| &alert.labels),
            common_annotations: common(|alert| &alert.annotations),
            route_labels: Kv::new(),
            route_labels_rendered: false,
            external_url: String::new(),
            now_ns: 0,
            alerts,
        }
    }

    /// The notification as templates see it.
    pub fn value(&self) -> Value<'_> {
        let alerts = self.alerts.iter().map(DataAlert::value).collect();
        Value::structure(
            &DATA,
            vec![
                Value::text(self.receiver.as_str()),
                Value::text(self.status.as_str()),
                Value::list(&ALERTS, alerts),
                Value::text(self.notification_reason.as_str()),
                kv(&self.group_labels),
                kv(&self.common_labels),
                kv(&self.common_annotations),
                kv(&self.route_labels),
                Value::text(self.external_url.as_str()),
            ],
        )
    }
}

impl DataAlert {
    fn value(&self) -> Value<'_> {
        Value::structure(
            &ALERT,
            vec![
                Value::text(self.status.as_str()),
                kv(&self.labels),
                kv(&self.annotations),
                Value::time(self.starts_at.clone()),
                Value::time(self.ends_at.clone()),
                Value::text(self.generator_url.as_str()),
                Value::text(self.fingerprint.as_str()),
            ],
        )
    }
}

fn kv(labels: &Kv) -> Value<'_> {
    let entries = labels.iter().map(|(k, v)| (k.as_str().into(), Value::text(v.as_str())));
    Value::map(&labels::KV, entries.collect())
}

/// As Go's `regexp.QuoteMeta`.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The types of a notification, of its alerts, of one of them, and of labels, for whoever makes
/// values of a part of a notification.
pub fn data_classes() -> [&'static Class; 4] {
    [&DATA, &ALERTS, &ALERT, &labels::KV]
}

static DATA: Class = Class {
    name: "*template.Data",
    fields: &[
        "Receiver",
        "Status",
        "Alerts",
        "NotificationReason",
        "GroupLabels",
        "CommonLabels",
        "CommonAnnotations",
        "RouteLabels",
        "ExternalURL",
    ],
    json: &[
        "receiver",
        "status",
        "alerts",
        "notification_reason",
        "groupLabels",
        "commonLabels",
        "commonAnnotations",
        "routeLabels",
        "externalURL",
    ],
    element: Element::Any,
    methods: &[],
    text: None,
};

static ALERT: Class = Class {
    name: "template.Alert",
    fields: &[
        "Status",
        "Labels",
        "Annotations",
        "StartsAt",
        "EndsAt",
        "GeneratorURL",
        "Fingerprint",
    ],
    json: &["status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"],
    element: Element::Any,
    methods: &[],
    text: None,
};

static ALERTS: Class = Class {
    name: "template.Alerts",
    fields: &[],
    json: &[],
    element: Element::Any,
    methods: &[
        labels::method("Firing", &[], |budget, value, _| with_status(budget, value, "firing")),
        labels::method("Resolved", &[], |budget, value, _| with_status(budget, value, "resolved")),
    ],
    text: None,
};

/// What `Firing` and `Resolved` yield: a list without such methods.
static SOME_ALERTS: Class = Class::plain("[]template.Alert", Element::Any);

fn with_status<'d>(
    budget: &mut gotemplate::Budget,
    alerts: &Value<'d>,
    status: &str,
) -> Result<Value<'d>, String> {
    let Value::List(alerts) = alerts else { return budget.list(&SOME_ALERTS, Vec::new()) };
    let has_status = |alert: &&Value<'d>| match alert {
        Value::Struct(alert) => alert.field("Status").and_then(Value::as_text) == Some(status),
        _ => false,
    };
    budget.list(&SOME_ALERTS, alerts.items.iter().filter(has_status).cloned().collect())
}
