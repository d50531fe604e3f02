//! Rules, alerts and notifications of a broker, in a console of its own: all of it is passed on, also what
//! changes something. Of several clusters, what changes something is for a broker of the one that is meant.

use http::Method;
use net::{Access, Routes};

use super::Brokers;
use super::pages::{elsewhere, pass_on};

/// What a broker answers to these is passed on.
const PASSED_ON: [&str; 20] = [
    "/alertmanager/api/v2/alerts",
    "/alertmanager/api/v2/alerts/groups",
    "/alertmanager/api/v2/receivers",
    "/alertmanager/api/v2/silence/{id}",
    "/alertmanager/api/v2/silences",
    "/alertmanager/api/v2/status",
    "/api/v1/alertmanagers",
    "/api/v1/alerts",
    "/api/v1/notifications/deliveries",
    "/api/v1/notifications/explain",
    "/api/v1/notifications/receivers",
    "/api/v1/notifications/routes",
    "/api/v1/notifications/routes/match",
    "/api/v1/rules",
    "/api/v2/alerts",
    "/api/v2/alerts/groups",
    "/api/v2/receivers",
    "/api/v2/silence/{id}",
    "/api/v2/silences",
    "/api/v2/status",
];

/// Lists of rules, alerts, silences and receivers, of the broker; and where they are changed.
pub fn passed_on_alerting_routes(brokers: &Brokers) -> Routes {
    let mut routes = Routes::new();
    for path in PASSED_ON {
        routes = routes.route(path, [Method::GET], Access::Read, pass_on);
    }
    for prefix in ["/api/v2", "/alertmanager/api/v2"] {
        let at = |path: &str| format!("{prefix}{path}");
        routes = routes
            .route(&at("/alerts"), [Method::POST], Access::Write, elsewhere)
            .route(&at("/silences"), [Method::POST], Access::Write, elsewhere)
            .route(&at("/silence/{id}"), [Method::DELETE], Access::Write, elsewhere);
    }
    for (path, access) in
        [("silence_preview", Access::Read), ("render", Access::Read), ("test", Access::Admin)]
    {
        let path = format!("/api/v1/notifications/{path}");
        routes = routes.route(&path, [Method::POST], access, elsewhere);
    }
    routes
        .route("/alertmanager/-/ready", [Method::GET], Access::Public, async || "OK")
        .with_state(brokers.clone())
}
