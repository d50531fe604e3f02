//! What is told over HTTP of alerts, silences and notifications: Alertmanager's API of version 2, and
//! what it has no words for. And the API by which users keep groups of rules.
//!
//! Source: Alertmanager 0.35, `api/v2/openapi.yaml` and `api/v2/api.go`. Where it takes a request that
//! makes no sense, or dies of it, this refuses it with the status it has for others of that kind.
//!
//! Alerts and silences are those of the tenant `default`: to others lists are empty, and what they send
//! is refused. Who may read sees them; who may write posts alerts and changes silences.

mod about;
mod alerts;
mod answer;
mod asked;
mod body;
mod deliveries;
mod explain;
mod groups;
mod moment;
mod posted;
mod receivers;
mod render;
mod routes;
mod rule_config;
mod rule_groups;
mod shown;
mod silence_preview;
mod silences;
mod status;
#[cfg(test)]
mod tests;
mod trial;

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::Method;
use net::{Access, ApiError, Detour, ErrorType, Routes};
use tokio::sync::Semaphore;

use answer::Refusal;

use crate::notify::Notifications;

pub use about::{About, ClusterAbout, ClusterStatus, PeerAbout};
pub use rule_config::rule_config_routes;
pub use rule_groups::rule_group_routes;

/// Lists that are made at the same time; others wait.
const LISTED_AT_ONCE: usize = 4;
/// Texts that are made at the same time for who tries out templates; others wait.
const RENDERED_AT_ONCE: usize = 1;
/// Tests of receivers at the same time; others wait.
const TESTED_AT_ONCE: usize = 4;

/// Yields what notifies in this process, if anything does at the moment.
pub type Finder = Arc<dyn Fn() -> Option<Notifications> + Send + Sync>;

/// What the handlers need.
struct Api {
    finder: Finder,
    about: Arc<About>,
    listing: Semaphore,
    rendering: Semaphore,
    testing: Semaphore,
}

impl Api {
    fn new(finder: Finder, about: Arc<About>) -> Arc<Api> {
        Arc::new(Api {
            finder,
            about,
            listing: Semaphore::new(LISTED_AT_ONCE),
            rendering: Semaphore::new(RENDERED_AT_ONCE),
            testing: Semaphore::new(TESTED_AT_ONCE),
        })
    }

    /// Does what takes a while off the threads that serve sockets, a few at a time: each may hold all
    /// alerts once more.
    async fn off_thread(&self, work: impl FnOnce() -> Response + Send + 'static) -> Response {
        let _turn = self.listing.acquire().await;
        match tokio::task::spawn_blocking(work).await {
            Ok(response) => response,
            Err(_) => {
                let message = "the answer could not be made; the log says why";
                ApiError::new(ErrorType::Internal, message).into_response()
            }
        }
    }

    /// What notifies here.
    ///
    /// # Errors
    /// Nothing does: in a cluster one broker notifies for all.
    fn notifications(&self) -> Result<Notifications, Refusal> {
        (self.finder)().ok_or(Refusal::Elsewhere)
    }
}

/// Alertmanager's API below `/api/v2`, and the same below `/alertmanager`, where Grafana looks for it in
/// a Mimir.
pub fn alertmanager_routes(
    finder: Finder,
    about: Arc<About>,
    detour: Option<Arc<dyn Detour>>,
) -> Routes {
    const GET: [Method; 1] = [Method::GET];
    const POST: [Method; 1] = [Method::POST];
    const DELETE: [Method; 1] = [Method::DELETE];
    let mut routes = Routes::new().by_way_of(detour).speaking(&answer::DIALECT);
    for prefix in ["/api/v2", "/alertmanager/api/v2"] {
        let at = |path: &str| format!("{prefix}{path}");
        routes = routes
            .route(&at("/status"), GET, Access::Read, status::status)
            .route(&at("/receivers"), GET, Access::Read, status::receivers)
            .route(&at("/alerts"), GET, Access::Read, alerts::list)
            .route(&at("/alerts"), POST, Access::Write, alerts::post)
            .route(&at("/alerts/groups"), GET, Access::Read, groups::list)
            .route(&at("/silences"), GET, Access::Read, silences::list)
            .route(&at("/silences"), POST, Access::Write, silences::post)
            .route(&at("/silence/{id}"), GET, Access::Read, silences::get)
            .route(&at("/silence/{id}"), DELETE, Access::Write, silences::expire);
    }
    routes
        .by_way_of(None)
        .route("/alertmanager/-/ready", GET, Access::Public, async || "OK")
        .with_state(Api::new(finder, about))
}

/// What Alertmanager does not tell: why somebody was told or not, how receivers fare, and what
/// templates make of alerts.
pub fn notification_routes(
    finder: Finder,
    about: Arc<About>,
    detour: Option<Arc<dyn Detour>>,
) -> Routes {
    const GET: [Method; 1] = [Method::GET];
    const POST: [Method; 1] = [Method::POST];
    let at = |path: &str| format!("/api/v1/notifications/{path}");
    Routes::new()
        .by_way_of(detour)
        .route(&at("deliveries"), GET, Access::Read, deliveries::list)
        .route(&at("explain"), GET, Access::Read, explain::explain)
        .route(&at("receivers"), GET, Access::Read, receivers::list)
        .route(&at("routes"), GET, Access::Read, routes::tree)
        .route(&at("routes/match"), GET, Access::Read, routes::matching)
        .route(&at("silence_preview"), POST, Access::Read, silence_preview::preview)
        .route(&at("render"), POST, Access::Read, render::render)
        .route(&at("test"), POST, Access::Admin, trial::test)
        .with_state(Api::new(finder, about))
}
