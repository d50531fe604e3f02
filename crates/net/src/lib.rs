//! The HTTP edge: connections, bodies, compression, origins and errors, each under a limit.
//!
//! Roles bring [`Routes`]; this crate decides who may connect and call, how long a peer may take,
//! how large a request may be and how a refusal looks. It knows no route.

mod accepting;
mod at_work;
mod audit;
pub mod auth;
pub mod authority;
pub mod body;
mod body_budget;
mod chance;
mod channel;
pub mod client;
pub mod compress;
mod connection;
mod cors;
mod counted_stream;
mod dialect;
mod enrollment;
pub mod error;
mod expression_browser;
mod identity;
mod joining;
mod json_body;
pub mod lines;
pub mod metrics;
pub mod origin;
mod peers;
mod random;
mod request_line;
mod rewound;
pub mod routes;
pub mod rpc;
mod rpc_access;
mod rpc_codec;
pub mod server;
pub mod syslog;
mod timed_body;
pub mod tls;

pub use at_work::at_work;
pub use authority::{Authority, Role, check_name};
pub use body::{BodyError, BodyRules, read_body, unpack_body};
pub use body_budget::{BodyBudget, release_body};
pub use chance::Chance;
pub use channel::{ForeignBroker, NotAPeerPort, channel, never_left, status_words, try_broker};
pub use cors::is_origin;
pub use dialect::Dialect;
pub use enrollment::Enrollment;
pub use error::{ApiError, ErrorType};
pub use expression_browser::expression_browser;
pub use identity::{Identity, IdentityError};
pub use joining::join;
pub use json_body::JsonBody;
pub use lines::LinePort;
pub use metrics::NetMetrics;
pub use origin::OriginPolicy;
pub use peers::{HasLeft, Peer, PeerIdentity, PeerRefusal, Peers};
pub use routes::{Access, Detour, Passed, PassedOn, Route, Routes};
pub use server::{Bound, Server, ServerSettings};
pub use syslog::{SyslogMessages, SyslogPort};
