//! The role that evaluates rules, keeps alerts and tells receivers.
//!
//! The engines are `alerting::rules` and `alerting::notify`, which know no clock, disk or socket; this
//! crate runs them. What they know is kept through [`Keep`] before anybody is told, so that neither a
//! restart nor another broker that takes over forgets an alert or tells it twice.

pub mod alertmanagers;
pub mod api;
mod clock;
mod keep;
pub mod notify;
mod pages;
pub mod rules;
mod seat;
#[cfg(test)]
mod shelf;

pub use clock::Clock;
pub use keep::{Boxed, Keep, KeepError, MAX_VALUE_BYTES};
pub use seat::{Running, Seat};

/// Writes what is counted in Prometheus' text format, of what sits in a seat.
pub fn render(running: Option<&Running>, out: &mut wire::text_encode::TextEncoder<'_>) {
    let name = "watchfire_ruler_active";
    out.family(
        name,
        "gauge",
        "Whether this process evaluates rules and notifies; in a cluster one broker does.",
    );
    out.sample(name, &[], f64::from(u8::from(running.is_some())));
    if let Some(running) = running {
        notify::render(&running.notifications, out);
        rules::render(&running.rules, out);
        alertmanagers::render(running.rules.alertmanagers(), out);
    }
}
