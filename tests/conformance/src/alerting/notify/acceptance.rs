//! Scenarios: a configuration, what happens when, and what each webhook must be told when. They
//! run in virtual time against the state machine.
//!
//! Where the table has less than the tests it comes from, what is missing is put in here:
//! - a time of 0 or less in `active` is no time, as in those tests;
//! - what their webhook does to provoke a `timeout` is not in the table: one that has a timeout
//!   answers too late until something is wanted of it;
//! - the value of `--dispatch.start-delay` is not there: it is the time at which something is
//!   wanted first;
//! - an alert may be wanted to have begun when no post of it says so, nor was made: of such a
//!   wish only the rest is compared.
//!
//! Several nodes of a cluster tell once, so they are one here.

use std::collections::{BTreeMap, BTreeSet};

use alerting::notify::{
    Effect, Limits, Notification, NotificationId, Notifier, Outcome, Policy, PostedAlert,
    PostedSilence, SilenceMatcher,
};
use serde_json::Value;
use settings::alertmanager::{Config, Credential, IntegrationSettings, MatcherMode, TimeZone};

use super::{load, pairs_of, text_of};

/// The beginning of a scenario, in nanoseconds since 1970.
const START_NS: i64 = 1_800_000_000_000_000_000;

/// How long a webhook takes to answer.
const ANSWER_NS: i64 = 1_000_000;

fn ns(seconds: f64) -> i64 {
    START_NS + (seconds * 1e9).round() as i64
}

/// An alert of the table or of a message.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at_ns: Option<i64>,
    /// `None` while it fires.
    ends_at_ns: Option<i64>,
}

impl Told {
    fn of(alert: &Value) -> Told {
        let mut annotations = BTreeMap::new();
        for list in alert["annotate"].as_array().into_iter().flatten() {
            let texts: Vec<&str> =
                list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            annotations.extend(texts.chunks_exact(2).map(|p| (p[0].to_owned(), p[1].to_owned())));
        }
        let active = |at: usize| alert["active"][at].as_f64().filter(|s| *s > 0.0).map(ns);
        Told {
            labels: pairs_of(&alert["labels"]).into_iter().collect(),
            annotations,
            starts_at_ns: active(0),
            ends_at_ns: active(1),
        }
    }

    fn is(&self, other: &Told, tolerance_ns: i64, compare_start: bool) -> bool {
        let near = |a: Option<i64>, b: Option<i64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= tolerance_ns,
            (a, b) => a.is_none() == b.is_none(),
        };
        self.labels == other.labels
            && self.annotations == other.annotations
            && (!compare_start || near(self.starts_at_ns, other.starts_at_ns))
            && near(self.ends_at_ns, other.ends_at_ns)
    }
}

/// What a webhook is told.
#[derive(Debug, Default)]
struct Collector {
    got: Vec<(i64, Vec<Told>)>,
    wanted: Vec<(i64, i64, Vec<Told>)>,
    swallows_before_ns: i64,
}

struct Scenario<'a> {
    case: &'a Value,
    notifier: Notifier,
    config: Config,
    collectors: BTreeMap<String, Collector>,
    /// Answers that are on their way.
    answers: BTreeMap<(i64, NotificationId), (u32, Outcome)>,
    silences: Vec<String>,
    /// Since when alerts may be said to fire.
    possible_starts: BTreeMap<BTreeMap<String, String>, BTreeSet<i64>>,
}

pub(super) fn check(case: &Value) -> Result<(), String> {
    let mut scenario = Scenario::new(case)?;
    scenario.run()?;
    scenario.verdict()
}

fn steps(case: &Value) -> impl Iterator<Item = &Value> {
    case["steps"].as_array().into_iter().flatten()
}

