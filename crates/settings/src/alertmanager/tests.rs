//! Whole configurations.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::receivers::parse_integration;
use super::*;
use crate::Faults;
use crate::prometheus::Surroundings;

struct Files(BTreeMap<PathBuf, String>);

impl Surroundings for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.clone().into_bytes())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let below = self.0.keys().filter_map(|path| path.strip_prefix(directory).ok());
        let first = |path: &Path| Some(path.iter().next()?.to_string_lossy().into_owned());
        let mut names: Vec<String> = below.filter_map(first).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

fn load(text: &str) -> Result<Loaded, Faults> {
    let path = PathBuf::from("etc/alertmanager.yml");
    let files = Files([(path.clone(), text.to_owned())].into());
    Config::load(&path, MatcherMode::Fallback, &files)
}

/// A configuration whose receiver `r` has these keys.
fn with_receiver(keys: &str) -> Result<Loaded, Faults> {
    load(&format!("route: {{receiver: r}}\nreceivers:\n- name: r\n{keys}"))
}

fn only(loaded: &Loaded) -> &Integration {
    &loaded.config.receivers[0].integrations[0]
}

#[test]
fn what_is_global_is_inherited() {
    let loaded = load("route: {receiver: r}\n");
    let faults = loaded.expect_err("no receivers");
    assert!(faults.to_string().contains("undefined receiver \"r\" used in route"), "{faults}");
    let loaded = load(
        "global:\n  resolve_timeout: 1m\n  smtp_smarthost: 'mail:587'\n  smtp_from: a@b\n  \
         smtp_auth_password_file: pw\n  http_config: {proxy_url: 'http://proxy:1'}\n\
         templates: ['t/*.tmpl']\nroute: {receiver: r, group_by: [a]}\nreceivers:\n- name: r\n  \
         webhook_configs: [{url: 'http://x/'}, {url: 'http://y/', http_config: {}}]\n  \
         email_configs: [{to: c@d}]\n",
    )
    .expect("a configuration");
    let config = &loaded.config;
    assert_eq!(config.global.resolve_timeout, Duration::from_secs(60));
    assert_eq!(config.templates, ["etc/t/*.tmpl"]);
    let [first, second, mail] = config.receivers[0].integrations.as_slice() else {
        panic!("three integrations")
    };
    assert_eq!((first.kind(), first.index, second.index, mail.index), ("webhook", 0, 1, 0));
    assert!(first.http.proxy.proxy_url.is_some() && second.http.proxy.proxy_url.is_none());
    assert!(first.send_resolved && !mail.send_resolved);
    let IntegrationSettings::Email(mail) = &mail.settings else { panic!("mail") };
    assert_eq!(mail.smarthost.as_ref().expect("inherited").to_string(), "mail:587");
    assert_eq!(mail.auth_password, Credential::File("etc/pw".into()));
    assert_eq!(mail.require_tls, Some(true));
    assert_eq!(config.receivers[0].labels.get("name"), Some("r"));
}

#[test]
fn secrets_are_never_shown() {
    let loaded = with_receiver(
        "  webhook_configs: [{url: 'http://canary/'}]\n  \
         slack_configs: [{api_url: 'https://canary/', channel: c}]\n  \
         pagerduty_configs: [{routing_key: canary}]\n  \
         dingtalk_configs: [{url: 'https://canary/', secret: canary}]\n",
    )
    .expect("a configuration");
    let shown = format!("{:?} {}", loaded.config, loaded.redacted);
    assert!(!shown.contains("canary"), "{shown}");
    assert!(loaded.redacted.contains("<secret>"));
    let faults = with_receiver("  webhook_configs: [{url: 'ftp://canary/', max: 1}]\n")
        .expect_err("a scheme");
    assert!(!faults.to_string().contains("canary"), "{faults}");
    assert!(faults.to_string().contains("unsupported scheme"), "{faults}");
    assert!(faults.render().contains("did you mean `max_alerts`?"), "{}", faults.render());
}

