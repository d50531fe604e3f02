//! Reloads of `--config` by SIGHUP and by POST, under load, of broken files, and killed in the middle.

use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::import;
use crate::harness::process::Server;
use crate::harness::{Client, Launch, Response, Scratch, WriteBody, now_ms};

const PATIENCE: Duration = Duration::from_secs(20);
const WRITERS: usize = 2;
const DAY_MS: i64 = 86_400_000;

/// A broker and the file it reads again.
struct Reloadable {
    server: Server,
    file: PathBuf,
}

impl Reloadable {
    fn start(scratch: &Scratch, yaml: &str) -> Result<Reloadable> {
        let server = Launch::broker(&scratch.join("data")).config(yaml).start()?;
        Ok(Reloadable { server, file: scratch.join("watchfire.yml") })
    }

    fn client(&self) -> Client {
        self.server.client()
    }

    /// SIGHUP, and waits until the server says what came of it: whether the file is in effect.
    fn hang_up(&self, yaml: &str) -> Result<bool> {
        let outcomes = |text: &str| {
            let said = |what: &str| text.matches(what).count();
            (said("the configuration is in effect"), said("the configuration was not reloaded"))
        };
        std::fs::write(&self.file, yaml)?;
        let before = outcomes(&self.server.stderr());
        self.server.signal(Signal::HUP);
        let begin = Instant::now();
        loop {
            let now = outcomes(&self.server.stderr());
            if now != before {
                return Ok(now.0 > before.0);
            }
            ensure!(begin.elapsed() < PATIENCE, "SIGHUP does nothing: {}", self.server.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn post(&self, yaml: &str) -> Result<Response> {
        std::fs::write(&self.file, yaml)?;
        self.client().post("/-/reload", &[], b"")
    }
}

/// Writes samples of the metrics until told to stop, one in each request. `acknowledged` has a count
/// for each.
fn write(
    client: Client,
    writer: usize,
    metrics: &[&str],
    acknowledged: &[AtomicU64],
    is_over: &AtomicBool,
) -> Result<()> {
    let writer = writer.to_string();
    // Ascending and all different, however fast they are written.
    for t_ms in now_ms().. {
        for (metric, count) in metrics.iter().zip(acknowledged) {
            if is_over.load(SeqCst) {
                return Ok(());
            }
            let labels = [("__name__", *metric), ("writer", writer.as_str())];
            let body = WriteBody::new().series(&labels, &[(t_ms, 1.0)]);
            let Ok(answer) = client.write(&body.snappy()) else {
                // Killed: this one is not acknowledged.
                return Ok(());
            };
            ensure!(answer.status == 204, "{metric}: {} {}", answer.status, answer.text());
            count.fetch_add(1, SeqCst);
        }
    }
    Ok(())
}

fn number(client: &Client, query: &str) -> Result<u64> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    let value = data["result"][0]["value"][1].as_str().unwrap_or("0");
    value.parse().with_context(|| data.to_string())
}

/// Samples of a metric that are stored as they came, and those that its rule counted.
fn found(client: &Client, metric: &str) -> Result<(u64, u64)> {
    let stored = number(client, &format!("sum(count_over_time({metric}[1h]))"))?;
    let counted = format!("sum(sum_over_time({{__name__=~\"{metric}:.+\"}}[1h]))");
    Ok((stored, number(client, &counted)?))
}

/// A rule of aggregation that counts the samples of each of the metrics.
fn counting(metrics: &[&str]) -> String {
    let rule = |metric: &&str| {
        format!(
            "  - {{match: {metric}, interval: 1s, by: [job], outputs: [count_samples], \
             flush_on_shutdown: true}}\n"
        )
    };
    let rules: String = metrics.iter().map(rule).collect();
    if rules.is_empty() { rules } else { format!("stream_aggregation:\n  rules:\n{rules}") }
}

/// Limits of all and of a tenant, a rule of retention and rules of aggregation change by signal and by
/// POST while clients write: no request of theirs is refused, every sample is stored or counted.
pub(super) fn under_writers(scratch: &Scratch) -> Result<String> {
    const METRICS: [&str; 2] = ["steady", "counted"];
    let tight = "limits: {max_labels_per_series: 3}\ntenants:\n  acme: {limits: {max_active_series: \
                 2}}\n";
    let broker = Reloadable::start(scratch, tight)?;
    let client = broker.client();
    let acme = client.for_tenant("acme");
    let acknowledged: [AtomicU64; 2] = Default::default();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (acknowledged, is_over) = (&acknowledged, &is_over);
                scope.spawn(move || write(client, writer, &METRICS, acknowledged, is_over))
            })
            .collect();
        let outcome = change_everything(&broker, &acme);
        is_over.store(true, SeqCst);
        for writer in writers {
            writer.join().expect("a writer does not panic")?;
        }
        outcome
    })?;
    // The last window of the rule is written when it ends.
    let mut all = 0;
    for (metric, count) in METRICS.iter().zip(&acknowledged) {
        let begin = Instant::now();
        loop {
            let ((stored, counted), sent) = (found(&client, metric)?, count.load(SeqCst));
            if stored + counted == sent {
                let wanted = if *metric == "steady" { counted == 0 } else { counted > 0 };
                ensure!(wanted && stored > 0, "{metric}: {stored} stored, {counted} counted");
                break;
            }
            let tells = || format!("{metric}: {stored} and {counted} of {sent}");
            ensure!(begin.elapsed() < PATIENCE, "{}", tells());
            std::thread::sleep(Duration::from_millis(50));
        }
        all += count.load(SeqCst);
    }
    broker.server.stop()?;
    Ok(format!("{all} samples, each stored or counted, through 26 reloads"))
}

