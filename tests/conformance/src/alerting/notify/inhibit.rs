//! Inhibition by single rules.

use alerting::notify::{AlertState, Limits, Notifier, Policy, PostedAlert};
use serde_json::{Value, json};
use settings::alertmanager::MatcherMode;

use super::{labels_of, load, pairs_of};

const NOW_NS: i64 = 1_000_000_000_000;

/// Labels that make an alert a source or a target where the table has rules without matchers.
const SOURCE: &str = "is_source";
const TARGET: &str = "is_target";

pub(super) fn check(case: &Value) -> Result<(), String> {
    if case["rule"].is_object() {
        return check_rule(case);
    }
    let rule = json!({
        "source_match": {SOURCE: "1"},
        "target_match": {TARGET: "1"},
        "equal": case["equal"],
    });
    let mut notifier = notifier(&rule)?;
    for alert in case["source_alerts"].as_array().into_iter().flatten() {
        let mut alert = alert.clone();
        alert["labels"][SOURCE] = json!("1");
        put(&mut notifier, &alert)?;
    }
    let mut target = case["target"].clone();
    target[TARGET] = json!("1");
    expect(&notifier, &target, case["has_equal"].as_bool() == Some(true))
}

fn check_rule(case: &Value) -> Result<(), String> {
    let mut notifier = notifier(&case["rule"])?;
    for alert in case["alerts_in_order"].as_array().into_iter().flatten() {
        put(&mut notifier, alert)?;
    }
    for wanted in case["expect_muted"].as_array().into_iter().flatten() {
        expect(&notifier, &wanted["labels"], wanted["muted"].as_bool() == Some(true))?;
    }
    Ok(())
}

fn notifier(rule: &Value) -> Result<Notifier, String> {
    let config = json!({
        "route": {"receiver": "r"},
        "receivers": [{"name": "r"}],
        "inhibit_rules": [rule],
    });
    let mode = MatcherMode::Fallback;
    let loaded = load(&config.to_string(), mode).map_err(|faults| faults.render())?;
    let policy = Policy::new(&loaded.config, mode);
    Ok(Notifier::new(policy, Limits::default(), NOW_NS, 0))
}

/// Posts an alert; one that is not active ended a while ago.
fn put(notifier: &mut Notifier, alert: &Value) -> Result<(), String> {
    let active = alert["active"].as_bool() == Some(true);
    let minutes = |minutes: i64| Some(NOW_NS + minutes * 60_000_000_000);
    let posted = PostedAlert {
        labels: pairs_of(&alert["labels"]),
        starts_at_ns: minutes(-10),
        ends_at_ns: minutes(if active { 60 } else { -5 }),
        ..PostedAlert::default()
    };
    let taken = notifier.put_alerts(vec![posted], NOW_NS);
    taken.into_iter().try_for_each(|one| one.map(drop).map_err(|error| error.to_string()))
}

fn expect(notifier: &Notifier, labels: &Value, wanted: bool) -> Result<(), String> {
    let status = notifier.would_be_muted(&labels_of(labels)?, NOW_NS);
    let muted = status.state == AlertState::Suppressed;
    if muted == wanted {
        Ok(())
    } else {
        Err(format!("{labels} muted: want {wanted}, got {muted}"))
    }
}
