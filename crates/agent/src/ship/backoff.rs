//! When to connect again.

use std::time::Duration;

use net::Chance;

/// The delay before the first attempt is anywhere up to this.
const BASE: Duration = Duration::from_secs(1);
/// And no attempt waits longer than this, except when a broker asks for it: who looks at a host after
/// its broker was away wants to see it now. Ten thousand agents that come within the first second are
/// more of a storm than as many within five, and a broker takes them (`benches/RESULTS.md`).
const CAP: Duration = Duration::from_secs(5);

/// Exponential backoff with full jitter: the delay before attempt n is anywhere between nothing
/// and min(5 s, 2^n × 1 s). Ten thousand agents that lose their broker at once come back spread
/// over a second, then two, then four, then five, and not in step.
/// Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Debug)]
pub(crate) struct Backoff {
    attempts: u32,
    chance: Chance,
}

impl Backoff {
    /// The seed must differ between hosts.
    pub(crate) fn new(seed: u64) -> Self {
        Backoff { attempts: 0, chance: Chance::new(seed) }
    }

    /// Says that the broker took batches, so that the next loss is a new one.
    pub(crate) fn succeeded(&mut self) {
        self.attempts = 0;
    }

    /// How long to wait before another broker is tried that was not tried since the loss.
    pub(crate) fn first_delay(&mut self) -> Duration {
        BASE.mul_f64(self.chance.fraction())
    }

    /// How long to wait now. A broker's own wish is never undercut and spread over half as much
    /// again.
    pub(crate) fn next_delay(&mut self, asked_for: Option<Duration>) -> Duration {
        let most = CAP.min(BASE.saturating_mul(1 << self.attempts.min(16)));
        self.attempts = self.attempts.saturating_add(1);
        let fraction = self.chance.fraction();
        match asked_for {
            Some(wish) => wish + most.max(wish / 2).mul_f64(fraction),
            None => most.mul_f64(fraction),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_agents_do_not_come_back_in_step() {
        let mut agents: Vec<_> = (0..10_000_u64).map(Backoff::new).collect();
        for (attempt, most_s) in [1, 2, 4, 5, 5, 5, 5].into_iter().enumerate() {
            let mut per_tenth = [0; 10];
            for agent in &mut agents {
                let delay = agent.next_delay(None).as_secs_f64();
                assert!(delay < f64::from(most_s));
                per_tenth[(delay / f64::from(most_s) * 10.0) as usize] += 1;
            }
            let even = per_tenth.iter().all(|count| (800..1_200).contains(count));
            assert!(even, "attempt {attempt}: {per_tenth:?}");
        }
        assert!(agents[0].first_delay() < BASE, "another broker's turn");
        agents[0].succeeded();
        assert!(agents[0].next_delay(None) < BASE);
    }

    #[test]
    fn a_broker_s_wish_is_kept_and_spread() {
        let mut agent = Backoff::new(1);
        let wish = Duration::from_secs(60);
        let delays: Vec<_> = (0..100).map(|_| agent.next_delay(Some(wish))).collect();
        assert!(delays.iter().all(|delay| (wish..wish.mul_f64(1.5)).contains(delay)));
        assert!(delays.windows(2).any(|pair| pair[0].abs_diff(pair[1]) > Duration::from_secs(10)));
    }
}
