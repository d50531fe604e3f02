//! `/api/v1/notifications/silence_preview`: which alerts a silence would be for.

use std::sync::Arc;

use alerting::notify::{AlertView, SilenceMatcher};
use axum::extract::{Request, State};
use axum::response::Response;
use model::MatchOp;
use net::ApiError;
use net::auth::Principal;
use serde::Deserialize;
use serde_json::json;
use settings::alertmanager::LabelMatcher;

use super::Api;
use super::answer::{bad_data, check_tenant, success};
use super::body::{self, AtMost};
use super::posted::{self, MatcherBody};
use super::shown::ShownAlert;

/// Alerts that are told; of more the number is.
const MOST_SHOWN: usize = 500;
/// Most matchers; a silence has no more.
const MAX_MATCHERS: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Preview {
    matchers: Option<AtMost<Option<MatcherBody>, MAX_MATCHERS>>,
}

pub(super) async fn preview(
    State(api): State<Arc<Api>>,
    principal: Principal,
    request: Request,
) -> Result<Response, ApiError> {
    check_tenant(&principal)?;
    let body: Preview = body::read(request, "preview", &api.about.net_metrics).await?;
    let matchers = posted::matchers(body.matchers.map(|list| list.0))?;
    let matchers: Vec<LabelMatcher> = matchers
        .into_iter()
        .enumerate()
        .map(|(at, matcher)| compiled(at, matcher))
        .collect::<Result<_, _>>()?;
    let notifications = api.notifications()?;
    let work = move || {
        let mut firing = notifications.look(|notifier, now_ns| notifier.firing(now_ns));
        firing.retain(|(_, alert)| LabelMatcher::all_match(&matchers, &alert.labels));
        let count = firing.len();
        firing.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
        firing.truncate(MOST_SHOWN);
        let mut views: Vec<AlertView> = notifications.look(|notifier, now_ns| {
            firing.iter().filter_map(|(id, _)| notifier.alert(*id, now_ns)).collect()
        });
        AlertView::sort(&mut views);
        let alerts: Vec<ShownAlert> = views.into_iter().map(ShownAlert::whole).collect();
        success(json!({ "count": count, "alerts": alerts }))
    };
    Ok(api.off_thread(work).await)
}

fn compiled(at: usize, matcher: SilenceMatcher) -> Result<LabelMatcher, ApiError> {
    let op = match (matcher.is_regex, matcher.is_equal) {
        (false, true) => MatchOp::Equal,
        (false, false) => MatchOp::NotEqual,
        (true, true) => MatchOp::Regex,
        (true, false) => MatchOp::NotRegex,
    };
    LabelMatcher::new(matcher.name, op, matcher.value)
        .map_err(|error| bad_data(format!("invalid label matcher {at}: {}", error.0)))
}