fn change_everything(broker: &Reloadable, acme: &Client) -> Result<()> {
    let client = broker.client();
    let text = |client: &Client, body: &str| -> Result<u16> {
        Ok(client.post("/api/v1/import/prometheus", &[], body.as_bytes())?.status)
    };
    let wide = "wide{a=\"1\",b=\"2\",c=\"3\",d=\"4\"} 1\n";
    let many = "m{n=\"0\"} 1\nm{n=\"1\"} 1\nm{n=\"2\"} 1\nm{n=\"3\"} 1\n";
    ensure!(text(&client, wide)? == 400, "five labels are taken where three may be");
    ensure!(text(acme, many)? == 400, "four series are taken where two may be");
    // Raised for all, by signal.
    let raised = "limits: {max_labels_per_series: 5}\ntenants:\n  acme: {limits: \
                  {max_active_series: 2}}\n";
    ensure!(broker.hang_up(raised)?, "{}", broker.server.stderr());
    ensure!(text(&client, wide)? == 204, "the limit is not raised");
    ensure!(text(acme, many)? == 400, "the tenant's limit is raised as well");
    // … and for the tenant, by POST.
    let raised = raised.replace("series: 2", "series: 4");
    let answer = broker.post(&raised)?;
    ensure!((answer.status, answer.text().as_str()) == (200, ""), "{}", answer.text());
    ensure!(text(acme, many)? == 204, "the tenant's limit is not raised");
    // Lowered: what is known goes on, what is new is refused.
    ensure!(broker.hang_up("limits: {max_labels_per_series: 2, max_active_series: 4}\n")?);
    ensure!(text(acme, many)? == 204, "series that are known are refused");
    ensure!(text(acme, "new 1\n")? == 400, "a tenant without limits has not those of all");
    // A rule of retention hides at once and shows again.
    let now_ms = now_ms();
    ensure!(broker.hang_up("")?);
    import(&client, &format!("old 1 {}\nold 2 {now_ms}\n", now_ms - 2 * DAY_MS))?;
    let kept = || number(&client, "count_over_time(old[3d])");
    ensure!(kept()? == 2, "{} samples", kept()?);
    ensure!(broker.hang_up("storage:\n  retention_rules: [{selector: old, for: 1d}]\n")?);
    ensure!(kept()? == 1, "the rule of retention hides nothing");
    ensure!(broker.post("")?.status == 200);
    ensure!(kept()? == 2, "what no rule takes any more stays hidden");
    // Rules begin and end at any moment.
    for round in 0..20 {
        let rules = counting(if round % 2 == 0 { &["counted"] } else { &[] });
        let begin = Instant::now();
        loop {
            // Rules that were removed a moment ago may still be ending.
            let is_done = if round % 4 < 2 {
                broker.post(&rules)?.status == 200
            } else {
                broker.hang_up(&rules)?
            };
            if is_done {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "{}", broker.server.stderr());
        }
        std::thread::sleep(Duration::from_millis(37 * round % 200));
    }
    Ok(())
}

