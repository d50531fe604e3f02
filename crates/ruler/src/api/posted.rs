//! Alerts and silences as somebody posts them, and what is checked of them before anything else.
//!
//! Source: Alertmanager, `api/v2/openapi.yaml`: which fields must be there is checked in the order in
//! which the code that is generated from it checks them, by their names.

use std::collections::BTreeMap;

use alerting::notify::{PostedAlert, PostedSilence, SilenceMatcher};
use serde::Deserialize;
use settings::alertmanager::IntervalSpec;

use super::answer::{INVALID_TYPE, REQUIRED, Refusal, TOO_FEW_ITEMS};
use super::body::AtMost;
use super::moment::Moment;

/// Most alerts in one request.
const MAX_ALERTS: usize = 50_000;
/// Most matchers and intervals that are read of a silence; the engine allows fewer.
const MAX_PARTS: usize = 10_000;

/// Labels or annotations. Go reads `null` as an empty text.
type Texts = BTreeMap<String, Option<String>>;

/// Alerts in one request.
pub(super) type AlertBodies = Option<AtMost<Option<AlertBody>, MAX_ALERTS>>;

/// An alert as it is posted. Fields that are not known are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AlertBody {
    labels: Option<Texts>,
    annotations: Option<Texts>,
    starts_at: Option<Moment>,
    ends_at: Option<Moment>,
    #[serde(rename = "generatorURL")]
    generator_url: Option<String>,
}

/// The alerts of a request.
///
/// # Errors
/// One lacks its labels, or its URL is none; none of them is taken then.
pub(super) fn alerts(bodies: AlertBodies) -> Result<Vec<PostedAlert>, Refusal> {
    let bodies = bodies.map(|list| list.0).unwrap_or_default();
    bodies.into_iter().enumerate().map(|(at, body)| alert(at, body)).collect()
}

fn alert(at: usize, body: Option<AlertBody>) -> Result<PostedAlert, Refusal> {
    let required =
        |what: &str| Refusal::invalid(REQUIRED, format!("{at}{what} in body is required"));
    let body = body.ok_or_else(|| required(""))?;
    let labels = body.labels.ok_or_else(|| required(".labels"))?;
    let generator_url = body.generator_url.unwrap_or_default();
    if !generator_url.is_empty() && !is_request_uri(&generator_url) {
        let message = format!("{at}.generatorURL in body must be of type uri: {generator_url:?}");
        return Err(Refusal::invalid(INVALID_TYPE, message));
    }
    Ok(PostedAlert {
        labels: texts(labels).collect(),
        annotations: texts(body.annotations.unwrap_or_default()).collect(),
        starts_at_ns: body.starts_at.and_then(Moment::said),
        ends_at_ns: body.ends_at.and_then(Moment::said),
        generator_url,
    })
}

fn texts(texts: Texts) -> impl Iterator<Item = (String, String)> {
    texts.into_iter().map(|(name, value)| (name, value.unwrap_or_default()))
}

/// Whether Go's `url.ParseRequestURI` takes a text: an absolute URL or an absolute path.
fn is_request_uri(text: &str) -> bool {
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return false;
    }
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    let rest = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => rest,
        _ if text.starts_with('/') => text,
        _ => return false,
    };
    let Some(behind) = rest.strip_prefix("//").filter(|_| rest != text) else {
        // Behind a scheme anything goes that is no path; a path has its escapes checked.
        return !rest.starts_with('/') || has_good_escapes(before_query(rest));
    };
    let (authority, path) = match behind.find(['/', '?']) {
        Some(at) => behind.split_at(at),
        None => (behind, ""),
    };
    is_authority(authority) && has_good_escapes(before_query(path))
}

fn before_query(text: &str) -> &str {
    text.split('?').next().unwrap_or_default()
}

fn is_authority(authority: &str) -> bool {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let (name, port) = if let Some(inner) = host.strip_prefix('[') {
        let Some((name, behind)) = inner.split_once(']') else { return false };
        match behind.strip_prefix(':') {
            Some(port) => (name, port),
            None if behind.is_empty() => (name, ""),
            None => return false,
        }
    } else {
        host.rsplit_once(':').unwrap_or((host, ""))
    };
    let forbidden = |c: char| c == ' ' || "\"<>\\^`{|}".contains(c);
    is_port(port) && !name.contains(forbidden)
}

/// Whether each `%` has two hexadecimal digits behind it.
fn has_good_escapes(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|part| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

/// A silence as it is posted.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SilenceBody {
    id: Option<String>,
    matchers: Option<AtMost<Option<MatcherBody>, MAX_PARTS>>,
    starts_at: Option<Moment>,
    ends_at: Option<Moment>,
    created_by: Option<String>,
    comment: Option<String>,
    annotations: Option<Texts>,
    /// Our own: when it holds between its ends.
    intervals: Option<AtMost<IntervalSpec, MAX_PARTS>>,
}

/// A matcher of a silence.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MatcherBody {
    name: Option<String>,
    value: Option<String>,
    is_regex: Option<bool>,
    is_equal: Option<bool>,
}

