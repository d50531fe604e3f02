//! Sessions of browsers: an id that only the browser knows, in a cookie no script can read.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};
use settings::Secret;

use super::digest::token_digest;
use super::store::{decode, encode};
use super::{CredentialStore, Expected, StoreError};
use crate::random;

const PREFIX: &str = "auth/session/";
/// 256 bits.
const ID_LETTERS: usize = 43;
/// Sessions of one user; the one that was not used for the longest time makes place.
const MAX_PER_USER: usize = 50;
/// A session's last use is written down this often within the time it may idle.
const USES_PER_IDLE: u32 = 32;
/// The prefix binds it to this host, to TLS and to all paths (RFC 6265bis, section 4.1.3.2).
const SECURE_COOKIE: &str = "__Host-watchfire";
/// Browsers accept no such prefix without TLS.
const PLAIN_COOKIE: &str = "watchfire";

/// How long a login holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLife {
    /// Without a request.
    pub idle: Duration,
    /// In all.
    pub total: Duration,
}

/// A week without a request, a month in all.
impl Default for SessionLife {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        SessionLife { idle: DAY * 7, total: DAY * 30 }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    pub(crate) user: String,
    /// The password it began with, see [`super::users::UserRecord::password_id`].
    pub(crate) password_id: String,
    created_ms: i64,
    used_ms: i64,
}

/// All sessions.
#[derive(Clone)]
pub(crate) struct Sessions {
    store: Arc<dyn CredentialStore>,
    life: SessionLife,
}

impl Sessions {
    pub(crate) fn new(store: Arc<dyn CredentialStore>, life: SessionLife) -> Self {
        Sessions { store, life }
    }

    /// Begins a session and yields its id. Forgets those that have ended. Blocks.
    pub(crate) fn begin(
        &self,
        user: &str,
        password_id: String,
        now_ms: i64,
    ) -> Result<Secret, StoreError> {
        let mut own = Vec::new();
        for (key, stored) in self.store.list(PREFIX)? {
            match decode::<SessionRecord>(&key, &stored) {
                Some(session) if !self.has_ended(&session, now_ms) => {
                    if session.user == user {
                        own.push((session.used_ms, key));
                    }
                }
                Some(_) | None => self.store.delete(&key, Expected::Any)?,
            }
        }
        own.sort();
        for (_, key) in own.iter().take((own.len() + 1).saturating_sub(MAX_PER_USER)) {
            self.store.delete(key, Expected::Any)?;
        }
        let id = random::alphanumeric(ID_LETTERS);
        let user = user.to_owned();
        let session = SessionRecord { user, password_id, created_ms: now_ms, used_ms: now_ms };
        self.store.put(&key(&id), &encode(&session), Expected::Absent)?;
        Ok(Secret::new(id))
    }

    /// The session with this id, if it counts. Asks memory only. The second says whether
    /// [`Sessions::touch`] is due.
    pub(crate) fn find(
        &self,
        id: &str,
        now_ms: i64,
    ) -> Result<Option<(SessionRecord, bool)>, StoreError> {
        if id.len() != ID_LETTERS {
            return Ok(None);
        }
        let key = key(id);
        let Some(stored) = self.store.get(&key)? else { return Ok(None) };
        let session = decode::<SessionRecord>(&key, &stored);
        let session = session.filter(|session| !self.has_ended(session, now_ms));
        let is_old = |session: &SessionRecord| {
            now_ms.saturating_sub(session.used_ms) > millis(self.life.idle / USES_PER_IDLE)
        };
        Ok(session.map(|session| {
            let is_due = is_old(&session);
            (session, is_due)
        }))
    }

    /// Writes down that a session was used. Blocks.
    pub(crate) fn touch(&self, id: &str, now_ms: i64) {
        let key = key(id);
        let write = || -> Result<(), StoreError> {
            let Some(stored) = self.store.get(&key)? else { return Ok(()) };
            let Some(session) = decode::<SessionRecord>(&key, &stored) else { return Ok(()) };
            let session = SessionRecord { used_ms: now_ms, ..session };
            let expected = Expected::Version(stored.version);
            match self.store.put(&key, &encode(&session), expected) {
                // Someone else did it, or the session has ended.
                Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
                Err(error) => Err(error),
            }
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "a session's use is not written down; it may end early");
        }
    }

    /// Ends one session. Blocks.
    pub(crate) fn end(&self, id: &str) -> Result<(), StoreError> {
        self.store.delete(&key(id), Expected::Any)
    }

    /// Ends all sessions of a user. Blocks.
    pub(crate) fn end_all(&self, user: &str) -> Result<(), StoreError> {
        for (key, stored) in self.store.list(PREFIX)? {
            if decode::<SessionRecord>(&key, &stored).is_some_and(|session| session.user == user) {
                self.store.delete(&key, Expected::Any)?;
            }
        }
        Ok(())
    }

    fn has_ended(&self, session: &SessionRecord, now_ms: i64) -> bool {
        now_ms.saturating_sub(session.used_ms) >= millis(self.life.idle)
            || now_ms.saturating_sub(session.created_ms) >= millis(self.life.total)
    }

    /// The header that gives a browser its session.
    pub(crate) fn cookie(&self, id: &Secret, over_tls: bool) -> HeaderValue {
        set_cookie(id.reveal(), self.life.total.as_secs(), over_tls)
    }
}

