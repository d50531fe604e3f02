//! Whose turn it is: a bounded number of requests read at once, shared fairly among tenants.
//!
//! A place that becomes free goes to the waiting tenant that has the fewest. And as soon as a second
//! tenant asks, none takes the last quarter of the places: else the others would wait for the end of
//! its slowest queries.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::TenantName;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A tenant that asked within this time counts as one that asks.
const ASKS_FOR: Duration = Duration::from_secs(60);
/// Tenants that are remembered for that.
const MAX_REMEMBERED: usize = 1_000;
/// One of so many places is kept for other tenants.
const KEPT_SHARE: usize = 4;

/// The places. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admission {
    state: Arc<Mutex<State>>,
}

/// A place; it is free again when this is dropped.
pub(crate) struct Turn {
    admission: Admission,
    tenant: TenantName,
}

struct State {
    places: usize,
    running: usize,
    /// Tenants that run something, wait, or asked a moment ago.
    tenants: BTreeMap<TenantName, Tenant>,
    /// Counts those who wait, so that they come in order.
    next: u64,
}

struct Tenant {
    running: usize,
    /// Most that may run; `None` for a share of all.
    most: Option<usize>,
    waiting: VecDeque<(u64, oneshot::Sender<Turn>)>,
    asked: Instant,
}

impl Tenant {
    fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }
}

