//! `/api/v1/notifications/render`: what a template makes of alerts, for whoever writes one.

use std::collections::BTreeMap;
use std::sync::Arc;

use alerting::notify::{AlertView, Explanation, Fingerprint, PostedAlert};
use alerting::templates::notice::{Data, DataAlert, Kv};
use alerting::templates::{Limits, TemplateError};
use axum::extract::{Request, State};
use axum::response::Response;
use model::Labels;
use model::go_time::GoTime;
use net::auth::Principal;
use net::{ApiError, ErrorType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::about::About;
use super::answer::{bad_data, check_tenant, success};
use super::body;
use super::posted::{self, AlertBodies};
use crate::notify::Notifications;

/// What a text that is tried out may use: less than a notification, since anybody who may read may try.
const LIMITS: Limits = Limits { steps: 1_000_000, text_bytes: 1 << 20, made_bytes: 64 << 20 };
/// Longest template.
const MAX_TEMPLATE_BYTES: usize = 256 << 10;
/// Most alerts it is tried out with.
const MAX_ALERTS: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wish {
    /// The text.
    template: String,
    /// Whether values are escaped for where they come to stand in HTML.
    #[serde(default)]
    html: bool,
    /// An alert there is.
    fingerprint: Option<Fingerprint>,
    /// Alerts there need not be.
    alerts: AlertBodies,
    receiver: Option<String>,
    group_labels: Option<BTreeMap<String, String>>,
}

pub(super) async fn render(
    State(api): State<Arc<Api>>,
    principal: Principal,
    request: Request,
) -> Result<Response, ApiError> {
    check_tenant(&principal)?;
    let wish: Wish = body::read(request, "wish", &api.about.net_metrics).await?;
    let length = wish.template.len();
    if length > MAX_TEMPLATE_BYTES {
        return Err(bad_data(format!(
            "a template of {length} bytes; at most {MAX_TEMPLATE_BYTES} are tried out: shorten it"
        )));
    }
    let (template, html) = (wish.template.clone(), wish.html);
    let notifications = api.notifications()?;
    let data = data_for(&api.about, &notifications, wish)?;
    let turn = api.rendering.acquire().await;
    let templates = notifications.configuration().templates.limited(LIMITS);
    let work = move || {
        let made =
            if html { templates.html(&template, &data) } else { templates.text(&template, &data) };
        success(match made {
            Ok(text) => json!({ "text": text }),
            Err(error) => json!({ "error": fault(&error) }),
        })
    };
    let response = api.off_thread(work).await;
    drop(turn);
    Ok(response)
}

fn data_for(about: &About, notifications: &Notifications, wish: Wish) -> Result<Data, ApiError> {
    let now_ns = notifications.now_ns();
    let mut data = match (wish.fingerprint, wish.alerts) {
        (Some(_), Some(_)) => {
            return Err(bad_data("give a fingerprint or alerts, not both"));
        }
        (Some(fingerprint), None) => known(about, notifications, fingerprint)?,
        (None, alerts) => {
            let alerts = posted::alerts(alerts)?;
            if alerts.len() > MAX_ALERTS {
                let given = alerts.len();
                return Err(bad_data(format!(
                    "{given} alerts; a template is tried out with at most {MAX_ALERTS}"
                )));
            }
            let alerts = if alerts.is_empty() { vec![made_up()] } else { alerts };
            let alerts: Vec<DataAlert> =
                alerts.into_iter().map(|alert| of_posted(alert, now_ns)).collect();
            let group_labels = alerts.first().map(|first| named(&first.labels)).unwrap_or_default();
            with_about(about, Data::of("test", group_labels, alerts), now_ns)
        }
    };
    if let Some(receiver) = wish.receiver {
        data.receiver = Data::of(&receiver, Kv::new(), Vec::new()).receiver;
    }
    if let Some(group_labels) = wish.group_labels {
        data.group_labels = group_labels;
    }
    Ok(data)
}

/// What would be told of an alert there is, in the first group that holds it.
fn known(
    about: &About,
    notifications: &Notifications,
    fingerprint: Fingerprint,
) -> Result<Data, ApiError> {
    let found = notifications.look(|notifier, now_ns| {
        let explanation = notifier.explain(fingerprint, now_ns)?;
        let first = explanation.groups.first();
        let nodes = notifier.policy().tree.nodes();
        let node = nodes.iter().find(|node| first.is_some_and(|group| group.route_id == node.id));
        Some((explanation.clone(), node.map(|node| node.labels.clone()).unwrap_or_default()))
    });
    let Some((Explanation { view, groups, .. }, route_labels)) = found else {
        let message =
            format!("there is no alert {fingerprint}; give the labels of one in `alerts`");
        return Err(ApiError::new(ErrorType::NotFound, message));
    };
    let (receiver, group_labels) = match groups.first() {
        Some(group) => (group.receiver.to_string(), group.labels.clone()),
        None => {
            let receiver = view.receivers.first().map(ToString::to_string).unwrap_or_default();
            (receiver, Labels::empty())
        }
    };
    let mut data = data_of(about, &receiver, &group_labels, &[view], notifications.now_ns());
    data.route_labels = kv(&route_labels);
    Ok(data)
}

/// What a receiver would be told of alerts.
pub(super) fn data_of(
    about: &About,
    receiver: &str,
    group_labels: &Labels,
    views: &[AlertView],
    now_ns: i64,
) -> Data {
    let alert = |view: &AlertView| {
        let alert = &view.alert;
        let is_resolved = alert.is_resolved_at(now_ns);
        DataAlert {
            status: status(is_resolved),
            labels: kv(&alert.labels),
            annotations: alert.annotations.clone(),
            starts_at: GoTime::from_unix_ns(alert.starts_at_ns),
            ends_at: if is_resolved {
                GoTime::from_unix_ns(alert.ends_at_ns)
            } else {
                GoTime::zero()
            },
            generator_url: alert.generator_url.clone(),
            fingerprint: view.fingerprint.to_string(),
        }
    };
    let data = Data::of(receiver, kv(group_labels), views.iter().map(alert).collect());
    with_about(about, data, now_ns)
}

fn with_about(about: &About, data: Data, now_ns: i64) -> Data {
    Data { external_url: about.external_url.clone(), now_ns, ..data }
}

fn of_posted(alert: PostedAlert, now_ns: i64) -> DataAlert {
    let labels: Kv = alert.labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let fingerprint = Labels::from_pairs(pairs).map(|labels| Fingerprint::of(&labels));
    let ended = alert.ends_at_ns.filter(|at| *at <= now_ns);
    DataAlert {
        status: status(ended.is_some()),
        annotations: alert.annotations,
        starts_at: GoTime::from_unix_ns(alert.starts_at_ns.or(ended).unwrap_or(now_ns)),
        ends_at: ended.map_or_else(GoTime::zero, GoTime::from_unix_ns),
        generator_url: alert.generator_url,
        fingerprint: fingerprint.map(|one| one.to_string()).unwrap_or_default(),
        labels,
    }
}

fn made_up() -> PostedAlert {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    PostedAlert {
        labels: vec![
            pair("alertname", "Example"),
            pair("instance", "example:9100"),
            pair("job", "node"),
            pair("severity", "warning"),
        ],
        annotations: [pair("summary", "This alert is made up."), pair("description", "None.")]
            .into(),
        ..PostedAlert::default()
    }
}

fn status(is_resolved: bool) -> String {
    if is_resolved { "resolved" } else { "firing" }.to_owned()
}

fn kv(labels: &Labels) -> Kv {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn named(labels: &Kv) -> Kv {
    labels
        .iter()
        .filter(|(name, _)| *name == "alertname")
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

/// What is wrong, and where: `template: NAME:LINE:COLUMN: …`, where the text itself has no name.
fn fault(error: &TemplateError) -> Value {
    let message = error.to_string();
    let mut shown = json!({ "template": "", "line": null, "column": null });
    if let Some(rest) = message.strip_prefix("template: ") {
        let mut parts = rest.splitn(4, ':');
        shown["template"] = parts.next().unwrap_or_default().into();
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
        if let Some(line) = number() {
            shown["line"] = line.into();
            shown["column"] = json!(number());
        }
    }
    shown["message"] = message.into();
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_faults_are_found() {
        let of = |text: &str| {
            let fault = fault(&TemplateError::Execute(text.to_owned()));
            (fault["template"].clone(), fault["line"].clone(), fault["column"].clone())
        };
        assert_eq!(of("template: :2:7: executing"), ("".into(), 2.into(), 7.into()));
        assert_eq!(of("template: x.tmpl:3: bad"), ("x.tmpl".into(), 3.into(), Value::Null));
        assert_eq!(of("out of steps"), ("".into(), Value::Null, Value::Null));
    }
}