#[test]
fn every_fault_is_told_at_once() {
    let faults = load(
        "route:\n  receiver: teem\n  matchers: [a=b]\n  routes:\n  - {mute_time_intervals: [x], \
         group_interval: 0s, matchers: ['a=~\"[\"']}\nreceivers:\n- name: team\n- name: team\n\
         - {}\ntime_intervals: [{name: x2, time_intervals: [{weekdays: [funday]}]}]\n",
    )
    .expect_err("much is wrong");
    let said = faults.render();
    for want in [
        "undefined receiver \"teem\" used in route",
        "did you mean \"team\"?",
        "root route must not have any matchers",
        "undefined time interval \"x\" used in route",
        "group_interval cannot be zero",
        "error parsing regexp: missing closing ]",
        "notification config name \"team\" is not unique",
        "missing name in receiver",
        "funday is not a valid weekday",
    ] {
        assert!(said.contains(want), "{want} is missing in\n{said}");
    }
}

#[test]
fn slacks_token_becomes_a_header() {
    let loaded = load(
        "global: {slack_app_token_file: /t}\nroute: {receiver: r}\nreceivers:\n- name: r\n  \
         slack_configs: [{channel: a}, {channel: b, api_url: 'https://h/'}, {channel: c, \
         http_config: {authorization: {credentials: x}}, \
         api_url: 'https://slack.com/api/chat.postMessage', update_message: true}]\n",
    )
    .expect("a configuration");
    let [app, webhook, bot] = loaded.config.receivers[0].integrations.as_slice() else {
        panic!("three integrations")
    };
    let authorization = app.http.authorization.as_ref().expect("the token");
    assert_eq!(authorization.credentials_file.as_deref(), Some(Path::new("/t")));
    let IntegrationSettings::Slack(slack) = &app.settings else { panic!("Slack") };
    assert!(matches!(&slack.api_url, Credential::Inline(url) if url.reveal().contains("slack")));
    assert!(webhook.http.authorization.is_none() && bot.http.authorization.is_some());
}

#[test]
fn own_receivers_are_read() {
    let loaded = with_receiver(
        "  dingtalk_configs: [{url_file: u, secret_file: s, message_type: text, keyword: 告警, at: \
         {mobiles: ['1'], all: true}, timeout: 1.5s}]\n  \
         feishu_configs: [{url: 'https://f/', at: {user_ids: [u]}}]\n",
    )
    .expect("a configuration");
    assert_eq!(only(&loaded).timeout, Some(Duration::from_millis(1_500)));
    let IntegrationSettings::DingTalk(dingtalk) = &only(&loaded).settings else {
        panic!("DingTalk")
    };
    assert_eq!(dingtalk.message_type, receivers::DingTalkMessage::Text);
    assert!(dingtalk.at_all && dingtalk.keyword == "告警");
    let faults = with_receiver("  feishu_configs: [{url: 'https://f/', message_type: x}]\n")
        .expect_err("a type");
    assert!(faults.to_string().contains("unknown message_type \"x\""), "{faults}");
}

#[test]
fn inhibition_has_one_source_or_several() {
    let loaded = load(
        "route: {receiver: r}\nreceivers: [{name: r}]\ninhibit_rules:\n\
         - {source_match: {a: b}, target_match_re: {c: d}, equal: [y, x, y]}\n\
         - {sources: [{matchers: [a=b], equal: [x]}, {matchers: [c=d]}], target_matchers: [e=f]}\n",
    )
    .expect("a configuration");
    let [one, several] = loaded.config.inhibit_rules.as_slice() else { panic!("two rules") };
    assert_eq!(one.sources[0].equal, ["x", "y"]);
    assert_eq!(matchers_text(&one.target_matchers), "{c=~\"^(?:d)$\"}");
    assert_eq!(several.sources.len(), 2);
    let both = "route: {receiver: r}\nreceivers: [{name: r}]\ninhibit_rules:\n\
                - {sources: [{matchers: [a=b]}], equal: [x], target_matchers: [e=f]}\n";
    assert!(load(both).expect_err("both").to_string().contains("sources cannot be used"));
}

#[test]
fn nothing_is_no_configuration() {
    for text in ["", "# nothing\n", "~\n"] {
        let faults = load(text).expect_err(text);
        assert!(faults.to_string().contains("no route provided in config"), "{faults}");
    }
    assert!(load("BAD\n").is_err());
    assert!(load("route:\n  receiver: a\n  continue: true\nreceivers: [{name: a}]\n").is_err());
}

