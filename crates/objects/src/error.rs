//! Why an object could not be read or written.

use std::time::Duration;

/// What went wrong, sorted by what can be done about it. No text holds a credential.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("the store has no object {key}")]
    NotFound {
        /// The key asked for.
        key: String,
    },
    /// The store said no; nothing was done, and trying again is of no use before somebody acts.
    #[error("the store refused to {action} {key}: {why}; {}", .refusal.remedy())]
    Refused {
        /// What somebody has to do.
        refusal: Refusal,
        /// What was tried, in present tense.
        action: &'static str,
        /// With which object.
        key: String,
        /// What the store said.
        why: String,
    },
    /// The store is overloaded or not ready; nothing was done.
    #[error(
        "the store is too busy to {action} {key}: {why}; raise its limit of requests, or send it less"
    )]
    Busy {
        /// What was tried.
        action: &'static str,
        /// With which object.
        key: String,
        /// What the store said.
        why: String,
    },
    /// No connection; nothing was done.
    #[error(
        "cannot reach the store to {action} {key}: {why}; check its URL, the network, and whether it runs"
    )]
    Unreachable {
        /// What was tried.
        action: &'static str,
        /// With which object.
        key: String,
        /// What was noticed.
        why: String,
    },
    /// The store is in trouble or the connection broke. A change may have been made, or still be.
    #[error("the store failed to {action} {key}: {why}; see its own log")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// With which object.
        key: String,
        /// What was noticed.
        why: String,
    },
    /// It did not answer in time. A change may have been made, or still be.
    #[error(
        "the store did not {action} {key} within {:.1} s; check the network and the store's load", .waited.as_secs_f64()
    )]
    Late {
        /// What was tried.
        action: &'static str,
        /// With which object.
        key: String,
        /// For how long.
        waited: Duration,
    },
    /// Nobody knows whether the object was written, and it may still appear: it is an orphan.
    #[error(
        "the store did not confirm the write of {key} within {:.1} s, and the object may still appear: {why}", .waited.as_secs_f64()
    )]
    Unknown {
        /// The object.
        key: String,
        /// How long it was tried.
        waited: Duration,
        /// What the attempts met.
        why: String,
    },
    /// What came back is not what was stored.
    #[error("object {key} is damaged: {why}")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The object is larger than may be held in memory at once.
    #[error("object {key} has {bytes} bytes, and at most {limit} are taken in one piece")]
    TooLarge {
        /// The object.
        key: String,
        /// Its length, as far as it is known.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The store cannot be set up as configured.
    #[error("{0}")]
    Settings(String),
}

/// What somebody has to do before the store takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Renew credentials: they are wrong, ended, or there are none.
    Credentials,
    /// Allow these credentials what was tried.
    Permission,
    /// Set the clock of this machine.
    Clock,
    /// Create the bucket or correct its name.
    Bucket,
    /// Correct endpoint, region or path style.
    Place,
    /// Let the store take writes again.
    ReadOnly,
    /// Make room.
    Full,
    /// Read what the store says: none of the others.
    Other,
}

impl Refusal {
    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Refusal::Credentials => {
                "renew the credentials of the store and see that this process gets them"
            }
            Refusal::Permission => {
                "allow these credentials to read, write, list and delete below the prefix"
            }
            Refusal::Clock => "set the clock of this machine, for example by NTP",
            Refusal::Bucket => "create the bucket, or correct its name in the URL",
            Refusal::Place => "correct endpoint=, region= or path_style= in the URL of the store",
            Refusal::ReadOnly => "let the store take writes again",
            Refusal::Full => "free space in the store, raise its quota, or lower the retention",
            Refusal::Other => "see the store's own log",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Refusal::Credentials => "credentials",
            Refusal::Permission => "permission",
            Refusal::Clock => "clock",
            Refusal::Bucket => "bucket",
            Refusal::Place => "place",
            Refusal::ReadOnly => "read_only",
            Refusal::Full => "full",
            Refusal::Other => "refused",
        }
    }
}

impl StoreError {
    /// Whether the same may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            StoreError::Busy { .. }
                | StoreError::Unreachable { .. }
                | StoreError::Failed { .. }
                | StoreError::Late { .. }
        )
    }

    /// Whether a change that failed like this may have been made all the same, or still be.
    pub fn leaves_doubt(&self) -> bool {
        matches!(
            self,
            StoreError::Failed { .. } | StoreError::Late { .. } | StoreError::Unknown { .. }
        )
    }

    /// The label `kind` of the metrics; bounded.
    pub fn kind(&self) -> &'static str {
        match self {
            StoreError::NotFound { .. } => "not_found",
            StoreError::Refused { refusal, .. } => refusal.as_str(),
            StoreError::Busy { .. } => "busy",
            StoreError::Unreachable { .. } => "unreachable",
            StoreError::Failed { .. } => "failed",
            StoreError::Late { .. } => "late",
            StoreError::Unknown { .. } => "unknown",
            StoreError::Damaged { .. } => "damaged",
            StoreError::TooLarge { .. } => "too_large",
            StoreError::Settings(_) => "settings",
        }
    }

    /// All that [`StoreError::kind`] yields.
    pub(crate) const KINDS: [&'static str; 17] = [
        "not_found",
        "credentials",
        "permission",
        "clock",
        "bucket",
        "place",
        "read_only",
        "full",
        "refused",
        "busy",
        "unreachable",
        "failed",
        "late",
        "unknown",
        "damaged",
        "too_large",
        "settings",
    ];
}
