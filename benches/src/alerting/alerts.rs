//! Many alerts: posted as Prometheus posts them, kept, posted again, told to a webhook.

use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use model::rfc3339;

use super::Options;
use super::sink::{ID, Sink};
use crate::server::{Flushing, Kind, Server, Setup};
use crate::table::{Table, grouped, megabytes, ratio};
use crate::usage::Memory;

/// Messages of a group wait this long for its other alerts.
const GROUP_WAIT: Duration = Duration::from_secs(10);
/// Nobody else sends alerts.
pub(super) const NO_RULES: &str = "rules: {builtin: false}\n";
/// Everything has been told long before.
const TOLD_LIMIT: Duration = Duration::from_secs(300);
/// Prometheus believes in an alert for four times as long as it is not sent again.
const ENDS_AFTER_ROUNDS: u64 = 4;

/// What one server did and needed.
struct Outcome {
    kind: Kind,
    empty_bytes: u64,
    taken_seconds: f64,
    told_seconds: f64,
    /// CPU until all were told.
    cpu_seconds: f64,
    /// CPU for all posted once more, on average.
    again_cpu_seconds: f64,
    again_seconds: f64,
    messages: usize,
    repeated: usize,
    memory: Memory,
}

/// Posts to each server in turn and yields the table.
pub(super) fn run(options: &Options) -> Result<String> {
    let mut outcomes = Vec::new();
    for kind in options.beside(Kind::Alertmanager) {
        eprintln!("{}: {} alerts", kind.name(), options.alerts);
        outcomes.push(measure(options, kind)?);
    }
    Ok(render(options, &outcomes))
}

fn measure(options: &Options, kind: Kind) -> Result<Outcome> {
    let sink = Sink::start(false)?;
    let alertmanager_config = Some(configuration(&sink.url()));
    let setup =
        Setup { alertmanager_config, config: NO_RULES.to_owned(), ..Flushing::Default.into() };
    let server = Server::start(kind, setup)?;
    // What a start leaves to be done is not the alerts'.
    sleep(Duration::from_secs(3));
    let empty_bytes = server.memory()?.now_bytes;
    let begin_ms = now_ms()?;
    let (began, cpu) = (Instant::now(), server.cpu_seconds()?);
    let bodies = encode(options, begin_ms, begin_ms);
    post(options, &server, &bodies)?;
    let taken_seconds = began.elapsed().as_secs_f64();
    let told_seconds = (sink.wait_for(options.alerts, TOLD_LIMIT)? - began).as_secs_f64();
    let cpu_seconds = server.cpu_seconds()? - cpu;
    eprintln!("  taken in {taken_seconds:.2} s, told after {told_seconds:.1} s");
    let (mut again_seconds, cpu) = (0.0, server.cpu_seconds()?);
    for round in 1..=options.rounds {
        let due = Duration::from_secs(options.resend) * round;
        sleep(due.saturating_sub(began.elapsed()));
        let bodies = encode(options, begin_ms, now_ms()?);
        let posting = Instant::now();
        post(options, &server, &bodies)?;
        again_seconds += posting.elapsed().as_secs_f64();
        eprintln!("  round {round}: {} MB", server.memory()?.now_bytes / 1_000_000);
    }
    // What the last posts left to be done is theirs.
    sleep(Duration::from_secs(options.resend).min(Duration::from_secs(20)));
    let rounds = f64::from(options.rounds.max(1));
    let (messages, repeated) = sink.look(|told| (told.messages, told.repeated()));
    Ok(Outcome {
        kind,
        empty_bytes,
        taken_seconds,
        told_seconds,
        cpu_seconds,
        again_cpu_seconds: (server.cpu_seconds()? - cpu) / rounds,
        again_seconds: again_seconds / rounds,
        messages,
        repeated,
        memory: server.memory()?,
    })
}

fn configuration(url: &str) -> String {
    format!(
        "route:\n  receiver: sink\n  group_by: [alertname, cluster]\n  group_wait: {}s\n  \
         group_interval: 1m\n  repeat_interval: 4h\n\
         inhibit_rules:\n- source_matchers: [severity = page]\n  target_matchers: [severity = info]\n  \
         equal: [cluster, instance]\n\
         receivers:\n- name: sink\n  webhook_configs:\n  - url: {url}\n    send_resolved: true\n",
        GROUP_WAIT.as_secs()
    )
}

