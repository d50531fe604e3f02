//! Logs of OTLP.

use wire::logs::otlp_logs::{self, OtlpLogOptions};

use super::Taken;
use crate::Broker;
use crate::routes::intake::Refusal;
use crate::routes::lines::{self, Sender};

/// Stores a request in protobuf and yields when it is durable and visible.
pub(super) async fn take(broker: &Broker, sender: Sender, body: Vec<u8>) -> Result<Taken, Refusal> {
    let taken = lines::store(broker, sender, body, |body, context, batch| {
        otlp_logs::decode(body, &OtlpLogOptions::default(), context, batch)
    })
    .await?;
    if let Some(refusal) = taken.refusal() {
        return Err(refusal);
    }
    Ok(match taken.complaint() {
        None => Taken::default(),
        Some((rejected, complaint)) => Taken { rejected, complaint: Some(complaint) },
    })
}
