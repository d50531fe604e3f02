//! Tokens with which a new host proves that it may join, once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{SendError, Sender, channel};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use settings::Secret;

use super::digest::token_digest;
use super::store::{decode, encode};
use super::{Actor, CredentialStore, Expected, StoreError};
use crate::authority::Role;
use crate::tls::{Fingerprint, unix_ms};
use crate::{audit, random};

const PREFIX: &str = "auth/join/";
/// What every join token begins with.
const MARK: &str = "wfj_";
/// 131 bits: it counts for minutes only.
const SECRET_LETTERS: usize = 22;
/// How long a token holds unless said otherwise.
pub const DEFAULT_JOIN_LIFE: Duration = Duration::from_secs(15 * 60);
/// The longest life of a token.
pub const MAX_JOIN_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The most hosts one token can bring.
pub const MAX_JOIN_USES: u32 = 100_000;
/// Until another broker's change of the same record is known here.
const CONFLICT_PAUSE: Duration = Duration::from_millis(2);
/// Tokens that wait to be used at once.
const MAX_TOKENS: usize = 1_000;

/// What is printed for the operator and given to the new host: `wfj_SECRET_FINGERPRINT`. The
/// fingerprint is that of the authority, so that the new host knows the right broker at once.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    secret: String,
    authority: Fingerprint,
}

impl JoinToken {
    fn new(authority: Fingerprint) -> Self {
        JoinToken { secret: random::alphanumeric(SECRET_LETTERS), authority }
    }

    /// The authority whose brokers may be trusted.
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }

    /// The text, to be shown once or sent to the broker.
    pub fn reveal(&self) -> String {
        format!("{MARK}{}_{}", self.secret, self.authority)
    }

    /// What is stored instead of the token.
    pub(crate) fn digest(&self) -> String {
        token_digest(&self.secret)
    }
}

/// Without the secret.
impl fmt::Debug for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{MARK}<secret>_{}", self.authority)
    }
}

impl FromStr for JoinToken {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let parts = text.trim().strip_prefix(MARK).and_then(|rest| rest.split_once('_'));
        let Some((secret, authority)) = parts else { return Err(JoinError::Malformed) };
        let authority = authority.parse().map_err(|_| JoinError::Malformed)?;
        if secret.len() != SECRET_LETTERS || !secret.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(JoinError::Malformed);
        }
        Ok(JoinToken { secret: secret.to_owned(), authority })
    }
}

/// Why a token does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It is none.
    #[error(
        "this is no join token: one begins with wfj_ and is printed whole by \
         `watchfire token create`"
    )]
    Malformed,
    /// Nobody made it here, it has ended, it was revoked, or it is used up. Which of them is not
    /// told: who guesses must not learn.
    #[error(
        "the join token is unknown here, used up, revoked or too old; make a new one with \
         `watchfire token create`, for a console or a broker with its --role"
    )]
    Unknown,
    /// It was made for something else.
    #[error(
        "the join token is for the role {0}, not {1}; make one with \
         `watchfire token create --role {1}`"
    )]
    OtherRole(Role, Role),
    /// A number is out of range.
    #[error("{0}")]
    Range(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A token that waits to be used, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingJoin {
    /// Names it in lists and when it is revoked.
    pub id: String,
    /// What it lets a host become: `agent`, `console` or `broker`.
    pub role: String,
    /// How many hosts may still use it.
    pub uses_left: u32,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: i64,
    /// When it ends, milliseconds since the epoch.
    pub expires_ms: i64,
    /// Who made it.
    pub created_by: String,
}

/// The tokens that wait to be used.
#[derive(Clone)]
pub struct JoinTokens {
    store: Arc<dyn CredentialStore>,
    authority: Fingerprint,
    turns: Arc<Turns>,
}

/// Who waits for a use of which token, by its key. A key is there while somebody changes its record.
#[derive(Default)]
struct Turns(Mutex<HashMap<String, Vec<Sender<Turn>>>>);

/// What comes to one who waits.
enum Turn {
    Served(Result<PendingJoin, JoinError>),
    /// It changes the record itself, for these as well.
    Serve(Vec<Sender<Turn>>),
}

impl Turns {
    fn wait(&self, key: &str) -> Result<Turn, StoreError> {
        let (sender, receiver) = channel();
        match self.0.lock().entry(key.to_owned()) {
            Entry::Occupied(mut waiting) => waiting.get_mut().push(sender),
            Entry::Vacant(free) => {
                free.insert(Vec::new());
                return Ok(Turn::Serve(Vec::new()));
            }
        }
        let gone = || StoreError::Unavailable("the change of the join token failed".to_owned());
        receiver.recv().map_err(|_| gone())
    }
}

/// One who changes a record; the next one is called when it is dropped, whatever became of the change.
struct Serving<'a> {
    turns: &'a Turns,
    key: &'a str,
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        let mut turns = self.turns.0.lock();
        let Some(waiting) = turns.get_mut(self.key) else { return };
        while !waiting.is_empty() {
            let next = waiting.remove(0);
            let others = std::mem::take(waiting);
            match next.send(Turn::Serve(others)) {
                Ok(()) => return,
                Err(SendError(Turn::Serve(others))) => *waiting = others,
                Err(SendError(Turn::Served(_))) => unreachable!("it was sent to serve"),
            }
        }
        turns.remove(self.key);
    }
}

