//! A console over several brokers of one cluster, and over several clusters.

use std::time::{Duration, Instant};

use axum::body::Body;
use console::{Data, LiveEvents};
use http::{Request, StatusCode};
use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, MetricBatch, TenantName};
use serde_json::{Value, json};

use super::super::now_ms;
use super::support::{Shown, Stored, Way, ask, json, send};
use super::{form_urlencoded, histogram};

const FAST: &str = "storage:\n  flush_interval: 100ms\n";

/// Random numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

fn series(name: &str, pairs: &[(&str, &str)]) -> Labels {
    let pairs = [("__name__", name)].into_iter().chain(pairs.iter().copied());
    Labels::from_pairs(pairs).expect("labels")
}

fn one(name: &str, t_ms: i64, value: f64) -> MetricBatch {
    let mut batch = MetricBatch::default();
    batch.push(&series(name, &[("job", "a")]), t_ms, value);
    batch
}

/// Flags for the clusters, joined.
async fn flags(clusters: &[(&str, &Stored)]) -> Vec<String> {
    let mut flags = Vec::new();
    for (name, stored) in clusters {
        flags.push("--cluster".to_owned());
        flags.push(format!("{name}={}", stored.address(0)));
        flags.push("--join".to_owned());
        flags.push(format!("{name}={}", stored.token().await));
    }
    flags
}

async fn shown(clusters: &[(&str, &Stored)], others: &[&str]) -> Shown {
    let flags = flags(clusters).await;
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(others.iter().copied()).collect();
    Shown::start(&flags, FAST).await
}

