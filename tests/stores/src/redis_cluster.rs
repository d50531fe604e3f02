//! A Redis Cluster of three primaries and three replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use objects::{Credentials, Operation, Store, StoreError, StoreOptions};
use settings::Secret;

use crate::contract::{self, body};
use crate::harness::redis::{PASSWORD, RedisCluster, redis_cli};
use crate::harness::{self, Group, Scratch, open, run};

pub(crate) const GROUP: Group = Group {
    name: "redis-cluster",
    tests: &[("contract", contract), ("killed-primaries", killed_primaries), ("alone", alone)],
};

fn options() -> StoreOptions {
    let credentials = Credentials::none().with("REDIS_PASSWORD", Secret::new(PASSWORD));
    StoreOptions { credentials, ..harness::options() }
}

fn contract(scratch: &Scratch) -> Result<String> {
    let cluster = RedisCluster::start(scratch)?;
    run(async {
        for rest in ["some/prefix", "other/prefix?wait=1"] {
            contract::check(&open(&cluster.url(rest), options()).await?).await.context(rest)?;
        }
        let store = open(&cluster.url("p"), options()).await?;
        for number in 0..60 {
            store.put(&format!("{number}"), body(number, 99).into()).await?;
        }
        Ok(())
    })?;
    let mut used = 0;
    for node in &cluster.nodes {
        let size: u64 = redis_cli(node.address, &["dbsize"])?.parse()?;
        used += u64::from(size >= 20);
    }
    ensure!(used == 6, "only {used} nodes have a share of the objects");
    Ok("holds, also with wait=1; objects lie on all nodes".to_owned())
}

/// A URL for one Redis names a node of a cluster.
fn alone(scratch: &Scratch) -> Result<String> {
    let cluster = RedisCluster::start(scratch)?;
    run(async {
        let url = format!("redis://127.0.0.1:{}/p", cluster.nodes[0].port());
        let store = open(&url, options()).await?;
        let mut told = None;
        for number in 0..20 {
            if let Err(error) = store.put(&format!("{number}"), body(number, 9).into()).await {
                told = Some(error);
            }
        }
        let error = told.context("one node took all keys")?;
        ensure!(error.to_string().contains("redis+cluster://"), "{error}");
        Ok(())
    })?;
    Ok("told".to_owned())
}

const KILLS: usize = 3;

/// What a writer met.
#[derive(Default)]
struct Met {
    confirmed: Vec<usize>,
    unknown: usize,
    longest: Duration,
}

async fn write_until(store: Store, stop: Arc<AtomicBool>, first: usize) -> Result<Met> {
    let mut met = Met::default();
    let mut number = first;
    while !stop.load(Relaxed) {
        let begin = Instant::now();
        match store.put(&format!("k{number}"), body(number, 50_000).into()).await {
            Ok(()) => met.confirmed.push(number),
            Err(StoreError::Unknown { .. }) => met.unknown += 1,
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
        met.longest = met.longest.max(begin.elapsed());
        number += 1;
    }
    Ok(met)
}

/// The death of a primary loses nothing of what a replica had confirmed. As long as the node is away,
/// its slots have no replica to confirm anything: writes to them are unknown, until it is back.
fn killed_primaries(scratch: &Scratch) -> Result<String> {
    let mut cluster = RedisCluster::start(scratch)?;
    run(async {
        let store = open(&cluster.url("p?wait=1"), options()).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| write_until(store.clone(), Arc::clone(&stop), writer * 1_000_000))
            .map(tokio::spawn)
            .collect();
        let writes = || store.counters().requests(Operation::Put);
        let mut resumed = Vec::new();
        for _ in 0..KILLS {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let victim = cluster.primary()?;
            cluster.nodes[victim].kill()?;
            // Until its replica has taken over.
            tokio::time::sleep(Duration::from_secs(4)).await;
            cluster.restart(scratch, victim)?;
            let (begin, before) = (Instant::now(), writes());
            while writes() < before + 100 {
                ensure!(begin.elapsed() < Duration::from_secs(40), "writes do not go on");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            resumed.push(format!("{:.1}", begin.elapsed().as_secs_f64()));
        }
        stop.store(true, Relaxed);
        let mut all = Met::default();
        for writer in writers {
            let met = writer.await??;
            all.confirmed.extend(met.confirmed);
            all.unknown += met.unknown;
            all.longest = all.longest.max(met.longest);
        }
        for number in &all.confirmed {
            let found = store.get(&format!("k{number}")).await;
            let found = found.with_context(|| format!("k{number} is lost"))?;
            ensure!(found == body(*number, 50_000), "k{number} is another one");
        }
        let listed = store.list("").await?.len();
        ensure!(listed >= all.confirmed.len(), "a listing shows {listed}");
        Ok(format!(
            "{KILLS} kills, {} confirmed, 0 lost, {} unknown, longest write {:.1} s; 100 writes within \
             {} s after the node was back",
            all.confirmed.len(),
            all.unknown,
            all.longest.as_secs_f64(),
            resumed.join(", ")
        ))
    })
}