impl fmt::Debug for JoinTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JoinTokens").finish_non_exhaustive()
    }
}

impl JoinTokens {
    /// Tokens kept in `store` that lead to brokers of `authority`.
    pub fn new(store: Arc<dyn CredentialStore>, authority: Fingerprint) -> Self {
        JoinTokens { store, authority, turns: Arc::default() }
    }

    /// Makes a token. Its text is in the result and nowhere else. Blocks until it is durable.
    ///
    /// # Errors
    /// A number is out of range, too many tokens wait, or the store cannot be written.
    pub fn create(
        &self,
        role: Role,
        uses: u32,
        life: Duration,
        by: &Actor,
        now: SystemTime,
    ) -> Result<(Secret, PendingJoin), JoinError> {
        if !(1..=MAX_JOIN_USES).contains(&uses) {
            let most = format!("uses must be from 1 to {MAX_JOIN_USES}");
            return Err(JoinError::Range(most));
        }
        if life.is_zero() || life > MAX_JOIN_LIFE {
            return Err(JoinError::Range("a join token holds at most 30 days".to_owned()));
        }
        if self.list(now)?.len() >= MAX_TOKENS {
            return Err(JoinError::Range(format!(
                "{MAX_TOKENS} join tokens wait already; revoke some, or make one with more uses"
            )));
        }
        let token = JoinToken::new(self.authority);
        let pending = PendingJoin {
            id: random::hexadecimal(&random::bytes::<4>()),
            role: role.as_str().to_owned(),
            uses_left: uses,
            created_ms: unix_ms(now),
            expires_ms: unix_ms(now + life),
            created_by: by.principal.name.to_string(),
        };
        self.store.put(&key(&token), &encode(&pending), Expected::Absent)?;
        audit::changed("join_token_created", &format!("{} [{role}] {uses}", pending.id), by);
        Ok((Secret::new(token.reveal()), pending))
    }

    /// The tokens that can still be used, the oldest first. Forgets those that have ended.
    ///
    /// # Errors
    /// The store.
    pub fn list(&self, now: SystemTime) -> Result<Vec<PendingJoin>, StoreError> {
        let mut found = Vec::new();
        for (key, record) in self.store.list(PREFIX)? {
            match decode::<PendingJoin>(&key, &record) {
                Some(pending) if pending.expires_ms > unix_ms(now) => found.push(pending),
                Some(_) | None => self.forget(&key, record.version)?,
            }
        }
        found.sort_by_key(|pending| pending.created_ms);
        Ok(found)
    }