#[test]
fn integrations_stand_alone() {
    let webhook = parse_integration("webhook_configs", "f", b"{url: 'http://h/', timeout: 500ms}");
    assert_eq!(webhook.expect("one").timeout, Some(Duration::from_millis(500)));
    assert!(parse_integration("webhook_configs", "f", b"").is_err());
    assert!(parse_integration("pigeon_configs", "f", b"").is_err());
    let payload = "{url: 'http://h/', payload: {a: [1, true, '{{ .Status }}', 1.5, ~]}}";
    let webhook = parse_integration("webhook_configs", "f", payload.as_bytes()).expect("one");
    let IntegrationSettings::Webhook(webhook) = &webhook.settings else { panic!("a webhook") };
    let payload = webhook.payload.as_ref().expect("a payload").to_string();
    assert_eq!(payload, r#"{"a":[1,true,"{{ .Status }}",1.5,null]}"#);
}

#[test]
fn what_only_the_classic_syntax_has_is_remarked() {
    let loaded =
        load("route: {receiver: r, routes: [{matchers: ['a=!b']}]}\nreceivers: [{name: r}]\n")
            .expect("a configuration");
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].message.contains("`a=\"!b\"`"), "{}", loaded.warnings[0]);
}

const MUCH: &str = "global: {smtp_smarthost: 'm:1', smtp_from: a}\nroute:\n  receiver: r\n  group_by: \
                    [a]\n  routes:\n  - {matchers: ['a=~\"b\"', c!=d], group_wait: 1s, \
                    active_time_intervals: [t], labels: {x: y}}\nreceivers:\n- name: r\n  \
                    webhook_configs: [{url: 'http://h/{{ .x }}', payload: {a: [b]}, http_config: \
                    {basic_auth: {username: u}}}]\n  email_configs: [{to: x, headers: {s: t}}]\n  \
                    jira_configs: [{api_url: 'http://j', project: p, issue_type: i, fields: {a: \
                    {b: c}}}]\ninhibit_rules: [{source_match: {a: b}, target_match_re: {c: d}, \
                    equal: [e]}]\ntime_intervals: [{name: t, time_intervals: [{times: \
                    [{start_time: '01:00', end_time: '02:00'}], days_of_month: ['-1'], location: \
                    UTC}]}]\nevent_recorder: {stdout_outputs: [{}]}\ntracing: {endpoint: e}\n";

proptest::proptest! {
    /// A file that somebody damaged is refused or taken, and says where it is wrong.
    #[test]
    fn damaged_files_do_no_harm(
        at in 0..MUCH.len(),
        cut in 0_usize..40,
        text in "[a-z:{}\\[\\]'\"~ \n-]{0,8}",
    ) {
        let end = (at + cut).min(MUCH.len());
        if let Err(faults) = load(&format!("{}{text}{}", &MUCH[..at], &MUCH[end..])) {
            let _ = (faults.to_string(), faults.render());
        }
    }
}

#[test]
fn a_configuration_with_much_in_it_is_taken() {
    let loaded = load(MUCH).unwrap_or_else(|faults| panic!("{}", faults.render()));
    assert_eq!(loaded.config.receivers[0].integrations.len(), 3);
    let warned: Vec<&str> = loaded.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(warned.len(), 2, "{warned:?}");
}

#[test]
fn files_that_are_named_are_looked_for() {
    let text = "templates: ['t/*/*.tmpl', /abs/one.tmpl, none/*]\nroute: {receiver: r}\n\
                receivers: [{name: r, webhook_configs: [{url_file: secret}]}]\n";
    let path = PathBuf::from("etc/alertmanager.yml");
    let named = ["etc/t/b/x.tmpl", "etc/t/a/y.tmpl", "etc/t/a/z.txt", "/abs/one.tmpl"];
    let mut files = Files(named.iter().map(|name| (name.into(), String::new())).collect());
    files.0.insert(path.clone(), text.to_owned());
    let loaded = Config::load(&path, MatcherMode::Fallback, &files).expect("a configuration");
    let templates: Vec<PathBuf> =
        ["etc/t/a/y.tmpl", "etc/t/b/x.tmpl", "/abs/one.tmpl"].iter().map(PathBuf::from).collect();
    assert_eq!(loaded.template_files(&files), templates);
    let found: Vec<String> = loaded.check(&files).iter().map(|f| f.message.clone()).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("none/*") && found[1].contains("etc/secret"), "{found:?}");
}