/// Whatever is wrong with a file: its place is named, nothing of it is in effect, and the next one that
/// is right is.
pub(super) fn broken_files(scratch: &Scratch) -> Result<String> {
    let good = "limits: {max_labels_per_series: 4}\n";
    let broker = Reloadable::start(scratch, good)?;
    let client = broker.client();
    let mut names = 0;
    // As many labels as were allowed at the start, of a series that was never there.
    let mut is_as_before = || -> Result<()> {
        names += 1;
        let body = |more: &str| format!("s{names}{{a=\"1\",b=\"2\",c=\"3\"{more}}} 1\n");
        let send = |body: String| client.post("/api/v1/import/prometheus", &[], body.as_bytes());
        ensure!(send(body(",d=\"4\""))?.status == 400, "the limit is another one");
        ensure!(send(body(""))?.status == 204, "the limit is another one");
        Ok(())
    };
    let is_well = || -> Result<bool> {
        let data = client.get_data("/api/v1/status/runtimeinfo")?;
        data["reloadConfigSuccess"].as_bool().with_context(|| data.to_string())
    };
    let head = "limits: {max_labels_per_series: 9}\n";
    let cases = [
        (
            "limits: {max_labels_per_series: [\n",
            "watchfire.yml:1:33: error: yaml: line 1: unclosed bracket",
        ),
        ("limits: {max_labels_per_serie: 9}\n", "watchfire.yml:1:10"),
        ("limits: {max_labels_per_series: 0}\n", "it must be from 1 to 10000"),
        ("tenants:\n  acme:\n    limits: {max_tenants: 3}\n", "set limits.max_tenants instead"),
        ("storage:\n  retention_rules: [{selector: a, for: 90d}]\n", "watchfire.yml:3"),
        ("ha_tracker: {enabled: true, failover_timeout: 1ms}\n", "watchfire.yml:2:47"),
        ("stream_aggregation:\n  rules:\n  - {match: m, outputs: [last]}\n", "interval"),
        ("stream_aggregation:\n  config_file: /nowhere/rules.yml\n", "/nowhere/rules.yml"),
    ];
    for (broken, named) in cases {
        let yaml =
            if broken.starts_with("limits") { broken.to_owned() } else { head.to_owned() + broken };
        let answer = broker.post(&yaml)?;
        let text = answer.text();
        ensure!(answer.status == 500, "{broken:?} is answered {}: {text}", answer.status);
        ensure!(text.contains(named), "{broken:?} is answered {text}");
        is_as_before().context(broken)?;
        ensure!(!is_well()?, "{broken:?} counts as a success");
        ensure!(!broker.hang_up(&yaml)?, "{broken:?} is in effect");
        is_as_before().context(broken)?;
    }
    let log = broker.server.stderr();
    ensure!(log.contains("line 3") && log.contains("watchfire.yml"), "no place is logged: {log}");
    // A key that needs a start is named, and all others are in effect.
    let answer = broker.post(&format!("{head}listen: 127.0.0.1:1\n"))?;
    let text = answer.text();
    ensure!(answer.status == 200 && text.ends_with("at the next start: listen\n"), "{text}");
    import(&client, "s{a=\"1\",b=\"2\",c=\"3\",d=\"4\"} 1\n")?;
    ensure!(is_well()?, "a reload that went well counts as none");
    // No file at all.
    std::fs::remove_file(&broker.file)?;
    let answer = client.post("/-/reload", &[], b"")?;
    let text = answer.text();
    ensure!(answer.status == 500 && text.contains("watchfire.yml"), "{} {text}", answer.status);
    broker.server.stop()?;
    Ok(format!("{} broken files, nothing of any in effect", cases.len()))
}

