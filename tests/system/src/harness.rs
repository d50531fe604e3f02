//! What every test stands on: the runner, the program as a process, its HTTP API, and bodies of
//! remote write. Nothing here uses Watchfire's own code: a mistake there must not hide here too.

#[allow(dead_code, reason = "each crate needs another part")]
pub(crate) mod ceph;
pub(crate) mod http;
pub(crate) mod image;
pub(crate) mod network;
#[allow(dead_code, reason = "each crate needs another part")]
pub(crate) mod peer;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod random;
#[allow(dead_code, reason = "each crate needs another part")]
pub(crate) mod redis;
pub(crate) mod remote_write;
pub(crate) mod remote_write_2;
pub(crate) mod runner;
pub(crate) mod write_receiver;

pub(crate) use http::{Client, Response};
pub(crate) use ports::free_address;
pub(crate) use process::{Launch, Server, binary};
pub(crate) use remote_write::{WriteBody, push_bytes, push_varint};
pub(crate) use remote_write_2::WriteBody2;
pub(crate) use runner::{Group, Scratch};

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("the clock is past 1970").as_millis()).expect("fits for ages")
}
