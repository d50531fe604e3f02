//! Templates of notifications as a whole.

use super::*;
use model::go_time::GoTime;

#[expect(clippy::disallowed_methods, reason = "a test reads the zones of its host")]
fn templates() -> Templates {
    let zones = |name: &str| {
        let file = std::fs::read(format!("/usr/share/zoneinfo/{name}")).ok()?;
        Some(Arc::from(file))
    };
    Templates::new(NOTICE_LIMITS, Arc::new(zones))
}

fn kv(pairs: &[(&str, &str)]) -> Kv {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn alert(status: &str, labels: &[(&str, &str)]) -> DataAlert {
    DataAlert {
        status: status.to_owned(),
        labels: kv(labels),
        annotations: kv(&[("summary", "it <is> down")]),
        starts_at: GoTime::from_unix(1_700_000_000, 0),
        ends_at: GoTime::zero(),
        generator_url: "http://p/graph?a=b&c".to_owned(),
        fingerprint: "00ff".to_owned(),
    }
}

fn data() -> Data {
    let alerts = vec![
        alert("firing", &[("alertname", "Down"), ("instance", "a"), ("severity", "warning")]),
        alert("resolved", &[("alertname", "Down"), ("instance", "b"), ("severity", "critical")]),
    ];
    Data {
        external_url: "http://w:9093".to_owned(),
        now_ns: 1_700_000_090_000_000_000,
        ..Data::of("team (a)", kv(&[("alertname", "Down")]), alerts)
    }
}

fn check(text: &str, want: &str) {
    assert_eq!(templates().text(text, &data()).as_deref(), Ok(want), "{text}");
}

#[test]
fn data_and_their_methods() {
    for (text, want) in [
        ("{{ .Receiver }} {{ .Status }} {{ len .Alerts }}", "team \\(a\\) firing 2"),
        ("{{ .CommonLabels }}", "alertname=Down"),
        ("{{ range .Alerts.Firing }}{{ .Labels.instance }}{{ end }}", "a"),
        (
            "{{ range .Alerts }}{{ .Labels.SortedPairs.Names.Join \",\" }};{{ end }}",
            "alertname,instance,severity;alertname,instance,severity;",
        ),
        (
            "{{ (index .Alerts 0).Labels.Remove (stringSlice \"alertname\") }}",
            "instance=a, severity=warning",
        ),
        (
            "{{ (index .Alerts 1).StartsAt.Format \"15:04\" }} {{ (index .Alerts 0).EndsAt.IsZero }}",
            "22:13 true",
        ),
        ("{{ since (index .Alerts 0).StartsAt | humanizeDuration }}", "1m 30s"),
        (
            "{{ (index .Alerts 0).StartsAt | tz \"Asia/Shanghai\" | date \"2006-01-02 15:04 MST\" }}",
            "2023-11-15 06:13 CST",
        ),
        ("{{ template \"__subject\" . }}", "[FIRING:1] Down "),
        ("{{ template \"jira.default.priority\" . }}", "Medium"),
        (
            "{{ define \"__alertmanager\" }}W{{ end }}{{ template \"slack.default.username\" . }}",
            "W",
        ),
    ] {
        check(text, want);
    }
}

#[test]
fn a_file_of_the_user_takes_the_place_of_defaults() {
    let mut templates = templates();
    let file = "{{ define \"slack.default.title\" }}{{ .Status | title }}{{ end }}\n";
    assert_eq!(templates.add_file("/etc/t/own.tmpl", file), Ok(()));
    let title = templates.text("{{ template \"slack.default.fallback\" . }}", &data());
    assert_eq!(title.as_deref(), Ok("Firing | http://w:9093/#/alerts?receiver=team+%5C%28a%5C%29"));
    let error = templates.add_file("/etc/t/bad.tmpl", "\n{{ nope }}").expect_err("no template");
    assert_eq!(error.to_string(), "template: bad.tmpl:2: function \"nope\" not defined");
}

#[test]
fn mails_escape_what_alerts_say() {
    let html = templates().html("{{ template \"email.default.html\" . }}", &data());
    let html = html.expect("a mail");
    assert!(html.contains("it &lt;is&gt; down"), "{html}");
    assert!(html.contains("href=\"http://p/graph?a=b&amp;c\""), "{html}");
    assert!(html.contains("[1] Firing") && html.contains("[1] Resolved"), "{html}");
    let unsafe_url = Data {
        alerts: vec![DataAlert {
            generator_url: "javascript:alert(1)".to_owned(),
            ..alert("firing", &[])
        }],
        ..data()
    };
    let html = templates().html("{{ template \"email.default.html\" . }}", &unsafe_url);
    assert!(html.expect("a mail").contains("href=\"#ZgotmplZ\""));
}

#[test]
fn labels_of_routes_may_name_one_another() {
    let data = Data {
        route_labels: kv(&[
            ("a", "{{ routeLabels \"b\" }}!"),
            ("b", "{{ .Status }}"),
            ("c", "{{ routeLabels \"d\" }}"),
            ("d", "{{ routeLabels \"c\" }}"),
        ]),
        ..data()
    };
    let run = |text: &str| templates().text(text, &data).map_err(|error| error.to_string());
    assert_eq!(run("{{ routeLabels \"a\" }}{{ routeLabels \"no\" }}").as_deref(), Ok("firing!"));
    let error = run("{{ routeLabels \"c\" }}").expect_err("a cycle");
    assert!(error.contains("route label cycle detected: c -> d -> c"), "{error}");
    let rendered = Data { route_labels_rendered: true, ..data.clone() };
    let text = templates().text("{{ routeLabels \"b\" }}", &rendered);
    assert_eq!(text.as_deref(), Ok("{{ .Status }}"));
}

#[test]
fn a_notification_cannot_eat_the_process() {
    let templates = templates();
    let limits = Limits::default();
    let templates = Templates { limits, ..templates };
    for text in [
        "{{ $l := list }}{{ range 100000 }}{{ $l = append $l 1 }}{{ end }}",
        "{{ $l := list 1 }}{{ range 100 }}{{ $l = list $l $l }}{{ end }}{{ $l }}",
        "{{ $l := list 1 }}{{ range 100 }}{{ $l = list $l $l }}{{ end }}{{ toJson $l }}",
        "{{ $l := list 1 }}{{ range 100 }}{{ $l = list $l $l }}{{ end }}{{ printf \"%s\" $l }}",
        "{{ $l := list 1 }}{{ range 100 }}{{ $l = list $l $l }}{{ end }}{{ join \",\" $l }}",
        "{{ $l := list 1 }}{{ range 100000 }}{{ $l = list $l }}{{ end }}",
        "{{ define \"a\" }}{{ if true }}{{ with 1 }}{{ template \"a\" }}{{ end }}{{ end }}{{ end }}{{ template \"a\" }}",
    ] {
        #[expect(clippy::disallowed_methods, reason = "a test measures how long it takes")]
        let started = std::time::Instant::now();
        assert!(templates.text(text, &data()).is_err(), "{text}");
        assert!(started.elapsed().as_secs() < 20, "{text}");
    }
}