/// A mistake in one of the two files keeps the other one out as well, and a rule that was begun for it ends
/// again without having taken a sample.
pub(super) fn two_files(scratch: &Scratch) -> Result<String> {
    let targets = scratch.join("prometheus.yml");
    let scraping = |job: &str| {
        let yaml = format!(
            "scrape_configs:\n- job_name: {job}\n  static_configs: [{{targets: ['127.0.0.1:1']}}]\n"
        );
        std::fs::write(&targets, yaml)
    };
    scraping("before")?;
    let own = |labels: usize, metrics: &[&str]| {
        format!("limits: {{max_labels_per_series: {labels}}}\n{}", counting(metrics))
    };
    let shown = targets.display().to_string();
    let server = Launch::broker(&scratch.join("data"))
        .config(&own(2, &["known"]))
        .arguments(&["--prometheus-config", &shown])
        .start()?;
    let broker = Reloadable { server, file: scratch.join("watchfire.yml") };
    let client = broker.client();
    let job = || -> Result<String> {
        let data = client.get_data("/api/v1/status/config")?;
        let yaml = data["yaml"].as_str().context("no configuration")?;
        let job = yaml.lines().find_map(|line| line.split_once("job_name: "));
        Ok(job.with_context(|| yaml.to_owned())?.1.to_owned())
    };
    let mut names = 0;
    let mut is_as_before = |when: &str| -> Result<()> {
        names += 1;
        let body = format!("s{names}{{a=\"1\",b=\"2\",c=\"3\"}} 1\n");
        let status = client.post("/api/v1/import/prometheus", &[], body.as_bytes())?.status;
        ensure!(status == 400, "{when}: the limit of the refused file is in effect");
        import(&client, &format!("begun {names}\nknown {names}\n"))?;
        let begun = format!("count_over_time(begun[1h]) == {names}");
        ensure!(number(&client, &begun)? == names, "{when}: a rule of it takes samples");
        // Beyond the end of a window of the rule that sees what the one in effect does.
        std::thread::sleep(Duration::from_millis(1_100));
        let series = client.metric("watchfire_broker_aggregation_series")?;
        ensure!(series <= 1.0, "{when}: a rule of it follows {series} series");
        let written = number(&client, "count({__name__=~\"known:.+_max\"})")?;
        ensure!(written == 0, "{when}: a rule of it writes");
        ensure!(job()? == "before", "{when}: {} is scraped", job()?);
        let success = client.metric("prometheus_config_last_reload_successful")?;
        ensure!(success == 0.0, "{when}: no alert would fire");
        Ok(())
    };
    for round in 0..4 {
        std::fs::write(&targets, "scrape_configs:\n- job_name: after\n  scrape_interval: never\n")?;
        let seeing = "  - {match: known, interval: 1s, outputs: [max], flush_on_shutdown: true}\n";
        let yaml = own(9, &["known", "begun"]) + seeing;
        let is_in_effect = if round % 2 == 0 {
            broker.post(&yaml)?.status == 200
        } else {
            broker.hang_up(&yaml)?
        };
        ensure!(!is_in_effect, "a broken prometheus.yml is in effect");
        ensure!(broker.server.stderr().contains("prometheus.yml"), "the file is not named");
        is_as_before("prometheus.yml is broken")?;
        scraping("after")?;
        let yaml = yaml + "listen: here\n";
        let is_in_effect = if round % 2 == 0 {
            broker.post(&yaml)?.status == 200
        } else {
            broker.hang_up(&yaml)?
        };
        ensure!(!is_in_effect, "a broken watchfire.yml is in effect");
        is_as_before("watchfire.yml is broken")?;
    }
    ensure!(broker.hang_up(&own(9, &["known", "begun"]))?, "{}", broker.server.stderr());
    ensure!(job()? == "after", "{} is scraped", job()?);
    import(&client, "wide{a=\"1\",b=\"2\",c=\"3\"} 1\nbegun 100\n")?;
    let begin = Instant::now();
    while found(&client, "begun")? != (8, 1) {
        ensure!(begin.elapsed() < PATIENCE, "begun: {:?}", found(&client, "begun")?);
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(client.metric("prometheus_config_last_reload_successful")? == 1.0, "it was successful");
    broker.server.stop()?;
    Ok("8 reloads refused for one of two files, then both in effect".to_owned())
}

/// kill -9 at any moment of a reload that begins a rule: what is acknowledged is stored or counts, once.
pub(super) fn killed(scratch: &Scratch) -> Result<String> {
    const METRICS: [&str; 2] = ["known", "begun"];
    let acknowledged: [AtomicU64; 2] = Default::default();
    let mut unanswered = 0;
    let kills = 8;
    for round in 0..kills {
        let broker = Reloadable::start(scratch, &counting(&METRICS[..1]))?;
        let client = broker.client();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| -> Result<()> {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (acknowledged, is_over) = (&acknowledged, &is_over);
                    // Times of another round are no matter to new series.
                    let writer = round as usize * WRITERS + writer;
                    scope.spawn(move || write(client, writer, &METRICS, acknowledged, is_over))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(150));
            std::fs::write(&broker.file, counting(&METRICS))?;
            broker.server.signal(Signal::HUP);
            std::thread::sleep(Duration::from_millis(round * round));
            broker.server.kill()?;
            is_over.store(true, SeqCst);
            for writer in writers {
                writer.join().expect("a writer does not panic")?;
            }
            Ok(())
        })?;
        // With each writer one request may have been stored and not answered.
        unanswered += WRITERS as u64;
        let again = Launch::broker(&scratch.join("data")).config(&counting(&METRICS)).start()?;
        let client = again.client();
        for (metric, count) in METRICS.iter().zip(&acknowledged) {
            let sent = count.load(SeqCst);
            let begin = Instant::now();
            loop {
                let (stored, counted) = found(&client, metric)?;
                if (sent..=sent + unanswered).contains(&(stored + counted)) {
                    break;
                }
                let tells = || format!("kill {round}, {metric}: {stored} and {counted} of {sent}");
                ensure!(begin.elapsed() < PATIENCE, "{}", tells());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        // The open windows of `begun` end, so that the next round begins it anew.
        again.stop()?;
    }
    let all: u64 = acknowledged.iter().map(|count| count.load(SeqCst)).sum();
    Ok(format!("{kills} kills, {all} samples, each stored or counted"))
}