/// The silence of a request.
///
/// # Errors
/// Something is missing.
pub(super) fn silence(body: Option<SilenceBody>) -> Result<PostedSilence, Refusal> {
    let body = body.unwrap_or_default();
    let comment = body.comment.ok_or_else(|| required("comment"))?;
    let created_by = body.created_by.ok_or_else(|| required("createdBy"))?;
    let ends_at = body.ends_at.ok_or_else(|| required("endsAt"))?;
    let matchers = matchers(body.matchers.map(|list| list.0))?;
    let starts_at = body.starts_at.ok_or_else(|| required("startsAt"))?;
    Ok(PostedSilence {
        id: body.id.unwrap_or_default(),
        matchers,
        starts_at_ns: Some(starts_at.ns),
        ends_at_ns: ends_at.ns,
        created_by,
        comment,
        annotations: texts(body.annotations.unwrap_or_default()).collect(),
        intervals: body.intervals.map(|list| list.0).unwrap_or_default(),
    })
}

/// Matchers, of which there must be one.
pub(super) fn matchers(
    bodies: Option<Vec<Option<MatcherBody>>>,
) -> Result<Vec<SilenceMatcher>, Refusal> {
    let bodies = bodies.ok_or_else(|| required("matchers"))?;
    if bodies.is_empty() {
        let message = "matchers in body should have at least 1 items";
        return Err(Refusal::invalid(TOO_FEW_ITEMS, message));
    }
    let matcher = |(at, body): (usize, Option<MatcherBody>)| {
        let place = format!("matchers.{at}");
        let body = body.ok_or_else(|| required(&place))?;
        let within = |field: &str| required(&format!("{place}.{field}"));
        let is_regex = body.is_regex.ok_or_else(|| within("isRegex"))?;
        let name = body.name.ok_or_else(|| within("name"))?;
        let value = body.value.ok_or_else(|| within("value"))?;
        Ok(SilenceMatcher { name, value, is_regex, is_equal: body.is_equal.unwrap_or(true) })
    };
    bodies.into_iter().enumerate().map(matcher).collect()
}

fn required(place: &str) -> Refusal {
    Refusal::invalid(REQUIRED, format!("{place} in body is required"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_that_is_posted_panics(text in "[^\\x00]{0,60}", at in 0..7_usize) {
            let _ = is_request_uri(&text);
            let _ = is_request_uri(&format!("http://{text}"));
            let _ = Moment::parse(&text);
            let value = serde_json::Value::from(text.as_str());
            let keys = ["labels", "annotations", "startsAt", "endsAt", "generatorURL", "id", "matchers"];
            let body = serde_json::json!([{ "labels": { "a": "b" }, keys[at]: value }]).to_string();
            let alerts = serde_json::from_str(&body).map(alerts);
            prop_assert!(alerts.is_err() || at > 1);
            let body = serde_json::json!({ "comment": "", "createdBy": "", keys[at]: value });
            let _ = serde_json::from_value(body).map(silence);
        }
    }

    #[test]
    fn urls_are_those_go_takes() {
        for good in [
            "http://x/y",
            "http://prometheus:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
            "https://[::1]:9090/",
            "http://u:p@h/",
            "/graph",
            "mailto:a@b",
            "http://x/a b",
            "http://x",
            "http:///x",
        ] {
            assert!(is_request_uri(good), "{good}");
        }
        for bad in [
            ":x",
            "not a url",
            "relative/x",
            "http://[::1",
            "http://x:y/",
            "/%zz",
            "http://x/%e4%",
            "a\nb",
            "http://a b/",
        ] {
            assert!(!is_request_uri(bad), "{bad}");
        }
    }

    #[test]
    fn fields_that_are_missing_are_told_by_their_places() {
        let told = |text: &str| {
            let body = serde_json::from_str(text).expect(text);
            match silence(body).expect_err(text) {
                Refusal::Unreadable { code, message, .. } => (code, message),
                other => panic!("{other:?}"),
            }
        };
        let of = |what: &str| (REQUIRED, format!("{what} in body is required"));
        assert_eq!(told("null"), of("comment"));
        assert_eq!(told(r#"{"comment":""}"#), of("createdBy"));
        assert_eq!(told(r#"{"comment":"","createdBy":""}"#), of("endsAt"));
        let rest = r#""comment":"","createdBy":"","endsAt":"2030-01-01T00:00:00Z""#;
        assert_eq!(told(&format!("{{{rest}}}")), of("matchers"));
        assert_eq!(told(&format!(r#"{{{rest},"matchers":[]}}"#)).0, TOO_FEW_ITEMS);
        assert_eq!(told(&format!(r#"{{{rest},"matchers":[null]}}"#)), of("matchers.0"));
        let matcher = r#"{"name":"a","value":"b","isRegex":false}"#;
        assert_eq!(
            told(&format!(r#"{{{rest},"matchers":[{matcher},{{"name":"a"}}]}}"#)),
            of("matchers.1.isRegex")
        );
        assert_eq!(told(&format!(r#"{{{rest},"matchers":[{matcher}]}}"#)), of("startsAt"));
    }
}
