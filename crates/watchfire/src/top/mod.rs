//! `watchfire top`: hosts live in the terminal.
//!
//! [`fetch`] asks the server on a thread of its own, [`fleet`] and [`host`] hold what it
//! said, [`app`] what the user looks at, [`draw`] makes the picture, [`terminal`] shows it.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::http_client::ServerArguments;
use crate::language::{self, Language};
use app::{App, Page, Sort};
use draw::Look;
use draw::figures::Glyphs;
use words::Words;

mod app;
mod draw;
mod expressions;
mod fetch;
mod fleet;
mod host;
mod terminal;
#[cfg(test)]
mod tests;
mod words;

/// A lost server is told after this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  watchfire top
      all hosts of the Watchfire on this machine; ? explains the keys
  watchfire top web-1
      one host
  watchfire top --once | head
      one picture as text, for scripts
  watchfire top --url http://prometheus:9090
      any Prometheus that scrapes node exporters";

/// What to watch, and how.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct TopArguments {
    /// Show this host's page; its name as in the list
    #[arg(value_name = "HOST")]
    host: Option<String>,

    /// Which server to ask.
    #[command(flatten)]
    server: ServerArguments,

    /// Print one picture as plain text and end
    #[arg(long)]
    once: bool,

    /// Columns of that picture [default: of the terminal, or 80]
    #[arg(long, value_name = "COLUMNS", requires = "once", value_parser = clap::value_parser!(u16).range(20..=1000))]
    width: Option<u16>,

    /// How often to ask, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval_s)]
    interval: f64,

    /// Order of hosts
    #[arg(long, value_enum, default_value_t = Sort::Cpu)]
    sort: Sort,

    /// List only hosts whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,

    /// Language [default: as in LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_enum)]
    lang: Option<Language>,
}

fn interval_s(text: &str) -> Result<f64, String> {
    const WANTED: &str = "give seconds from 0.2 to 3600, such as 1 or 0.5";
    let seconds: f64 = text.parse().map_err(|_| WANTED.to_owned())?;
    if (0.2..=3_600.0).contains(&seconds) { Ok(seconds) } else { Err(WANTED.to_owned()) }
}

/// Shows hosts until the user quits, or one picture with `--once`.
///
/// # Errors
/// When standard output is no terminal (without `--once`), or the server cannot be asked (with
/// it; without it that is shown and tried again).
pub(crate) fn run(arguments: &TopArguments) -> Result<()> {
    let client = arguments.server.client()?.with_answer_timeout(ANSWER_TIMEOUT);
    let url = client.url("");
    let app = App::new(url, arguments.sort, arguments.filter.clone());
    let look = Look {
        words: Words::of(arguments.lang.unwrap_or_else(Language::of_environment)),
        glyphs: glyphs(),
        // See https://no-color.org: any value that is not empty.
        color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        interactive: !arguments.once,
    };
    if arguments.once {
        let text = once(app, client, arguments, &look)?;
        return match std::io::stdout().write_all(text.as_bytes()) {
            // A reader that has seen enough, such as `head`, is no error.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(error).context("print")
            }
            _ => Ok(()),
        };
    }
    if !std::io::stdout().is_terminal() {
        bail!("standard output is no terminal; print one picture with --once");
    }
    let wanted = arguments.host.clone();
    terminal::run(app, look, client, Duration::from_secs_f64(arguments.interval), wanted)
}

fn glyphs() -> Glyphs {
    // The console of the kernel knows few of the eighths.
    let is_poor = std::env::var("TERM").is_ok_and(|term| term == "linux" || term == "dumb");
    if is_poor || language::is_ascii_only() { Glyphs::Ascii } else { Glyphs::Blocks }
}

/// Asks once and draws.
fn once(
    mut app: App,
    mut client: crate::http_client::HttpClient,
    arguments: &TopArguments,
    look: &Look,
) -> Result<String> {
    let now = Instant::now();
    let mut due = fetch::Due::default();
    due.ask(&mut client, None, &mut |update| {
        app.update(update, now);
        true
    })?;
    if let Some(name) = &arguments.host {
        let key = app.fleet.find(name).cloned().with_context(|| {
            format!("no host {name:?} has sent anything within the hour; `watchfire top --once` lists them")
        })?;
        due.ask(&mut client, Some(&key), &mut |update| {
            app.update(update, now);
            true
        })?;
        app.page = Page::Host(key);
    }
    let width = arguments.width.unwrap_or_else(terminal_width);
    let height = draw::natural_height(&app, width);
    Ok(picture(&mut app, look, width, height, now))
}

fn terminal_width() -> u16 {
    let columns =
        || std::env::var("COLUMNS").ok()?.parse().ok().filter(|n| (20..=1000).contains(n));
    let is_terminal = std::io::stdout().is_terminal();
    let size = is_terminal.then(ratatui::crossterm::terminal::size).and_then(Result::ok);
    size.map(|(width, _)| width).or_else(columns).unwrap_or(80)
}

/// The picture as text: one line per row, without spaces at the ends.
fn picture(app: &mut App, look: &Look, width: u16, height: u16, now: Instant) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw::draw(app, look, area, &mut buffer, now);
    text_of(&buffer)
}

/// The characters of a buffer.
fn text_of(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        // A character of two columns leaves an empty cell after it.
        let mut covered = 0;
        for x in 0..buffer.area.width {
            if covered > 0 {
                covered -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            covered = ratatui::text::Line::raw(symbol).width().saturating_sub(1);
            line.push_str(symbol);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
