//! How a broker becomes one of its cluster, and stays one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use broker::cluster::left_cluster;
use catalog::{BrokerInfo, BrokerState, Command, StoreId};
use consensus::{Consensus, ConsensusError, Member, ProposeError};
use net::rpc::AboutResponse;
use objects::Store;

use super::home::Home;
use super::{Clustered, PATIENCE, fail};

/// Who hears of no leader for so long asks to be taken in: those that are cut off or wait for a majority
/// lose nothing by it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

impl Clustered {
    /// Whether the brokers named by `--join` are of the store's cluster, and whether this program knows
    /// enough for it.
    pub(super) async fn look_before_joining(&self, links: &broker::cluster::Links) -> Result<()> {
        let mut said = String::new();
        for seed in &self.join {
            let about = match links.about(seed, PATIENCE).await {
                Ok(about) => about,
                Err(error) => {
                    said = format!("{seed}: {error}");
                    continue;
                }
            };
            if about.cluster.is_empty() {
                said = format!("{seed} does not know its cluster yet");
                continue;
            }
            may_join(&about, &self.home, &self.stores.blocks)
                .with_context(|| format!("--join {seed}"))?;
            return Ok(());
        }
        bail!("none of the brokers named by --join could be asked: {said}")
    }

    /// Becomes a member, or tells the others where it is now.
    pub(super) async fn become_member(&self) -> Result<()> {
        loop {
            let known = self.consensus.status().members;
            let own = known.get(&self.home.broker().0);
            if own.is_some_and(|(member, _)| *member == self.member) || self.ask_to_be_in().await? {
                return Ok(());
            }
        }
    }

    /// Asks to be taken in; whether it was.
    async fn ask_to_be_in(&self) -> Result<bool> {
        match ask_to_be_in(&self.consensus, &self.member, &self.join).await {
            Ok(()) => Ok(true),
            Err(error @ ConsensusError::NoLeader { .. }) => {
                tracing::warn!(%error, "this broker waits to be taken in");
                Ok(false)
            }
            Err(error) => Err(error).context("join the cluster"),
        }
    }

    /// Comes back when the others have taken this broker out as lost, which nobody tells it: what it hears
    /// last is that somebody leads. Ends when it has left by itself, or has to begin anew.
    pub(super) fn stay(&self) -> impl Future<Output = ()> + Send + use<> {
        let (consensus, member, join) =
            (self.consensus.clone(), self.member.clone(), self.join.clone());
        let (disk, fault, own) = (Arc::clone(&self.disk), self.fault.clone(), self.home.broker());
        async move {
            loop {
                tokio::time::sleep(PATIENCE).await;
                if consensus.without_leader() < FORGOTTEN_AFTER {
                    continue;
                }
                if left_cluster(&*disk).is_some() {
                    return;
                }
                let asked = ask_to_be_in(&consensus, &member, &join).await;
                if asked.is_err() || consensus.catch_up(PATIENCE).await.is_err() {
                    continue;
                }
                if consensus.read(|state| state.broker(own).is_none()) {
                    let why =
                        "the others have taken this broker out of the cluster as one that is lost";
                    return fail(&fault, why);
                }
            }
        }
    }

    /// Sees to it that the catalog says what this broker says of itself.
    pub(super) async fn be_listed(&self) -> Result<()> {
        let broker = self.home.broker();
        loop {
            if let Err(error) = self.consensus.catch_up(PATIENCE).await {
                let address = &self.member.address;
                tracing::warn!(%error, address, "the start waits for the cluster");
                // Its own log may say that it is a member when the others have taken it out.
                self.ask_to_be_in().await?;
                continue;
            }
            let listed = self.consensus.read(|state| state.broker(broker).map(|b| b.info.clone()));
            let wanted = BrokerInfo {
                name: self.member.name.clone(),
                address: self.member.address.clone(),
                zone: self.member.zone.clone(),
                http_address: self.http.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                feature_level: catalog::feature_level(),
                // A start takes back in what had begun to leave: nobody else goes on with that.
                state: BrokerState::Active,
            };
            if listed.as_ref() == Some(&wanted) {
                return Ok(());
            }
            self.agree(Command::SetBroker { broker, info: Box::new(wanted) })
                .await
                .context("be listed in the cluster")?;
        }
    }

