//! What a start makes of its data directory and its flags: a founder, one that joins, or one that comes
//! back.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use blockstore::Disk;
use catalog::{BrokerId, StoreId};
use net::Role;
use objects::Store;

use super::super::security::TLS;
use super::home::{self, Home, Stage};
use super::store::{self, Claim, Stores};
use crate::about::now_ms;
use crate::config::{Config, WITH_BLOCKS};

/// A broker whose directory knows its cluster.
pub(super) async fn come_back(
    mut home: Home,
    config: &Config,
    disk: &dyn Disk,
) -> Result<(Home, Stores)> {
    let before = home.clone();
    if let Some(url) = &config.cluster.store
        && url.reveal() != home.store
    {
        tracing::warn!(
            "--store is not the URL that this broker used before; it is remembered from now on"
        );
        url.reveal().clone_into(&mut home.store);
    }
    let segments = config.cluster.store_segments.as_ref().map(settings::Secret::reveal);
    if let Some(segments) = segments {
        home.set_store_segments(Some(segments).filter(|url| *url != WITH_BLOCKS));
    }
    if let Some(zone) = &config.cluster.zone {
        home.zone.clone_from(zone);
    }
    if config.cluster.advertise.is_some() {
        home.advertise.clone_from(&config.cluster.advertise);
    }
    let has_data = home.stage == Stage::Member;
    let stores = Stores::open(&home, has_data, config).await?;
    match home.stage {
        Stage::Founding => claim(&stores.blocks, &home, &config.data, disk).await?,
        Stage::Joining | Stage::Member => store::check_known(&stores.blocks, &home).await?,
    }
    let remembered = home.with_segments_of(&before);
    if remembered != before {
        remembered.write(disk)?;
    }
    Ok((home, stores))
}

/// A broker that has no cluster yet.
pub(super) async fn begin_anew(config: &Config, disk: &dyn Disk) -> Result<(Home, Stores)> {
    let url = config.cluster.store.as_ref().expect("it makes this a cluster").reveal();
    let (mut id, mut number) = ([0; 16], [0; 8]);
    for half in [&mut id[..], &mut number[..]] {
        super::super::getrandom(half).context("draw the broker's number")?;
    }
    // 0 stands for whoever is at an address.
    let broker = BrokerId(u64::from_le_bytes(number).max(1));
    let mut home = Home::new(StoreId(id), broker, Stage::Founding, url, &config.cluster.name);
    let segments = config.cluster.store_segments.as_ref().map(settings::Secret::reveal);
    home.set_store_segments(segments.filter(|url| *url != WITH_BLOCKS));
    let stores = Stores::open(&home, false, config).await?;
    let joins = !config.cluster.join.is_empty();
    let (cluster, stage) = store::cluster_for_new(&stores.blocks, joins, StoreId(id)).await?;
    home.become_one_of(cluster, stage);
    ensure!(
        !joins
            || config.cluster.join_token.is_some()
            || config.data.join(TLS).join("identity.pem").exists(),
        "--join needs --join-token TOKEN at the first start: run `watchfire token create --role broker` on \
         the host of a broker of the cluster"
    );
    let elsewhere = config.cluster.join.iter().find(|address| !is_of_this_host(address));
    if let Some(seed) = elsewhere
        && config.cluster.advertise.is_none()
        && config.peer_listen.address.ip().is_loopback()
    {
        bail!(
            "{seed}, which --join names, could not reach this broker at {}, an address of this host alone: \
             give --peer-listen 0.0.0.0:9596, and --advertise HOST:9596 if the others do not know this \
             host by its name",
            config.peer_listen.address
        );
    }
    home.zone = config.cluster.zone.clone().unwrap_or_default();
    home.advertise.clone_from(&config.cluster.advertise);
    net::check_name(&home.name).context("--name")?;
    home.write(disk)?;
    if stage == Stage::Founding {
        claim(&stores.blocks, &home, &config.data, disk).await?;
    }
    Ok((home, stores))
}

