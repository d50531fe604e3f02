//! The HTTP edge: connections, bodies, compression, origins and errors, each under a limit.
//!
//! Roles bring [`Routes`]; this crate decides who may connect and call, how long a peer may take,
//! how large a request may be and how a refusal looks. It knows no route.

pub mod auth;
pub mod body;
pub mod compress;
mod counted_stream;
pub mod error;
pub mod metrics;
pub mod origin;
pub mod routes;
pub mod rpc;
pub mod server;
mod timed_body;

pub use body::{BodyError, BodyRules, read_body};
pub use error::{ApiError, ErrorType};
pub use metrics::NetMetrics;
pub use origin::OriginPolicy;
pub use routes::{Access, Route, Routes};
pub use server::{Bound, Server, ServerSettings};
