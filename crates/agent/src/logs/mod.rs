//! Lines of logs: from where they are written, through stages, to a broker.
//!
//! A source reads lines and knows for each the offset at which it begins. A [`Pipeline`] of the
//! source's own makes of each line none, one or, once it has seen what follows, one of several. What
//! comes out is durable before the source's position moves, and the position says which lines a
//! pipeline still holds, so that a kill neither loses nor doubles one.

mod entry;
mod stages;

pub use entry::{Entries, Entry, Pipeline, Stages, Unchanged};
pub use settings::logs as config;
pub use stages::{LogStages, StageContext, StageCounters, check_stage};
