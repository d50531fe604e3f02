//! Users, tokens, sessions and certificates in the catalog, so that what is made at one broker counts
//! at each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use catalog::{CatalogError, Command, KeyValue, Outcome};
use consensus::{Consensus, ProposeError};
use net::Peers;
use net::auth::{CredentialStore, Expected, StoreError, Versioned};
use tokio::runtime::Handle;

/// For one change, as long as somebody leads.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a change waits for somebody who leads. An election takes less; whoever logs in where no majority
/// is gets an answer instead of an hourglass.
const ELECTED_WITHIN: Duration = Duration::from_millis(2_800);

/// Who leads is heard several times in so long.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

/// Who hears of no leader for longer does not know who was sent away since, and lets nobody in but by the
/// token of its own data directory.
const CUT_OFF: Duration = Duration::from_secs(30);

/// How often it is looked whether another broker sent somebody away.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Cuts the connections of peers that another broker took off the list, for ever.
pub(super) async fn cut_who_was_revoked_elsewhere(peers: Arc<Peers>) {
    let mut known = BTreeSet::new();
    loop {
        // Who is cut off from the others knows nobody: they go to another broker.
        let names = peers.names().unwrap_or_default();
        if !known.is_subset(&names) {
            peers.look_again();
        }
        known = names;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A [`CredentialStore`] that all brokers of a cluster share. What another broker changed counts here
/// when it has come here, milliseconds later.
pub(super) struct CatalogCredentials {
    consensus: Consensus,
    /// Changes wait on it: they are made by threads that may.
    runtime: Handle,
    /// After so long without a leader nothing counts.
    cut_off: Duration,
}

impl CatalogCredentials {
    pub(super) fn new(consensus: Consensus, runtime: Handle) -> Self {
        CatalogCredentials { consensus, runtime, cut_off: CUT_OFF }
    }

    /// Whether what is known here may count still.
    fn is_current(&self) -> Result<(), StoreError> {
        let silent = self.consensus.without_leader();
        if silent <= self.cut_off {
            return Ok(());
        }
        Err(StoreError::Unavailable(format!(
            "this broker has heard of no leader of its cluster for {} s and does not know which users, tokens \
             and certificates count still: ask another broker, or on its host with its data directory",
            silent.as_secs()
        )))
    }

    fn propose(&self, command: Command) -> Result<Outcome, StoreError> {
        self.runtime.block_on(self.agreed(command))
    }

    async fn agreed(&self, command: Command) -> Result<Outcome, StoreError> {
        let is_led = self.consensus.without_leader() < HEARD_WITHIN;
        let deadline = if is_led { DEADLINE } else { ELECTED_WITHIN };
        let outcome = tokio::select! {
            biased;
            outcome = self.consensus.propose(command, deadline) => outcome,
            // It was lost meanwhile, or does not answer although it was heard.
            silent = self.is_lost() => Err(ProposeError::Unknown(format!(
                "no leader was heard for {:.1} s",
                silent.as_secs_f64()
            ))),
        };
        outcome.map_err(|error| match error {
            ProposeError::Catalog(CatalogError::VersionConflict { key, .. }) => {
                StoreError::Conflict(key)
            }
            error => StoreError::Unavailable(error.to_string()),
        })
    }

    /// Returns when nobody leads and a change has waited long enough for somebody; says for how long nobody
    /// does. A proposal has ended by itself by then unless the connection to who led hangs.
    async fn is_lost(&self) -> Duration {
        const LOOK: Duration = Duration::from_millis(100);
        tokio::time::sleep(ELECTED_WITHIN + LOOK).await;
        loop {
            let silent = self.consensus.without_leader();
            if silent >= ELECTED_WITHIN {
                return silent;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn versioned(found: &KeyValue) -> Versioned {
    Versioned { value: found.value.clone(), version: found.version }
}

fn expected(expected: Expected) -> catalog::Expected {
    match expected {
        Expected::Any => catalog::Expected::Any,
        Expected::Absent => catalog::Expected::Absent,
        Expected::Version(version) => catalog::Expected::Version(version),
    }
}

impl CredentialStore for CatalogCredentials {
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.is_current()?;
        Ok(self.consensus.read(|state| state.get(key).map(versioned)))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
        self.is_current()?;
        Ok(self.consensus.read(|state| {
            state.keys(prefix).map(|(key, found)| (key.to_owned(), versioned(found))).collect()
        }))
    }

    fn put(&self, key: &str, value: &[u8], wanted: Expected) -> Result<u64, StoreError> {
        let put =
            Command::Put { key: key.to_owned(), value: value.to_vec(), expected: expected(wanted) };
        match self.propose(put)? {
            Outcome::Written(version) => Ok(version),
            other => unreachable!("the catalog answers a put with a version, not {other:?}"),
        }
    }

    fn delete(&self, key: &str, wanted: Expected) -> Result<(), StoreError> {
        let delete = Command::Delete { key: key.to_owned(), expected: expected(wanted) };
        self.propose(delete).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use blockstore::MemoryDisk;
    use catalog::State;
    use consensus::{ConsensusConfig, Failure, Member, Observer};

    use super::*;
    use crate::serve::clustered::late::LateLinks;

    struct Nobody;

    impl Observer for Nobody {
        fn applied(&self, _: &Command, _: &Result<Outcome, CatalogError>, _: &State) {}
        fn replaced(&self, _: &State) {}
    }

    async fn alone() -> Consensus {
        let member =
            Member { name: "b".to_owned(), address: "b:1".to_owned(), ..Member::default() };
        let consensus = Consensus::start(
            Arc::new(MemoryDisk::new()),
            ConsensusConfig::new(1, member),
            Arc::new(LateLinks::default()),
            Arc::new(Nobody),
            Arc::new(|failure: &Failure<'_>| panic!("{failure}")),
        );
        let consensus = consensus.await.expect("an empty disk");
        consensus.begin().await.expect("the first");
        consensus
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_catalog_is_a_versioned_key_space_for_credentials() {
        let consensus = alone().await;
        let store = CatalogCredentials::new(consensus.clone(), Handle::current());
        let work = move || {
            assert_eq!(store.get("auth/a"), Ok(None));
            let first = store.put("auth/a", b"one", Expected::Absent).expect("written");
            let conflict = StoreError::Conflict("auth/a".to_owned());
            assert_eq!(store.put("auth/a", b"two", Expected::Absent), Err(conflict.clone()));
            let second = store.put("auth/a", b"two", Expected::Version(first)).expect("written");
            assert!(second > first);
            assert_eq!(store.delete("auth/a", Expected::Version(first)), Err(conflict));
            let found = store.get("auth/a").expect("readable").expect("there");
            assert_eq!((found.value.as_slice(), found.version), (&b"two"[..], second));
            store.put("auth/b", b"three", Expected::Any).expect("written");
            store.put("other", b"x", Expected::Any).expect("written");
            store.delete("auth/a", Expected::Any).expect("removed");
            store.delete("auth/a", Expected::Any).expect("an absent one is no error");
            let listed = store.list("auth/").expect("readable");
            let keys: Vec<_> = listed.into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, ["auth/b"]);
            store
        };
        let store = tokio::task::spawn_blocking(work).await.expect("no panic");
        consensus.stop().await;
        let work = move || {
            // What is known can be read, nothing can be changed, and that is said.
            assert!(store.get("auth/b").expect("readable").is_some());
            store.put("auth/c", b"x", Expected::Any)
        };
        let refused = tokio::task::spawn_blocking(work).await.expect("no panic");
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }

    /// A revoked token must not count for ever at a broker that nobody reaches but its thief.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_hears_of_no_leader_knows_nobody() {
        let member =
            Member { name: "b".to_owned(), address: "b:1".to_owned(), ..Member::default() };
        let consensus = Consensus::start(
            Arc::new(MemoryDisk::new()),
            ConsensusConfig::new(1, member),
            Arc::new(LateLinks::default()),
            Arc::new(Nobody),
            Arc::new(|failure: &Failure<'_>| panic!("{failure}")),
        );
        // It waits to be taken in, and nobody leads.
        let consensus = consensus.await.expect("an empty disk");
        let mut store = CatalogCredentials::new(consensus.clone(), Handle::current());
        assert_eq!(store.get("auth/a"), Ok(None), "an election takes its time");
        store.cut_off = Duration::from_millis(50);
        tokio::time::sleep(Duration::from_millis(100)).await;
        for refused in [store.get("auth/a").err(), store.list("auth/").err()] {
            let Some(StoreError::Unavailable(why)) = refused else { panic!("{refused:?}") };
            assert!(why.contains("ask another broker"), "{why}");
        }
        // A change is refused in a time that somebody at a login page waits: at first it is not known whether
        // who leads is lost, then it is.
        store.cut_off = CUT_OFF;
        let store = Arc::new(store);
        for (words, by) in
            [("no leader was heard", "while it is missed"), ("nothing was changed", "later")]
        {
            let begin = std::time::Instant::now();
            let changing = Arc::clone(&store);
            let work = move || changing.put("auth/a", b"x", Expected::Any);
            let refused = tokio::task::spawn_blocking(work).await.expect("no panic");
            let Err(StoreError::Unavailable(why)) = refused else { panic!("{refused:?}") };
            let took = begin.elapsed();
            assert!(why.contains(words), "{by}: {why}");
            assert!(took < Duration::from_secs(4), "{by}: {took:?}");
        }
        let mut store = Arc::into_inner(store).expect("nobody changes anything");
        store.cut_off = Duration::from_secs(2);
        consensus.begin().await.expect("the first");
        let begin = std::time::Instant::now();
        while store.get("auth/a").is_err() {
            assert!(begin.elapsed() < Duration::from_secs(10), "it leads");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(store.get("auth/a"), Ok(None), "it leads alone, for ever");
        consensus.stop().await;
    }
}
