//! `/api/v2/alerts/groups`: alerts as receivers are told of them.

use std::collections::HashMap;
use std::sync::Arc;

use alerting::notify::{AlertView, Fingerprint, GroupView};
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use model::Labels;
use net::auth::Principal;
use serde::Serialize;
use settings::alertmanager::LabelMatcher;

use super::Api;
use super::about::About;
use super::alerts::{labels_of_receivers, wants};
use super::answer::{self, Refusal};
use super::asked::Wanted;
use super::render::data_of;
use super::shown::{self, Named, ShownAlert};
use crate::notify::{Notifications, NotifyConfiguration};

/// Groups that are looked at between two moments in which others may change something.
const AT_ONCE: usize = 50;

/// A group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownGroup {
    #[serde(serialize_with = "shown::labels")]
    labels: Labels,
    #[serde(serialize_with = "shown::labels")]
    route_labels: Labels,
    receiver: Named,
    alerts: Vec<ShownAlert>,
}

/// What is known of a route.
struct OfRoute {
    labels: Labels,
    muted_by: Vec<String>,
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    principal: Principal,
    uri: Uri,
) -> Result<Response, Refusal> {
    let notifications = api.notifications()?;
    let configuration = notifications.configuration();
    let wanted = Wanted::read(&uri, configuration.mode)?;
    if !answer::sees_alerts(&principal) {
        return Ok(answer::ok(&[(); 0]));
    }
    let about = Arc::clone(&api.about);
    let work = move || answer::ok(&groups(&about, &notifications, &wanted, &configuration));
    Ok(api.off_thread(work).await)
}

/// The groups that are asked for, by their labels, then by receiver.
fn groups(
    about: &About,
    notifications: &Notifications,
    wanted: &Wanted,
    configuration: &NotifyConfiguration,
) -> Vec<ShownGroup> {
    let labels = labels_of_receivers(&configuration.config);
    let (mut groups, routes) = notifications.look(|notifier, now_ns| {
        let muted = notifier.muted_routes(now_ns);
        let nodes = notifier.policy().tree.nodes().iter();
        let of = nodes.zip(muted).map(|(node, muted_by)| {
            (Arc::clone(&node.id), OfRoute { labels: node.labels.clone(), muted_by })
        });
        let routes: HashMap<Arc<str>, OfRoute> = of.collect();
        (notifier.groups(), routes)
    });
    groups.retain(|group| {
        let labels = labels.get(&*group.receiver).copied();
        wanted.fits_name(&group.receiver) && wanted.fits_labels(labels)
    });
    let mut found: Vec<(GroupView, Vec<AlertView>)> = Vec::new();
    for some in groups.chunks(AT_ONCE) {
        let views: Vec<Vec<AlertView>> = notifications.look(|notifier, now_ns| {
            let of_group = |group: &GroupView| {
                let views = group.alerts.iter().filter_map(|id| notifier.alert(*id, now_ns));
                views.filter(|view| !view.alert.is_resolved_at(now_ns)).collect()
            };
            some.iter().map(of_group).collect()
        });
        for (group, mut views) in some.iter().zip(views) {
            views.retain(|view| {
                LabelMatcher::all_match(&wanted.matchers, &view.alert.labels) && wants(wanted, view)
            });
            if !views.is_empty() {
                AlertView::sort(&mut views);
                found.push((group.clone(), views));
            }
        }
    }
    let receivers = receivers_of_each(&found);
    let mut shown = Vec::with_capacity(found.len());
    for (group, views) in found {
        let route = routes.get(&group.route_id);
        let muted_by = route.map(|route| route.muted_by.clone()).unwrap_or_default();
        if !muted_by.is_empty() && !wanted.muted {
            continue;
        }
        let route_labels = route.map(|route| route.labels.clone()).unwrap_or_default();
        let route_labels =
            with_texts(about, notifications.now_ns(), configuration, &group, &views, route_labels);
        let alerts = views.into_iter().map(|view| {
            let to = receivers.get(&view.fingerprint).cloned().unwrap_or_default();
            ShownAlert::of(view, to, muted_by.clone())
        });
        shown.push(ShownGroup {
            labels: group.labels,
            route_labels,
            receiver: Named { name: group.receiver },
            alerts: alerts.collect(),
        });
    }
    shown
}

/// Whom each alert is told to in the groups that are found, by ascending name.
fn receivers_of_each(found: &[(GroupView, Vec<AlertView>)]) -> HashMap<Fingerprint, Vec<Named>> {
    let mut receivers: HashMap<Fingerprint, Vec<Named>> = HashMap::new();
    for (group, views) in found {
        for view in views {
            let name = Arc::clone(&group.receiver);
            receivers.entry(view.fingerprint).or_default().push(Named { name });
        }
    }
    receivers.values_mut().for_each(|names| names.sort_unstable());
    receivers
}

/// The labels of a group's route; those that are templates as texts. One that fails is left as it is.
fn with_texts(
    about: &About,
    now_ns: i64,
    configuration: &NotifyConfiguration,
    group: &GroupView,
    views: &[AlertView],
    labels: Labels,
) -> Labels {
    if !labels.iter().any(|(_, value)| value.contains("{{")) {
        return labels;
    }
    let mut data = data_of(about, &group.receiver, &group.labels, views, now_ns);
    data.route_labels =
        labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let text = |value: &str| configuration.templates.text(value, &data).ok();
    let texts: Vec<(&str, String)> = labels
        .iter()
        .map(|(name, value)| (name, text(value).unwrap_or_else(|| value.to_owned())))
        .collect();
    let made = Labels::from_pairs(texts.iter().map(|(name, value)| (*name, value.as_str())));
    made.unwrap_or(labels)
}
