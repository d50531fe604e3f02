//! How brokers are, asked once a second, so that whoever wants to know need not wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use model::TenantName;
use net::rpc::{StateRequest, StateResponse};
use promql::SourceError;

use super::Cluster;
use super::fault::Fault;
use super::link::{Client, FIRST_PAUSE};

const EVERY: Duration = Duration::from_secs(1);
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

impl From<StateResponse> for RemoteState {
    fn from(state: StateResponse) -> Self {
        RemoteState {
            broker: state.broker,
            version: state.version,
            retention: state.retention,
            corruptions: state.corruptions,
            external_labels: state.external_labels.into_iter().collect(),
            url: state.url,
        }
    }
}

impl RemoteState {
    /// What is said of several clusters, each with its name, as if of one.
    pub(super) fn of_all(all: &[(&str, RemoteState)]) -> RemoteState {
        if let [(_, one)] = all {
            return one.clone();
        }
        let is_same = all.windows(2).all(|pair| pair[0].1.retention == pair[1].1.retention);
        let retention = match all.first() {
            Some((_, first)) if is_same => first.retention.clone(),
            _ => {
                let known = all.iter().filter(|(_, one)| !one.retention.is_empty());
                let each = known.map(|(name, one)| format!("{name}: {}", one.retention));
                each.collect::<Vec<_>>().join(", ")
            }
        };
        let mut external_labels =
            all.first().map_or_else(BTreeMap::new, |first| first.1.external_labels.clone());
        // What all say is true of a series whichever cluster it is of.
        external_labels.retain(|name, value| {
            all.iter().all(|(_, one)| one.external_labels.get(name) == Some(value))
        });
        let corruptions = all.iter().map(|(_, one)| one.corruptions).sum();
        // Nobody is the broker, and none of them is where to write.
        RemoteState { retention, corruptions, external_labels, ..RemoteState::default() }
    }
}

/// Looks at a broker until nobody needs it any more.
pub(super) async fn watch(cluster: Weak<Cluster>, index: usize) {
    loop {
        let (pause, suspect) = {
            let Some(cluster) = cluster.upgrade() else { return };
            // A range without an instant: nothing is missing in it.
            let ask = |client: Client| state_of(client, request(TenantName::DEFAULT, 0, -1));
            let pause = cluster.link.look(index, EVERY, ask).await;
            (pause, cluster.link.suspect(index))
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = suspect.notified() => tokio::time::sleep(FIRST_PAUSE).await,
        }
    }
}

/// The state of a broker of the cluster, and what of a tenant's is missing from `start_ms` to `end_ms`,
/// both included.
pub(super) async fn ask(
    cluster: &Arc<Cluster>,
    tenant: TenantName,
    start_ms: i64,
    end_ms: i64,
) -> Result<StateResponse, SourceError> {
    cluster.link.call(|client| state_of(client, request(tenant, start_ms, end_ms))).await
}

fn request(tenant: TenantName, start_ms: i64, end_ms: i64) -> StateRequest {
    StateRequest { tenant: tenant.to_string(), start_ms, end_ms }
}

async fn state_of(mut client: Client, request: StateRequest) -> Result<StateResponse, Fault> {
    match tokio::time::timeout(TIME_LIMIT, client.state(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Fault::of(&status)),
        Err(_) => Err(Fault::Away("no answer within 3 s".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_clusters_say_is_said_and_what_one_says_is_named() {
        let state = |retention: &str, region: &str| RemoteState {
            broker: "b".to_owned(),
            retention: retention.to_owned(),
            corruptions: 2,
            external_labels: [("region", region), ("env", "prod")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            url: "http://b".to_owned(),
            ..RemoteState::default()
        };
        assert_eq!(RemoteState::of_all(&[("", state("15d", "eu"))]), state("15d", "eu"));
        let both = RemoteState::of_all(&[("a", state("15d", "eu")), ("b", state("30d", "us"))]);
        assert_eq!(both.retention, "a: 15d, b: 30d");
        assert_eq!(both.corruptions, 4);
        assert_eq!(both.external_labels.keys().collect::<Vec<_>>(), ["env"]);
        assert_eq!(both.url, "");
        let both = RemoteState::of_all(&[("a", state("15d", "eu")), ("b", state("15d", "eu"))]);
        assert_eq!((both.retention.as_str(), both.external_labels.len()), ("15d", 2));
    }
}
