//! The processes that have joined: which certificates are in force, and which no longer are.
//!
//! A certificate counts as long as its serial number stands in the record of its name. So nothing
//! has to be published for one to be revoked: the record goes, and the connections with it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::auth::store::{decode, encode};
use crate::auth::{Actor, CredentialStore, Expected, StoreError, Versioned};
use crate::authority::{IssuedClient, MAX_NAME, Role};
use crate::tls::unix_ms;
use crate::{audit, random};

const PREFIX: &str = "auth/peer/";
/// Certificates of one name that count at once: the newest, and the one it replaces, whose
/// connections are still open.
const IN_FORCE: usize = 2;
/// Numbers tried behind a name that is taken.
const MAX_SUFFIX: u32 = 10_000;

/// Who is at the other end of a connection with a client certificate; an extension of each of its
/// requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The certificate's common name.
    pub name: Arc<str>,
    /// What it may be.
    pub role: Role,
    /// Serial number of the certificate in hexadecimal.
    pub serial: Arc<str>,
    /// When the certificate ends, milliseconds since the epoch.
    pub expires_ms: i64,
}

impl PeerIdentity {
    /// Reads what a verified certificate says; `None` when it is none of ours.
    pub(crate) fn of_certificate(der: &CertificateDer<'_>) -> Option<PeerIdentity> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let role = subject.iter_organizational_unit().next()?.as_str().ok()?.parse().ok()?;
        let expires = certificate.validity().not_after.timestamp();
        Some(PeerIdentity {
            name: name.into(),
            role,
            serial: random::hexadecimal(certificate.raw_serial()).into(),
            expires_ms: expires.saturating_mul(1_000),
        })
    }
}

/// A process that has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// What it may be.
    #[serde(with = "role_word")]
    pub role: Role,
    /// When it joined, milliseconds since the epoch.
    pub joined_ms: i64,
    /// When its newest certificate ends, milliseconds since the epoch.
    pub expires_ms: i64,
    /// Serial numbers that count, newest first.
    serials: Vec<String>,
}

mod role_word {
    use super::Role;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(role: &Role, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(role.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// Why a peer is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// No record has its serial number.
    #[error(
        "the certificate of {0} {1:?} is revoked; join again with a token from \
         `watchfire token create`"
    )]
    Revoked(Role, String),
    /// It is that of a broker that was drained.
    #[error(
        "the broker {0:?} was drained and has left its cluster, and its certificate is revoked: to take \
         the machine in again, remove its data directory and start it with a token from `watchfire token \
         create --role broker`"
    )]
    Left(String),
    /// It ended.
    #[error(
        "the certificate of {0} {1:?} has ended; join again with a token from \
         `watchfire token create`"
    )]
    Expired(Role, String),
    /// Every variation of the wished name is taken.
    #[error("all names like {0:?} are taken; join under another name")]
    NamesTaken(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The list of who has joined.
pub struct Peers {
    store: Arc<dyn CredentialStore>,
    /// Counts revocations; every connection listens.
    revocations: watch::Sender<u64>,
    /// Whether brokers count that are not listed.
    trusts_brokers: AtomicBool,
    has_left: OnceLock<HasLeft>,
    reserved: OnceLock<String>,
}

/// Whether a certificate is that of a broker that has left its cluster for good. Asked at each of its
/// calls, so it must not wait.
pub type HasLeft = Box<dyn Fn(&PeerIdentity) -> bool + Send + Sync>;

impl fmt::Debug for Peers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Peers").finish_non_exhaustive()
    }
}

impl Peers {
    /// The list kept in `store`.
    pub fn new(store: Arc<dyn CredentialStore>) -> Arc<Peers> {
        let (has_left, reserved) = (OnceLock::new(), OnceLock::new());
        let (revocations, trusts_brokers) = (watch::Sender::new(0), AtomicBool::new(false));
        Arc::new(Peers { store, revocations, trusts_brokers, has_left, reserved })
    }

    /// Keeps a name from those who join from now on: the one under which this process itself collects.
    /// Two that collect under one name would write the same series.
    pub fn reserve(&self, name: &str) {
        let _ = self.reserved.set(name.to_owned());
    }

    /// Whether other brokers are known by their certificate alone. So it is while a broker has not got
    /// the list from them, which it could not get without talking to them.
    pub fn trust_brokers(&self, trust: bool) {
        self.trusts_brokers.store(trust, Ordering::Release);
    }

    /// Says whose certificates count no more although brokers are known by theirs alone; once.
    pub fn know_who_left(&self, has_left: HasLeft) {
        let is_first = self.has_left.set(has_left).is_ok();
        debug_assert!(is_first, "it is said once");
    }

