//! Templates of rules and notifications.

use std::collections::BTreeMap;
use std::sync::Arc;

use alerting::templates::notice::{Data, DataAlert, Templates};
use alerting::templates::rule::{self, QuerySample, RuleTemplate, SampleValue};
use gotemplate::Limits;
use model::go_time::GoTime;

use crate::input::text_of;

/// Small ones, so that what loops ends soon.
const LIMITS: Limits = Limits { steps: 2_000, text_bytes: 1 << 16, made_bytes: 1 << 20 };

fn kv(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A text is checked when it is loaded as it is read when it is expanded, and what comes out is no
/// longer than it may be; in HTML, what a label says never becomes a tag.
pub(crate) fn templates(bytes: &[u8]) {
    let text = text_of(bytes);
    rules(text);
    notices(text);
}

fn rules(text: &str) {
    let data = RuleTemplate {
        labels: kv(&[("instance", "h1:9100"), ("job", "node")]),
        external_labels: kv(&[("region", "eu")]),
        external_url: "http://w:9595/p".to_owned(),
        value: SampleValue::Float(0.25),
        now_ms: 1_700_000_000_500,
        limits: LIMITS,
    };
    let mut queries = |query: &str, _: i64| {
        let sample = |name: &str, value| QuerySample { labels: kv(&[("instance", name)]), value };
        match query {
            "" => Err("no query".to_owned()),
            _ => Ok(vec![
                sample("b", SampleValue::Float(f64::NAN)),
                sample("a", SampleValue::Histogram("{count:1}".to_owned())),
            ]),
        }
    };
    let made = rule::expand("__alert_a", text, &data, &mut queries);
    if rule::check(text).is_err() {
        assert!(made.is_err() || !text.contains("{{"), "{text}");
    }
    if let Ok(made) = made
        && text.contains("{{")
    {
        assert!(made.len() <= LIMITS.text_bytes, "{text}");
    }
}

fn notices(text: &str) {
    /// What no template writes by itself.
    const MARK: &str = "<x9q>";
    let alert = |status: &str| DataAlert {
        status: status.to_owned(),
        labels: kv(&[("alertname", "Down"), ("evil", MARK)]),
        annotations: kv(&[("summary", MARK)]),
        starts_at: GoTime::from_unix(1_700_000_000, 5),
        ends_at: GoTime::zero(),
        generator_url: format!("javascript:{MARK}"),
        fingerprint: "00ff".to_owned(),
    };
    let data = Data {
        route_labels: kv(&[("a", text), ("b", "{{ routeLabels \"a\" }}")]),
        external_url: "http://w:9093".to_owned(),
        ..Data::of("team", kv(&[("evil", MARK)]), vec![alert("firing"), alert("resolved")])
    };
    let templates = Templates::new(LIMITS, Arc::new(|_: &str| None));
    let _ = templates.text(text, &data);
    let Ok(html) = templates.html(text, &data) else { return };
    // Whoever declares something to be safe, or cuts it into pieces, is believed.
    let trusting = ["safe", "reReplaceAll", "slice", "x9q", "index", "js"];
    if !trusting.iter().any(|name| text.contains(name)) {
        assert!(!html.contains(MARK), "{text} -> {html}");
    }
}
