//! How the broker is, asked once a second, so that whoever wants to know need not wait.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use model::TenantName;
use net::rpc::{StateRequest, StateResponse};
use parking_lot::Mutex;
use promql::SourceError;

use super::Inner;
use super::fault::Fault;

const EVERY: Duration = Duration::from_secs(1);
/// While nobody answers.
const EVERY_WHILE_AWAY: Duration = Duration::from_millis(200);
/// A broker that takes longer to say how it is does not answer.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// What a broker says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RemoteState {
    /// Its name; empty until it has answered.
    pub broker: String,
    /// Its version.
    pub version: String,
    /// How long it keeps data, in words.
    pub retention: String,
    /// Damaged places it has found.
    pub corruptions: u64,
    /// Labels `/federate` adds.
    pub external_labels: BTreeMap<String, String>,
    /// Where its own HTTP port is reached.
    pub url: String,
}

/// The newest answer.
pub(super) struct Watch {
    latest: Mutex<RemoteState>,
    ready: Mutex<Result<(), String>>,
}

impl Default for Watch {
    fn default() -> Self {
        let ready = Mutex::new(Err("no broker has been asked yet".to_owned()));
        Watch { latest: Mutex::default(), ready }
    }
}

impl Watch {
    pub(super) fn latest(&self) -> RemoteState {
        self.latest.lock().clone()
    }

    pub(super) fn ready(&self) -> Result<(), String> {
        self.ready.lock().clone()
    }

    fn take(&self, answer: Result<StateResponse, SourceError>) {
        let state = match answer {
            Ok(state) => state,
            Err(error) => {
                *self.ready.lock() = Err(error.to_string());
                return;
            }
        };
        *self.ready.lock() = match state.not_ready.as_str() {
            "" => Ok(()),
            reason => Err(format!("the broker {} is not ready: {reason}", state.broker)),
        };
        *self.latest.lock() = RemoteState {
            broker: state.broker,
            version: state.version,
            retention: state.retention,
            corruptions: state.corruptions,
            external_labels: state.external_labels.into_iter().collect(),
            url: state.url,
        };
    }
}

/// Asks until nobody needs the answer any more.
pub(super) async fn watch(inner: Weak<Inner>) {
    loop {
        let every = {
            let Some(inner) = inner.upgrade() else { return };
            // A range without an instant: nothing is missing in it.
            let answer = ask(&inner, TenantName::DEFAULT, 0, -1).await;
            let every = if answer.is_ok() { EVERY } else { EVERY_WHILE_AWAY };
            inner.watch.take(answer);
            every
        };
        tokio::time::sleep(every).await;
    }
}

/// The broker's state, and what of a tenant's is missing from `start_ms` to `end_ms`, both included.
pub(super) async fn ask(
    inner: &Inner,
    tenant: TenantName,
    start_ms: i64,
    end_ms: i64,
) -> Result<StateResponse, SourceError> {
    let request = StateRequest { tenant: tenant.to_string(), start_ms, end_ms };
    inner
        .link
        .call(|mut client| {
            let request = request.clone();
            async move {
                match tokio::time::timeout(TIME_LIMIT, client.state(request)).await {
                    Ok(Ok(answer)) => Ok(answer.into_inner()),
                    Ok(Err(status)) => Err(Fault::of(&status)),
                    Err(_) => Err(Fault::Away("no answer within 3 s".to_owned())),
                }
            }
        })
        .await
}
