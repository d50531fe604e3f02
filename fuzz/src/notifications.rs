//! Notifications: a configuration of Alertmanager, and whatever happens under it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use alerting::notify::{
    Effect, Limits, Notifier, Outcome, Policy, PostedAlert, PostedSilence, SilenceMatcher, Snapshot,
};
use settings::alertmanager::{Config, MatcherMode, TimeZone};
use settings::prometheus::Surroundings;

use crate::configuration::check_faults;
use crate::input::Input;

/// Stands between the configuration and what happens.
const END: u8 = 0;
const SECOND_NS: i64 = 1_000_000_000;
/// 2026-11-30.
const START_NS: i64 = 1_796_083_200 * SECOND_NS;
/// Of so many things that are due one after the other, the rest waits.
const MOST_STEPS: usize = 200;
const MODE: MatcherMode = MatcherMode::Fallback;

/// Small, so that they are met.
const LIMITS: Limits = Limits {
    max_alerts: 12,
    max_alerts_per_name: 5,
    max_alert_bytes: 300,
    max_groups: 6,
    max_silences: 4,
    max_silence_bytes: 300,
    max_log_entries: 8,
};

struct OneFile<'b>(&'b [u8]);

impl Surroundings for OneFile<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.ends_with("alertmanager.yml") {
            true => Ok(self.0.to_vec()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

fn policy(text: &[u8]) -> Option<Policy> {
    match Config::load(Path::new("/etc/a/alertmanager.yml"), MODE, &OneFile(text)) {
        Ok(loaded) => Some(Policy::new(&loaded.config, MODE)),
        Err(faults) => {
            check_faults(&faults, text);
            None
        }
    }
}

fn zone(name: &str) -> Option<TimeZone> {
    (name == "UTC").then(TimeZone::utc)
}

/// What is known, and what was written down of it.
struct World {
    notifier: Notifier,
    now_ns: i64,
    saved: Snapshot,
    silences: u32,
}

/// Whatever happens, what was written down is what is known, and a restart changes none of it.
pub(crate) fn notifications(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == END).unwrap_or(bytes.len());
    let (text, events) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    if policy(text).is_none() {
        return;
    }
    let made = |text| policy(text).expect("it was read before");
    let mut text = text;
    let notifier = Notifier::new(made(text), LIMITS, START_NS, START_NS);
    let saved = Snapshot::default();
    let mut world = World { notifier, now_ns: START_NS, saved, silences: 0 };
    let mut input = Input(events);
    while !input.is_empty() {
        match input.byte() % 8 {
            0..=2 => world.post(&mut input),
            3 => world.silence(&mut input),
            4 | 5 => world.pass(&mut input),
            6 => {
                text = if input.byte().is_multiple_of(2) { &bytes[..end] } else { OTHER };
                world.notifier.reload(made(text), world.now_ns);
            }
            _ => world.restart(made(text), made(text), made(text)),
        }
        world.save();
    }
    world.restart(made(text), made(text), made(text));
    let views = world.notifier.groups();
    assert!(views.len() <= LIMITS.max_groups);
    assert!(world.notifier.counts().alerts <= LIMITS.max_alerts);
}

impl World {
    fn post(&mut self, input: &mut Input<'_>) {
        let label = |name: &str, number: u8| (name.to_owned(), format!("v{}", number % 4));
        let mut labels = vec![label("alertname", input.byte()), label("host", input.byte())];
        if input.byte().is_multiple_of(3) {
            labels.push(label("severity", input.byte()));
        }
        let near_ns = |input: &mut Input<'_>| {
            let distance = i64::from(input.byte()) * input.pick(&[1, 60, 3_600, -60]);
            Some(self.now_ns + distance * SECOND_NS)
        };
        let text = String::from_utf8_lossy(input.bytes(3)).into_owned();
        let posted = PostedAlert {
            labels,
            annotations: BTreeMap::from([("a".to_owned(), text)]),
            starts_at_ns: if input.byte() < 128 { None } else { near_ns(input) },
            ends_at_ns: if input.byte() < 128 { None } else { near_ns(input) },
            ..PostedAlert::default()
        };
        // Whoever is refused is told why.
        for outcome in self.notifier.put_alerts(vec![posted], self.now_ns) {
            match outcome {
                Ok(fingerprint) => {
                    assert!(self.notifier.explain(fingerprint, self.now_ns).is_some());
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }

    fn silence(&mut self, input: &mut Input<'_>) {
        let matcher = SilenceMatcher {
            name: input.pick(&["alertname", "host", "severity"]).to_owned(),
            value: String::from_utf8_lossy(input.bytes(4)).into_owned(),
            is_regex: input.byte().is_multiple_of(2),
            is_equal: !input.byte().is_multiple_of(3),
        };
        let names: Vec<String> = self.notifier.silences().map(|one| one.id.clone()).collect();
        let changed = names.get(input.below(2 * names.len().max(1)));
        let posted = PostedSilence {
            id: changed.cloned().unwrap_or_default(),
            matchers: vec![matcher],
            starts_at_ns: None,
            ends_at_ns: self.now_ns + i64::from(input.byte()) * 60 * SECOND_NS,
            ..PostedSilence::default()
        };
        let mut name = || {
            self.silences += 1;
            format!("s{}", self.silences)
        };
        let set = self.notifier.set_silence(posted, &mut name, &zone, self.now_ns);
        if let Ok(name) = set
            && input.byte().is_multiple_of(4)
        {
            self.notifier.expire_silence(&name, self.now_ns).expect("it was just set");
        }
    }

    /// Lets time pass, and answers as the input says.
    fn pass(&mut self, input: &mut Input<'_>) {
        let until_ns =
            self.now_ns + i64::from(input.byte()) * input.pick(&[1, 30, 3_600]) * SECOND_NS;
        for _ in 0..MOST_STEPS {
            for effect in self.notifier.step(self.now_ns) {
                let Effect::Send(sent) = effect else { continue };
                assert!(!sent.alerts.is_empty(), "nothing is told of");
                let message = "no".to_owned();
                let outcome = match input.byte() % 5 {
                    0 => Outcome::Failed { message },
                    1 => Outcome::Retry { message, after_ns: Some(i64::from(input.byte())) },
                    2 => continue,
                    _ => Outcome::Delivered { store: None },
                };
                self.notifier.answered(sent.id, sent.attempt, outcome, self.now_ns);
            }
            match self.notifier.next_due_ns().filter(|due_ns| *due_ns <= until_ns) {
                Some(due_ns) => self.now_ns = self.now_ns.max(due_ns),
                None => break,
            }
        }
        self.now_ns = self.now_ns.max(until_ns);
    }

    /// Writes down what changed; that adds up to what is known, but for when those were posted that go on
    /// firing.
    fn save(&mut self) {
        self.saved.apply(self.notifier.take_changes());
        let mut known = self.notifier.snapshot();
        for (fingerprint, record) in &mut known.alerts {
            let Some(saved) = self.saved.alerts.get(fingerprint).filter(|_| record.firing) else {
                continue;
            };
            (record.ends_at_ns, record.updated_at_ns) = (saved.ends_at_ns, saved.updated_at_ns);
        }
        assert_eq!(self.saved, known);
    }

    /// A restart with what was written down; three policies, since each is of one notifier.
    fn restart(&mut self, first: Policy, again: Policy, last: Policy) {
        let restored = |saved: Snapshot, policy: Policy, now_ns: i64| {
            let json = serde_json::to_vec(&saved).expect("a state is JSON");
            let saved = serde_json::from_slice(&json).expect("its own");
            let restored = Notifier::restore(saved, policy, LIMITS, &zone, now_ns, now_ns);
            let (notifier, problems) = restored.expect("this version");
            assert!(problems.is_empty(), "{problems:?}");
            notifier
        };
        let before = self.notifier.snapshot();
        let one = restored(before.clone(), first, self.now_ns).snapshot();
        assert!(one.alerts.keys().eq(before.alerts.keys()));
        assert_eq!((&one.silences, &one.log), (&before.silences, &before.log));
        // What comes out of one goes through the next as it is.
        let other = restored(one.clone(), again, self.now_ns).snapshot();
        assert_eq!(one, other);
        self.notifier = restored(before, last, self.now_ns);
        self.saved = self.notifier.snapshot();
    }
}

const OTHER: &[u8] = b"route: {receiver: r, group_by: [host], group_wait: 1s}\nreceivers: [{name: r, webhook_configs: [{url: 'http://h/'}]}]\n";

const FIRST: &[u8] = b"route:\n  receiver: r\n  group_by: [alertname]\n  group_wait: 10s\n  group_interval: 1m\n  repeat_interval: 1h\n  routes:\n  - matchers: ['severity=~\"v[12]\"']\n    receiver: other\n    continue: true\n    mute_time_intervals: [night]\ntime_intervals: [{name: night, time_intervals: [{times: [{start_time: '01:00', end_time: '05:00'}]}]}]\ninhibit_rules: [{source_matchers: [alertname=v1], target_matchers: [alertname=v2], equal: [host]}]\nreceivers:\n- name: r\n  webhook_configs: [{url: 'http://h/'}]\n- name: other\n  webhook_configs: [{url: 'http://o/', send_resolved: false}]\n";

pub(crate) fn notification_seeds() -> Vec<Vec<u8>> {
    let with = |text: &[u8], events: &[u8]| [text, &[END], events].concat();
    let mut events = Vec::new();
    for number in 0..30_u8 {
        // An alert, sometimes with an end; time; now and then a silence, another file, a restart.
        events.extend([0, number, number / 3, number, 1, b'a', b'b', b'c', 0]);
        events.extend([if number.is_multiple_of(3) { 200 } else { 0 }, 5, number]);
        events.extend([4, 20, number % 3, 3, number, 4, 4, 1, 0]);
        if number.is_multiple_of(5) {
            events.extend([3, 0, b'v', b'1', b'.', b'*', 0, 1, 0, 0, 9, 3, 6, number, 7]);
        }
    }
    vec![with(FIRST, &events), with(OTHER, &events), with(FIRST, b"")]
}
