//! The blocks of discovery of one job, and what they have found together.

use std::sync::Arc;

use settings::TargetGroup;
use settings::prometheus::Discovery;
use tokio::sync::mpsc;

use crate::{DiscoveryCounters, Found, Prepared, ProviderId, Task};

/// News that wait.
const QUEUE: usize = 64;

/// Blocks of discovery at work. They end with this.
pub struct Providers {
    found: mpsc::Sender<Found>,
    running: Vec<Provider>,
    /// What blocks had found that are gone; in effect until those in their place have said something,
    /// so that nothing ends only because somebody has not been asked yet.
    left_behind: Vec<TargetGroup>,
    next: ProviderId,
    counters: Arc<DiscoveryCounters>,
}

/// A block at work.
struct Provider {
    id: ProviderId,
    config: Discovery,
    /// `None` until it has said something.
    groups: Option<Vec<TargetGroup>>,
    _task: Option<Task>,
}

impl Providers {
    /// None at first. What blocks find comes out of the receiver, and is to be given to
    /// [`Providers::note`].
    pub fn new(counters: Arc<DiscoveryCounters>) -> (Providers, mpsc::Receiver<Found>) {
        let (found, news) = mpsc::channel(QUEUE);
        let (running, left_behind) = (Vec::new(), Vec::new());
        (Providers { found, running, left_behind, next: 0, counters }, news)
    }

    /// Puts blocks in effect, by their place in the configuration, in place of those of before. One
    /// that comes with nothing prepared runs already, and goes on undisturbed.
    pub fn adopt(&mut self, blocks: Vec<(Discovery, Option<Prepared>)>) {
        let mut before = std::mem::take(&mut self.running);
        for (config, prepared) in blocks {
            let known = before.iter().position(|provider| provider.config == config);
            let provider = match (known, prepared) {
                (Some(at), None) => before.swap_remove(at),
                (_, prepared) => self.start(config, prepared),
            };
            self.running.push(provider);
        }
        self.left_behind.extend(before.into_iter().filter_map(|gone| gone.groups).flatten());
        self.forget_left_behind();
    }

    fn forget_left_behind(&mut self) {
        if self.running.iter().all(|provider| provider.groups.is_some()) {
            self.left_behind.clear();
        }
    }

    fn start(&mut self, config: Discovery, prepared: Option<Prepared>) -> Provider {
        let id = self.next;
        self.next += 1;
        let groups = match &prepared {
            Some(Prepared::Static(groups)) => Some(groups.clone()),
            Some(Prepared::None) | None => Some(Vec::new()),
            Some(_) => None,
        };
        let counters = Arc::clone(&self.counters);
        let task = prepared.and_then(|prepared| prepared.run(id, self.found.clone(), counters));
        Provider { id, config, groups, _task: task }
    }

    /// Takes what a block found.
    pub fn note(&mut self, found: Found) {
        // One that is gone may have had something to say.
        if let Some(provider) = self.running.iter_mut().find(|one| one.id == found.provider) {
            provider.groups = Some(found.groups);
        }
        self.forget_left_behind();
    }

    /// All groups that are known.
    pub fn groups(&self) -> impl Iterator<Item = &TargetGroup> {
        let found = self.running.iter().filter_map(|provider| provider.groups.as_ref()).flatten();
        found.chain(&self.left_behind)
    }

    /// Ends all blocks and forgets what they found.
    pub fn clear(&mut self) {
        self.running.clear();
        self.left_behind.clear();
    }
}