/// Whether an address leads back to the host that asks for it.
fn is_of_this_host(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Names the cluster in the store; forgets it if the store is of another one. After any other fault the
/// next start goes on: what was written may be there.
async fn claim(store: &Store, home: &Home, data: &Path, disk: &dyn Disk) -> Result<()> {
    match store::claim(store, home, now_ms()).await? {
        Claim::Own => Ok(()),
        // It has begun a log, of which nothing but this name says whose it is.
        Claim::Taken(why) if data.join("consensus").exists() => bail!(
            "--data {}: that broker was about to found cluster {}, and {why}. Start it with an empty --data",
            data.display(),
            home.cluster()
        ),
        Claim::Taken(why) => {
            home::forget(disk)?;
            bail!(why)
        }
    }
}

/// Gets the certificate and the authority of the cluster, and the name that the others gave.
pub(super) async fn join_by_token(home: &mut Home, config: &Config, disk: &dyn Disk) -> Result<()> {
    let seeds = &config.cluster.join;
    ensure!(
        !seeds.is_empty(),
        "this broker was about to join cluster {} and has not been taken in: give --join HOST:9596, and \
         --join-token TOKEN if it has no certificate yet",
        home.cluster()
    );
    let token = config.cluster.join_token.as_ref().map(settings::Secret::reveal);
    let joined = net::join(&config.data.join(TLS), seeds, token, &home.name, Role::Broker).await;
    let name = joined.context("join the cluster")?.name();
    if *name != *home.name {
        tracing::info!(wished = home.name, %name, "another one has the name: this broker has a number behind it");
        home.name = name.to_string();
        home.write(disk)?;
    }
    Ok(())
}

/// Whether the authority of the cluster is there. Without it a start would make another one, and the
/// others would not know this broker any more.
pub(super) fn has_authority(data: &Path) -> Result<()> {
    let tls = data.join(TLS);
    let missing = ["ca.pem", "ca-key.pem"].into_iter().find(|file| !tls.join(file).exists());
    let Some(missing) = missing else { return Ok(()) };
    bail!(
        "{} is gone, by which the brokers of the cluster know one another: copy ca.pem and ca-key.pem from \
         the directory {TLS} of the data directory of another broker, readable by this one's user alone. If no \
         broker has them, or somebody else may, see \"When something is lost\" in docs/operating/security.md",
        tls.join(missing).display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_without_the_authority_of_its_cluster_does_not_start() {
        let data = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(data.path().join(TLS)).expect("made");
        for file in ["ca.pem", "ca-key.pem"] {
            let error = has_authority(data.path()).expect_err("it is not there").to_string();
            assert!(error.contains(file) && error.contains("another broker"), "{error}");
            std::fs::write(data.path().join(TLS).join(file), "").expect("written");
        }
        has_authority(data.path()).expect("both are there");
    }

    /// A fault of the store is no other cluster: what was written may be there, and is this one's.
    #[tokio::test]
    async fn a_founder_forgets_its_cluster_only_where_the_store_is_of_another_one() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let disk = blockstore::FileDisk::open(&data.path().join("data")).expect("a good disk");
        let (data, stored) = (data.path().join("data"), data.path().join("store"));
        let url = format!("file://{}", stored.display());
        let options = objects::StoreOptions::truth();
        let parsed = objects::StoreUrl::parse(&url).expect("a URL");
        let store = Store::open(&parsed, options).await.expect("a directory");
        let home = |id| Home::new(StoreId([id; 16]), BrokerId(1), Stage::Founding, &url, "founder");
        let is_kept = || home::is_home(&data);
        home(1).write(&disk).expect("written");
        std::fs::write(stored.join("cluster"), "in the way").expect("written");
        let error = claim(&store, &home(1), &data, &disk).await.expect_err("nothing can be put");
        assert!(format!("{error:#}").contains("name the cluster in the store"), "{error:#}");
        assert!(is_kept(), "the next start goes on");
        std::fs::remove_file(stored.join("cluster")).expect("removed");
        claim(&store, &home(1), &data, &disk).await.expect("it goes on");
        assert!(is_kept());
        // Another one, on a directory with a log, and on one that has begun nothing yet.
        std::fs::create_dir(data.join("consensus")).expect("made");
        let error = claim(&store, &home(2), &data, &disk).await.expect_err("taken");
        assert!(error.to_string().contains("an empty --data") && is_kept(), "{error}");
        std::fs::remove_dir(data.join("consensus")).expect("removed");
        let error = claim(&store, &home(2), &data, &disk).await.expect_err("taken");
        assert!(error.to_string().contains("belongs to cluster 0101"), "{error}");
        assert!(!is_kept());
    }

    #[test]
    fn addresses_that_only_this_host_knows() {
        for here in ["127.0.0.1:9596", "[::1]:9596", "localhost:1", "127.0.0.2:9"] {
            assert!(is_of_this_host(here), "{here}");
        }
        for elsewhere in ["web-01:9596", "10.0.0.1:9596", "[fe80::1]:9596"] {
            assert!(!is_of_this_host(elsewhere), "{elsewhere}");
        }
    }
}
