//! Whatever happens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::{Answer, ROUTE, World, policy};

/// What may happen.
#[derive(Debug, Clone)]
enum Event {
    Fire(u8),
    Resolve(u8),
    Silence(u8),
    Pass(i64),
    Answer(u8),
    Reload(bool),
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..4_u8).prop_map(Event::Fire),
        2 => (0..4_u8).prop_map(Event::Resolve),
        1 => (0..4_u8).prop_map(Event::Silence),
        4 => (1..200_i64).prop_map(Event::Pass),
        1 => (0..4_u8).prop_map(Event::Answer),
        1 => any::<bool>().prop_map(Event::Reload),
        1 => Just(Event::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens: in the end everybody knows of every alert whether it fires.
    #[test]
    fn in_the_end_everybody_knows(events in proptest::collection::vec(event(), 1..40)) {
        let rules = "inhibit_rules: [{source_matchers: [alertname=n0], target_matchers: \
                     [alertname=n1]}]\n";
        let texts = [
            format!("{rules}{ROUTE}"),
            format!("{rules}route: {{receiver: r, group_by: [alertname], group_wait: 10s, \
                     group_interval: 60s, repeat_interval: 1h}}\n"),
        ];
        let mut text = &texts[0];
        let mut world = World::new(text);
        let mut firing: BTreeMap<u8, bool> = BTreeMap::new();
        for event in events {
            match event {
                Event::Fire(n) => {
                    world.fire(&format!("n{n}"));
                    firing.insert(n, true);
                }
                Event::Resolve(n) => {
                    world.resolve(&format!("n{n}"));
                    firing.insert(n, false);
                }
                Event::Silence(n) => {
                    let (from, to) = (world.now, world.now + 300);
                    world.silence(&format!("n{n}"), from, to);
                }
                Event::Pass(seconds) => {
                    world.until(world.now + seconds);
                }
                Event::Answer(n) => {
                    let all =
                        [Answer::Delivered, Answer::Retry, Answer::Failed, Answer::Never];
                    world.answer = all[usize::from(n)];
                }
                Event::Reload(grouped) => {
                    text = &texts[usize::from(grouped)];
                    let now_ns = world.ns();
                    world.notifier.reload(policy(text), now_ns);
                }
                Event::Crash => {
                    let saved = world.notifier.snapshot();
                    let mut again = world.restarted(text, saved, world.now);
                    again.ids = world.ids;
                    again.answer = world.answer;
                    world = again;
                }
            }
        }
        world.answer = Answer::Delivered;
        world.until(world.now + 400);
        for (n, fires) in &firing {
            // Who posts goes on posting.
            if *fires {
                world.fire(&format!("n{n}"));
            }
        }
        world.told.clear();
        world.until(world.now + 7_600);
        let fires = |n: u8| firing.get(&n) == Some(&true);
        let mut repeated: Vec<String> = world.told.iter().rev().take_while(|(at, ..)| *at > world.now - 3_700)
            .flat_map(|(_, _, alerts)| alerts.iter().filter(|(_, ended)| !ended).map(|(name, _)| name.clone())).collect();
        repeated.sort();
        repeated.dedup();
        let wanted: Vec<String> = (0..4)
            .filter(|n| fires(*n) && !(*n == 1 && fires(0)))
            .map(|n| format!("n{n}"))
            .collect();
        prop_assert_eq!(repeated, wanted);
        prop_assert_eq!(world.notifier.counts().notifications, 0);
    }
}
