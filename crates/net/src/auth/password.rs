//! Passwords: hashed with Argon2id, few at a time, and remembered for a while once they were right.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use parking_lot::Mutex;
use settings::Secret;
use tokio::sync::Semaphore;

use crate::random;

/// OWASP's first recommendation for Argon2id (Password Storage Cheat Sheet): 19 MiB, two passes.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What waits to be hashed; each has a connection, so this is little.
const MAX_WAITING: usize = 256;
/// A right password is not hashed again for this long.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);
const MAX_REMEMBERED: usize = 1_024;
/// Longer ones are refused unread.
pub(crate) const MAX_PASSWORD_BYTES: usize = 1_024;

/// Too many passwords wait to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// Hashes and verifies.
///
/// What is remembered is not the password but a keyed hash, under a key that only this process
/// has, of the stored hash and the password together. So an entry can be made only by a
/// verification that succeeded, and counts only for the very hash it succeeded against: a changed
/// password or a deleted user leaves nothing that fits. Failures are never remembered. (Compare
/// CVE-2022-46146, where entries could be forged.)
pub(crate) struct Passwords {
    places: Arc<Semaphore>,
    /// Of those who wait and those who have a place.
    queue: Arc<Semaphore>,
    key: [u8; 32],
    /// Verified against where there is no such user, so that it takes the same time.
    stranger: String,
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
    /// One at a time for the same user and password: the second finds it remembered.
    turns: Turns,
}

type Turns = Mutex<HashMap<[u8; 32], Arc<tokio::sync::Mutex<()>>>>;

/// A caller that waits or works; forgotten with it, however it ends.
struct Turn<'a> {
    turns: &'a Turns,
    entry: [u8; 32],
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.turns.lock();
        // The map's own and this one: nobody else waits.
        if Arc::strong_count(&self.lock) <= 2 {
            turns.remove(&self.entry);
        }
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl Passwords {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let places = (cores / 2).clamp(1, 4);
        Passwords {
            places: Arc::new(Semaphore::new(places)),
            queue: Arc::new(Semaphore::new(places + MAX_WAITING)),
            key: random::bytes(),
            stranger: unmatchable(),
            remembered: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    /// The hash to store.
    pub(crate) async fn hash(&self, password: &Secret) -> Result<String, Busy> {
        let password = password.clone();
        self.run(move || {
            let salt = SaltString::encode_b64(&random::bytes::<16>()).expect("16 bytes fit");
            let hash = argon2().hash_password(password.reveal().as_bytes(), &salt);
            hash.expect("parameters and salt are in range").to_string()
        })
        .await
    }

    /// Whether `password` belongs to the stored hash; against no hash it takes as long and is
    /// wrong. Never answers from memory.
    pub(crate) async fn verify(&self, hash: Option<&str>, password: &Secret) -> Result<bool, Busy> {
        let stored = hash.unwrap_or(&self.stranger).to_owned();
        let given = password.clone();
        let is_right = self.run(move || verify_now(&stored, given.reveal())).await?;
        Ok(is_right && hash.is_some())
    }

    /// Whether `password` was verified against `hash` not long ago.
    pub(crate) fn is_remembered(&self, hash: &str, password: &Secret) -> bool {
        let entry = self.entry(hash, password);
        let mut remembered = self.remembered.lock();
        match remembered.get(&entry) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                remembered.remove(&entry);
                false
            }
            None => false,
        }
    }

    /// Remembers that `password` was verified against `hash`.
    pub(crate) fn remember(&self, hash: &str, password: &Secret) {
        let entry = self.entry(hash, password);
        let now = Instant::now();
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, until| *until > now);
        }
        if remembered.len() >= MAX_REMEMBERED {
            let oldest = remembered.iter().min_by_key(|(_, until)| **until).map(|(key, _)| *key);
            oldest.and_then(|oldest| remembered.remove(&oldest));
        }
        remembered.insert(entry, now + REMEMBERED);
    }

    /// Lets one caller at a time pass for the same hash and password. Grafana asks for twenty
    /// panels at once: the first is verified, the others find it remembered.
    pub(crate) async fn take_turns<T>(
        &self,
        hash: &str,
        password: &Secret,
        work: impl Future<Output = T>,
    ) -> T {
        let entry = self.entry(hash, password);
        let lock = Arc::clone(self.turns.lock().entry(entry).or_default());
        let turn = Turn { turns: &self.turns, entry, lock };
        let _held = turn.lock.lock().await;
        work.await
    }

    fn entry(&self, hash: &str, password: &Secret) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in [hash, password.reveal()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let queued = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| Busy)?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Busy)?;
        let outcome = tokio::task::spawn_blocking(move || {
            // Held here and not by the caller, who may leave while this goes on.
            let _places = (queued, place);
            work()
        });
        outcome.await.map_err(|_| Busy)
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("constants in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn verify_now(hash: &str, password: &str) -> bool {
    // The comparison inside takes the same time wherever two hashes differ.
    match PasswordHash::new(hash) {
        Ok(parsed) => argon2().verify_password(password.as_bytes(), &parsed).is_ok(),
        Err(_) => {
            tracing::error!("a stored password hash cannot be read; nobody can use it");
            false
        }
    }
}