/// Bodies of all alerts, which began at `begin_ms` and are sent at `now_ms`.
pub(super) fn encode(options: &Options, begin_ms: i64, now_ms: i64) -> Vec<Vec<u8>> {
    let believed_ms = (options.resend.max(15) * ENDS_AFTER_ROUNDS * 1_000) as i64;
    let (begin, end) = (rfc3339(begin_ms), rfc3339(now_ms + believed_ms));
    let mut bodies = Vec::new();
    let mut body = String::new();
    for number in 0..options.alerts {
        body.push_str(if body.is_empty() { "[" } else { "," });
        let group = number / options.group;
        let (name, cluster, host) = (group % 50, group / 50, number % 1_000);
        let severity = ["warning", "page", "ticket"][group % 3];
        let _ = write!(
            body,
            "{{\"labels\":{{\"alertname\":\"ServiceLatencyHigh{name}\",\"cluster\":\"eu-central-1-{cluster}\",\
             \"instance\":\"host-{host:05}.example.com:9100\",\"job\":\"node\",\"namespace\":\"shop-{name}\",\
             \"severity\":\"{severity}\",\"team\":\"platform\",\"{ID}\":\"{number}\"}},\
             \"annotations\":{{\"summary\":\"host-{host:05} answers slowly\",\"description\":\"The 99th percentile of \
             requests to host-{host:05} is {}.{} s for five minutes.\",\
             \"runbook_url\":\"https://runbooks.example.com/latency/{name}\"}},\
             \"startsAt\":\"{begin}\",\"endsAt\":\"{end}\",\
             \"generatorURL\":\"http://prometheus.example.com:9090/graph?g0.expr=latency%3Ap99+%3E+1&g0.tab=1\"}}",
            number % 7 + 1,
            number % 10,
        );
        if (number + 1) % options.batch == 0 || number + 1 == options.alerts {
            body.push(']');
            bodies.push(std::mem::take(&mut body).into_bytes());
        }
    }
    bodies
}

/// Posts all bodies over the connections.
pub(super) fn post(options: &Options, server: &Server, bodies: &[Vec<u8>]) -> Result<()> {
    std::thread::scope(|scope| {
        let post = |lane: usize| -> Result<()> {
            let mut client = server.client()?;
            for body in bodies.iter().skip(lane).step_by(options.connections) {
                client
                    .post_json("/api/v2/alerts", body)
                    .and_then(|answer| answer.successful())
                    .with_context(|| format!("the server logged:\n{}", server.last_words()))?;
            }
            Ok(())
        };
        let lanes: Vec<_> =
            (0..options.connections).map(|lane| scope.spawn(move || post(lane))).collect();
        lanes.into_iter().try_for_each(|one| one.join().expect("a sender returns its errors"))
    })
}

pub(super) fn now_ms() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

fn render(options: &Options, outcomes: &[Outcome]) -> String {
    let mut table = Table::new([
        "server",
        "alerts",
        "taken s",
        "told s",
        "messages",
        "told twice",
        "CPU s",
        "vs AM",
        "again s",
        "CPU s again",
        "vs AM",
        "empty MB",
        "RSS MB",
        "vs AM",
        "peak RSS MB",
        "vs AM",
    ]);
    let reference = outcomes.iter().find(|outcome| outcome.kind == Kind::Alertmanager);
    let against = |of: &dyn Fn(&Outcome) -> f64, one: &Outcome| ratio(of(one), reference.map(of));
    for one in outcomes {
        table.push(vec![
            one.kind.name().to_owned(),
            grouped(options.alerts as f64),
            format!("{:.2}", one.taken_seconds),
            format!("{:.2}", one.told_seconds),
            grouped(one.messages as f64),
            grouped(one.repeated as f64),
            format!("{:.2}", one.cpu_seconds),
            against(&|one| one.cpu_seconds, one),
            format!("{:.2}", one.again_seconds),
            format!("{:.2}", one.again_cpu_seconds),
            against(&|one| one.again_cpu_seconds, one),
            megabytes(one.empty_bytes),
            megabytes(one.memory.now_bytes),
            against(&|one| one.memory.now_bytes as f64, one),
            megabytes(one.memory.peak_bytes),
            against(&|one| one.memory.peak_bytes as f64, one),
        ]);
    }
    format!(
        "{}\n\
         Posted by API v2 over {} connections, {} alerts a request, and again each {} s, {} times; groups of {} alerts, which wait {} s, \
         and a webhook that answers at once. Taken: until all were acknowledged. Told: from the first post until the webhook had \
         each of them. CPU: until then, and of each time they were posted again. RSS: after the last time.\n\
         watchfire has written an alert down and synced it before it acknowledges it, and is a whole broker; \
         prometheus-alertmanager keeps alerts in memory alone.\n",
        table.render(),
        options.connections,
        options.batch,
        options.resend,
        options.rounds,
        options.group,
        GROUP_WAIT.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Part};
    use super::*;

    #[test]
    fn all_alerts_are_in_batches_that_are_json() {
        let options = Options {
            alerts: 130,
            group: 10,
            batch: 64,
            connections: 1,
            rounds: 0,
            resend: 60,
            rules: 1,
            series: 100,
            interval: 15,
            seconds: 1,
            parts: vec![Part::Alerts],
            alone: true,
        };
        let bodies = encode(&options, 1_800_000_000_000, 1_800_000_000_000);
        let sizes: Vec<usize> = bodies
            .iter()
            .map(|body| {
                let alerts: Vec<serde_json::Value> = serde_json::from_slice(body).expect("JSON");
                assert_eq!(alerts[0]["endsAt"], "2027-01-15T08:04:00.000Z");
                alerts.len()
            })
            .collect();
        assert_eq!(sizes, [64, 64, 2]);
    }
}
