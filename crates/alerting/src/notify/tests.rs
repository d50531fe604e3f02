//! The machine as a whole, in virtual time.

mod property;
mod world;

use std::path::PathBuf;

use settings::alertmanager::{Config, MatcherMode};

use self::world::{Answer, DAY, File, ROUTE, S, World, policy, zone};
use super::*;

#[test]
fn groups_wait_gather_repeat_and_end() {
    let mut world = World::new(ROUTE);
    world.fire("a");
    world.until(5).fire("b");
    world.until(100).fire("c");
    world.until(200);
    assert_eq!(world.told(), "10 a,b; 130 a,b,c");
    world.resolve("b");
    world.until(300);
    assert_eq!(world.told(), "250 a,-b,c");
    world.until(4_000);
    assert_eq!(world.told(), "3910 a,c");
    world.resolve("a");
    world.resolve("c");
    world.until(4_100);
    assert_eq!(world.told(), "4030 -a,-c");
    assert_eq!(world.notifier.counts().groups, 0);
    world.until(10_000);
    assert_eq!((world.told(), world.notifier.counts().alerts), (String::new(), 0));
}

#[test]
fn an_alert_that_is_not_posted_again_ends() {
    let mut world = World::new(&format!("global: {{resolve_timeout: 2m}}\n{ROUTE}"));
    world.post("a", &[], None);
    world.until(100).post("a", &[], None);
    world.until(600);
    assert_eq!(world.told(), "10 a; 250 -a");
    // What ended before anybody was told of it is told to nobody.
    world.post("b", &[], Some(601));
    world.until(1_000);
    assert_eq!(world.told(), "");
}

#[test]
fn an_old_alert_does_not_wait() {
    let mut world = World::new(ROUTE);
    world.until(50);
    let posted = PostedAlert {
        labels: vec![("alertname".into(), "a".into())],
        starts_at_ns: Some(DAY * S),
        ..PostedAlert::default()
    };
    let now_ns = world.ns();
    world.notifier.put_alerts(vec![posted], now_ns).remove(0).expect("an alert");
    world.until(51);
    assert_eq!(world.told(), "50 a");
}

#[test]
fn silences_mute_until_they_end() {
    let mut world = World::new(ROUTE);
    world.silence("a", 0, 100);
    let a = world.fire("a");
    world.fire("b");
    world.until(60);
    assert_eq!(world.told(), "10 b");
    let now_ns = world.ns();
    let view = world.notifier.alert(a, now_ns).expect("known");
    assert_eq!(view.status.state, AlertState::Suppressed);
    assert_eq!(view.status.silenced_by, ["s1"]);
    world.until(200);
    assert_eq!(world.told(), "130 a,b");
    // Expired by hand, it holds no longer either.
    let id = world.silence("a", 200, 9_000);
    let now_ns = world.ns();
    world.notifier.expire_silence(&id, now_ns).expect("there");
    assert_eq!(world.notifier.silence(&id).expect("kept").state(now_ns), SilenceState::Expired);
    world.until(500_000);
    assert_eq!(world.notifier.silences().count(), 0);
}

#[test]
fn sources_mute_targets() {
    let rules = "inhibit_rules: [{source_matchers: [alertname=down], target_matchers: \
                 [alertname=slow], equal: [host]}]\n";
    let mut world = World::new(&format!("{rules}{ROUTE}"));
    let source = world.post("down", &[("host", "1")], Some(100_000));
    let target = world.post("slow", &[("host", "1")], Some(100_000));
    world.post("slow", &[("host", "2")], Some(100_000));
    world.until(60);
    assert_eq!(world.told(), "10 down,slow");
    let now_ns = world.ns();
    let explained = world.notifier.explain(target, now_ns).expect("known");
    assert_eq!(explained.view.status.inhibited_by, [source]);
    assert_eq!(&*explained.routes[0], "{}");
    let group = &explained.groups[0];
    assert_eq!(
        (&*group.key, group.outcomes[0].2.reason),
        ("{}:{}", Some(Reason::FirstNotification))
    );
    world.post("down", &[("host", "1")], Some(60));
    world.until(100);
    assert_eq!(world.told(), "70 -down,slow,slow");
}

