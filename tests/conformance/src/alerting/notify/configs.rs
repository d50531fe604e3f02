//! Whole configurations, and parts of them.

use serde_json::Value;
use settings::Faults;
use settings::alertmanager::receivers::parse_integration;
use settings::alertmanager::{HostPort, MatcherMode, check_templated_url, parse_route};

use super::{FILE, load, says, text_of};

/// A configuration and whether it is taken. The tests these come from read names and matchers
/// classically.
pub(super) fn check(case: &Value) -> Result<(), String> {
    let loaded = load(text_of(case, "yaml"), MatcherMode::Classic);
    verdict(case, loaded.map(drop).map_err(|faults| told(&faults)))
}

/// What a refusal says, if it has a place and a caret for each fault.
fn told(faults: &Faults) -> String {
    let rendered = faults.render();
    for fault in faults.iter().filter(|fault| fault.line > 0) {
        let place = format!("{}:{}:{}: error: ", fault.file, fault.line, fault.column);
        if !rendered.contains(&place) || !rendered.contains('^') {
            return format!("no place in:\n{rendered}");
        }
    }
    faults.to_string()
}

fn verdict(case: &Value, got: Result<(), String>) -> Result<(), String> {
    match (text_of(case, "expect"), got) {
        ("ok", Ok(())) => Ok(()),
        ("ok", Err(said)) => Err(format!("must be accepted, but: {said}")),
        ("error", Ok(())) => Err(format!("must be refused: {}", wanted(case))),
        ("error", Err(said)) => says(&said, wanted(case)),
        (other, _) => Err(format!("verdict {other:?} is not known")),
    }
}

/// What a refusal must say; empty if anything will do.
fn wanted(case: &Value) -> &str {
    let inner = &case["case"];
    [&case["error"], &inner["expectedErr"], &inner["expected"], &inner["errorMsg"]]
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or_default()
}

/// Types of Alertmanager's source and the keys of receivers.
const RECEIVERS: &[(&str, &str)] = &[
    ("DiscordConfig", "discord_configs"),
    ("EmailConfig", "email_configs"),
    ("IncidentioConfig", "incidentio_configs"),
    ("JiraConfig", "jira_configs"),
    ("MSTeamsConfig", "msteams_configs"),
    ("MSTeamsV2Config", "msteamsv2_configs"),
    ("MattermostConfig", "mattermost_configs"),
    ("OpsGenieConfig", "opsgenie_configs"),
    ("PagerdutyConfig", "pagerduty_configs"),
    ("PushoverConfig", "pushover_configs"),
    ("RocketchatConfig", "rocketchat_configs"),
    ("SNSConfig", "sns_configs"),
    ("SlackConfig", "slack_configs"),
    ("TelegramConfig", "telegram_configs"),
    ("VictorOpsConfig", "victorops_configs"),
    ("WebexConfig", "webex_configs"),
    ("WebhookConfig", "webhook_configs"),
    ("WechatConfig", "wechat_configs"),
];

/// A part of a configuration by its type in Alertmanager's source.
pub(super) fn check_part(case: &Value) -> Result<(), String> {
    let (kind, yaml) = (text_of(case, "type"), text_of(case, "yaml"));
    if let Some((_, key)) = RECEIVERS.iter().find(|(name, _)| *name == kind) {
        let parsed = parse_integration(key, FILE, yaml.as_bytes());
        return verdict(case, parsed.map(drop).map_err(|faults| told(&faults)));
    }
    let got = match kind {
        "HostPort" => host_port(&scalar(yaml), &case["case"]["exp"]),
        "SecretTemplURL" | "SecretTemplateURL" => check_templated_url(&scalar(yaml)),
        "Matchers" | "Route" => {
            let yaml = if kind == "Route" { yaml.to_owned() } else { format!("matchers: {yaml}") };
            let route = parse_route(FILE, yaml.as_bytes(), MatcherMode::Classic);
            route.map(drop).map_err(|faults| told(&faults))
        }
        other => return Err(format!("type {other:?} is not known")),
    };
    verdict(case, got)
}

/// The text of a document that is one, quoted or plain.
fn scalar(yaml: &str) -> String {
    let text = yaml.trim();
    serde_json::from_str(text).unwrap_or_else(|_| text.trim_matches('\'').to_owned())
}

fn host_port(text: &str, wanted: &Value) -> Result<(), String> {
    // Nothing is no address, and no fault.
    if text.is_empty() {
        return Ok(());
    }
    let parsed = HostPort::parse(text)?;
    let part = |key: &str| wanted[key].as_str().unwrap_or_default();
    if wanted.is_object() && (part("Host"), part("Port")) != (&*parsed.host, &*parsed.port) {
        return Err(format!("taken apart as {parsed:?}"));
    }
    Ok(())
}
