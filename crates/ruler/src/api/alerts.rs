//! `/api/v2/alerts`: alerts that fire, and where they are posted.

use std::collections::HashMap;
use std::sync::Arc;

use alerting::notify::{Alert, AlertView, Fingerprint, Notifier};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use model::Labels;
use net::auth::Principal;
use settings::alertmanager::{Config, LabelMatcher};

use super::answer::{self, Refusal};
use super::asked::Wanted;
use super::shown::{Named, ShownAlert, is_suppressed};
use super::{Api, body, posted};
use crate::notify::Notifications;

/// Alerts that are looked at between two moments in which others may change something.
const AT_ONCE: usize = 500;

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
    let work = move || answer::ok(&firing(&notifications, &wanted, &configuration.config));
    Ok(api.off_thread(work).await)
}

/// The alerts that are asked for, by ascending fingerprint.
fn firing(notifications: &Notifications, wanted: &Wanted, config: &Config) -> Vec<ShownAlert> {
    let mut firing = notifications.look(|notifier, now_ns| notifier.firing(now_ns));
    firing.retain(|(_, alert)| LabelMatcher::all_match(&wanted.matchers, &alert.labels));
    firing.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
    let labels = labels_of_receivers(config);
    let mut shown = Vec::new();
    for some in firing.chunks(AT_ONCE) {
        let views = notifications.look(|notifier, now_ns| looked_at(notifier, some, now_ns));
        for (view, receivers) in views {
            // Alertmanager asks for a name and for labels apart: two receivers may have one each.
            let fits_name = receivers.iter().any(|one: &Named| wanted.fits_name(&one.name));
            let of = |one: &Named| labels.get(&*one.name).copied();
            let fits_labels = receivers.iter().any(|one| wanted.fits_labels(of(one)));
            if fits_name && fits_labels && wants(wanted, &view) {
                shown.push(ShownAlert::of(view, receivers, Vec::new()));
            }
        }
    }
    shown
}

fn looked_at(
    notifier: &mut Notifier,
    alerts: &[(Fingerprint, Arc<Alert>)],
    now_ns: i64,
) -> Vec<(AlertView, Vec<Named>)> {
    let mut views = Vec::with_capacity(alerts.len());
    for (fingerprint, _) in alerts {
        if let Some(view) = notifier.alert(*fingerprint, now_ns) {
            let receivers = notifier.receivers_of(*fingerprint);
            views.push((view, receivers.into_iter().map(|name| Named { name }).collect()));
        }
    }
    views
}

/// Whether an alert is asked for, by what mutes it.
pub(super) fn wants(wanted: &Wanted, view: &AlertView) -> bool {
    (wanted.active || is_suppressed(view))
        && (wanted.silenced || view.status.silenced_by.is_empty())
        && (wanted.inhibited || view.status.inhibited_by.is_empty())
}

/// The labels of each receiver.
pub(super) fn labels_of_receivers(config: &Config) -> HashMap<&str, &Labels> {
    config.receivers.iter().map(|one| (one.name.as_str(), &one.labels)).collect()
}

/// Takes alerts. What is wrong with some keeps none of the others from being taken, and they are
/// written down when this is answered.
pub(super) async fn post(
    State(api): State<Arc<Api>>,
    principal: Principal,
    request: Request,
) -> Result<Response, Refusal> {
    answer::check_tenant_of_v2(&principal)?;
    let bodies = body::read(request, "alerts", &api.about.net_metrics).await?;
    let alerts = posted::alerts(bodies)?;
    if alerts.is_empty() {
        return Ok(answer::bare(StatusCode::OK));
    }
    let notifications = api.notifications()?;
    let results = notifications.post_alerts(alerts).await.map_err(Refusal::NotSaved)?;
    let errors: Vec<String> =
        results.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    if errors.is_empty() {
        return Ok(answer::bare(StatusCode::OK));
    }
    Ok(Refusal::bad(told(&errors)).into_response())
}

/// Most errors that are told one by one.
const MOST_ERRORS: usize = 100;

fn told(errors: &[String]) -> String {
    let mut text = errors[..errors.len().min(MOST_ERRORS)].join("\n");
    if errors.len() > MOST_ERRORS {
        text.push_str(&format!("\nand {} more alerts were not taken", errors.len() - MOST_ERRORS));
    }
    text
}