/// The header that takes a browser's session away.
pub(crate) fn removed_cookie(over_tls: bool) -> HeaderValue {
    set_cookie("", 0, over_tls)
}

fn set_cookie(value: &str, max_age: u64, over_tls: bool) -> HeaderValue {
    let (name, secure) = if over_tls { (SECURE_COOKIE, "; Secure") } else { (PLAIN_COOKIE, "") };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age}{secure}");
    let mut header = HeaderValue::from_str(&text).expect("letters and digits");
    header.set_sensitive(true);
    header
}

/// The session id a request bears; `None` where there is none or more than one, which only happens
/// when someone else has set a cookie of this name.
pub(crate) fn session_id(headers: &HeaderMap, over_tls: bool) -> Option<&str> {
    let name = if over_tls { SECURE_COOKIE } else { PLAIN_COOKIE };
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    let mut ids = pairs.filter(|(found, _)| found.trim() == name).map(|(_, id)| id.trim());
    ids.next().filter(|_| ids.next().is_none())
}

fn key(id: &str) -> String {
    format!("{PREFIX}{}", token_digest(id))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::FileStore;

    #[test]
    fn a_session_ends_when_it_idles_or_is_old() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FileStore::open(&directory.path().join("store")).expect("empty");
        let life =
            SessionLife { idle: Duration::from_secs(100), total: Duration::from_secs(1_000) };
        let sessions = Sessions::new(Arc::new(store), life);
        let id = sessions.begin("ann", "p".to_owned(), 0).expect("begun");
        let find = |now_ms| sessions.find(id.reveal(), now_ms).expect("readable");
        assert!(find(99_999).is_some_and(|(session, is_due)| session.user == "ann" && is_due));
        assert!(find(1_000).is_some_and(|(_, is_due)| !is_due));
        assert!(find(100_000).is_none());
        for now_ms in (90_000..990_000).step_by(90_000) {
            sessions.touch(id.reveal(), now_ms);
        }
        assert!(find(999_999).is_some());
        assert!(find(1_000_000).is_none());
        let shown = std::fs::read_to_string(directory.path().join("store")).expect("readable");
        assert!(!shown.contains(id.reveal()), "only a digest is stored");
        // The next login forgets what has ended, and keeps one user's sessions few.
        sessions.begin("bob", "p".to_owned(), 1_000_000).expect("begun");
        assert_eq!(sessions.store.list(PREFIX).expect("readable").len(), 1);
        for _ in 0..MAX_PER_USER + 5 {
            sessions.begin("ann", "p".to_owned(), 1_000_000).expect("begun");
        }
        assert_eq!(sessions.store.list(PREFIX).expect("readable").len(), 1 + MAX_PER_USER);
        sessions.end_all("ann").expect("ended");
        assert_eq!(sessions.store.list(PREFIX).expect("readable").len(), 1);
    }

    #[test]
    fn cookies_are_out_of_reach_for_scripts_and_other_hosts() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FileStore::open(&directory.path().join("store")).expect("empty");
        let sessions = Sessions::new(Arc::new(store), SessionLife::default());
        let id = Secret::new("x".repeat(ID_LETTERS));
        let text = |value: HeaderValue| value.to_str().expect("text").to_owned();
        let secure = text(sessions.cookie(&id, true));
        assert_eq!(
            secure,
            format!(
                "__Host-watchfire={}; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000; Secure",
                id.reveal()
            )
        );
        assert!(!text(sessions.cookie(&id, false)).contains("Secure"));
        assert!(text(removed_cookie(true)).contains("Max-Age=0"));
        assert!(!format!("{:?}", sessions.cookie(&id, true)).contains("xxx"));
        let find = |cookies: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(header::COOKIE, HeaderValue::from_static(cookie));
            }
            session_id(&headers, true).map(str::to_owned)
        };
        assert_eq!(find(&["a=1; __Host-watchfire=abc; b=2"]).as_deref(), Some("abc"));
        assert_eq!(find(&["watchfire=abc"]), None);
        assert_eq!(find(&["__Host-watchfire=a; __Host-watchfire=b"]), None);
        assert_eq!(find(&["__Host-watchfire=a", "__Host-watchfire=b"]), None);
    }
}