#[test]
fn intervals_mute_routes() {
    let text = "time_intervals: [{name: night, time_intervals: [{times: [{start_time: '00:00', \
                end_time: '00:10'}]}]}, {name: day, time_intervals: [{times: [{start_time: \
                '00:05', end_time: '24:00'}]}]}]\n\
                route:\n  receiver: r\n  group_wait: 10s\n  group_interval: 60s\n  routes:\n  - \
                {matchers: [alertname=a], mute_time_intervals: [night], continue: true}\n  - \
                {matchers: [alertname=a], receiver: other, active_time_intervals: [day]}\n";
    let mut world = World::new(text);
    let a = world.fire("a");
    world.until(60);
    let now_ns = world.ns();
    let view = world.notifier.alert(a, now_ns).expect("known");
    assert_eq!(view.status.muted_by, ["day", "night"]);
    assert_eq!(view.receivers.len(), 2);
    world.until(1_000);
    assert_eq!(world.told(), "310 other:a; 610 a");
}

#[test]
fn failures_are_tried_again_until_it_is_too_late() {
    let mut world = World::new(ROUTE);
    world.answer = Answer::Retry;
    world.fire("a");
    world.until(69);
    let attempts = world.attempts;
    assert!((5..40).contains(&attempts), "{attempts}");
    let outcome = world.notifier.groups()[0].outcomes[0].2.clone();
    assert_eq!(outcome.error.as_deref(), Some("busy"));
    assert!(outcome.notified_at_ns.is_some() && outcome.delivered_at_ns.is_none());
    assert!(outcome.attempts > 0);
    world.answer = Answer::Delivered;
    world.until(140);
    assert_eq!(world.told(), "70 a");
    let outcome = world.notifier.groups()[0].outcomes[0].2.clone();
    assert_eq!((outcome.error, outcome.attempts), (None, 1));
    let delivered_ns = outcome.delivered_at_ns;
    assert_eq!(delivered_ns, outcome.notified_at_ns);
    // What never works is not tried again before the group is due again.
    world.answer = Answer::Failed;
    world.fire("b");
    world.attempts = 0;
    world.until(240);
    assert_eq!(world.attempts, 1);
    let outcome = world.notifier.groups()[0].outcomes[0].2.clone();
    assert_eq!(outcome.error.as_deref(), Some("no"));
    // It was told before, and is not told since.
    assert_eq!(outcome.delivered_at_ns, delivered_ns);
    world.answer = Answer::Delivered;
    world.resolve("b");
    world.until(320);
    assert_eq!(world.told(), "250 a,-b");
}

#[test]
fn no_answer_is_no_delivery() {
    let mut world = World::new(ROUTE);
    world.answer = Answer::Never;
    world.fire("a");
    world.until(71);
    // The group is due at 70, when its first notification is given up.
    assert_eq!((world.abandoned, world.attempts), (1, 2));
    world.answer = Answer::Delivered;
    world.until(200);
    assert_eq!(world.told(), "130 a");
}

#[test]
fn whoever_is_not_told_of_ends_still_forgets() {
    let mut world = World::new(ROUTE);
    let text = format!(
        "{ROUTE}receivers: [{{name: r, webhook_configs: [{{url: 'http://h/', \
                        send_resolved: false}}]}}]\n"
    );
    let mode = MatcherMode::Fallback;
    let loaded = Config::load(&PathBuf::from("f"), mode, &File(text)).expect("a configuration");
    world.notifier.reload(Policy::new(&loaded.config, mode), DAY * S);
    world.fire("a");
    world.until(20).resolve("a");
    world.until(100);
    assert_eq!(world.told(), "10 a");
    world.fire("a");
    world.until(200);
    assert_eq!(world.told(), "110 a");
}

