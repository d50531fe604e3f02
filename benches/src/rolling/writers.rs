//! Remote writers behind what could be a load balancer: each goes to the next broker when one refuses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Clock, NAME, Sender};
use crate::http::Client;
use crate::load::{put_labels, put_series};

/// Before the next broker is tried.
const BACKOFF: Duration = Duration::from_millis(100);
/// Attempts of one request.
const ATTEMPTS: usize = 1_000;

/// One writer.
pub(super) struct Writer {
    pub(super) place: usize,
    /// Writers in all.
    pub(super) count: usize,
    pub(super) series: usize,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) clock: Arc<Clock>,
}

impl Writer {
    /// Until all steps are acknowledged.
    pub(super) fn run(self) -> Result<()> {
        let who = format!("writer-{:05}", self.place);
        let labels: Vec<Vec<u8>> = (0..self.series)
            .map(|number| {
                let (mut bytes, number) = (Vec::new(), number.to_string());
                let labels =
                    [("__name__", NAME), ("sender", who.as_str()), ("series", number.as_str())];
                put_labels(&mut bytes, &labels);
                bytes
            })
            .collect();
        let (mut snappy, mut request) = (snap::raw::Encoder::new(), Vec::new());
        let (mut client, mut failed) = (None, 0);
        let mut step = 0;
        while self.clock.is_sent(step) {
            let due = self.clock.due(step, self.place, self.count);
            sleep(due.saturating_sub(self.clock.begin.elapsed()));
            if !self.clock.is_sent(step) {
                break;
            }
            request.clear();
            for labels in &labels {
                put_series(&mut request, labels, self.clock.time_ms(due), step as f64);
            }
            let body = snappy.compress_vec(&request)?;
            self.send(&body, &mut client, &mut failed)?;
            self.clock.note(Sender::Writer, due);
            step += 1;
        }
        Ok(())
    }

    fn send(&self, body: &[u8], client: &mut Option<Client>, failed: &mut usize) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let address = self.addresses[(self.place + *failed) % self.addresses.len()];
            let mut open = match client.take() {
                Some(open) => open,
                None => match Client::connect(address) {
                    Ok(open) => open,
                    Err(_) => {
                        self.try_another(failed);
                        continue;
                    }
                },
            };
            match open.write("/api/v1/write", body) {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    *client = Some(open);
                    return Ok(());
                }
                Ok(answer) if answer.status < 500 && answer.status != 429 => {
                    answer.successful()?;
                }
                // It refused for now, or the connection broke: nobody knows, and the same again does no harm.
                Ok(_) | Err(_) => self.try_another(failed),
            }
        }
        bail!("a request was not acknowledged in {ATTEMPTS} attempts")
    }

    fn try_another(&self, failed: &mut usize) {
        self.clock.failed();
        *failed += 1;
        sleep(BACKOFF);
    }
}
