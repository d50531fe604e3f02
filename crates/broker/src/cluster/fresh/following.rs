//! A task for each other broker that there is, for as long as somebody here follows what they take.

use std::collections::BTreeMap;
use std::time::Duration;

use catalog::BrokerId;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::{Others, Peer};

/// How often it is looked which brokers there are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Others {
    /// Has `begin` follow each other broker until it is gone or has another address. It never ends, and all
    /// that it began ends with it. Those that there are at first get a copy of `of_first`, and nothing keeps another.
    pub(super) async fn follow_each<T, F>(
        &self,
        mut of_first: Option<T>,
        mut begin: impl FnMut(&Peer, Option<T>) -> F,
    ) where
        T: Clone,
        F: Future<Output = ()> + Send + 'static,
    {
        // All end with this.
        let mut tasks = JoinSet::new();
        let mut followed: BTreeMap<BrokerId, (String, AbortHandle)> = BTreeMap::new();
        loop {
            let peers = self.consensus.read(|state| self.listed(state));
            followed.retain(|id, (address, task)| {
                let is_there = peers.iter().any(|peer| peer.id == *id && peer.address == *address);
                if !is_there {
                    task.abort();
                }
                is_there
            });
            for peer in peers {
                followed.entry(peer.id).or_insert_with(|| {
                    let following = begin(&peer, of_first.clone());
                    (peer.address, tasks.spawn(following))
                });
            }
            drop(of_first.take());
            while tasks.try_join_next().is_some() {}
            sleep(LOOK_EVERY).await;
        }
    }
}
