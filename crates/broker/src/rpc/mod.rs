//! What Watchfire's own processes ask of a broker, over gRPC: see `proto/watchfire/v1`.

mod acks;
mod budget;
mod ingest;
mod lines;
pub(crate) mod messages;
mod push;
mod read;

pub(crate) use budget::PayloadBudget;
pub use ingest::{IngestService, ingest_service};
pub use read::{BrokerFacts, ReadService, ReadSettings, read_service};
pub(crate) use read::{ReadCounters, live_events, named as tenant_named};
