//! The outgoing HTTP client: what scraping, discovery and notifications speak with.
//!
//! [`Client`] takes the options Prometheus has wherever it calls something over HTTP
//! ([`settings::prometheus::HttpClientConfig`]) and keeps connections between requests. Files with
//! credentials, authorities and certificates are watched; a change is in effect a second later.
//! Every request has one deadline, from the name lookup to the last byte of the body, and every
//! body a limit. A connection goes only to an address that [`AddressCheck`] allows: names are
//! looked up first and the connection is made to the address that was checked.

mod addresses;
mod connection;
mod connector;
mod counters;
mod credentials;
mod dialer;
mod dns;
mod error;
mod oauth2;
mod proxy;
mod redirect;
mod request;
mod self_signed;
mod tls;
mod transport;
mod watched;

pub use addresses::{AddressCheck, operator_addresses};
pub use counters::ClientCounters;
pub use credentials::SecretText;
pub use dialer::{Dialer, EncryptedStream};
pub use dns::{Dns, DnsError, DnsRecord, DnsRecordKind};
pub use error::ClientError;
pub use request::{Client, ClientOptions, Get, Outgoing, Post, Response};