#[test]
fn a_reload_loses_nothing() {
    let mut world = World::new(ROUTE);
    world.fire("a");
    world.until(20).fire("b");
    world.until(65);
    assert_eq!(world.told(), "10 a");
    // The same routes: known alerts are not told again, new ones at once.
    let now_ns = world.ns();
    world.notifier.reload(policy(ROUTE), now_ns);
    world.until(100);
    assert_eq!(world.told(), "65 a,b");
    // Other routes: groups by name, each of which is new.
    let by_name = "route: {receiver: r, group_by: [alertname], group_wait: 10s}\n";
    let now_ns = world.ns();
    world.notifier.reload(policy(by_name), now_ns);
    world.until(101);
    assert_eq!(world.told(), "100 a; 100 b");
    assert_eq!(world.notifier.counts().groups, 2);
}

#[test]
fn an_alert_that_has_no_room_after_a_reload_is_written_down_as_such() {
    let all = "route: {receiver: r, group_wait: 10s}\n";
    let by_name = "route: {receiver: r, group_wait: 10s, group_by: [alertname]}\n";
    let mut world = World::with(all, Limits { max_groups: 1, ..Limits::default() });
    world.fire("a");
    world.fire("b");
    let mut saved = Snapshot::default();
    saved.apply(world.notifier.take_changes());
    assert!(saved.alerts.values().all(|alert| alert.grouped));
    let now_ns = world.ns();
    world.notifier.reload(policy(by_name), now_ns);
    saved.apply(world.notifier.take_changes());
    assert_eq!(saved, world.notifier.snapshot());
    assert_eq!(saved.alerts.values().filter(|alert| alert.grouped).count(), 1);
}

#[test]
fn what_is_under_way_survives_a_reload() {
    let mut world = World::new(ROUTE);
    world.answer = Answer::Never;
    world.fire("a");
    world.until(9);
    world.now = 10;
    let now_ns = world.ns();
    let Some(Effect::Send(sent)) = world.notifier.step(now_ns).pop() else { panic!("a message") };
    world.notifier.reload(policy(ROUTE), now_ns);
    assert!(world.notifier.step(now_ns).is_empty(), "told twice");
    world.notifier.answered(sent.id, 1, Outcome::Delivered { store: None }, now_ns);
    world.answer = Answer::Delivered;
    world.until(1_000);
    assert_eq!((world.told(), world.attempts, world.abandoned), (String::new(), 0, 0));
    // If its receiver is gone, it is abandoned.
    world.answer = Answer::Never;
    world.fire("b");
    world.until(1_100);
    assert!(world.attempts > 0);
    let now_ns = world.ns();
    world.notifier.reload(policy("route: {receiver: other, group_wait: 10s}\n"), now_ns);
    let effects = world.notifier.step(now_ns);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Abandon(_))), "{effects:?}");
}

#[test]
fn a_crash_repeats_nothing_and_forgets_nothing() {
    let mut world = World::new(ROUTE);
    world.fire("a");
    world.until(20).fire("b");
    world.resolve("b");
    world.post("c", &[], None);
    world.silence("c", 0, 10_000);
    world.until(30);
    assert_eq!(world.told(), "10 a");
    let saved = world.notifier.snapshot();
    // Down for an hour but a bit: nobody could post anything again.
    let mut again = world.restarted(ROUTE, saved, 3_000);
    again.until(3_100);
    // What ended before the crash is told of, what was told before is not told again.
    assert_eq!(again.told(), "3000 a,-b");
    assert_eq!(again.notifier.silences().count(), 1);
    again.resolve("a");
    again.until(3_300);
    assert_eq!(again.told(), "3120 -a");
}

