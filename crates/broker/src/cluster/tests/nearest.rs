//! Who is nearest to a day.

use super::*;

fn three(runtime: &Runtime, site: &Arc<Site>) -> [Running; 3] {
    let running = [1, 2, 3].map(|id| start(runtime, site, id, &MemoryDisk::new()));
    let sees_all =
        |one: &Running| one.broker.cluster_ring().expect("a cluster").0.brokers().len() == 3;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !running.iter().all(sees_all) {
        assert!(std::time::Instant::now() < end, "not all are alive within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    running
}

#[test]
fn all_brokers_agree_who_is_nearest_to_a_day() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let running = three(&runtime, &site);
    let days: Vec<i64> = (20_000..20_060).collect();
    let nearer = |one: &Running| one.broker.nearer_brokers(DEFAULT_TENANT, &days, 2);
    let of_all = running.each_ref().map(nearer);
    let mut owned = [0; 3];
    for at in 0..days.len() {
        let owners: Vec<usize> = (0..3).filter(|one| of_all[*one][at].is_empty()).collect();
        let [owner] = owners[..] else { panic!("day {at} is near to {owners:?}") };
        owned[owner] += 1;
        for other in (0..3).filter(|other| *other != owner) {
            let first = &of_all[other][at][0];
            assert_eq!(first.id, BrokerId(owner as u64 + 1));
            assert_eq!(first.address, (owner + 1).to_string());
        }
    }
    assert!(owned.iter().all(|days| *days > 5), "{owned:?}");
}