    /// The serial numbers under which a peer is listed, newest first; `None` if it is not, or another one
    /// under its name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn listed(&self, peer: &PeerIdentity) -> Result<Option<Vec<String>>, StoreError> {
        let record = self.store.get(&key(&peer.name))?;
        let record = record.and_then(|record| read(&peer.name, &record));
        let is_it = |record: &Peer| {
            record.role == peer.role && record.serials.iter().any(|serial| **serial == *peer.serial)
        };
        Ok(record.filter(is_it).map(|record| record.serials))
    }

    /// Takes a peer off the list that leaves by itself: its name is free then. Blocks until that is durable.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn leave(&self, peer: &PeerIdentity) -> Result<(), StoreError> {
        if self.listed(peer)?.is_some() {
            self.store.delete(&key(&peer.name), Expected::Any)?;
            self.look_again();
        }
        Ok(())
    }

    /// Everyone on the list, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Peer>, StoreError> {
        let found = self.store.list(PREFIX)?;
        let name = |key: &str| key.strip_prefix(PREFIX).unwrap_or(key).to_owned();
        Ok(found.iter().filter_map(|(key, record)| read(&name(key), record)).collect())
    }

    /// Takes a peer off the list and cuts its connections. Yields whether it was there. Blocks
    /// until that is durable.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn revoke(&self, name: &str, by: &Actor) -> Result<bool, StoreError> {
        let key = key(name);
        if self.store.get(&key)?.is_none() {
            return Ok(false);
        }
        self.store.delete(&key, Expected::Any)?;
        self.revocations.send_modify(|count| *count += 1);
        audit::changed("certificate_revoked", name, by);
        Ok(true)
    }

    /// Whether `peer` may be talked to now. Asks memory only.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, peer: &PeerIdentity, now: SystemTime) -> Result<(), PeerRefusal> {
        // A resumed session does not look at the certificate again, so this does.
        if unix_ms(now) >= peer.expires_ms {
            return Err(PeerRefusal::Expired(peer.role, peer.name.to_string()));
        }
        if peer.role == Role::Broker && self.trusts_brokers.load(Ordering::Acquire) {
            return match self.has_left.get().is_some_and(|has_left| has_left(peer)) {
                true => Err(PeerRefusal::Left(peer.name.to_string())),
                false => Ok(()),
            };
        }
        match self.listed(peer)? {
            Some(_) => Ok(()),
            None => Err(PeerRefusal::Revoked(peer.role, peer.name.to_string())),
        }
    }

    /// Has every connection look whether its peer still counts: another broker may have changed the list.
    pub fn look_again(&self) {
        self.revocations.send_modify(|count| *count += 1);
    }

    /// The names on the list.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn names(&self) -> Result<BTreeSet<String>, StoreError> {
        Ok(self.store.list(PREFIX)?.into_iter().map(|(key, _)| key).collect())
    }

    /// Ends when a peer was revoked, whichever.
    pub(crate) fn revocations(&self) -> watch::Receiver<u64> {
        self.revocations.subscribe()
    }

    /// Reserves the first free name of `wished`, `wished-2`, `wished-3`, … for a new peer, lets
    /// `issue` make its certificate, and puts both on the list. A name whose certificate has ended
    /// is free for the same role.
    pub(crate) fn add<E: From<PeerRefusal>>(
        &self,
        wished: &str,
        role: Role,
        now: SystemTime,
        issue: impl Fn(&str) -> Result<IssuedClient, E>,
    ) -> Result<(String, IssuedClient), E> {
        for number in 1..MAX_SUFFIX {
            let name = numbered(wished, number);
            if self.reserved.get().is_some_and(|reserved| *reserved == name) {
                continue;
            }
            let found = self.store.get(&key(&name)).map_err(PeerRefusal::from)?;
            let expected = match &found {
                None => Expected::Absent,
                Some(record) => match read(&name, record) {
                    Some(peer) if peer.role != role || peer.expires_ms > unix_ms(now) => continue,
                    // Ended, or unreadable and so of no use to anyone.
                    Some(_) | None => Expected::Version(record.version),
                },
            };
            let issued = issue(&name)?;
            let peer = Peer {
                name: name.clone(),
                role,
                joined_ms: unix_ms(now),
                expires_ms: issued.expires_ms,
                serials: vec![issued.serial.clone()],
            };
            match self.store.put(&key(&name), &encode(&peer), expected) {
                Ok(_) => return Ok((name, issued)),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(PeerRefusal::from(error).into()),
            }
        }
        Err(PeerRefusal::NamesTaken(wished.to_owned()).into())
    }

    /// Notes the next certificate of a peer whose authority is its own, where no peer of another role has
    /// the name: whatever stood under it before, its connections still count.
    pub(crate) fn note(
        &self,
        name: &str,
        role: Role,
        issued: &IssuedClient,
        now: SystemTime,
    ) -> Result<(), PeerRefusal> {
        let found = self.store.get(&key(name))?.and_then(|found| read(name, &found));
        // Of one that is something else, which needs its own to stay in force.
        if found.as_ref().is_some_and(|found| found.role != role) {
            return Ok(());
        }
        let mut record = found.unwrap_or_else(|| Peer {
            name: name.to_owned(),
            role,
            joined_ms: unix_ms(now),
            expires_ms: 0,
            serials: Vec::new(),
        });
        record.serials.insert(0, issued.serial.clone());
        record.serials.truncate(IN_FORCE);
        record.expires_ms = issued.expires_ms;
        self.store.put(&key(name), &encode(&record), Expected::Any)?;
        Ok(())
    }

    /// Puts a peer's next certificate on the list; the one it has now counts until the one after.
    pub(crate) fn renew(
        &self,
        peer: &PeerIdentity,
        issued: &IssuedClient,
        now: SystemTime,
    ) -> Result<(), PeerRefusal> {
        loop {
            self.check(peer, now)?;
            let found = self.store.get(&key(&peer.name))?;
            let found = found.and_then(|found| Some((read(&peer.name, &found)?, found.version)));
            let Some((mut record, version)) = found else { continue };
            record.serials.retain(|serial| **serial == *peer.serial);
            record.serials.insert(0, issued.serial.clone());
            record.serials.truncate(IN_FORCE);
            record.expires_ms = issued.expires_ms;
            match self.store.put(&key(&peer.name), &encode(&record), Expected::Version(version)) {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// `name` alone for 1, with the number behind it from 2 on, never longer than allowed.
fn numbered(name: &str, number: u32) -> String {
    if number == 1 {
        return name.to_owned();
    }
    let suffix = format!("-{number}");
    let kept: String = name.chars().take(MAX_NAME - suffix.len()).collect();
    format!("{kept}{suffix}")
}

fn read(name: &str, record: &Versioned) -> Option<Peer> {
    let peer: Peer = decode(&key(name), record)?;
    Some(Peer { name: name.to_owned(), ..peer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::FileStore;

    /// A broker that was away for long takes the name that it had, which may be an agent's by now.
    #[test]
    fn a_broker_that_renews_leaves_an_agent_of_its_name_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FileStore::open(&directory.path().join("credentials")).expect("empty");
        let peers = Peers::new(Arc::new(store));
        let now = SystemTime::now();
        let expires_ms = unix_ms(now) + 1_000_000;
        let issued = |serial: &str| IssuedClient {
            certificate: Vec::new().into(),
            serial: serial.to_owned(),
            expires_ms,
        };
        let add = |role| {
            let added = peers.add::<PeerRefusal>("web", role, now, |_| Ok(issued("a1")));
            added.expect("nobody has the name").0
        };
        assert_eq!(add(Role::Agent), "web");
        for serial in ["b1", "b2", "b3"] {
            peers.note("web", Role::Broker, &issued(serial), now).expect("writable");
        }
        let agent =
            PeerIdentity { name: "web".into(), role: Role::Agent, serial: "a1".into(), expires_ms };
        assert_eq!(peers.check(&agent, now), Ok(()));
        assert_eq!(add(Role::Broker), "web-2");
        peers.note("web-2", Role::Broker, &issued("b4"), now).expect("writable");
        let broker = PeerIdentity {
            name: "web-2".into(),
            role: Role::Broker,
            serial: "b4".into(),
            expires_ms,
        };
        assert_eq!(peers.check(&broker, now), Ok(()));
        // It leaves: its name is free, and its certificate counts no more, also where brokers need no list.
        peers.leave(&PeerIdentity { serial: "b9".into(), ..broker.clone() }).expect("nobody's");
        assert_eq!(peers.listed(&broker), Ok(Some(vec!["b4".to_owned(), "a1".to_owned()])));
        peers.trust_brokers(true);
        peers.know_who_left(Box::new(|peer| *peer.serial == *"b4"));
        peers.leave(&broker).expect("writable");
        assert_eq!(peers.listed(&broker), Ok(None));
        let refusal = peers.check(&broker, now).expect_err("it has left");
        assert!(refusal.to_string().contains("was drained"), "{refusal}");
        let next = PeerIdentity { serial: "b5".into(), ..broker };
        assert_eq!(peers.check(&next, now), Ok(()));
    }
}