fn instant(query: &str, t_ms: i64) -> String {
    format!("/api/v1/query?query={}&time={}", form_urlencoded(query), t_ms as f64 / 1e3)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_broker_of_a_cluster_is_not_noticed() {
    let stored = Stored::start(FAST, 3).await;
    let t_ms = now_ms();
    stored.ingest(DEFAULT_TENANT, one("m", t_ms, 1.0)).await;
    let mut ways = Vec::new();
    for port in 0..3 {
        ways.push(Way::to(stored.address(port)).await);
    }
    let [silent, dying, last] = &ways[..] else { panic!("three ways") };
    let brokers = [silent, dying, last].map(|way| way.address.clone()).join(",");
    let token = stored.token().await;
    // Joined at one of them, its certificate is good at each.
    let shown = Shown::start(&["--broker", &brokers, "--join", &token], FAST).await;
    let range = format!(
        "/api/v1/query_range?query=m&start={}&end={}&step=1",
        t_ms / 1_000 - 60,
        t_ms / 1_000 - 5
    );
    let works = async |within: Duration| {
        let begin = Instant::now();
        let found = json(&shown.remote, &instant("m", t_ms)).await;
        assert_eq!(found["data"]["result"][0]["value"][1], "1", "{found}");
        assert!(found.get("warnings").is_none(), "{found}");
        json(&shown.remote, &range).await;
        assert!(begin.elapsed() < within, "{:?}", begin.elapsed());
    };
    works(Duration::from_secs(5)).await;
    let mut feed = shown.brokers.subscribe(TenantName::DEFAULT, Vec::new()).expect("subscribed");
    // A request that is under way when the broker goes silent is answered by another one.
    silent.set_silent(true);
    works(Duration::from_secs(8)).await;
    // From then on nobody waits for it.
    works(Duration::from_millis(2_500)).await;
    dying.cut();
    works(Duration::from_millis(2_500)).await;
    assert!(Data::ready(&shown.brokers).is_ok());
    let metrics = ask(&shown.remote, "/metrics").await.1;
    let answers = |address: &str, answers: u8| {
        let line = format!("watchfire_console_broker_answers{{broker=\"{address}\"}} {answers}\n");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    };
    answers(&silent.address, 0);
    answers(&last.address, 1);
    // Live samples come from whoever is there, once, and no error says that others are not.
    let later = one("live", now_ms(), 7.0);
    let deadline = tokio::time::sleep(Duration::from_secs(10));
    tokio::pin!(deadline);
    let mut samples = 0;
    stored.ingest(DEFAULT_TENANT, later).await;
    while samples == 0 {
        tokio::select! {
            events = feed.next() => {
                let events = events.expect("it goes on").expect("no error");
                samples += events.samples.len();
            }
            () = &mut deadline => panic!("nothing came"),
        }
    }
    assert_eq!(samples, 1);
    // It comes back, and is asked when the others are gone.
    silent.set_silent(false);
    let begin = Instant::now();
    while !shown.brokers.clusters()[0].brokers[0].answers {
        assert!(begin.elapsed() < Duration::from_secs(15), "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    last.cut();
    works(Duration::from_secs(3)).await;
    stored.broker.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_clusters_are_shown_as_one_and_one_that_is_away_is_named() {
    let (mut eu, us) = (Stored::start(FAST, 1).await, Stored::start(FAST, 1).await);
    let t_ms = now_ms() - 30_000;
    eu.ingest(DEFAULT_TENANT, one("both", t_ms, 1.0)).await;
    us.ingest(DEFAULT_TENANT, one("both", t_ms, 2.0)).await;
    eu.ingest(DEFAULT_TENANT, one("only_eu", t_ms, 3.0)).await;
    us.ingest(DEFAULT_TENANT, one("only_us", t_ms, 4.0)).await;
    let shown_plain = shown(&[("eu", &eu), ("us", &us)], &[]).await;
    let other_way = shown(&[("us", &us), ("eu", &eu)], &[]).await;
    let label = ["--cluster-label", "region"];
    let apart = shown(&[("eu", &eu), ("us", &us)], &label).await;
    let value = |found: &Value, at: usize| found["data"]["result"][at]["value"][1].clone();
    // The first that is named wins, whichever answers first.
    for _ in 0..5 {
        let found = json(&shown_plain.remote, &instant("both", t_ms)).await;
        assert_eq!(found["data"]["result"].as_array().map(Vec::len), Some(1), "{found}");
        assert_eq!(value(&found, 0), "1");
        assert_eq!(value(&json(&other_way.remote, &instant("both", t_ms)).await, 0), "2");
    }
    let found = json(&apart.remote, &instant("both", t_ms)).await;
    let regions = [0, 1].map(|at| found["data"]["result"][at]["metric"]["region"].clone());
    assert_eq!((regions, value(&found, 1)), ([json!("eu"), json!("us")], json!("2")));
    for (query, expected) in [
        ("sum(both)", "3"),
        ("both{region=\"us\"}", "2"),
        ("count({region=~\"e.*\"})", "2"),
        ("sum by (region) (both{region!=\"eu\"})", "2"),
        ("count({region=\"asia\"}) or vector(0)", "0"),
    ] {
        let found = json(&apart.remote, &instant(query, t_ms)).await;
        assert_eq!(value(&found, 0), expected, "{query}: {found}");
    }
    let list = async |shown: &Shown, path: &str| json(&shown.remote, path).await["data"].clone();
    assert_eq!(list(&apart, "/api/v1/label/region/values").await, json!(["eu", "us"]));
    let path = "/api/v1/label/region/values?match[]=only_us";
    assert_eq!(list(&apart, path).await, json!(["us"]));
    assert_eq!(list(&apart, "/api/v1/labels").await, json!(["__name__", "job", "region"]));
    assert_eq!(list(&shown_plain, "/api/v1/labels").await, json!(["__name__", "job"]));
    let names = json!(["both", "only_eu", "only_us"]);
    assert_eq!(list(&shown_plain, "/api/v1/label/__name__/values").await, names);
    let path = format!("/api/v1/series?match[]={}", form_urlencoded("{region=\"us\"}"));
    let expected = json!([
        { "__name__": "both", "job": "a", "region": "us" },
        { "__name__": "only_us", "job": "a", "region": "us" },
    ]);
    assert_eq!(list(&apart, &path).await, expected);
    let path = "/api/v1/status/tsdb?topN=3&focusLabel=region";
    let census = list(&apart, path).await;
    assert_eq!(census["seriesCountByFocusLabelValue"][0]["value"], 2, "{census}");
    // What is on the pages of the broker is of both, and changes are for one of them.
    let clusters = list(&shown_plain, "/api/v1/status/runtimeinfo").await["clusters"].clone();
    assert_eq!(clusters[1]["name"], "us", "{clusters}");
    assert_eq!(list(&shown_plain, "/api/v1/targets").await["activeTargets"], json!([]));
    let request = Request::put("/api/v1/views/x").body(Body::from("{}")).expect("a request");
    let (status, text) = send(&shown_plain.remote, request).await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{text}");
    assert!(text.contains("cluster eu: http://b:9595; cluster us: http://b:9595"), "{text}");
    let (status, text) = ask(&shown_plain.remote, "/pushgateway/metrics").await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{text}");

    eu.stop_port(0).await;
    // At once, before anybody has looked: the first request that finds out says so already.
    for _ in 0..3 {
        let begin = Instant::now();
        for path in [
            instant("both", t_ms),
            instant("only_us", t_ms),
            format!("/api/v1/query_range?query=both&start={0}&end={0}&step=1", t_ms / 1_000),
            "/api/v1/labels".to_owned(),
            "/api/v1/series?match[]=both".to_owned(),
            "/api/v1/metadata".to_owned(),
            "/api/v1/status/tsdb".to_owned(),
            "/api/v1/status/tsdb?topN=3".to_owned(),
            "/api/v1/search/metric_names?start=0&search[]=both".to_owned(),
            "/api/v1/query_exemplars?query=both&start=0&end=1".to_owned(),
            "/api/v1/agents".to_owned(),
        ] {
            let (status, body) = ask(&shown_plain.remote, &path).await;
            assert_eq!(status, StatusCode::OK, "{path}: {body}");
            assert!(
                body.contains("\"warnings\":[") && body.contains("cluster eu"),
                "{path}: {body}"
            );
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
    let found = json(&shown_plain.remote, &instant("both", t_ms)).await;
    assert_eq!(value(&found, 0), "2", "{found}");
    assert!(Data::ready(&shown_plain.brokers).is_ok());
    let request = Request::get("/federate?match[]=both").body(Body::empty()).expect("a request");
    let answer = tower::ServiceExt::oneshot(shown_plain.remote.clone(), with_peer(request)).await;
    let answer = answer.expect("answers");
    let warning = answer.headers()["warning"].to_str().expect("text").to_owned();
    assert!(warning.contains("the cluster eu has is not in this answer"), "{warning}");
    let metrics = ask(&shown_plain.remote, "/metrics").await.1;
    for line in ["{cluster=\"eu\"} 0\n", "{cluster=\"us\"} 1\n"] {
        assert!(metrics.contains(&format!("watchfire_console_cluster_answers{line}")), "{metrics}");
    }
    let mut us = us;
    us.stop_port(0).await;
    let (status, text) = ask(&shown_plain.remote, &instant("both", t_ms)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert!(text.contains("no cluster answers; eu: ") && text.contains("us: "), "{text}");
    eu.broker.stop();
    us.broker.stop();
}

fn with_peer(mut request: Request<Body>) -> Request<Body> {
    let peer: std::net::SocketAddr = "127.0.0.1:40000".parse().expect("an address");
    request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_results_hold_until_some_cluster_changes() {
    let (eu, us) = (Stored::start(FAST, 1).await, Stored::start(FAST, 1).await);
    let end_ms = now_ms() / 60_000 * 60_000 - 300_000;
    for (stored, job) in [(&eu, "a"), (&us, "b")] {
        let mut batch = MetricBatch::default();
        for step in 0..40 {
            batch.push(&series("c", &[("job", job)]), end_ms - step * 15_000, 1.0);
        }
        stored.ingest(DEFAULT_TENANT, batch).await;
    }
    let shown = shown(&[("eu", &eu), ("us", &us)], &[]).await;
    let (start, end) = (end_ms / 1_000 - 570, end_ms / 1_000);
    let path = format!("/api/v1/query_range?query=sum(c)&start={start}&end={end}&step=15");
    let hits = async || -> f64 {
        let metrics = ask(&shown.remote, "/metrics").await.1;
        let name = "watchfire_console_cache_hit_steps_total ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        line.parse().expect("a number")
    };
    // Whatever is noted late is noted now.
    let first = json(&shown.remote, &path).await["data"].clone();
    let mut known = 0.0;
    for (stored, job) in [(&us, "b"), (&eu, "a"), (&us, "b"), (&eu, "a")] {
        let before = hits().await;
        let again = json(&shown.remote, &path).await["data"].clone();
        assert!(hits().await > before, "nothing is kept");
        let mut batch = MetricBatch::default();
        known += 1.0;
        let labels = series("c", &[("job", job), ("n", &known.to_string())]);
        batch.push(&labels, end_ms - 300_000, 10.0);
        stored.ingest(DEFAULT_TENANT, batch).await;
        let changed = json(&shown.remote, &path).await["data"].clone();
        assert_ne!(changed, again, "a change of a cluster is seen");
        assert!(changed.to_string().contains(&format!("\"{}\"", 2.0 + 10.0 * known)), "{changed}");
    }
    assert_ne!(json(&shown.remote, &path).await["data"], first);
    eu.broker.stop();
    us.broker.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn live_samples_of_all_clusters_come_once() {
    let (eu, us) = (Stored::start(FAST, 1).await, Stored::start(FAST, 1).await);
    let shown = shown(&[("eu", &eu), ("us", &us)], &[]).await;
    let matcher = Matcher::new("__name__", MatchOp::Regex, "live.*").expect("a matcher");
    let mut feed = shown.brokers.subscribe(TenantName::DEFAULT, vec![matcher]).expect("subscribed");
    // Until both are subscribed to.
    let t_ms = now_ms();
    let mut seen: Vec<LiveEvents> = Vec::new();
    let begin = Instant::now();
    let has = |seen: &[LiveEvents], name: &str| {
        let series = seen.iter().flat_map(|events| &events.series);
        series.filter(|(_, labels)| labels.metric_name() == Some(name)).count() > 0
    };
    let mut step = 0;
    while !(has(&seen, "live_eu") && has(&seen, "live_us")) {
        step += 1;
        eu.ingest(DEFAULT_TENANT, one("live_eu", t_ms + step, 1.0)).await;
        us.ingest(DEFAULT_TENANT, one("live_us", t_ms + step, 1.0)).await;
        while let Ok(events) = tokio::time::timeout(Duration::from_millis(100), feed.next()).await {
            seen.push(events.expect("it goes on").expect("no error"));
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{seen:?}");
    }
    seen.clear();
    for step in 0..20 {
        for stored in [&eu, &us] {
            stored.ingest(DEFAULT_TENANT, one("live_both", t_ms + step, 1.0)).await;
        }
    }
    while let Ok(events) = tokio::time::timeout(Duration::from_millis(500), feed.next()).await {
        seen.push(events.expect("it goes on").expect("no error"));
    }
    let series: usize = seen.iter().map(|events| events.series.len()).sum();
    let mut times: Vec<i64> =
        seen.iter().flat_map(|events| &events.samples).map(|(_, t_ms, _)| *t_ms).collect();
    times.sort_unstable();
    let expected: Vec<i64> = (0..20).map(|step| t_ms + step).collect();
    assert_eq!((series, times), (1, expected));
    eu.broker.stop();
    us.broker.stop();
}

/// Random samples of one kind or another; what each of `brokers` has of them, with overlaps.
fn random_batches(
    random: &mut Random,
    brokers: usize,
    case: &str,
    end_ms: i64,
) -> Vec<MetricBatch> {
    let mut all = vec![MetricBatch::default(); brokers];
    for at in 0..8 {
        let number = at.to_string();
        let labels = |name: &str| series(name, &[("case", case), ("series", &number)]);
        let kind = random.below(4);
        let name = if kind == 3 { "h" } else { "c" };
        // How much of a series is at several, from nothing to all of it.
        let overlap = random.below(4);
        let home = random.below(brokers as u64) as usize;
        for step in 0..40_i64 {
            let t_ms = end_ms - (39 - step) * 15_000;
            for (broker, batch) in all.iter_mut().enumerate() {
                let is_here = match overlap {
                    0 => broker == home,
                    1 => (step as usize / 7) % brokers == broker,
                    2 => random.below(3) > 0,
                    _ => true,
                };
                if !is_here || random.below(8) == 0 {
                    continue;
                }
                // Of two that differ the first broker's wins.
                let differs = if random.below(6) == 0 { broker as f64 * 1_000.0 } else { 0.0 };
                match kind {
                    3 => {
                        let began = (random.below(3) == 0).then_some(t_ms - 7_001);
                        batch.push_histogram(&labels(name), t_ms, began, histogram(broker, step));
                    }
                    _ => {
                        let value = match random.below(30) {
                            0 => f64::from_bits(model::STALE_NAN_BITS),
                            _ => step as f64 * (kind as f64 + 1.0) + differs,
                        };
                        batch.push(&labels(name), t_ms, value);
                        if random.below(5) == 0 {
                            batch.set_last_start(end_ms - 3_600_000 + step / 9);
                        }
                    }
                }
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_split_over_clusters_is_what_one_broker_with_all_has() {
    let yaml = "enable_features: [use-start-timestamps]\nstorage:\n  flush_interval: 200ms\n";
    let mut parts = Vec::new();
    for _ in 0..3 {
        parts.push(Stored::start(yaml, 1).await);
    }
    let whole = Stored::start(yaml, 1).await;
    let clusters: Vec<_> = ["x", "y", "z"].into_iter().zip(&parts).collect();
    let mut consoles = Vec::new();
    for count in [2, 3] {
        let flags = flags(&clusters[..count]).await;
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        consoles.push((count, Shown::start(&flags, yaml).await));
    }
    let seed = std::env::var("WATCHFIRE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| now_ms() as u64);
    println!("again with: WATCHFIRE_SEED={seed}");
    let mut random = Random(seed);
    let end_ms = now_ms() / 1_000 * 1_000;
    for case in 0..12 {
        let (count, console) = &consoles[case % 2];
        let case = format!("{seed:x}-{case}");
        let split = random_batches(&mut random, *count, &case, end_ms);
        // The order of the clusters is that in which one store would have taken all.
        for (part, batch) in parts.iter().zip(split) {
            whole.ingest_some(batch.clone()).await;
            part.ingest_some(batch).await;
        }
        if random.below(2) == 0 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let matcher = format!("case=\"{case}\"");
        let (start, end) = (end_ms / 1_000 - 660, end_ms / 1_000);
        for query in [
            format!("c{{{matcher}}}"),
            format!("h{{{matcher}}}"),
            format!("{{{matcher}}}"),
            format!("sum by (series) (rate(c{{{matcher}}}[2m]))"),
            format!("increase(h{{{matcher}}}[1m])"),
            format!("start_timestamp(c{{{matcher}}})"),
            format!("resets(c{{{matcher}}}[5m])"),
            format!("histogram_quantile(0.9, h{{{matcher}}})"),
            format!("count(last_over_time({{{matcher}}}[10m]))"),
            format!("topk(3, c{{{matcher}}}) or h{{{matcher}}} offset 1m"),
        ] {
            let text = form_urlencoded(&query);
            let paths = [
                format!("/api/v1/query_range?query={text}&start={start}&end={end}&step=15"),
                format!("/api/v1/query?query={text}&time={end}"),
            ];
            for path in paths {
                let expected = json(&whole.direct, &path).await;
                let found = json(&console.remote, &path).await;
                // With what is to be said of it.
                for part in ["data", "warnings", "infos"] {
                    assert_eq!(found[part], expected[part], "WATCHFIRE_SEED={seed}: {query}");
                }
            }
        }
        let matcher = form_urlencoded(&format!("{{{matcher}}}"));
        for path in [
            format!("/api/v1/query?query={matcher}[10m]&time={end}"),
            format!("/api/v1/labels?match[]={matcher}"),
            format!("/api/v1/label/series/values?match[]={matcher}"),
            format!("/api/v1/series?match[]={matcher}"),
            format!("/api/v1/series?match[]={matcher}&limit=3"),
            format!("/api/v1/search/label_values?label=series&match[]={matcher}&limit=4&start=0"),
        ] {
            let (expected, found) =
                (ask(&whole.direct, &path).await, ask(&console.remote, &path).await);
            assert_eq!(found, expected, "WATCHFIRE_SEED={seed}: {path}");
        }
    }
    for stored in parts.iter().chain([&whole]) {
        stored.broker.stop();
    }
}

/// One broker with everything, two with half of the series each, and two with half of each series.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn what_it_costs_to_merge() {
    const SERIES: usize = 400;
    const STEPS: i64 = 1_920;
    let yaml = "query_cache: {max_bytes: 0}\n";
    let end_ms = now_ms() / 1_000 * 1_000;
    let mut consoles = Vec::new();
    type Way = fn(usize, i64) -> usize;
    let ways: [(&str, Way); 3] = [
        ("one", |_, _| 0),
        ("by series", |series, _| series % 2),
        ("by sample", |_, step| step as usize % 2),
    ];
    for (name, place) in ways {
        let stored = [Stored::start(yaml, 1).await, Stored::start(yaml, 1).await];
        let mut batches = [MetricBatch::default(), MetricBatch::default()];
        for number in 0..SERIES {
            let labels = series("m_total", &[("job", "a"), ("n", &number.to_string())]);
            for step in 0..STEPS {
                let t_ms = end_ms - (STEPS - step) * 15_000;
                batches[place(number, step)].push(&labels, t_ms, (step * 7 + step % 11) as f64);
            }
        }
        for (stored, batch) in stored.iter().zip(batches) {
            stored.ingest(DEFAULT_TENANT, batch).await;
        }
        let clusters = [("x", &stored[0]), ("y", &stored[1])];
        let count = if name == "one" { 1 } else { 2 };
        let flags = flags(&clusters[..count]).await;
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        consoles.push((name, Shown::start(&flags, yaml).await, stored));
    }
    let (start, end) = (end_ms / 1_000 - STEPS * 15, end_ms / 1_000);
    for query in ["sum(rate(m_total[5m]))", "count(m_total)"] {
        let text = form_urlencoded(query);
        let path = format!("/api/v1/query_range?query={text}&start={start}&end={end}&step=60");
        let mut answers = Vec::new();
        for (name, console, _) in &consoles {
            let mut best = Duration::MAX;
            for _ in 0..7 {
                let begin = Instant::now();
                let answer = json(&console.remote, &path).await["data"].clone();
                best = best.min(begin.elapsed());
                answers.push(answer);
            }
            println!("{query}: {name}: {:.1} ms", best.as_secs_f64() * 1e3);
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "the answers differ");
    }
}
