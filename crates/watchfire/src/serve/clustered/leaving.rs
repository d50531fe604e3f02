//! The certificate of a broker that leaves counts no more: brokers know one another by certificates alone, so
//! those that do not count are noted in the catalog.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use broker::cluster::{Farewell, Links};
use catalog::{BrokerId, Command, Expected};
use consensus::Consensus;
use futures_util::future::{BoxFuture, join_all};
use net::{HasLeft, Identity, Peers};

use super::PATIENCE;

/// Below it, by its serial number, each certificate of a broker that was drained: the id of the broker. Some
/// bytes for each broker that ever left.
const LEFT: &str = "auth/left/";
/// For the question whether a certificate counts.
const ASKED_FOR: Duration = Duration::from_secs(1);

/// Whose certificates count no more. Those of a broker do until the consensus counts it no longer: it is
/// noted before, when the broker can still say so itself.
pub(super) fn has_left(consensus: Consensus) -> HasLeft {
    Box::new(move |peer| {
        let key = format!("{LEFT}{}", peer.serial);
        let noted = consensus.read(|state| state.get(&key).map(|noted| noted.value.clone()));
        let id = noted.and_then(|id| u64::from_str_radix(std::str::from_utf8(&id).ok()?, 16).ok());
        id.is_some_and(|id| !consensus.status().members.contains_key(&id))
    })
}

/// The certificate of this broker.
pub(super) struct OwnCertificate {
    pub(super) broker: BrokerId,
    pub(super) identity: Arc<Identity>,
    pub(super) peers: Arc<Peers>,
    pub(super) consensus: Consensus,
    pub(super) links: Arc<Links>,
}

impl OwnCertificate {
    async fn note(&self) -> Result<()> {
        let own = self.identity.peer();
        let listed = self.peers.listed(&own).context("look which certificates this broker has")?;
        // One that was issued while the list could not be written is not on it.
        for serial in listed.unwrap_or_else(|| vec![own.serial.to_string()]) {
            let (key, value) = (format!("{LEFT}{serial}"), self.broker.to_string().into_bytes());
            let put = Command::Put { key, value, expected: Expected::Any };
            self.consensus.propose(put, PATIENCE).await.context("note it")?;
        }
        let (peers, name) = (Arc::clone(&self.peers), Arc::clone(&own.name));
        let left = tokio::task::spawn_blocking(move || peers.leave(&own)).await;
        left.context("free its name")?.context("free its name")?;
        tracing::info!(%name, "the certificate of this broker is revoked when the others let it go");
        Ok(())
    }
}

impl Farewell for OwnCertificate {
    fn revoke(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.note())
    }

    fn is_refused(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { refusal(&self.consensus, &self.links).await.is_some() })
    }
}

/// Why the others do not take this broker's certificate, if one that can be asked does not.
pub(super) async fn refusal(consensus: &Consensus, links: &Links) -> Option<String> {
    let status = consensus.status();
    let others = status.members.iter().filter(|(id, _)| **id != status.id);
    let asked = others.map(|(_, (member, _))| links.refusal(&member.address, ASKED_FOR));
    join_all(asked).await.into_iter().flatten().next()
}