/// The configuration with an address for each webhook: its place is the port.
fn configuration(case: &Value, at: usize) -> Result<Config, String> {
    let configs = case["configs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = configs.get(at).or(configs.last()).and_then(Value::as_str).unwrap_or_default();
    let mut parts = text.split("%s");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for (port, part) in parts.enumerate() {
        filled += &format!("127.0.0.1:{}{part}", port + 1);
    }
    let loaded = load(&filled, MatcherMode::Fallback).map_err(|faults| faults.render())?;
    Ok(loaded.config)
}

impl<'a> Scenario<'a> {
    fn new(case: &'a Value) -> Result<Scenario<'a>, String> {
        let config = configuration(case, 0)?;
        let mut collectors: BTreeMap<String, Collector> = BTreeMap::new();
        for name in case["webhooks_in_config_order"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            let swallows = case["webhook_swallows_before"][name].as_f64().unwrap_or(0.0);
            let collector = Collector { swallows_before_ns: ns(swallows), ..Collector::default() };
            collectors.insert(name.to_owned(), collector);
        }
        for step in steps(case).filter(|step| text_of(step, "do") == "want") {
            let between = |at: usize| ns(step["between"][at].as_f64().unwrap_or(0.0));
            let alerts = step["alerts"].as_array().into_iter().flatten().map(Told::of).collect();
            let name = text_of(step, "collector");
            let collector = collectors.get_mut(name).ok_or_else(|| format!("no webhook {name}"))?;
            collector.wanted.push((between(0), between(1), alerts));
        }
        let delayed = case["extra_args"].as_array().into_iter().flatten();
        let delayed = delayed.filter_map(Value::as_str).any(|arg| arg.contains("start-delay"));
        let first = collectors.values().flat_map(|c| c.wanted.iter().map(|w| w.0)).min();
        let dispatch_from_ns = first.filter(|_| delayed).unwrap_or(START_NS);
        let policy = Policy::new(&config, MatcherMode::Fallback);
        Ok(Scenario {
            case,
            notifier: Notifier::new(policy, Limits::default(), START_NS, dispatch_from_ns),
            config,
            collectors,
            answers: BTreeMap::new(),
            silences: Vec::new(),
            possible_starts: BTreeMap::new(),
        })
    }

    /// What happens, in order.
    fn events(&self) -> Vec<(i64, &'a Value)> {
        let at = |step: &Value| {
            let raw = &step["raw"][0]["args"][0];
            ns(step["at"].as_f64().or(raw.as_f64()).unwrap_or(0.0))
        };
        let events = steps(self.case).filter(|step| text_of(step, "do") != "want");
        let mut events: Vec<(i64, &Value)> = events.map(|step| (at(step), step)).collect();
        events.sort_by_key(|(at, _)| *at);
        events
    }

    fn run(&mut self) -> Result<(), String> {
        let events = self.events();
        let ends = self.collectors.values().flat_map(|c| c.wanted.iter().map(|w| w.1));
        let last = ends.chain(events.iter().map(|(at, _)| *at)).max().unwrap_or(START_NS);
        let stop_ns = last + 20_000_000;
        let mut events = events.into_iter().peekable();
        let mut now_ns = START_NS;
        for _ in 0..100_000 {
            let next = [
                events.peek().map(|(at, _)| *at),
                self.answers.keys().next().map(|(at, _)| *at),
                self.notifier.next_due_ns(),
            ];
            let Some(next) = next.into_iter().flatten().min().filter(|at| *at <= stop_ns) else {
                return Ok(());
            };
            now_ns = next.max(now_ns);
            while let Some(entry) = self.answers.first_entry() {
                if entry.key().0 > now_ns {
                    break;
                }
                let ((_, id), (attempt, outcome)) = entry.remove_entry();
                self.notifier.answered(id, attempt, outcome, now_ns);
            }
            while let Some((_, step)) = events.next_if(|(at, _)| *at <= now_ns) {
                self.event(step, now_ns)?;
            }
            for effect in self.notifier.step(now_ns) {
                match effect {
                    Effect::Send(notification) => self.send(&notification, now_ns)?,
                    Effect::Abandon(id) => self.answers.retain(|(_, other), _| *other != id),
                }
            }
        }
        Err("the scenario does not end".to_owned())
    }

    fn event(&mut self, step: &Value, now_ns: i64) -> Result<(), String> {
        match text_of(step, "do") {
            "push" => {
                for alert in step["alerts"].as_array().into_iter().flatten() {
                    self.push(&Told::of(alert), now_ns)?;
                }
            }
            "reload" => {
                self.config = configuration(self.case, 1)?;
                let policy = Policy::new(&self.config, MatcherMode::Fallback);
                self.notifier.reload(policy, now_ns);
            }
            "set_silence" => self.silence(&step["silence"], now_ns)?,
            "DelSilence" => {
                for id in &self.silences {
                    self.notifier.expire_silence(id, now_ns).map_err(|e| e.to_string())?;
                }
            }
            other => return Err(format!("step {other:?} is not known")),
        }
        Ok(())
    }

    fn push(&mut self, alert: &Told, now_ns: i64) -> Result<(), String> {
        let starts = self.possible_starts.entry(alert.labels.clone()).or_default();
        starts.insert(alert.starts_at_ns.unwrap_or(now_ns));
        let posted = PostedAlert {
            labels: alert.labels.clone().into_iter().collect(),
            annotations: alert.annotations.clone(),
            starts_at_ns: alert.starts_at_ns,
            ends_at_ns: alert.ends_at_ns,
            generator_url: String::new(),
        };
        let taken = self.notifier.put_alerts(vec![posted], now_ns);
        taken.into_iter().try_for_each(|one| one.map(drop).map_err(|error| error.to_string()))
    }

    fn silence(&mut self, silence: &Value, now_ns: i64) -> Result<(), String> {
        let mut matchers = Vec::new();
        for (key, is_regex) in [("match", false), ("matchre", true)] {
            for pair in silence[key].as_array().into_iter().flatten() {
                let text = |at: usize| pair[at].as_str().unwrap_or_default().to_owned();
                matchers.push(SilenceMatcher {
                    name: text(0),
                    value: text(1),
                    is_regex,
                    is_equal: true,
                });
            }
        }
        let time = |at: usize| silence["silence"][at].as_f64();
        let posted = PostedSilence {
            matchers,
            starts_at_ns: time(0).map(ns),
            ends_at_ns: time(1).map(ns).ok_or("a silence without an end")?,
            ..PostedSilence::default()
        };
        let number = self.silences.len();
        let mut new_id = || format!("silence-{number}");
        let zone = |_: &str| Some(TimeZone::utc());
        let id = self.notifier.set_silence(posted, &mut new_id, &zone, now_ns);
        self.silences.push(id.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// A webhook is told.
    fn send(&mut self, sent: &Notification, now_ns: i64) -> Result<(), String> {
        let receiver = self.config.receivers.iter().find(|r| *r.name == *sent.receiver);
        let integration = receiver.and_then(|r| r.integrations.get(sent.integration));
        let integration = integration.ok_or("an integration that is not configured")?;
        let IntegrationSettings::Webhook(webhook) = &integration.settings else {
            return Err("an integration that is no webhook".to_owned());
        };
        let Credential::Inline(url) = &webhook.url else { return Err("no URL".to_owned()) };
        let port = url.reveal().rsplit(':').next().unwrap_or_default().trim_end_matches('/');
        let place = port.parse::<usize>().map_err(|_| "no port")? - 1;
        let name = self.case["webhooks_in_config_order"][place].as_str().unwrap_or_default();
        let collector =
            self.collectors.get_mut(name).ok_or_else(|| format!("no webhook {name}"))?;
        let first_wish = collector.wanted.iter().map(|wanted| wanted.0).min();
        if integration.timeout.is_some() && first_wish.is_some_and(|first| now_ns < first) {
            let outcome = Outcome::Retry { message: "too late".to_owned(), after_ns: None };
            self.answers.insert((sent.deadline_ns, sent.id), (sent.attempt, outcome));
            return Ok(());
        }
        if now_ns >= collector.swallows_before_ns {
            let told = sent.alerts.iter().map(|alert| Told {
                labels: owned(alert.alert.labels.iter()),
                annotations: alert.alert.annotations.clone(),
                starts_at_ns: Some(alert.alert.starts_at_ns),
                ends_at_ns: alert.resolved.then_some(alert.alert.ends_at_ns),
            });
            collector.got.push((now_ns, told.collect()));
        }
        let delivered = Outcome::Delivered { store: None };
        self.answers.insert((now_ns + ANSWER_NS, sent.id), (sent.attempt, delivered));
        Ok(())
    }

    fn verdict(&self) -> Result<(), String> {
        let tolerance = self.case["tolerance"][0].as_str().unwrap_or_default();
        let tolerance_ns = match tolerance {
            "1 * time.Second" => 1_000_000_000,
            "2 * time.Second" => 2_000_000_000,
            _ => 150_000_000,
        };
        let mut wrong = Vec::new();
        for (name, collector) in &self.collectors {
            for (from, to, wanted) in &collector.wanted {
                let during: Vec<&Vec<Told>> = collector
                    .got
                    .iter()
                    .filter(|(at, _)| (from..=to).contains(&at))
                    .map(|(_, told)| told)
                    .collect();
                let met = if wanted.is_empty() {
                    during.is_empty()
                } else {
                    during.iter().any(|told| self.same(wanted, told, tolerance_ns))
                };
                if !met {
                    let seconds = |ns: &i64| (ns - START_NS) as f64 / 1e9;
                    let (from, to) = (seconds(from), seconds(to));
                    wrong.push(format!("{name}: nothing that is wanted between {from} and {to}"));
                }
            }
            let wanted: usize = collector.wanted.iter().map(|(_, _, alerts)| alerts.len()).sum();
            let got: usize = collector.got.iter().map(|(_, told)| told.len()).sum();
            if wanted != got {
                wrong.push(format!("{name}: {wanted} alerts are wanted, {got} were told"));
            }
            if !wrong.is_empty() {
                for (at, told) in &collector.got {
                    wrong.push(format!("{name} at {}: {told:?}", (at - START_NS) as f64 / 1e9));
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    fn same(&self, wanted: &[Told], told: &[Told], tolerance_ns: i64) -> bool {
        let met = |wish: &Told| {
            let possible = self.possible_starts.get(&wish.labels).into_iter().flatten();
            let start = wish.starts_at_ns.unwrap_or(0);
            let is_possible = possible.into_iter().any(|s| (s - start).abs() <= tolerance_ns);
            told.iter().any(|alert| wish.is(alert, tolerance_ns, is_possible))
        };
        wanted.len() == told.len() && wanted.iter().all(met)
    }
}

fn owned<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
