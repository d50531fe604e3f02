//! Asks the server again and again, on a thread of its own, so that keys never wait for it.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::expressions;
use super::fleet::{Fleet, Grid, HostKey};
use super::host::{HostDetail, HostHistory};
use crate::http_client::HttpClient;
use crate::http_client::prometheus::{Element, Series};

/// Histories have a point each 5 s; asking more often shows nothing new.
const HISTORY_INTERVAL: Duration = Duration::from_secs(5);
/// The longest wait between attempts to reach a server that is gone.
const MAX_RETRY: Duration = Duration::from_secs(10);

/// What the thread found.
#[derive(Debug)]
pub(crate) enum Update {
    /// Hosts heard of within the hour.
    Heard(Vec<Element>),
    /// All hosts now.
    Fleet(Vec<Element>),
    /// CPU of all hosts over the last minutes.
    FleetHistory(Vec<Series>, Grid),
    /// One host now.
    Host(HostKey, Box<HostDetail>),
    /// One host over the last minutes.
    HostHistory(HostKey, HostHistory),
    /// Everything that was due has been answered.
    Complete,
    /// The server did not answer, or not with what was asked.
    Lost {
        /// Why, in one line.
        error: String,
        /// When it is asked again.
        retry: Duration,
    },
}

/// What the screen shows and hence needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Focus {
    host: Option<HostKey>,
    paused: bool,
}

/// Tells the thread what to ask for.
#[derive(Debug, Default)]
pub(crate) struct Remote {
    focus: Mutex<Focus>,
    changed: Condvar,
}

impl Remote {
    /// Shows one host in detail, or none.
    pub(crate) fn show(&self, host: Option<HostKey>) {
        self.lock().host = host;
        self.changed.notify_one();
    }

    /// Stops asking, or goes on.
    pub(crate) fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        self.changed.notify_one();
    }

    fn focus(&self) -> Focus {
        self.lock().clone()
    }

    /// Sleeps until the time is over or something else is wanted.
    fn wait(&self, shown: &Focus, time: Duration) {
        let same = |focus: &mut Focus| focus.host == shown.host && !focus.paused;
        let _ = self.changed.wait_timeout_while(self.lock(), time, same);
    }

    fn wait_while_paused(&self) {
        let _unpaused = self.changed.wait_while(self.lock(), |focus| focus.paused);
    }

    fn lock(&self) -> MutexGuard<'_, Focus> {
        self.focus.lock().expect("no holder of this lock panics")
    }
}

/// Starts asking every `interval`. Ends when nobody receives any more.
///
/// # Errors
/// When the system has no thread.
pub(crate) fn start(
    mut client: HttpClient,
    remote: Arc<Remote>,
    interval: Duration,
    updates: Sender<Update>,
) -> Result<()> {
    let ask_for_ever = move || {
        let mut due = Due::default();
        let mut failures = 0_u32;
        loop {
            remote.wait_while_paused();
            let focus = remote.focus();
            let began = Instant::now();
            let outcome =
                due.ask(&mut client, focus.host.as_ref(), &mut |u| updates.send(u).is_ok());
            let wait = match outcome {
                Ok(true) => {
                    failures = 0;
                    // A server that needs long is asked half of the time at most.
                    interval.saturating_sub(began.elapsed()).max(began.elapsed())
                }
                Ok(false) => return,
                Err(error) => {
                    failures += 1;
                    let retry = retry_after(failures);
                    let error = reason(&error);
                    if updates.send(Update::Lost { error, retry }).is_err() {
                        return;
                    }
                    retry
                }
            };
            remote.wait(&focus, wait);
        }
    };
    std::thread::Builder::new()
        .name("top-fetch".to_owned())
        .spawn(ask_for_ever)
        .map(drop)
        .context("start the thread that asks")
}

/// 1, 2, 4, 8 and then 10 seconds.
fn retry_after(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(4)).min(MAX_RETRY)
}

/// The causes in one line. The first says which URL was asked, which stands on the screen anyway.
fn reason(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let causes = if causes.len() > 1 { &causes[1..] } else { &causes[..] };
    causes.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// When the slower questions are due.
#[derive(Default)]
pub(crate) struct Due {
    heard: bool,
    fleet_history: Option<Instant>,
    host_history: Option<(HostKey, Instant)>,
}

impl Due {
    /// Asks everything that is due for this view and hands over each answer. Yields false when
    /// they are not wanted any more.
    ///
    /// # Errors
    /// As of the client; answers handed over before stay valid.
    pub(crate) fn ask(
        &mut self,
        client: &mut HttpClient,
        host: Option<&HostKey>,
        hand_over: &mut dyn FnMut(Update) -> bool,
    ) -> Result<bool> {
        if !self.heard {
            if !hand_over(Update::Heard(client.instant(&expressions::heard_within_the_hour())?)) {
                return Ok(false);
            }
            self.heard = true;
        }
        let fleet = client.instant(&expressions::fleet())?;
        let now_s = fleet.first().map(|element| element.value.0);
        if !hand_over(Update::Fleet(fleet)) {
            return Ok(false);
        }
        // Without any sample there is no server's clock, and nothing to draw.
        let Some(now_s) = now_s else { return Ok(hand_over(Update::Complete)) };
        let wanted = match host {
            Some(host) => self.ask_host(client, host, now_s, hand_over)?,
            None => self.ask_fleet_history(client, now_s, hand_over)?,
        };
        Ok(wanted && hand_over(Update::Complete))
    }

    fn ask_host(
        &mut self,
        client: &mut HttpClient,
        host: &HostKey,
        now_s: f64,
        hand_over: &mut dyn FnMut(Update) -> bool,
    ) -> Result<bool> {
        let detail = HostDetail::new(&client.instant(&expressions::host(host))?);
        if !hand_over(Update::Host(host.clone(), Box::new(detail))) {
            return Ok(false);
        }
        let is_fresh =
            |(of, asked): &(HostKey, Instant)| of == host && asked.elapsed() < HISTORY_INTERVAL;
        if self.host_history.as_ref().is_some_and(is_fresh) {
            return Ok(true);
        }
        let grid = Grid::before(now_s);
        let expression = expressions::host_history(host);
        let series = client.range(&expression, grid.start_s, grid.end_s(), grid.step_s)?;
        self.host_history = Some((host.clone(), Instant::now()));
        Ok(hand_over(Update::HostHistory(host.clone(), HostHistory::new(&series, &grid))))
    }

    fn ask_fleet_history(
        &mut self,
        client: &mut HttpClient,
        now_s: f64,
        hand_over: &mut dyn FnMut(Update) -> bool,
    ) -> Result<bool> {
        if self.fleet_history.is_some_and(|asked| asked.elapsed() < HISTORY_INTERVAL) {
            return Ok(true);
        }
        let grid = Grid::before(now_s);
        let expression = expressions::fleet_history();
        let series = client.range(&expression, grid.start_s, grid.end_s(), grid.step_s)?;
        self.fleet_history = Some(Instant::now());
        Ok(hand_over(Update::FleetHistory(series, grid)))
    }
}

/// Puts an update about all hosts into `fleet`. Yields what is about something else.
pub(crate) fn absorb(fleet: &mut Fleet, update: Update) -> Option<Update> {
    match update {
        Update::Heard(elements) => fleet.absorb_heard(&elements),
        Update::Fleet(elements) => fleet.absorb(&elements),
        Update::FleetHistory(series, grid) => fleet.absorb_history(&series, &grid),
        other => return Some(other),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_ten_seconds() {
        let waits: Vec<u64> = (1..=6).map(|failures| retry_after(failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }
}
