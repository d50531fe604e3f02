//! Metadata for remotes of version 1, which want it in requests of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use settings::prometheus::RemoteWriteMessage;
use wire::WireError;
use wire::remote_write_request::RequestBuilder;

use super::delivery::Delivery;

/// The first time it is sent so soon, so that nobody waits a minute for types and units.
const FIRST: Duration = Duration::from_secs(5);

/// Sends what is known about metrics, again and again, until the task is aborted.
pub(super) async fn run(delivery: Arc<Delivery>) {
    let config = delivery.remote().metadata.clone();
    if !config.send {
        return;
    }
    tokio::time::sleep(FIRST.min(config.send_interval)).await;
    loop {
        // A remote of version 2 has it with its series.
        if delivery.message() == RemoteWriteMessage::V1 {
            let most = usize::try_from(config.max_samples_per_send).unwrap_or(usize::MAX);
            match bodies(&delivery, most.max(1)) {
                Ok(bodies) => {
                    for (body, entries) in bodies {
                        delivery.deliver_metadata(&body, entries).await;
                    }
                }
                Err(error) => delivery.complain("metadata cannot be sent", &error.to_string()),
            }
        }
        tokio::time::sleep(config.send_interval).await;
    }
}

/// Requests with all metadata, each with the number of its entries.
fn bodies(delivery: &Delivery, most: usize) -> Result<Vec<(Bytes, u64)>, WireError> {
    let known = delivery.parts.metadata.families(model::DEFAULT_TENANT);
    let mut families = known.iter().peekable();
    let mut bodies = Vec::new();
    while families.peek().is_some() {
        let mut builder = RequestBuilder::one();
        let mut entries = 0;
        for family in families.by_ref().take(most) {
            builder.push_metadata(family);
            entries += 1;
        }
        bodies.push((Bytes::from(builder.finish()?), entries));
    }
    Ok(bodies)
}
