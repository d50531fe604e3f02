//! `/api/v2/silences` and `/api/v2/silence/{id}`.

use std::cmp::Reverse;
use std::sync::Arc;

use alerting::notify::{Silence, SilenceError, SilenceMatcher, SilenceState};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use model::MatchOp;
use net::auth::Principal;
use serde_json::json;
use settings::alertmanager::LabelMatcher;

use super::answer::{self, INVALID_TYPE, Refusal};
use super::asked::Asked;
use super::shown::ShownSilence;
use super::{Api, body, posted};

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    principal: Principal,
    uri: Uri,
) -> Result<Response, Refusal> {
    let asked = Asked::of(&uri)?;
    let notifications = api.notifications()?;
    let mode = notifications.configuration().mode;
    let matchers = asked.matchers("filter", mode).map_err(Refusal::bad)?;
    if !answer::sees_alerts(&principal) {
        return Ok(answer::ok(&[(); 0]));
    }
    let wants = |silence: &Silence, now_ns: i64| match silence.state(now_ns) {
        SilenceState::Active => asked.wants("active"),
        SilenceState::Pending => asked.wants("pending"),
        SilenceState::Expired => asked.wants("expired"),
    };
    let (mut silences, now_ns) = notifications.look(|notifier, now_ns| {
        let fits = |silence: &&Silence| wants(silence, now_ns) && has_all(silence, &matchers);
        let silences: Vec<Silence> = notifier.silences().filter(fits).cloned().collect();
        (silences, now_ns)
    });
    sort(&mut silences, now_ns);
    let shown: Vec<_> = silences.iter().map(|one| ShownSilence::of(one, now_ns)).collect();
    Ok(answer::ok(&shown))
}

/// Whether a silence has each of these matchers, as it is written.
fn has_all(silence: &Silence, matchers: &[LabelMatcher]) -> bool {
    let is_same = |own: &SilenceMatcher, matcher: &LabelMatcher| {
        let (is_regex, is_equal) = match matcher.op() {
            MatchOp::Equal => (false, true),
            MatchOp::NotEqual => (false, false),
            MatchOp::Regex => (true, true),
            MatchOp::NotRegex => (true, false),
        };
        own.name == matcher.name()
            && own.value == matcher.value()
            && (own.is_regex, own.is_equal) == (is_regex, is_equal)
    };
    matchers.iter().all(|matcher| silence.matchers.iter().any(|own| is_same(own, matcher)))
}

/// Those that hold first, the next to end before others; then those to come, the next one first; then
/// those that ended, the last one first.
fn sort(silences: &mut [Silence], now_ns: i64) {
    silences.sort_by_key(|silence| match silence.state(now_ns) {
        SilenceState::Active => (0, silence.ends_at_ns, Reverse(0)),
        SilenceState::Pending => (1, silence.starts_at_ns, Reverse(0)),
        SilenceState::Expired => (2, 0, Reverse(silence.ends_at_ns)),
    });
}

/// Adds a silence, or changes one. It is written down when this is answered.
pub(super) async fn post(
    State(api): State<Arc<Api>>,
    principal: Principal,
    request: Request,
) -> Result<Response, Refusal> {
    answer::check_tenant_of_v2(&principal)?;
    let body = body::read(request, "silence", &api.about.net_metrics).await?;
    let silence = posted::silence(body)?;
    let notifications = api.notifications()?;
    let failed = |why: &str| Err(Refusal::bad(format!("Failed to create silence: {why}")));
    let (starts_at_ns, ends_at_ns) = (silence.starts_at_ns.unwrap_or(i64::MIN), silence.ends_at_ns);
    if starts_at_ns >= ends_at_ns {
        return failed("start time must be before end time");
    }
    if ends_at_ns < notifications.now_ns() {
        return failed("end time can't be in the past");
    }
    match notifications.set_silence(silence).await.map_err(Refusal::NotSaved)? {
        Ok(id) => Ok(answer::ok(&json!({ "silenceID": id }))),
        Err(SilenceError::NotFound(_)) => {
            Err(Refusal::Unwanted(StatusCode::NOT_FOUND, "silence not found".to_owned()))
        }
        Err(error) => Err(Refusal::bad(error.to_string())),
    }
}

pub(super) async fn get(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    check_id(&id)?;
    let found = api.notifications()?.look(|notifier, now_ns| {
        notifier.silence(&id).map(|silence| answer::ok(&ShownSilence::of(silence, now_ns)))
    });
    let found = found.filter(|_| answer::sees_alerts(&principal));
    Ok(found.unwrap_or_else(|| answer::bare(StatusCode::NOT_FOUND)))
}

/// Ends a silence; one that has ended stays as it is.
pub(super) async fn expire(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    answer::check_tenant_of_v2(&principal)?;
    check_id(&id)?;
    match api.notifications()?.expire_silence(&id).await.map_err(Refusal::NotSaved)? {
        Ok(()) => Ok(answer::bare(StatusCode::OK)),
        Err(SilenceError::NotFound(_)) => Ok(answer::bare(StatusCode::NOT_FOUND)),
        Err(error) => Err(Refusal::bad(error.to_string())),
    }
}

/// A silence's name is a UUID, with or without dashes.
fn check_id(id: &str) -> Result<(), Refusal> {
    let digits = id.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = id.bytes().enumerate().filter(|(_, byte)| *byte == b'-');
    let in_place = dashes.clone().map(|(at, _)| at).eq([8, 13, 18, 23]);
    if digits == 32 && (id.len() == 32 || id.len() == 36 && in_place) {
        return Ok(());
    }
    let shown: String = id.chars().take(100).collect();
    let message = format!("silenceID in path must be of type uuid: {shown:?}");
    Err(Refusal::invalid(INVALID_TYPE, message))
}
