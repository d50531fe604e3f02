//! Who is nearest to a day, and to its blocks.

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
    for (at, day) in days.iter().enumerate() {
        let owners: Vec<usize> = (0..3).filter(|one| of_all[*one][at].is_empty()).collect();
        let [owner] = owners[..] else { panic!("day {day} is near to {owners:?}") };
        owned[owner] += 1;
        for other in (0..3).filter(|other| *other != owner) {
            let first = &of_all[other][at][0];
            assert_eq!(first.id, BrokerId(owner as u64 + 1));
            assert_eq!(first.address, (owner + 1).to_string());
        }
    }
    assert!(owned.iter().all(|days| *days > 5), "{owned:?}");

    let answer = send(&running[0].broker, &batch("a", START_MS, 1.0));
    answer.recv().expect("answered").expect("stored");
    flush(&running[0].broker);
    let key = objects(&site, "blocks/").pop().expect("a block was written");
    let bytes = site.objects.lock()[&key].len() as u64;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let found = loop {
        let found = running.each_ref().map(|one| one.broker.nearer_to_block(&key));
        if found.iter().all(Option::is_some) {
            break found.map(|one| one.expect("looked at"));
        }
        assert!(std::time::Instant::now() < end, "not all list the block within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(found.iter().all(|(size_bytes, _)| *size_bytes == bytes));
    let day = running[0].broker.nearer_brokers(DEFAULT_TENANT, &[START_MS / 86_400_000], 2);
    assert_eq!(found[0].1.as_ref(), day[0].first(), "the block is where its day is");
    assert_eq!(found.iter().filter(|(_, near)| near.is_none()).count(), 1);
    for key in ["blocks/metrics/1", "segments/1", "", "blocks/metrics/99999999999999999999.wfb"] {
        assert_eq!(running[0].broker.nearer_to_block(key), None, "{key}");
    }
}
