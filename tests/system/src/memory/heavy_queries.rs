//! Queries that want more memory than there is, many at once.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::harness::{Client, now_ms};

const CLIENTS: usize = 12;

/// What became of heavy queries.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    pub(super) answered: u64,
    too_large: u64,
    later: u64,
}

impl std::fmt::Display for Outcomes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcomes { answered, too_large, later } = self;
        write!(
            f,
            "{} heavy queries: {answered} answered, {too_large} too large (422), {later} refused \
             (503)",
            answered + too_large + later
        )
    }
}

/// Asks for `time`, from many clients at once. Every answer must be one of those three and say why.
pub(super) fn run(client: Client, time: Duration) -> Result<Outcomes> {
    let outcomes = Mutex::new(Outcomes::default());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let outcomes = &outcomes;
                scope.spawn(move || {
                    let mut turn = number;
                    while begin.elapsed() < time {
                        ask(client, turn, outcomes)?;
                        turn += 1;
                    }
                    Ok(())
                })
            })
            .collect();
        asking.into_iter().try_for_each(|one| one.join().expect("no panic"))
    })
    .map(|()| outcomes.into_inner().expect("no panic"))
}

fn ask(client: Client, turn: usize, outcomes: &Mutex<Outcomes>) -> Result<()> {
    let now = now_ms() / 1_000;
    let (start, end) = ((now - 3_600).to_string(), now.to_string());
    let range = |query: &str| {
        let (start, end) = (start.as_str(), end.as_str());
        let form = [("query", query), ("start", start), ("end", end), ("step", "15")];
        client.envelope("/api/v1/query_range", &form)
    };
    let instant = |query: &str| client.envelope("/api/v1/query", &[("query", query)]);
    let (status, answer) = match turn % 10 {
        0 => instant("{__name__=~\".+\"}"),
        1 => range("explosion"),
        2 => instant("count by (pod) (explosion)"),
        3 => range("sum by (id) (rate(explosion[5m]))"),
        4 => client.envelope("/api/v1/series", &[("match[]", "explosion")]),
        5 => range("sort(label_replace(explosion, \"x\", \"$1\", \"id\", \"(.*)\"))"),
        // Each fits alone, several do not.
        6 => instant("count by (pod) (explosion{container=~\"c1?[0-4]\"})"),
        7 => range("max by (container) (explosion{container=~\"c[0-4]\"})"),
        8 => instant("explosion{container=~\"c[0-3]\"}"),
        _ => instant("count(steady)"),
    }?;
    let text = answer["error"].as_str().unwrap_or_default();
    let names_limit = text.contains("memory.limit_bytes")
        || text.contains("limits.")
        || text.contains("limit (max samples per query)");
    let mut outcomes = outcomes.lock().expect("no panic");
    match status {
        200 => outcomes.answered += 1,
        422 => {
            ensure!(names_limit, "422 names no limit: {answer}");
            outcomes.too_large += 1;
        }
        503 => {
            ensure!(names_limit, "503 names no limit: {answer}");
            outcomes.later += 1;
        }
        status => bail!("a heavy query was answered {status}: {answer}"),
    }
    Ok(())
}
