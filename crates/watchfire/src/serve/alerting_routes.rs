//! Alertmanager's API, and what it does not tell, over what notifies in this process.

use std::sync::Arc;

use net::{NetMetrics, Routes};
use ruler::Seat;
use ruler::api::{About, ClusterAbout, Finder, alertmanager_routes, notification_routes};

use super::alerting::Alerting;
use crate::about::now_ms;

/// The routes. Without `alerting` they answer that nothing notifies here; `own_url` is where this process
/// is reached.
pub(super) fn routes(
    alerting: Option<&Arc<Alerting>>,
    own_url: &str,
    net_metrics: Arc<NetMetrics>,
) -> Routes {
    let seat = alerting.map(|alerting| alerting.seat().clone()).unwrap_or_else(Seat::default);
    let finder: Finder = Arc::new(move || seat.running().map(|running| running.notifications));
    let external_url = alerting.map_or(own_url, |alerting| alerting.external_url());
    let about = Arc::new(About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: String::new(),
        started_ms: now_ms(),
        external_url: external_url.to_owned(),
        cluster: Box::new(ClusterAbout::default),
        net_metrics,
    });
    alertmanager_routes(Arc::clone(&finder), Arc::clone(&about))
        .merge(notification_routes(finder, about))
}
