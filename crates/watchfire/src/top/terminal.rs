//! The loop between the terminal and everything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::app::{App, Connection, Page, Wish};
use super::draw::{self, Look};
use super::fetch::{self, Remote, Update};
use crate::http_client::HttpClient;

/// How long the loop may not notice an answer. Keys wake it at once.
const PATIENCE: Duration = Duration::from_millis(100);

/// Shows `app` until the user quits, the process is told to end, or the terminal is gone. The
/// terminal is as before afterwards, also after a panic.
///
/// # Errors
/// When the terminal cannot be read or written.
pub(super) fn run(
    app: App,
    look: Look,
    client: HttpClient,
    interval: Duration,
    wanted: Option<String>,
) -> Result<()> {
    let remote = Arc::new(Remote::default());
    let (sender, updates) = std::sync::mpsc::channel();
    fetch::start(client, Arc::clone(&remote), interval, sender)?;
    let told_to_end = watch_signals()?;
    let mut terminal = ratatui::try_init().context("prepare the terminal")?;
    let mut screen = Screen { app, look, remote, updates, wanted };
    let outcome = screen.run(&mut terminal, &told_to_end);
    ratatui::try_restore().context("restore the terminal")?;
    outcome
}

struct Screen {
    app: App,
    look: Look,
    remote: Arc<Remote>,
    updates: Receiver<Update>,
    /// The host named on the command line, until it is known.
    wanted: Option<String>,
}

impl Screen {
    fn run(&mut self, terminal: &mut DefaultTerminal, told_to_end: &AtomicBool) -> Result<()> {
        let mut stale = true;
        let mut second = 0;
        while !told_to_end.load(Ordering::Relaxed) {
            stale |= self.take_updates()?;
            // The seconds until the next attempt are counted down.
            let left = self.app.retry_in(Instant::now()).map_or(0, |left| left.as_secs());
            stale |= std::mem::replace(&mut second, left) != left;
            if stale {
                self.draw(terminal)?;
                stale = false;
            }
            if !event::poll(PATIENCE).context("wait for a key")? {
                continue;
            }
            match event::read().context("read a key")? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    if self.app.key(key) == Wish::Quit {
                        return Ok(());
                    }
                    self.tell_fetcher();
                    stale = true;
                }
                Event::Resize(..) => stale = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn draw(&mut self, terminal: &mut DefaultTerminal) -> Result<()> {
        let (app, look) = (&mut self.app, &self.look);
        let picture = |frame: &mut ratatui::Frame<'_>| {
            draw::draw(app, look, frame.area(), frame.buffer_mut(), Instant::now());
        };
        terminal.draw(picture).map(drop).context("draw")
    }

    /// Yields whether there was one.
    fn take_updates(&mut self) -> Result<bool> {
        let mut any = false;
        loop {
            match self.updates.try_recv() {
                // What was under way when the picture was stopped comes too late.
                Ok(_) if self.app.paused => {}
                Ok(update) => {
                    any |= !matches!(update, Update::Heard(_));
                    self.app.update(update, Instant::now());
                    self.find_wanted();
                }
                Err(TryRecvError::Empty) => return Ok(any),
                Err(TryRecvError::Disconnected) => bail!("the thread that asks has ended"),
            }
        }
    }

    /// Shows the host named on the command line as soon as it is known.
    fn find_wanted(&mut self) {
        if !matches!(self.app.connection, Connection::Live) {
            return;
        }
        let Some(name) = self.wanted.take() else { return };
        match self.app.fleet.find(&name) {
            Some(key) => {
                self.app.selected = Some(key.clone());
                self.app.page = Page::Host(key.clone());
            }
            // The list then shows which there are.
            None => self.app.filter = name,
        }
        self.tell_fetcher();
    }

    fn tell_fetcher(&self) {
        self.remote.pause(self.app.paused);
        self.remote.show(self.app.shown().cloned());
    }
}

/// Yields what becomes true when the process is told to end, so that the terminal is restored.
fn watch_signals() -> Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let wait = async move {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        std::io::Result::Ok(())
    };
    std::thread::Builder::new()
        .name("top-signals".to_owned())
        .spawn(move || {
            // Without signals the process ends as it would have without this.
            if runtime.block_on(wait).is_ok() {
                tell.store(true, Ordering::Relaxed);
            }
        })
        .context("start the thread that waits for signals")?;
    Ok(told)
}
