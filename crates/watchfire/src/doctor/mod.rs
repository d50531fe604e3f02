//! `watchfire doctor`: looks at this machine and says what to do.
//!
//! Each file looks at one thing and yields [`finding::Finding`]s, which carry their texts in both
//! languages; [`report`] prints them.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser};

use crate::cli::Cli;
use crate::config::Config;
use crate::http_client::ServerArguments;
use crate::language::Language;
use finding::{Check, Finding, text};
use machine::Machine;
pub(crate) use machine::size;

mod clock;
mod finding;
mod limits;
mod machine;
mod ports;
mod reach;
mod report;
mod storage;
mod stored;
mod system;
#[cfg(test)]
mod tests;

/// A server that needs longer to say that it is ready is not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  watchfire doctor
      check what `watchfire` without arguments would use
  sudo watchfire doctor --data /var/lib/watchfire
      check what the packaged service uses
  watchfire doctor --broker broker-1:9596
      check also that this host's agent can reach its broker
  watchfire doctor --json | jq '.checks[] | select(.level != \"ok\")'
      for scripts

Exit status: 0 all well, 1 warnings, 2 failures.";

/// What to look at.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct DoctorArguments {
    /// Directory of the data [default: as `watchfire` itself]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Address of API and console [default: as `watchfire` itself]
    #[arg(long, value_name = "HOST:PORT", value_parser = crate::cli::listen_address)]
    listen: Option<SocketAddr>,

    /// Configuration to check and to take both from
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_CONFIG")]
    config: Option<PathBuf>,

    /// Brokers this host must reach
    #[arg(long, value_name = "HOST:PORT", env = "WATCHFIRE_BROKER", value_delimiter = ',')]
    broker: Vec<String>,

    /// Which server to ask.
    #[command(flatten)]
    server: ServerArguments,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Language [default: as in LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_enum)]
    lang: Option<Language>,
}

/// Looks at everything and prints it. Yields 0 when all is well, 1 with warnings, 2 with failures.
pub(crate) fn run(arguments: &DoctorArguments) -> ExitCode {
    let language = arguments.lang.unwrap_or_else(Language::of_environment);
    let findings = examine(arguments, &Machine::this());
    let code = report::Counts::of(&findings).exit_code();
    let color = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let report = if arguments.json {
        report::as_json(&findings, language)
    } else {
        report::as_text(&findings, language, color)
    };
    // A reader that has seen enough, such as `head`, changes nothing about the machine.
    let _ = std::io::stdout().write_all(report.as_bytes());
    ExitCode::from(code)
}

fn examine(arguments: &DoctorArguments, machine: &Machine) -> Vec<Finding> {
    let now = SystemTime::now();
    let (configuration, config) = configuration(arguments);
    let mut findings = vec![configuration];
    let data = config.as_ref().map(|config| config.data.as_path());
    if let Some(config) = &config {
        findings.extend(storage::check(machine, &config.data));
        findings.extend(stored::check(&config.data, now));
        findings.extend(ports::check(machine, &config.data, config));
    }
    findings.extend(clock::check(machine, now));
    let memory = config.as_ref().and_then(|config| config.memory.limit_bytes);
    findings.extend(limits::check(machine, memory));
    findings.extend(system::check(machine, data));
    findings.extend(server(arguments));
    findings.extend(reach::brokers(&arguments.broker, arguments.data.as_deref()));
    findings.extend(reach::proxies());
    findings
}

/// The configuration as `watchfire` would read it with the same flags, and what is then in effect.
fn configuration(arguments: &DoctorArguments) -> (Finding, Option<Config>) {
    let check = Check::Configuration;
    let mut words = vec!["watchfire".into()];
    if let Some(data) = &arguments.data {
        words.extend(["--data".into(), data.clone().into_os_string()]);
    }
    if let Some(listen) = &arguments.listen {
        words.extend(["--listen".into(), listen.to_string().into()]);
    }
    if let Some(config) = &arguments.config {
        words.extend(["--config".into(), config.clone().into_os_string()]);
    }
    let loaded = Cli::try_parse_from(words)
        .map_err(anyhow::Error::from)
        .and_then(|cli| Config::load(&cli.serve));
    match loaded {
        Ok(config) => {
            let finding = match &arguments.config {
                Some(path) => Finding::ok(
                    check,
                    text(
                        format!("{} is valid", path.display()),
                        format!("{} 有效", path.display()),
                    ),
                ),
                None => Finding::ok(check, text("none, and none is needed", "未使用，也不需要")),
            };
            (finding, Some(config))
        }
        Err(error) => {
            let finding = Finding::fail(
                check,
                text(format!("{error:#}"), format!("{error:#}")),
                text("Watchfire would not start with it.", "Watchfire 无法以此启动。"),
            )
            .fix(text(
                "Every key is described in docs/operating/configuration.md.",
                "所有配置项见 docs/operating/configuration.md。",
            ));
            (finding, None)
        }
    }
}

fn server(arguments: &DoctorArguments) -> Vec<Finding> {
    let is_named = arguments.server.is_named();
    match arguments.server.client() {
        Ok(client) => reach::server(&mut client.with_answer_timeout(ANSWER_TIMEOUT), is_named),
        Err(error) => vec![
            Finding::fail(
                Check::Server,
                text(format!("{error:#}"), format!("{error:#}")),
                text("It cannot be asked.", "无法访问。"),
            )
            .fix(text("Correct the flags.", "请修正参数。")),
        ],
    }
}