    /// Ends a token. Yields whether there was one with this id. Blocks until it is durable.
    ///
    /// # Errors
    /// The store.
    pub fn revoke(&self, id: &str, by: &Actor) -> Result<bool, StoreError> {
        for (key, record) in self.store.list(PREFIX)? {
            if decode::<PendingJoin>(&key, &record).is_some_and(|pending| pending.id == id) {
                self.store.delete(&key, Expected::Any)?;
                audit::changed("join_token_revoked", id, by);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a token could be used now, without using it.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(
        &self,
        token: &JoinToken,
        role: Role,
        now: SystemTime,
    ) -> Result<(PendingJoin, u64), JoinError> {
        let key = key(token);
        let record = self.store.get(&key)?.ok_or(JoinError::Unknown)?;
        let pending: PendingJoin = decode(&key, &record).ok_or(JoinError::Unknown)?;
        let made_for: Role = pending.role.parse().map_err(|_| JoinError::Unknown)?;
        if pending.expires_ms <= unix_ms(now) || pending.uses_left == 0 {
            return Err(JoinError::Unknown);
        }
        if made_for != role {
            return Err(JoinError::OtherRole(made_for, role));
        }
        Ok((pending, record.version))
    }

    /// Uses a token once. Of any number of callers at the same time, no more succeed than it has
    /// uses. Blocks until that is durable.
    ///
    /// Those who come while a change of their token is under way are served by the next one together: else
    /// thousands of hosts that are set up at once would each wait for a change of the same record, which
    /// conflicts with those of all others.
    pub(crate) fn redeem(
        &self,
        token: &JoinToken,
        role: Role,
        now: SystemTime,
    ) -> Result<PendingJoin, JoinError> {
        self.check(token, role, now)?;
        let key = key(token);
        let turn = self.turns.wait(&key)?;
        let (turn, others) = match turn {
            Turn::Served(result) => return result,
            Turn::Serve(others) => (Serving { turns: &self.turns, key: &key }, others),
        };
        let wanted = u32::try_from(others.len() + 1).unwrap_or(u32::MAX);
        let taken = self.take(token, role, now, wanted);
        drop(turn);
        let result = |of: usize| match &taken {
            Ok((uses, pending)) if of < *uses as usize => Ok(pending.clone()),
            Ok(_) => Err(JoinError::Unknown),
            Err(error) => Err(error.clone()),
        };
        for (at, other) in others.into_iter().enumerate() {
            // Whoever is gone has nobody to answer.
            let _ = other.send(Turn::Served(result(at + 1)));
        }
        result(0)
    }

    /// Takes `wanted` uses of a token, or as many as it has left.
    fn take(
        &self,
        token: &JoinToken,
        role: Role,
        now: SystemTime,
        wanted: u32,
    ) -> Result<(u32, PendingJoin), JoinError> {
        loop {
            let (mut pending, version) = self.check(token, role, now)?;
            let uses = pending.uses_left.min(wanted);
            pending.uses_left -= uses;
            let (key, expected) = (key(token), Expected::Version(version));
            let written = if pending.uses_left == 0 {
                self.store.delete(&key, expected)
            } else {
                self.store.put(&key, &encode(&pending), expected).map(|_| ())
            };
            match written {
                Ok(()) => return Ok((uses, pending)),
                // Another broker used it at the same time; what that left is known here in a moment.
                Err(StoreError::Conflict(_)) => std::thread::sleep(CONFLICT_PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn forget(&self, key: &str, version: u64) -> Result<(), StoreError> {
        match self.store.delete(key, Expected::Version(version)) {
            Err(StoreError::Conflict(_)) => Ok(()),
            other => other,
        }
    }
}

fn key(token: &JoinToken) -> String {
    format!("{PREFIX}{}", token.digest())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::auth::{FileStore, Versioned};

    fn tokens() -> (tempfile::TempDir, JoinTokens) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FileStore::open(&directory.path().join("store")).expect("empty");
        let authority = "ab".repeat(32).parse().expect("a fingerprint");
        (directory, JoinTokens::new(Arc::new(store), authority))
    }

    fn ann() -> Actor {
        Actor::by_itself("ann", ([127, 0, 0, 1], 1).into())
    }

    fn create(tokens: &JoinTokens, uses: u32, now: SystemTime) -> JoinToken {
        let made = tokens.create(Role::Agent, uses, DEFAULT_JOIN_LIFE, &ann(), now);
        let (secret, _) = made.expect("made");
        secret.reveal().parse().expect("own form")
    }

    #[test]
    fn a_token_counts_once_and_for_its_role_and_for_a_while() {
        let (_directory, tokens) = tokens();
        let now = SystemTime::now();
        let token = create(&tokens, 1, now);
        assert_eq!(
            tokens.redeem(&token, Role::Console, now),
            Err(JoinError::OtherRole(Role::Agent, Role::Console))
        );
        let late = now + DEFAULT_JOIN_LIFE;
        assert_eq!(tokens.redeem(&token, Role::Agent, late), Err(JoinError::Unknown));
        tokens.redeem(&token, Role::Agent, now).expect("counts");
        assert_eq!(tokens.redeem(&token, Role::Agent, now), Err(JoinError::Unknown));
        let token = create(&tokens, 1, now);
        let id = tokens.list(now).expect("readable")[0].id.clone();
        assert!(tokens.revoke(&id, &ann()).expect("written"));
        assert!(!tokens.revoke(&id, &ann()).expect("nothing there"));
        assert_eq!(tokens.redeem(&token, Role::Agent, now), Err(JoinError::Unknown));
        create(&tokens, 1, now);
        assert_eq!(tokens.list(late).expect("readable"), []);
        assert_eq!(tokens.store.list(PREFIX).expect("readable"), []);
    }

    #[test]
    fn two_at_once_cannot_use_one_token() {
        let (_directory, tokens) = tokens();
        let now = SystemTime::now();
        let token = create(&tokens, 3, now);
        let used = std::thread::scope(|scope| {
            let try_one = || tokens.redeem(&token, Role::Agent, now).is_ok();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(try_one)).collect();
            let used = all.into_iter().map(|thread| thread.join().expect("no panic"));
            used.filter(|used| *used).count()
        });
        assert_eq!(used, 3);
    }

    /// A store that counts its changes, and takes its time for each.
    struct Slow(FileStore, AtomicU32);

    impl CredentialStore for Slow {
        fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
            self.0.get(key)
        }
        fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
            self.0.list(prefix)
        }
        fn put(&self, key: &str, value: &[u8], expected: Expected) -> Result<u64, StoreError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
            self.0.put(key, value, expected)
        }
        fn delete(&self, key: &str, expected: Expected) -> Result<(), StoreError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.delete(key, expected)
        }
    }

    #[test]
    fn many_hosts_at_once_take_few_changes_of_their_token() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FileStore::open(&directory.path().join("store")).expect("empty");
        let store = Arc::new(Slow(store, AtomicU32::new(0)));
        let authority = "ab".repeat(32).parse().expect("a fingerprint");
        let tokens = JoinTokens::new(Arc::clone(&store) as Arc<dyn CredentialStore>, authority);
        let now = SystemTime::now();
        let token = create(&tokens, 60, now);
        let used = std::thread::scope(|scope| {
            let try_one = || tokens.redeem(&token, Role::Agent, now);
            let all: Vec<_> = (0..64).map(|_| scope.spawn(try_one)).collect();
            all.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert_eq!(used.iter().filter(|used| used.is_ok()).count(), 60);
        let refused = used.iter().filter_map(|used| used.as_ref().err());
        assert!(refused.into_iter().all(|error| *error == JoinError::Unknown), "{used:?}");
        // One to make it; that all threads begin within one change is not said.
        let changes = store.1.load(Ordering::Relaxed);
        assert!(changes < 30, "{changes} changes");
        assert!(tokens.turns.0.lock().is_empty(), "nobody waits any more");
    }

    #[test]
    fn the_secret_is_shown_nowhere() {
        let (directory, tokens) = tokens();
        let token = create(&tokens, 2, SystemTime::now());
        assert_eq!(token.authority(), tokens.authority);
        let stored = std::fs::read_to_string(directory.path().join("store")).expect("readable");
        let shown = format!("{token:?} {:?} {stored}", tokens.list(SystemTime::now()));
        assert!(!shown.contains(&token.secret), "{shown}");
        for wrong in ["", "wfj_", "wft_x", &token.reveal()[1..], &format!("{}0", token.reveal())] {
            assert!(wrong.parse::<JoinToken>().is_err(), "{wrong}");
        }
    }
}
