//! `console`: the questions of dashboards, asked a broker and a console in a process of its own that
//! asks the same broker over mutual TLS.

use anyhow::{Result, ensure};

use crate::answers::Answer;
use crate::ingest;
use crate::load::Load;
use crate::query::{Asking, Question, questions, time};
use crate::server::{Flushing, Kind, Server, Setup, free_address};
use crate::table::{Table, megabytes, ratio};

/// Loads a broker, starts a console beside it, asks both everything and yields the table.
pub(crate) fn run(load: &Load, _: &[Kind]) -> Result<String> {
    let peers = free_address()?;
    let setup = Setup { peer_listen: Some(peers), ..Flushing::Soon.into() };
    let broker = Server::start(Kind::Watchfire, setup)?;
    eprintln!("the broker takes in {} samples", load.shape.samples());
    ingest::send(&load.requests, &broker)?;
    broker.wait_quiet()?;
    let token = broker.console_token()?;
    let console = Server::start_console(&peers.to_string(), &token)?;
    let mut table = Table::new([
        "query",
        "window",
        "broker ms",
        "console ms",
        "console vs broker",
        "broker CPU ms",
        "console's CPU ms",
        "broker's for it",
        "CPU vs broker",
        "series",
    ]);
    for question in &questions(load) {
        eprintln!("asking: {}, {}", question.name, question.window);
        table.push(row(question, &broker, &console)?);
    }
    let memory = |server: &Server| -> Result<String> {
        let memory = server.memory()?;
        let (now, peak) = (megabytes(memory.now_bytes), megabytes(memory.peak_bytes));
        Ok(format!("{now} MB, at most {peak} MB"))
    };
    Ok(format!(
        "{}\n\
         Time: medians, one request at a time. The console decodes what the broker sends it and \
         evaluates; broker's for it: CPU of the broker while the console is asked. Answers are \
         equal.\nResident memory after all queries: broker {}; console {}.\n",
        table.render(),
        memory(&broker)?,
        memory(&console)?
    ))
}

fn row(question: &Question, broker: &Server, console: &Server) -> Result<Vec<String>> {
    // In turn, not in alternation: the broker's CPU is to be told apart.
    let asking = |server: &Server| -> Result<(Asking, f64, f64)> {
        let before = (broker.cpu_seconds()?, console.cpu_seconds()?);
        let asking = time(question, server)?;
        let runs = (asking.runs + 1) as f64;
        let broker_ms = (broker.cpu_seconds()? - before.0) * 1e3 / runs;
        Ok((asking, broker_ms, (console.cpu_seconds()? - before.1) * 1e3 / runs))
    };
    let (direct, direct_cpu_ms, _) = asking(broker)?;
    let (through, broker_cpu_ms, console_cpu_ms) = asking(console)?;
    let (here, there) = (Answer::parse(&direct.body)?, Answer::parse(&through.body)?);
    ensure!(
        here.difference(&there).is_none(),
        "{}: broker and console differ: {:?}",
        question.path,
        here.difference(&there)
    );
    Ok(vec![
        question.name.to_owned(),
        question.window.to_owned(),
        format!("{:.1}", direct.p50_ms),
        format!("{:.1}", through.p50_ms),
        ratio(through.p50_ms, Some(direct.p50_ms)),
        format!("{direct_cpu_ms:.1}"),
        format!("{console_cpu_ms:.1}"),
        format!("{broker_cpu_ms:.1}"),
        ratio(broker_cpu_ms + console_cpu_ms, Some(direct_cpu_ms)),
        here.series().to_string(),
    ])
}
