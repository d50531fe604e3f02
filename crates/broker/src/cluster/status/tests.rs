//! The state of real brokers, in one process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blockstore::MemoryDisk;
use net::rpc::DrainRequest;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tonic::Status;

use super::{
    AskBroker, Asked, AskedToLeave, ClusterStatus, Level, Liveness, Part, StatusSettings,
    StatusTeller,
};
use crate::cluster::tests::{Running, Site, runtime, start};

/// Those that can be asked, by address.
#[derive(Clone, Default)]
struct Tellers(Arc<Mutex<BTreeMap<String, Arc<StatusTeller>>>>);

impl AskBroker for Tellers {
    fn ask(&self, address: &str) -> Asked {
        let teller = self.0.lock().get(address).cloned();
        Box::pin(async move {
            teller.map(|there| there.report()).ok_or("connection refused".to_owned())
        })
    }

    fn drain(&self, _: &str, _: DrainRequest) -> AskedToLeave {
        Box::pin(std::future::ready(Err(Status::unimplemented("no test asks for it"))))
    }
}

fn tell(runtime: &Runtime, running: &Running, id: u64, tellers: &Tellers) -> Arc<StatusTeller> {
    let _entered = runtime.enter();
    let others = Some(Arc::new(tellers.clone()) as Arc<dyn AskBroker>);
    let version = format!("1.0.{id}");
    let settings = StatusSettings { version, started_ms: 0, stores: None, others };
    let teller = StatusTeller::start(&running.broker, settings);
    tellers.0.lock().insert(id.to_string(), Arc::clone(&teller));
    teller
}

fn codes(status: &ClusterStatus) -> Vec<&str> {
    status.findings.iter().map(|finding| finding.code.as_str()).collect()
}

fn until(
    runtime: &Runtime,
    teller: &StatusTeller,
    enough: impl Fn(&ClusterStatus) -> bool,
) -> ClusterStatus {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let status = runtime.block_on(teller.status());
        if enough(&status) {
            return status;
        }
        assert!(std::time::Instant::now() < end, "{status:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn brokers_are_told_and_what_it_means_that_they_go() {
    let (runtime, site, tellers) = (runtime(), Arc::<Site>::default(), Tellers::default());
    let disks = [(); 3].map(|()| MemoryDisk::new());
    let one = start(&runtime, &site, 1, &disks[0]);
    let two = start(&runtime, &site, 2, &disks[1]);
    let three = start(&runtime, &site, 3, &disks[2]);
    let teller = tell(&runtime, &one, 1, &tellers);
    let _others = (tell(&runtime, &two, 2, &tellers), tell(&runtime, &three, 3, &tellers));
    let all_vote = |status: &ClusterStatus| {
        let well = status.members.iter().all(|member| {
            member.part == Part::Voter
                && member.liveness == Liveness::Alive
                && member.ring_share > 0.0
        });
        status.members.len() == 3 && well
    };
    let status = until(&runtime, &teller, all_vote);
    assert!(status.is_cluster && status.consensus.as_ref().is_some_and(|all| all.leader.is_some()));
    let names: Vec<&str> = status.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["b1", "b2", "b3"]);
    let versions = status.members.iter().map(|one| one.report.as_ref().expect("asked"));
    assert_eq!(
        versions.map(|report| report.version.clone()).collect::<Vec<_>>(),
        ["1.0.1", "1.0.2", "1.0.3"]
    );
    assert_eq!(codes(&status), ["version_skew"]);
    assert_eq!(status.verdict, Level::Warn);
    // Two go without a word: the first one alone is no majority.
    for (id, gone) in [(2, &two), (3, &three)] {
        site.members.lock().remove(&id);
        tellers.0.lock().remove(&id.to_string());
        runtime.block_on(gone.consensus.stop());
    }
    let is_over = |status: &ClusterStatus| {
        status.consensus.as_ref().is_some_and(|all| all.leader.is_none() && all.voters_alive == 1)
    };
    let status = until(&runtime, &teller, is_over);
    assert_eq!(one.broker.of_use(), Ok(()), "an election takes its time");
    assert_eq!(status.verdict, Level::Bad);
    assert_eq!(codes(&status)[..2], ["no_leader", "voter_away"], "{:#?}", status.findings);
    assert_eq!(
        status.members[0].liveness,
        Liveness::Alive,
        "it answers, though no lease is renewed"
    );
    assert_eq!(status.members[1].fault, "connection refused");
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while one.broker.of_use().is_ok() {
        assert!(std::time::Instant::now() < end, "a load balancer goes on sending to it");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(one.broker.ready(), Ok(()), "what it has can be read");
}

#[test]
fn one_machine_says_that_it_is_one() {
    let runtime = runtime();
    let config = crate::BrokerConfig::new("unused".into(), crate::cluster::tests::now_ms);
    let disk = Arc::new(MemoryDisk::new());
    let broker = crate::Broker::open_on(disk, config, Arc::default()).expect("an empty disk");
    assert_eq!(broker.cluster_status(), None);
    let status = runtime.block_on(async {
        let version = "1.0.0".to_owned();
        let settings = StatusSettings { version, started_ms: 0, stores: None, others: None };
        StatusTeller::start(&broker, settings).status().await
    });
    assert_eq!(
        (status.is_cluster, status.verdict, codes(&status)),
        (false, Level::Ok, vec!["one_machine"])
    );
    broker.stop();
}
