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
pub use seat::{Running, Seat, render};
