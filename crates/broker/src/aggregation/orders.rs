//! What the follower is told to do with rules, in order.
//!
//! It may be busy for as long as windows wait for room. However often it is told something meanwhile, no
//! more waits for it than what there is to do: a reload that was refused leaves nothing, and of rules that
//! are kept the last word counts.

use std::collections::VecDeque;

use catalog::LogPosition;
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use settings::stream_aggregation::AggregationRule;

/// What the follower is told.
pub(super) enum Order {
    /// Begin these rules, unless they are there, and answer when that is durable.
    Begin { rules: Vec<AggregationRule>, reply: Sender<Result<(), String>> },
    /// Forget rules that were begun and not put in effect; none of them has taken a sample of its own.
    Forget { rules: Vec<AggregationRule> },
    /// End all rules but these, behind `through` of the log.
    Keep { rules: Vec<AggregationRule>, through: LogPosition },
}

/// Orders that wait for the follower.
#[derive(Default)]
pub(crate) struct Orders(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    orders: VecDeque<Order>,
    is_over: bool,
}

impl Orders {
    /// Begin `rules`; `reply` hears of it, or is dropped when there is no follower any more.
    pub(super) fn begin(&self, rules: Vec<AggregationRule>, reply: Sender<Result<(), String>>) {
        self.0.lock().push(Order::Begin { rules, reply });
    }

    /// Whoever wanted `rules` to begin wants it no more, whether they have begun or not.
    pub(super) fn forget(&self, rules: Vec<AggregationRule>) {
        let mut waiting = self.0.lock();
        // One reload at a time begins rules.
        let begin = waiting.orders.iter().position(|one| matches!(one, Order::Begin { .. }));
        match begin {
            Some(begin) => drop(waiting.orders.remove(begin)),
            None => waiting.push(Order::Forget { rules }),
        }
    }

    /// End all rules but `rules`, behind `through` of the log.
    pub(super) fn keep(&self, rules: Vec<AggregationRule>, through: LogPosition) {
        let mut waiting = self.0.lock();
        // Between two of them nothing has begun, so what the first keeps the second keeps or ends.
        if matches!(waiting.orders.back(), Some(Order::Keep { .. })) {
            waiting.orders.pop_back();
        }
        waiting.push(Order::Keep { rules, through });
    }

    /// The next one.
    pub(super) fn take(&self) -> Option<Order> {
        self.0.lock().orders.pop_front()
    }

    /// There is no follower any more: whoever waits for one hears of it.
    pub(super) fn end(&self) {
        let mut waiting = self.0.lock();
        waiting.is_over = true;
        waiting.orders.clear();
    }
}

impl Waiting {
    fn push(&mut self, order: Order) {
        if !self.is_over {
            self.orders.push_back(order);
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn a_busy_follower_has_no_more_to_do_than_what_is_still_wanted() {
        let orders = Orders::default();
        for offset in 0..100 {
            let (reply, _) = bounded(1);
            orders.begin(Vec::new(), reply);
            orders.forget(Vec::new());
            orders.keep(Vec::new(), LogPosition { file: 1, offset });
        }
        let Some(Order::Keep { through, .. }) = orders.take() else { panic!("another order") };
        assert_eq!(through, LogPosition { file: 1, offset: 99 });
        assert!(orders.take().is_none());
        // What has begun meanwhile is forgotten behind it.
        let (reply, answer) = bounded(1);
        orders.begin(Vec::new(), reply);
        assert!(matches!(orders.take(), Some(Order::Begin { .. })));
        orders.forget(Vec::new());
        assert!(matches!(orders.take(), Some(Order::Forget { .. })));
        assert!(answer.recv().is_err());
        orders.end();
        let (reply, answer) = bounded(1);
        orders.begin(Vec::new(), reply);
        assert!(answer.recv().is_err(), "nobody is there who could begin them");
    }
}
