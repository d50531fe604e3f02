//! The protocol between the roles, generated from `proto/watchfire/v1`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::clone_on_ref_ptr,
    reason = "generated; `proto/` has the words"
)]

tonic::include_proto!("watchfire.v1");