impl Admission {
    pub(crate) fn new(places: usize) -> Self {
        let places = places.max(1);
        let state = State { places, running: 0, tenants: BTreeMap::new(), next: 0 };
        Admission { state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a place. `most` is how many the tenant may have; `None` for a share of all. Who does
    /// not wait any more drops the future, and loses nothing by it.
    pub(crate) async fn turn(&self, tenant: TenantName, most: Option<usize>) -> Turn {
        let turn = {
            let mut state = self.state.lock();
            let (sender, turn) = oneshot::channel();
            let number = state.next;
            state.next += 1;
            let entry = state.enter(tenant, Instant::now());
            entry.most = most;
            entry.waiting.push_back((number, sender));
            turn
        };
        self.give();
        turn.await.expect("who waits is in the list until they have a place")
    }

    /// Gives free places to those who wait.
    fn give(&self) {
        while let Some((tenant, sender)) = self.next() {
            // A place that nobody takes is dropped, which gives it to somebody else.
            let _ = sender.send(Turn { admission: self.clone(), tenant });
        }
    }

    /// Who gets a place next; it counts as taken.
    fn next(&self) -> Option<(TenantName, oneshot::Sender<Turn>)> {
        let state = &mut *self.state.lock();
        if state.running >= state.places {
            return None;
        }
        for one in state.tenants.values_mut() {
            // Those who left.
            while one.waiting.pop_front_if(|(_, sender)| sender.is_closed()).is_some() {}
        }
        let share = state.share(Instant::now());
        let may = |one: &Tenant| one.running < one.most.unwrap_or(share).clamp(1, state.places);
        let fewest = |one: &Tenant| (one.running, one.waiting.front().map(|(number, _)| *number));
        let waiting = state.tenants.iter().filter(|(_, one)| !one.waiting.is_empty() && may(one));
        let (&tenant, _) = waiting.min_by_key(|(_, one)| fewest(one))?;
        let entry = state.tenants.get_mut(&tenant).expect("found a moment ago");
        let (_, sender) = entry.waiting.pop_front().expect("it waits");
        entry.running += 1;
        state.running += 1;
        Some((tenant, sender))
    }
}

impl State {
    fn enter(&mut self, tenant: TenantName, now: Instant) -> &mut Tenant {
        if self.tenants.len() >= MAX_REMEMBERED && !self.tenants.contains_key(&tenant) {
            self.tenants.retain(|_, one| !one.is_idle());
        }
        let new = || Tenant { running: 0, most: None, waiting: VecDeque::new(), asked: now };
        let entry = self.tenants.entry(tenant).or_insert_with(new);
        entry.asked = now;
        entry
    }

    fn leave(&mut self, tenant: TenantName) {
        self.running -= 1;
        if let Some(entry) = self.tenants.get_mut(&tenant) {
            entry.running -= 1;
        }
    }

    /// How many places one tenant may take now.
    fn share(&mut self, now: Instant) -> usize {
        // Fast path: where there is one tenant, all is its.
        if self.tenants.len() > 1 {
            let asks = |one: &Tenant| !one.is_idle() || now.duration_since(one.asked) < ASKS_FOR;
            self.tenants.retain(|_, one| asks(one));
        }
        match self.tenants.len() {
            0 | 1 => self.places,
            _ => self.places - (self.places / KEPT_SHARE).max(1),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.admission.state.lock().leave(self.tenant);
        self.admission.give();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Waker};

    fn tenant(name: &str) -> TenantName {
        TenantName::parse(name).expect("a name")
    }

    type Asking = Pin<Box<dyn Future<Output = Turn>>>;

    fn ask(admission: &Admission, name: &str, most: Option<usize>) -> Asking {
        let (admission, name) = (admission.clone(), tenant(name));
        let mut asking: Asking = Box::pin(async move { admission.turn(name, most).await });
        // It stands in line from its first poll on.
        match poll(&mut asking) {
            Some(turn) => Box::pin(std::future::ready(turn)),
            None => asking,
        }
    }

    fn poll(asking: &mut Asking) -> Option<Turn> {
        match pin!(asking).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(turn) => Some(turn),
            std::task::Poll::Pending => None,
        }
    }

    fn has(asking: &mut Asking) -> bool {
        match poll(asking) {
            Some(turn) => {
                *asking = Box::pin(std::future::ready(turn));
                true
            }
            None => false,
        }
    }

    fn taken(all: &mut [Asking]) -> usize {
        all.iter_mut().filter_map(|one| has(one).then_some(())).count()
    }

    #[test]
    fn one_tenant_alone_has_all_places() {
        let admission = Admission::new(4);
        let mut all: Vec<Asking> = (0..6).map(|_| ask(&admission, "a", None)).collect();
        assert_eq!(taken(&mut all), 4);
        drop(all.remove(0));
        assert_eq!(taken(&mut all), 4);
        drop(all);
        assert_eq!(admission.state.lock().running, 0);
    }

    #[test]
    fn a_second_tenant_always_finds_a_place() {
        let admission = Admission::new(8);
        let _other = ask(&admission, "b", None);
        drop(_other);
        let mut all: Vec<Asking> = (0..20).map(|_| ask(&admission, "a", None)).collect();
        assert_eq!(taken(&mut all), 6, "b asked a moment ago");
        let mut of_b: Vec<Asking> = (0..3).map(|_| ask(&admission, "b", None)).collect();
        assert_eq!((taken(&mut all), taken(&mut of_b)), (6, 2));
        // The next place is b's, who has fewer, though the others of a came first.
        drop(all.remove(0));
        assert_eq!((taken(&mut all), taken(&mut of_b)), (5, 3));
    }

    #[test]
    fn a_tenant_may_have_a_limit_of_its_own() {
        let admission = Admission::new(4);
        let mut all: Vec<Asking> = (0..3).map(|_| ask(&admission, "a", Some(1))).collect();
        assert_eq!(taken(&mut all), 1);
        drop(all.remove(0));
        assert_eq!(taken(&mut all), 1);
    }

    #[test]
    fn who_left_costs_no_place() {
        let admission = Admission::new(1);
        let first = ask(&admission, "a", None);
        let gone = ask(&admission, "a", None);
        let mut last = vec![ask(&admission, "b", None), ask(&admission, "a", None)];
        drop(gone);
        assert_eq!(taken(&mut last), 0);
        drop(first);
        assert_eq!(taken(&mut last), 1);
        drop(last);
        assert_eq!(admission.state.lock().running, 0);
    }

    #[test]
    fn names_are_not_remembered_without_end() {
        let admission = Admission::new(2);
        for number in 0..3 * MAX_REMEMBERED {
            drop(ask(&admission, &number.to_string(), None));
        }
        assert!(admission.state.lock().tenants.len() <= MAX_REMEMBERED);
    }
}