#[test]
fn changes_add_up_to_the_snapshot() {
    let mut world = World::new(ROUTE);
    let mut saved = Snapshot::default();
    let mut sorted = |world: &mut World| {
        saved.apply(world.notifier.take_changes());
        let mut now = world.notifier.snapshot();
        // When an alert that goes on firing was posted last is not worth being written down.
        for (fingerprint, record) in &mut now.alerts {
            if let Some(old) = saved.alerts.get(fingerprint).filter(|_| record.firing) {
                (record.ends_at_ns, record.updated_at_ns) = (old.ends_at_ns, old.updated_at_ns);
            }
        }
        assert_eq!(saved, now);
    };
    sorted(&mut world);
    world.fire("a");
    world.silence("x", 0, 50);
    sorted(&mut world);
    world.until(20).fire("a");
    assert!(world.notifier.take_changes().alerts.is_empty() || world.now == 20);
    world.fire("b");
    world.until(100);
    sorted(&mut world);
    world.resolve("a");
    world.resolve("b");
    world.until(200);
    sorted(&mut world);
    world.until(600_000);
    sorted(&mut world);
    let empty = world.notifier.snapshot();
    assert!(empty.alerts.is_empty() && empty.silences.is_empty() && empty.log.is_empty());
}

/// What was written down, and nothing else, is known after a crash.
fn crashed(world: &mut World, saved: &mut Snapshot, text: &str, at: i64) -> World {
    saved.apply(world.notifier.take_changes());
    world.restarted(text, saved.clone(), at)
}

#[test]
fn an_end_that_was_moved_far_is_known_after_a_crash() {
    let mut world = World::new(ROUTE);
    let mut saved = Snapshot::default();
    let post = |world: &mut World, end: i64| {
        let posted = PostedAlert {
            labels: vec![("alertname".to_owned(), "a".to_owned())],
            starts_at_ns: Some(DAY * S),
            ends_at_ns: Some((DAY + end) * S),
            ..PostedAlert::default()
        };
        let now_ns = world.ns();
        assert!(world.notifier.put_alerts(vec![posted], now_ns)[0].is_ok());
        world.until(world.now);
    };
    post(&mut world, 600);
    world.until(20);
    saved.apply(world.notifier.take_changes());
    // Prometheus moves it with every post, which is not worth a write each time.
    post(&mut world, 660);
    assert!(world.notifier.take_changes().alerts.is_empty());
    post(&mut world, 86_400);
    let mut again = crashed(&mut world, &mut saved, ROUTE, 3_600);
    again.until(80_000);
    assert!(!again.told().contains("-a"), "it ends at 86400");
    again.until(90_000);
    assert!(again.told().contains("-a"));
}

#[test]
fn a_group_waits_no_longer_after_a_restart_than_its_route_says() {
    let slow = "route: {receiver: r, group_wait: 10s, group_interval: 12h, repeat_interval: 24h}\n";
    let mut world = World::new(slow);
    world.fire("a");
    world.until(20);
    assert_eq!(world.told(), "10 a");
    let saved = world.notifier.snapshot();
    let mut again = world.restarted(ROUTE, saved, 30);
    again.fire("b");
    again.until(100);
    assert_eq!(again.told(), "90 a,b");
    // One that has not told yet, by a clock that was a year ahead.
    let ahead = 365 * 86_400;
    let ahead_ns = (DAY + ahead) * S;
    let notifier = Notifier::new(policy(ROUTE), Limits::default(), ahead_ns, ahead_ns);
    let mut world = World::of(notifier, ahead);
    world.fire("new");
    let saved = world.notifier.snapshot();
    let mut again = world.restarted(ROUTE, saved, 1_000);
    again.until(1_020);
    assert_eq!(again.told(), "1010 new");
}

