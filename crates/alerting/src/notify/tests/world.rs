//! A notifier in virtual time, whose receivers answer as they are told.

use std::io;
use std::path::{Path, PathBuf};

use settings::alertmanager::{Config, MatcherMode, TimeZone};
use settings::prometheus::Surroundings;

use super::super::*;

pub(super) const S: i64 = 1_000_000_000;

/// A Monday, 2026-11-30T00:00:00Z, in seconds.
pub(super) const DAY: i64 = 1_796_083_200 / 86_400 * 86_400;

pub(super) struct File(pub(super) String);

impl Surroundings for File {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

pub(super) const HOOK: &str = "receivers:\n- name: r\n  webhook_configs: [{url: 'http://h/'}]\n- name: other\n  \
                    webhook_configs: [{url: 'http://o/'}]\n";

pub(super) fn policy(text: &str) -> Policy {
    let mode = MatcherMode::Fallback;
    let file = File(format!("{text}{HOOK}"));
    let loaded = Config::load(&PathBuf::from("f"), mode, &file);
    Policy::new(&loaded.unwrap_or_else(|f| panic!("{}", f.render())).config, mode)
}

pub(super) const ROUTE: &str =
    "route: {receiver: r, group_wait: 10s, group_interval: 60s, repeat_interval: 1h}\n";

/// When somebody was told, who, and of each alert whether it had ended.
pub(super) type Told = (i64, String, Vec<(String, bool)>);

/// A notifier whose receivers answer as they are told.
pub(super) struct World {
    pub(super) notifier: Notifier,
    pub(super) now: i64,
    pub(super) ids: u32,
    pub(super) answer: Answer,
    /// What was told: when, whom, and each alert with whether it had ended.
    pub(super) told: Vec<Told>,
    pub(super) abandoned: usize,
    pub(super) attempts: usize,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Answer {
    Delivered,
    Retry,
    Failed,
    Never,
}

pub(super) fn zone(name: &str) -> Option<TimeZone> {
    (name == "UTC").then(TimeZone::utc)
}

impl World {
    pub(super) fn new(text: &str) -> World {
        World::with(text, Limits::default())
    }

    pub(super) fn with(text: &str, limits: Limits) -> World {
        World::of(Notifier::new(policy(text), limits, DAY * S, DAY * S), 0)
    }

    pub(super) fn of(notifier: Notifier, now: i64) -> World {
        World {
            notifier,
            now,
            ids: 0,
            answer: Answer::Delivered,
            told: Vec::new(),
            abandoned: 0,
            attempts: 0,
        }
    }

    pub(super) fn ns(&self) -> i64 {
        (DAY + self.now) * S
    }

    /// Lets time pass until `to`, in seconds.
    pub(super) fn until(&mut self, to: i64) -> &mut Self {
        loop {
            let effects = self.notifier.step(self.ns());
            for effect in effects {
                self.effect(effect);
            }
            let due = self.notifier.next_due_ns().filter(|due| *due <= (DAY + to) * S);
            let Some(due) = due else { break };
            // Whole seconds suffice: nothing here is due within less.
            let due = due.saturating_sub(DAY * S).saturating_add(S - 1).div_euclid(S);
            self.now = due.clamp(self.now, to);
        }
        self.now = to;
        self
    }

    fn effect(&mut self, effect: Effect) {
        let Effect::Send(sent) = effect else {
            self.abandoned += 1;
            return;
        };
        self.attempts += 1;
        let outcome = match self.answer {
            Answer::Never => return,
            Answer::Retry => Outcome::Retry { message: "busy".into(), after_ns: None },
            Answer::Failed => Outcome::Failed { message: "no".into() },
            Answer::Delivered => {
                let name = |a: &NotifiedAlert| {
                    a.alert.labels.get("alertname").unwrap_or_default().to_owned()
                };
                let alerts = sent.alerts.iter().map(|alert| (name(alert), alert.resolved));
                self.told.push((self.now, sent.receiver.to_string(), alerts.collect()));
                Outcome::Delivered { store: None }
            }
        };
        self.notifier.answered(sent.id, sent.attempt, outcome, self.ns());
    }

    pub(super) fn post(
        &mut self,
        name: &str,
        more: &[(&str, &str)],
        end: Option<i64>,
    ) -> Fingerprint {
        let mut labels = vec![("alertname".to_owned(), name.to_owned())];
        labels.extend(more.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        let posted = PostedAlert {
            labels,
            starts_at_ns: end.map(|end| (DAY + end.min(self.now)) * S),
            ends_at_ns: end.map(|end| (DAY + end) * S),
            ..PostedAlert::default()
        };
        let now_ns = self.ns();
        let taken = self.notifier.put_alerts(vec![posted], now_ns).remove(0);
        self.until(self.now);
        taken.expect("an alert")
    }

    pub(super) fn fire(&mut self, name: &str) -> Fingerprint {
        self.post(name, &[], Some(self.now + 100_000))
    }

    pub(super) fn resolve(&mut self, name: &str) -> Fingerprint {
        self.post(name, &[], Some(self.now))
    }

    /// What was told since this was asked for last.
    pub(super) fn told(&mut self) -> String {
        let told = std::mem::take(&mut self.told).into_iter().map(|(at, receiver, alerts)| {
            let alerts = alerts
                .iter()
                .map(|(name, ended)| if *ended { format!("-{name}") } else { name.clone() });
            let alerts: Vec<String> = alerts.collect();
            let receiver = if receiver == "r" { String::new() } else { format!("{receiver}:") };
            format!("{at} {receiver}{}", alerts.join(","))
        });
        told.collect::<Vec<String>>().join("; ")
    }

    pub(super) fn silence(&mut self, name: &str, from: i64, to: i64) -> String {
        self.ids += 1;
        let id = format!("s{}", self.ids);
        let matcher = SilenceMatcher {
            name: "alertname".into(),
            value: name.into(),
            is_regex: false,
            is_equal: true,
        };
        let posted = PostedSilence {
            matchers: vec![matcher],
            starts_at_ns: Some((DAY + from) * S),
            ends_at_ns: (DAY + to) * S,
            ..PostedSilence::default()
        };
        let now_ns = self.ns();
        let set = self.notifier.set_silence(posted, &mut || id.clone(), &zone, now_ns);
        set.expect("a silence")
    }

    /// The same after a crash: only what was written down is known.
    pub(super) fn restarted(&self, text: &str, saved: Snapshot, at: i64) -> World {
        let json = serde_json::to_string(&saved).expect("JSON");
        let saved = serde_json::from_str(&json).expect("its own");
        let now_ns = (DAY + at) * S;
        let limits = Limits::default();
        let restored = Notifier::restore(saved, policy(text), limits, &zone, now_ns, now_ns);
        let (notifier, problems) = restored.expect("this version");
        assert!(problems.is_empty(), "{problems:?}");
        World::of(notifier, at)
    }
}
