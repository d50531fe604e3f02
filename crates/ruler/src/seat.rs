//! Whose turn it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use net::Detour;
use parking_lot::RwLock;
use wire::text_encode::TextEncoder;

use crate::notify::Notifications;
use crate::rules::Rules;

/// Rules and notifications that run in this process.
#[derive(Clone)]
pub struct Running {
    /// Alerts, silences and receivers.
    pub notifications: Notifications,
    /// Rules.
    pub rules: Rules,
}

/// Where handlers find what runs. In a cluster it is empty in all processes but one.
#[derive(Clone, Default)]
pub struct Seat {
    running: Arc<RwLock<Option<Running>>>,
    counts: Arc<SeatCounts>,
    detour: Option<Arc<dyn Detour>>,
}

/// Counts since start.
#[derive(Default)]
struct SeatCounts {
    turns: AtomicU64,
    answered_elsewhere: AtomicU64,
    unanswered: AtomicU64,
}

impl Seat {
    /// The same seat, whose requests take a detour to whoever may sit in that of another process.
    pub fn with_detour(&self, detour: Arc<dyn Detour>) -> Seat {
        Seat { detour: Some(detour), ..self.clone() }
    }

    /// Where requests go before they are answered here.
    pub fn detour(&self) -> Option<Arc<dyn Detour>> {
        self.detour.clone()
    }

    /// Whether something runs here.
    pub fn is_taken(&self) -> bool {
        self.running.read().is_some()
    }

    /// What runs here, if it is this process' turn.
    pub fn running(&self) -> Option<Running> {
        self.running.read().clone()
    }

    /// From now on this runs.
    pub fn take(&self, running: Running) {
        *self.running.write() = Some(running);
        self.counts.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that another process had to answer, by whether it did.
    pub fn note_passed_on(&self, is_answered: bool) {
        let SeatCounts { answered_elsewhere, unanswered, .. } = &*self.counts;
        let count = if is_answered { answered_elsewhere } else { unanswered };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing runs here any more. Yields what ran.
    pub fn leave(&self) -> Option<Running> {
        self.running.write().take()
    }
}

/// Writes what is counted in Prometheus' text format, of a seat and of what sits in it.
pub fn render(seat: &Seat, out: &mut TextEncoder<'_>) {
    let running = seat.running();
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
    let name = "watchfire_ruler_active";
    out.family(
        name,
        "gauge",
        "Whether this process evaluates rules and notifies; in a cluster one broker does.",
    );
    out.sample(name, &[], f64::from(u8::from(running.is_some())));
    let name = "watchfire_ruler_turns_total";
    out.family(
        name,
        "counter",
        "How often it became this process' turn to evaluate rules and notify.",
    );
    out.sample(name, &[], read(&seat.counts.turns));
    let name = "watchfire_ruler_passed_on_requests_total";
    out.family(
        name,
        "counter",
        "Requests for the broker that evaluates rules and notifies, by whether it answered in time.",
    );
    let SeatCounts { answered_elsewhere, unanswered, .. } = &*seat.counts;
    for (outcome, count) in [("answered", answered_elsewhere), ("unanswered", unanswered)] {
        out.sample(name, &[("outcome", outcome)], read(count));
    }
    if let Some(running) = running {
        crate::notify::render(&running.notifications, out);
        crate::rules::render(&running.rules, out);
        crate::alertmanagers::render(running.rules.alertmanagers(), out);
    }
}