/// A hash in the usual form of which nobody knows the password: its output is random.
fn unmatchable() -> String {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes);
    format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        encode(&random::bytes::<16>()),
        encode(&random::bytes::<32>())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn right_is_right_and_an_unknown_user_takes_as_long() {
        let passwords = Passwords::new();
        let (right, wrong) = (Secret::new("correct horse"), Secret::new("battery staple"));
        let hash = passwords.hash(&right).await.expect("idle");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash(&right).await.expect("idle"));
        assert_eq!(passwords.verify(Some(&hash), &right).await, Ok(true));
        assert_eq!(passwords.verify(Some(&hash), &wrong).await, Ok(false));
        assert_eq!(passwords.verify(None, &right).await, Ok(false));
        assert_eq!(passwords.verify(Some("rubbish"), &right).await, Ok(false));
        let mut known = Duration::MAX;
        let mut unknown = Duration::MAX;
        for _ in 0..5 {
            let begin = Instant::now();
            assert_eq!(passwords.verify(Some(&hash), &wrong).await, Ok(false));
            known = known.min(begin.elapsed());
            let begin = Instant::now();
            assert_eq!(passwords.verify(None, &wrong).await, Ok(false));
            unknown = unknown.min(begin.elapsed());
        }
        let ratio = known.as_secs_f64() / unknown.as_secs_f64();
        // Without a hash to compute it would be a thousand times less; a busy machine may double it.
        assert!((0.2..5.0).contains(&ratio), "known {known:?}, unknown {unknown:?}");
    }

    #[tokio::test]
    async fn only_what_was_verified_is_remembered() {
        let passwords = Passwords::new();
        let (one, two) = (Secret::new("one"), Secret::new("two"));
        passwords.remember("hash of one", &one);
        assert!(passwords.is_remembered("hash of one", &one));
        assert!(!passwords.is_remembered("hash of one", &two));
        assert!(!passwords.is_remembered("another hash of one", &one));
        // Where one text ends and the next begins is part of the entry.
        assert!(!passwords.is_remembered("hash of on", &Secret::new("eone")));
        for number in 0..2 * MAX_REMEMBERED {
            passwords.remember(&number.to_string(), &one);
        }
        assert!(passwords.remembered.lock().len() <= MAX_REMEMBERED);
    }

    #[tokio::test]
    async fn many_at_once_with_one_password_take_turns() {
        let passwords = Arc::new(Passwords::new());
        let verified = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let ask = |_| {
            let (passwords, verified) = (Arc::clone(&passwords), Arc::clone(&verified));
            tokio::spawn(async move {
                let password = Secret::new("x");
                let work = async {
                    if !passwords.is_remembered("h", &password) {
                        verified.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        tokio::task::yield_now().await;
                        passwords.remember("h", &password);
                    }
                };
                passwords.take_turns("h", &password, work).await;
            })
        };
        for task in (0..50).map(ask).collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
        assert_eq!(verified.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(passwords.turns.lock().is_empty());
    }
}