    /// Proposes what may be applied twice until it is known to be applied.
    pub(super) async fn agree(&self, command: Command) -> Result<(), ProposeError> {
        loop {
            match self.consensus.propose(command.clone(), PATIENCE).await {
                Ok(_) => return Ok(()),
                Err(error @ (ProposeError::NoLeader(_) | ProposeError::Unknown(_))) => {
                    tracing::warn!(%error, "the start waits for the cluster");
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Asks everybody who is known to take this broker in, or to leave it in.
async fn ask_to_be_in(
    consensus: &Consensus,
    member: &Member,
    join: &[String],
) -> Result<(), ConsensusError> {
    let status = consensus.status();
    let known = status.members.into_iter().filter(|(id, _)| *id != status.id);
    let others = known.map(|(_, (member, _))| member.address);
    // Alone it asks itself, where it is now.
    let seeds = join.iter().cloned().chain(others).chain([member.address.clone()]);
    let seeds: Vec<Member> = seeds.map(|address| Member { address, ..Member::default() }).collect();
    consensus.join(&seeds, PATIENCE).await
}

/// Whether other members could reach `own`. One that was started again without its `--peer-listen` would
/// listen on its own host, and tell those on other hosts to look for it on theirs.
///
/// # Errors
/// They could not; what to do.
pub(super) fn is_reachable(own: &Member, others: impl Iterator<Item = Member>) -> Result<()> {
    if !is_loopback(&own.address) {
        return Ok(());
    }
    let Some(other) = others.into_iter().find(|other| !is_loopback(&other.address)) else {
        return Ok(());
    };
    bail!(
        "{}, at {}, and the other brokers would look for this one at {}, which is this host alone: start it \
         with the --peer-listen that it had, such as 0.0.0.0:9596, or say by --advertise where they reach it",
        other.name,
        other.address,
        own.address
    )
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// Whether the store's cluster is that of a broker, and whether this program knows enough for it.
fn may_join(about: &AboutResponse, home: &Home, store: &Store) -> Result<()> {
    let id = <[u8; 16]>::try_from(&about.cluster[..]).map(StoreId);
    let id = id.map_err(|_| anyhow::anyhow!("it names its cluster as no version of ours does"))?;
    ensure!(
        id.to_string() == home.cluster(),
        "that is broker {} of cluster {id}, and the store {} is that of cluster {}: give the --store that the \
         others use, or join brokers that use this one; then start with an empty --data",
        about.name,
        store.url(),
        home.cluster()
    );
    let known = catalog::feature_level();
    ensure!(
        about.feature_level <= known,
        "the cluster uses what came with a version after {} (feature level {}, this program knows \
         {known}; {} runs version {}): start this broker with the version of the others",
        env!("CARGO_PKG_VERSION"),
        about.feature_level,
        about.name,
        about.version
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use catalog::{BrokerId, FEATURE_LEVEL};

    use super::super::home::Stage;
    use super::*;

    #[test]
    fn a_restart_that_would_hide_a_broker_from_the_others_is_refused() {
        let at = |address: &str| Member {
            name: "b".to_owned(),
            address: address.to_owned(),
            ..Member::default()
        };
        let reach = |own: &str, others: &[&str]| {
            is_reachable(&at(own), others.iter().map(|other| at(other)))
        };
        let refused =
            reach("127.0.0.1:9596", &["127.0.0.1:1", "two:9596"]).expect_err("on two hosts");
        assert!(refused.to_string().contains("--peer-listen"), "{refused}");
        reach("localhost:9596", &["10.0.0.2:9596"]).expect_err("on two hosts");
        reach("127.0.0.1:9596", &["127.0.0.1:9696", "[::1]:9796"]).expect("all on one host");
        reach("127.0.0.1:9596", &[]).expect("alone");
        reach("one:9596", &["127.0.0.1:9596", "two:9596"]).expect("its own address is fine");
    }

    #[tokio::test]
    async fn who_is_too_old_or_of_another_cluster_is_told_before_it_joins() {
        let options = objects::StoreOptions {
            accept_weaker_durability: true,
            ..objects::StoreOptions::truth()
        };
        let url = objects::StoreUrl::parse("memory://").expect("a URL");
        let store = Store::open(&url, options).await.expect("memory");
        let home = Home::new(StoreId([1; 16]), BrokerId(1), Stage::Joining, "memory://", "new");
        let about = |cluster: &[u8], feature_level| AboutResponse {
            cluster: cluster.to_vec().into(),
            feature_level,
            version: "9.0.0".to_owned(),
            name: "first".to_owned(),
        };
        let told = |about: AboutResponse| {
            may_join(&about, &home, &store).map_err(|error| error.to_string())
        };
        assert_eq!(told(about(&[1; 16], FEATURE_LEVEL)), Ok(()));
        assert_eq!(told(about(&[1; 16], 0)), Ok(()), "older brokers are no obstacle");
        let newer = told(about(&[1; 16], FEATURE_LEVEL + 1)).expect_err("too old");
        assert!(newer.contains("version 9.0.0") && newer.contains("of the others"), "{newer}");
        let other = told(about(&[2; 16], FEATURE_LEVEL)).expect_err("another cluster");
        assert!(other.contains("cluster 0202") && other.contains("cluster 0101"), "{other}");
        told(about(&[2; 3], FEATURE_LEVEL)).expect_err("no identifier");
    }
}
