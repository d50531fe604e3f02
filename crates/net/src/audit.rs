//! One line for everything that changes who may do what, and for every failed try.
//!
//! Lines have the tracing target `audit`, so that they can be sent somewhere of their own. They
//! never hold a secret; texts that a stranger chose are cut.

use std::fmt::Display;
use std::net::SocketAddr;

use crate::auth::Actor;
use crate::authority::Role;

/// A stranger's text is cut to this many characters.
const MAX_SHOWN: usize = 64;

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

/// A host got its first certificate.
pub(crate) fn joined(name: &str, role: &str, by: &str, from: SocketAddr) {
    tracing::info!(target: "audit", event = "join", name, role, by, %from, "audit");
}

/// A host got no certificate.
pub(crate) fn join_refused(name: &str, from: SocketAddr, reason: &dyn Display) {
    tracing::warn!(target: "audit", event = "join_refused", name = shown(name), %from, %reason, "audit");
}

/// A host got its next certificate.
pub(crate) fn renewed(name: &str, role: Role, from: SocketAddr) {
    tracing::info!(target: "audit", event = "certificate_renewed", name, %role, %from, "audit");
}

/// A user logged in.
pub(crate) fn logged_in(user: &str, from: SocketAddr) {
    tracing::info!(target: "audit", event = "login", user, %from, "audit");
}

/// Someone tried and failed.
pub(crate) fn refused(event: &str, user: &str, from: SocketAddr, reason: &str) {
    tracing::warn!(target: "audit", event = "refused", what = event, user = shown(user), %from, reason, "audit");
}

/// Something about users or tokens was changed.
pub(crate) fn changed(event: &str, what: &str, by: &Actor) {
    let (who, kind) = (&*by.principal.name, by.principal.kind.as_str());
    tracing::info!(target: "audit", event, what, by = who, kind, from = %by.address, "audit");
}
