//! The outgoing client against real sockets.

mod encrypted;
mod plain;
mod proxied;
mod server;
