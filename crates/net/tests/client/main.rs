//! The outgoing client against real sockets.

mod confidential;
mod encrypted;
mod plain;
mod proxied;
mod server;
