//! Who has a duty: one broker at most is sure at any time that it has it, nothing counts of what one writes
//! down that was superseded, and whoever takes over has read all that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use broker::Broker;
use broker::cluster::{ALERTING, Duty, DutyError, HeldDuty};
use tokio::time::{Instant, sleep};

use crate::clients::{Process, Site};
use crate::world::Dice;

/// Where holders write down what they did, a key for each step.
const PREFIX: &str = "simulation/duty/";

/// What those who had the duty were told.
#[derive(Default)]
pub(crate) struct DutyTold {
    /// Who has it, each as it believes.
    holders: BTreeMap<Process, Arc<HeldDuty>>,
    /// Steps of which a holder was told that they are written down.
    steps: BTreeSet<u64>,
    /// How often it was taken.
    pub(crate) takes: u64,
}

impl DutyTold {
    /// How many steps were acknowledged.
    pub(crate) fn steps(&self) -> usize {
        self.steps.len()
    }
}

/// What does the duty on a broker whenever it is its turn, over all its starts.
pub(crate) async fn holder(site: Arc<Site>, id: u64, seed: u64) {
    let mut dice = Dice(seed);
    while !site.is_over() {
        let Some((broker, process)) = site.process(id) else {
            sleep(Duration::from_millis(300)).await;
            continue;
        };
        let duty = broker.duty(ALERTING).expect("a broker of a cluster");
        match site.answer_of(process, duty.take()).await.flatten() {
            Some(held) => hold(&site, (&broker, process), &duty, held, &mut dice).await,
            None => sleep(duty.pause()).await,
        }
    }
}

async fn hold(
    site: &Site,
    (broker, process): (&Broker, Process),
    duty: &Duty,
    held: HeldDuty,
    dice: &mut Dice,
) {
    let held = Arc::new(held);
    let known = steps(broker);
    {
        let told = &mut site.told.lock().duty;
        told.takes += 1;
        told.holders.insert(process, Arc::clone(&held));
        let lost = told.steps.difference(&known).next();
        assert_eq!(lost, None, "broker {} took over, and a step is lost", process.0);
    }
    let mut next = known.last().map_or(1, |last| last + 1);
    let mut renewed = Instant::now();
    while site.runs(process) {
        check_sure(site);
        if site.is_over() || duty.is_leaving() || dice.percent(5) {
            // From here on another one may be sure.
            site.told.lock().duty.holders.remove(&process);
            let _ = site.answer_of(process, held.give()).await;
            return;
        }
        if renewed.elapsed() >= held.renewed_every() {
            renewed = Instant::now();
            match site.answer_of(process, held.renew()).await {
                Some(Ok(()) | Err(DutyError::Unavailable(_))) => {}
                Some(Err(DutyError::Lost)) | None => break,
            }
        }
        if held.is_sure() {
            let put = held.put(format!("{PREFIX}{next:08}"), Vec::new());
            match site.answer_of(process, put).await {
                Some(Ok(())) => {
                    let is_new = site.told.lock().duty.steps.insert(next);
                    assert!(is_new, "step {next} was written down by two brokers");
                }
                // It may yet be.
                Some(Err(DutyError::Unavailable(_))) => {}
                Some(Err(DutyError::Lost)) | None => break,
            }
            next += 1;
        }
        sleep(Duration::from_millis(100 + dice.below(900))).await;
    }
    site.told.lock().duty.holders.remove(&process);
}

/// The steps that are written down, as a broker knows it.
fn steps(broker: &Broker) -> BTreeSet<u64> {
    let step = |key: &str| key[PREFIX.len()..].parse().expect("a number");
    broker.list_keys(PREFIX).iter().map(|(key, _)| step(key)).collect()
}

fn check_sure(site: &Site) {
    let holders: Vec<(Process, Arc<HeldDuty>)> = {
        let told = &site.told.lock().duty;
        told.holders.iter().map(|(process, held)| (*process, Arc::clone(held))).collect()
    };
    let sure: Vec<Process> = holders
        .into_iter()
        .filter(|(process, held)| held.is_sure() && site.runs(*process))
        .map(|(process, _)| process)
        .collect();
    assert!(sure.len() <= 1, "{sure:?} are sure of the duty at once");
}

/// Holds what a broker knows against what was acknowledged, in the end.
pub(crate) fn check_steps(broker: &Broker, site: &Site, when: &str) {
    let known = steps(broker);
    let told = &site.told.lock().duty;
    assert!(told.takes > 0 && !told.steps.is_empty(), "nobody had the duty");
    if let Some(step) = told.steps.difference(&known).next() {
        panic!("{when}: step {step} is lost");
    }
}
