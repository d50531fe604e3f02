//! Rules, alerts and notifications of a broker, in a console of its own: what is told is passed on, what
//! changes something is for the broker.

use http::Method;
use net::{Access, Routes};

use super::Brokers;
use super::pages::{elsewhere, pass_on};

/// What a broker answers to these is passed on.
const PASSED_ON: [&str; 23] = [
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
    "/api/v1/rule_groups",
    "/api/v1/rules",
    "/api/v2/alerts",
    "/api/v2/alerts/groups",
    "/api/v2/receivers",
    "/api/v2/silence/{id}",
    "/api/v2/silences",
    "/api/v2/status",
    "/prometheus/api/v1/alerts",
    "/prometheus/api/v1/rules",
];

/// Where groups of rules are kept, with and without a list of all of them.
const GROUPS_OF_RULES: [(&str, bool); 5] = [
    ("/api/prom/rules", true),
    ("/api/v1/rules", false),
    ("/config/v1/rules", true),
    ("/loki/api/v1/rules", true),
    ("/prometheus/config/v1/rules", true),
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
    for (path, has_list) in GROUPS_OF_RULES {
        if has_list {
            routes = routes.route(path, [Method::GET], Access::Read, pass_on);
        }
        let (namespace, group) =
            (format!("{path}/{{namespace}}"), format!("{path}/{{namespace}}/{{group}}"));
        routes = routes.route(&namespace, [Method::POST], Access::Write, elsewhere);
        for path in [&namespace, &group] {
            routes = routes.route(path, [Method::GET], Access::Read, pass_on).route(
                path,
                [Method::DELETE],
                Access::Write,
                elsewhere,
            );
        }
    }
    for (path, access) in
        [("silence_preview", Access::Read), ("render", Access::Read), ("test", Access::Admin)]
    {
        let path = format!("/api/v1/notifications/{path}");
        routes = routes.route(&path, [Method::POST], access, elsewhere);
    }
    routes
        .route("/api/v1/rule_groups/preview", [Method::POST], Access::Read, elsewhere)
        .route("/alertmanager/-/ready", [Method::GET], Access::Public, async || "OK")
        .with_state(brokers.clone())
}
