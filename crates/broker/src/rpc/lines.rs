//! Batches of lines of agents.

use bytes::Bytes;
use model::{LogBatch, TenantName};
use wire::WireError;
use wire::agent_lines::{self, MAX_PAYLOAD_BYTES};
use wire::logs::{LogContext, batch};

use super::push::{AGENT_BODY_BYTES, Answering, pass_over};
use crate::agents::BatchIdentity;
use crate::logs::Levels;
use crate::{Broker, LogOutcome};

const MILLISECOND_NS: i64 = 1_000_000;

/// Unpacks a batch of lines and hands it to the committer; one that can never be stored is passed over.
/// Lines that the tenant's limits refuse are left out: they would be refused again.
pub(super) fn store(
    broker: &Broker,
    identity: &BatchIdentity,
    payload: &Bytes,
    answering: Answering,
) {
    let max_body_bytes = broker.limits().max_body_bytes.min(AGENT_BODY_BYTES);
    let unpacked = match payload.len() {
        len if len > MAX_PAYLOAD_BYTES => Err(agent_lines::too_large(len)),
        _ => agent_lines::decode(payload, max_body_bytes),
    };
    let (tenant, lines) = match unpacked {
        Ok(unpacked) => unpacked,
        Err(error @ WireError::Newer { .. }) => return answering.wait_for_upgrade(&error),
        Err(error) => return pass_over(broker, identity, error.to_string(), answering),
    };
    let tenant = match tenant.as_deref().map(TenantName::parse) {
        None => TenantName::DEFAULT,
        Some(Ok(tenant)) => tenant,
        Some(Err(error)) => return pass_over(broker, identity, error.to_string(), answering),
    };
    let limits = broker.log_limits_of(tenant);
    let levels = Levels::of(&limits);
    let now_ns = broker.now_ms().saturating_mul(MILLISECOND_NS);
    let context = LogContext { limits: &limits, levels: Some(&levels), now_ns };
    let mut taken = LogBatch::default();
    let summary = match batch::decode(&lines, &context, &mut taken) {
        Ok(summary) => summary,
        Err(error) => return pass_over(broker, identity, error.to_string(), answering),
    };
    drop(lines);
    let (book, now_ms) = (&broker.inner.tenants, broker.now_ms());
    // The catalog says what is known, whoever asks: a tenant that does not come to be holds the agent up.
    let id = match broker.tenant_for_write(tenant) {
        Ok(id) => id,
        Err(error) => return answering.refused(&error),
    };
    if let Err(too_fast) = book.lines_of(tenant, |of| of.admit(tenant, &summary, &limits, now_ms)) {
        return answering.too_fast(&too_fast);
    }
    book.lines_of(tenant, |of| of.count_refusals(&summary.refusals));
    broker.ingest_logs_from_agent(id, identity, taken, move |result| match result {
        Ok(LogOutcome { was_known: true, .. }) => answering.stored_lines(true, 0, None),
        Ok(LogOutcome { too_old, too_new, .. }) => {
            let refused = summary.refusals.lines() + too_old + too_new;
            let complaint = (refused > 0).then(|| summary.refusals.text());
            answering.stored_lines(false, refused, complaint);
        }
        Err(error) => answering.refused(&error),
    });
}
