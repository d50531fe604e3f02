//! What a broker's refusal means to whoever asked.

use promql::SourceError;
use tonic::{Code, Status};

/// Why a call did not work.
#[derive(Debug)]
pub(super) enum Fault {
    /// This broker does not answer, or not now; another one may.
    Away(String),
    /// This broker cannot do it though it is there; another one may.
    Unable(String),
    /// Every broker would say the same.
    Final(SourceError),
}

impl Fault {
    pub(super) fn of(status: &Status) -> Fault {
        let words = net::status_words(status);
        // What broke on the way has a cause; what a broker says has none.
        if std::error::Error::source(status).is_some() {
            return Fault::Away(words);
        }
        Fault::Final(match status.code() {
            Code::Unavailable | Code::Unauthenticated | Code::PermissionDenied => {
                return Fault::Away(words);
            }
            Code::Unimplemented => {
                return Fault::Unable(format!("{words}; the broker is of another version"));
            }
            Code::ResourceExhausted => SourceError::Limit(words),
            // It took too long; the broker is there, and answers others.
            Code::Aborted | Code::DeadlineExceeded => SourceError::Unavailable(words),
            _ => SourceError::Storage(words),
        })
    }
}

impl From<SourceError> for Fault {
    fn from(error: SourceError) -> Self {
        Fault::Final(error)
    }
}

/// The error, with the cluster it is of; as it is if that has no name.
pub(super) fn named(cluster: &str, error: SourceError) -> SourceError {
    if cluster.is_empty() {
        return error;
    }
    let words = |words: String| format!("cluster {cluster}: {words}");
    match error {
        SourceError::Limit(text) => SourceError::Limit(words(text)),
        SourceError::Storage(text) => SourceError::Storage(words(text)),
        SourceError::Unavailable(text) => SourceError::Unavailable(words(text)),
        SourceError::Cancelled => SourceError::Cancelled,
    }
}

/// A broker sent what no broker sends.
pub(super) fn garbled(what: &str) -> SourceError {
    SourceError::Storage(format!(
        "the broker's answer cannot be read: {what}; is it of another version?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_too_long_is_no_sign_that_the_broker_is_away() {
        let fault = Fault::of(&Status::deadline_exceeded("not taken within 9 ms"));
        let Fault::Final(SourceError::Unavailable(words)) = fault else { panic!("{fault:?}") };
        assert!(words.contains("not taken within 9 ms"), "{words}");
        let fault = Fault::of(&Status::unavailable("starting"));
        assert!(matches!(fault, Fault::Away(_)), "{fault:?}");
    }
}