#[test]
fn alerts_that_ended_make_room() {
    let limits = Limits { max_alerts_per_name: 4, max_alerts: 6, ..Limits::default() };
    let mut world = World::with(ROUTE, limits);
    let post = |world: &mut World, name: &str, host: i64, end: Option<i64>| {
        let labels = [("alertname", name.to_owned()), ("host", host.to_string())];
        let posted = PostedAlert {
            labels: labels.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            starts_at_ns: end.map(|_| DAY * S),
            ends_at_ns: end.map(|end| (DAY + end) * S),
            ..PostedAlert::default()
        };
        let now_ns = world.ns();
        world.notifier.put_alerts(vec![posted], now_ns).remove(0)
    };
    for host in 0..4 {
        assert!(post(&mut world, "a", host, Some(5)).is_ok());
    }
    // They have ended, and nobody knows yet.
    world.until(6);
    assert!(matches!(post(&mut world, "a", 9, None), Err(AlertError::TooManyOfName { .. })));
    world.until(100);
    for host in 10..14 {
        assert!(post(&mut world, "a", host, None).is_ok(), "{host}");
    }
    assert!(matches!(post(&mut world, "a", 14, None), Err(AlertError::TooManyOfName { .. })));
    assert_eq!(world.notifier.counts().alerts, 4);
    assert!(post(&mut world, "b", 1, Some(101)).is_ok() && post(&mut world, "b", 2, None).is_ok());
    assert!(matches!(post(&mut world, "c", 1, None), Err(AlertError::TooMany { .. })));
    world.until(200);
    assert!(post(&mut world, "c", 1, None).is_ok());
    // Timers of those that were forgotten come to nothing.
    world.until(20_000);
    assert_eq!(world.notifier.counts().alerts, 0);
}

#[test]
fn snapshots_of_other_versions_are_refused() {
    let saved = Snapshot { version: 2, ..Snapshot::default() };
    let restored = Notifier::restore(saved, policy(ROUTE), Limits::default(), &zone, 0, 0);
    assert_eq!(restored.err(), Some(SnapshotError::Version(2)));
}

#[test]
fn limits_are_told() {
    let limits =
        Limits { max_alerts: 3, max_alerts_per_name: 2, max_groups: 2, ..Limits::default() };
    let by_host = "route: {receiver: r, group_by: [host], group_wait: 10s}\n";
    let mut world = World::with(by_host, limits);
    let mut post = |name: &str, host: &str| {
        let labels = [("alertname", name), ("host", host)];
        let posted = PostedAlert {
            labels: labels.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
            ..PostedAlert::default()
        };
        world.notifier.put_alerts(vec![posted], DAY * S).remove(0)
    };
    assert!(post("a", "1").is_ok() && post("a", "2").is_ok());
    assert!(matches!(post("a", "3"), Err(AlertError::TooManyOfName { limit: 2, .. })));
    assert!(post("b", "3").is_ok(), "it is kept, but has no group");
    assert_eq!(post("c", "1"), Err(AlertError::TooMany { limit: 3 }));
    assert!(post("a", "1").is_ok(), "what is there may be posted again");
    let counts = world.notifier.counts();
    assert_eq!((counts.alerts, counts.groups, counts.refused_groups), (3, 2, 1));
    // As soon as there is room, it gets its group.
    world.until(20);
    world.post("a", &[("host", "1")], Some(20));
    world.until(400);
    world.told.clear();
    world.post("b", &[("host", "3")], None);
    world.until(420);
    assert_eq!((world.told().as_str(), world.notifier.counts().groups), ("410 b", 1));
}

#[test]
fn fifty_thousand_alerts_are_no_burden() {
    let text = "inhibit_rules: [{source_matchers: [severity=critical], target_matchers: \
                [severity=warning], equal: [host]}]\n\
                route: {receiver: r, group_by: [host], group_wait: 10s, group_interval: 60s}\n";
    let mut world = World::new(text);
    let posted = |n: i64| PostedAlert {
        labels: vec![
            ("alertname".into(), format!("a{}", n % 10)),
            ("host".into(), format!("h{}", n / 10)),
            ("severity".into(), if n % 10 == 0 { "critical" } else { "warning" }.into()),
        ],
        ..PostedAlert::default()
    };
    for round in 0..3 {
        let now_ns = (DAY + round * 60) * S;
        let alerts: Vec<PostedAlert> = (0..50_000).map(posted).collect();
        assert!(world.notifier.put_alerts(alerts, now_ns).iter().all(Result::is_ok));
        world.until(round * 60 + 59);
    }
    assert_eq!(world.attempts, 5_000);
    assert!(world.told.iter().all(|(at, _, alerts)| *at == 10 && alerts.len() == 1));
}
