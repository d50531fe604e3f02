//! What happens to machines, links and the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blockstore::MemoryDisk;
use catalog::{BrokerId, Command};
use consensus::Consensus;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::world::Mood;
use crate::{Cluster, Node, member, right_clocks, set_clock, statuses};

impl Cluster {
    /// Cuts the power of a broker; it finds what its disk kept.
    pub(crate) fn crash(&mut self, id: u64) {
        let seed = self.dice.next();
        self.end(id, |disk| disk.crash(seed));
    }

    /// Kills the process of a broker; it finds all that it wrote, and what it did not sync is not durable.
    pub(crate) fn kill(&mut self, id: u64) {
        // Without power nothing is left that was not durable.
        if self.is_running(id) && self.has_all_power(id) {
            self.end(id, MemoryDisk::kill);
        } else {
            self.crash(id);
        }
    }

    /// Whether its disk has taken everything so far.
    fn has_all_power(&self, id: u64) -> bool {
        let until = self.nodes[&id].power_until.load(Ordering::Relaxed);
        self.disks[&id].steps() < until
    }

    fn end(&mut self, id: u64, left: impl FnOnce(&MemoryDisk) -> MemoryDisk) {
        self.world.note_harm();
        let Some(Node { has_power, consensus, opening, .. }) = self.nodes.remove(&id) else {
            return;
        };
        has_power.store(false, Ordering::Relaxed);
        opening.abort();
        self.site.brokers.lock().remove(&id);
        self.world.members.lock().remove(&id);
        let disk = self.disks.remove(&id).expect("every broker has one");
        disk.cut_power_after(0);
        self.disks.insert(id, left(&disk));
        tokio::spawn(async move { consensus.stop().await });
    }

    /// Has the power of a broker cut within something that it writes soon.
    pub(crate) fn arm(&mut self, id: u64) {
        let steps = self.dice.below(60);
        let (Some(node), Some(disk)) = (self.nodes.get(&id), self.disks.get(&id)) else { return };
        let (world, site) = (Arc::clone(&self.world), Arc::clone(&self.site));
        node.power_until.store(disk.steps() + steps, Ordering::Relaxed);
        disk.cut_power_after(steps);
        let has_power = Arc::clone(&node.has_power);
        let (gone, is_gone) = oneshot::channel();
        disk.on_power_cut(move || {
            // Unless it has ended otherwise, and another process is in its place.
            if has_power.swap(false, Ordering::Relaxed) {
                world.count("power cut while writing");
                let left = (site.brokers.lock().remove(&id), world.members.lock().remove(&id));
                let _ = gone.send(left);
            }
        });
        // What is left of it ends where nobody holds the disk.
        tokio::spawn(async move { drop(is_gone.await) });
    }

    /// Takes a broker out of the cluster when everything it wrote is in blocks, and takes it in again with
    /// an empty disk. Yields whether that came about.
    pub(crate) async fn leave_and_return(&mut self, of: u64) -> bool {
        self.world.heal();
        self.all_open(of).await;
        let id = 1 + self.dice.below(of);
        // Nobody sends to it any more.
        let leaving = self.site.brokers.lock().remove(&id);
        let others: Vec<(u64, Consensus)> = self
            .nodes
            .iter()
            .filter(|(other, _)| **other != id)
            .map(|(other, node)| (*other, node.consensus.clone()))
            .collect();
        let (seed, other) = others.first().cloned().expect("there are three at least");
        let is_flushed = || {
            other
                .read(|state| state.broker(BrokerId(id)).is_some_and(|own| own.segments.is_empty()))
        };
        let mut waited = 0;
        while !is_flushed() && waited < 60 {
            sleep(Duration::from_secs(1)).await;
            waited += 1;
        }
        drop(leaving);
        self.crash(id);
        let removed = Command::RemoveBroker { broker: BrokerId(id) };
        if other.propose(removed, Duration::from_secs(30)).await.is_err() {
            // It has something left, or nobody knows.
            return false;
        }
        let gone = timeout(Duration::from_secs(60), async {
            loop {
                for (_, member) in &others {
                    if member.is_leader() && member.remove(id).await.is_ok() {
                        return;
                    }
                }
                sleep(Duration::from_millis(200)).await;
            }
        });
        assert!(gone.await.is_ok(), "broker {id} cannot leave: {}", statuses(&self.world));
        self.disks.remove(&id);
        let returning = self.start(id).await;
        let joined = returning.join(&[member(seed)], Duration::from_secs(60)).await;
        assert!(joined.is_ok(), "broker {id} cannot return: {joined:?}");
        true
    }

    /// Does something bad.
    pub(crate) async fn harm(&mut self, of: u64) -> &'static str {
        self.world.note_harm();
        let id = 1 + self.dice.below(of);
        let other = 1 + self.dice.below(of);
        match self.dice.below(19) {
            0 => {
                self.crash(id);
                "crash"
            }
            1 => {
                self.kill(id);
                "kill"
            }
            13..=15 => {
                self.arm(id);
                "cut power soon"
            }
            2..=4 => {
                if !self.is_running(id) {
                    self.start(id).await;
                }
                "start"
            }
            5 => {
                let mut cut = self.world.cut.lock();
                for peer in 1..=of {
                    cut.insert((id, peer));
                    cut.insert((peer, id));
                }
                "cut off"
            }
            6 => {
                // Who does not hear the leader, and is heard, does not know what became of what it said.
                let leader = self
                    .world
                    .members
                    .lock()
                    .values()
                    .find(|m| m.is_leader())
                    .map(|m| m.status().id);
                let from = leader.filter(|_| self.dice.percent(70)).unwrap_or(other);
                self.world.cut.lock().insert((from, id));
                "one way"
            }
            7 => {
                let flip = self.dice.percent(50);
                *self.world.lossy.lock() = flip;
                *self.world.slow.lock() = !flip;
                "loss or delay"
            }
            8..=10 => {
                let moods = [
                    Mood::Flaky,
                    Mood::Forgetful,
                    Mood::Slow,
                    Mood::Silent,
                    Mood::Down,
                    Mood::Full,
                ];
                *self.world.mood.lock() = moods[self.dice.below(6) as usize];
                "store"
            }
            16 => {
                // Others judge a clock that goes with theirs, to a minute; by what is this far ahead some of
                // what is written is nearly too old.
                const DAY_MS: i64 = 86_400_000;
                // One at a time: what most clocks say is taken for right.
                right_clocks();
                let ahead_ms = [-400 * DAY_MS, -61_000, 20_000, 61_000, 4 * DAY_MS];
                set_clock(id, ahead_ms[self.dice.below(5) as usize]);
                "clock set"
            }
            17 => {
                self.world.slow_disks.lock().insert(id);
                "slow disk"
            }
            _ => {
                self.world.heal();
                "heal"
            }
        }
    }
}
