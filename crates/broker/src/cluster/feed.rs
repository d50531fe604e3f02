//! What is agreed upon, in its order: what this broker wrote, what anybody deleted, which blocks there
//! are.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use catalog::{BlockMeta, BrokerId, CatalogError, Command, Outcome, PassedOver, State, Tombstone};
use consensus::Observer;
use model::TimeRange;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

use super::follow::is_followed;
use crate::{Broker, Inner};

/// Hears what the catalog applies, for one broker. It is given to the consensus when that starts, and
/// to the broker when that is opened.
pub struct CatalogFeed {
    own: BrokerId,
    /// Nobody wants to know before a broker is opened.
    events: Mutex<Option<UnboundedSender<Event>>>,
    /// [`State::version`] of what was applied; what it brought is in `events` by then.
    version: watch::Sender<u64>,
    /// Who answers what others ask.
    opened: Mutex<Weak<Inner>>,
    /// The newest list of blocks, until it is taken.
    listed: Mutex<Slot>,
}

/// A place for one list of blocks. Lists are long and may come faster than they are taken: only the newest
/// is kept, and takes the place of the first that was not taken. What lies between in the order of the
/// catalog does not mind, because this broker flushes nothing before it has seen what it flushes; but none
/// takes a place before a whole state, which has a list of its own.
pub(super) type Slot = Arc<Mutex<Option<Blocks>>>;

/// Which blocks there are, and which deletes matter.
pub(super) struct Blocks {
    pub(super) blocks: Vec<BlockMeta>,
    /// Numbers of the deletes that may hide something.
    pub(super) deletes: BTreeSet<u64>,
    /// Segments of this broker below this number are in blocks.
    pub(super) flushed_through: u64,
}

/// One thing that happened, or is to be done between things that did.
pub(super) enum Event {
    /// The log of this broker is in another epoch from here on.
    Begun { epoch: u64, state: Box<State> },
    /// A segment of this broker counts.
    Segment { seq: u64, passed_over: Vec<(u32, PassedOver)> },
    /// A segment of another one counts, with rows of this time.
    OfOther(TimeRange),
    /// A key has another value, or none.
    Key { key: String, value: Option<Vec<u8>> },
    /// Something is hidden.
    Deleted(Arc<Tombstone>),
    /// The list of blocks, or of deletes that matter, is another one.
    Blocks(Slot),
    /// The state came as a whole: what lies between is not told one by one.
    Replaced(Box<State>),
    /// A batch was stored before: everything before is visible, so it may be answered.
    Known(crate::commit::OnStored),
    /// The same of a push of lines.
    KnownLines(crate::logs::OnLines),
    /// Everything before is visible: do it.
    Then(Box<dyn FnOnce() + Send>),
    /// Everything before is visible: freeze what the heads hold.
    Cut(tokio::sync::oneshot::Sender<super::flush::Cut>),
    /// A block of another broker can be read.
    Opened(BlockMeta, super::signals::AnyBlock),
    /// A block of another broker cannot be read, for now or for good: whoever waits for it goes on
    /// without.
    Unread(BlockMeta),
    /// Tell when everything that was listed before can be read, or is known not to be.
    Shown(oneshot::Sender<()>),
}

impl CatalogFeed {
    /// For the broker `own`.
    pub fn new(own: BrokerId) -> Arc<CatalogFeed> {
        Arc::new(CatalogFeed {
            own,
            events: Mutex::default(),
            version: watch::Sender::new(0),
            opened: Mutex::default(),
            listed: Mutex::default(),
        })
    }

    /// From now on this one answers what others ask.
    pub(super) fn open(&self, broker: &Broker) {
        *self.opened.lock() = Arc::downgrade(&broker.inner);
    }

    /// Who answers what others ask; `None` before it is open, and after it is gone.
    pub(super) fn opened(&self) -> Option<Broker> {
        self.opened.lock().upgrade().map(|inner| Broker { inner })
    }

    /// The version of the catalog as this broker has applied it, and of each change that follows.
    pub(super) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Whose it is.
    pub fn broker(&self) -> BrokerId {
        self.own
    }

    /// Tells everything from here on to a new listener, and nothing more to the one before.
    pub(super) fn listen(&self) -> (UnboundedSender<Event>, UnboundedReceiver<Event>) {
        let (sender, events) = unbounded_channel();
        *self.events.lock() = Some(sender.clone());
        self.list_anew();
        (sender, events)
    }

    /// Tells nobody any more.
    pub(super) fn end(&self) {
        self.events.lock().take();
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &*self.events.lock() {
            // Nobody listens any more: the broker has stopped.
            let _ = events.send(event);
        }
    }

    /// What is listed from here on is told, whether or not what was told before is taken.
    fn list_anew(&self) {
        *self.listed.lock() = Slot::default();
    }

    fn blocks(&self, state: &State) -> Option<Event> {
        let blocks = Blocks {
            blocks: state.blocks().copied().collect(),
            deletes: state.tombstones().map(|tombstone| tombstone.number).collect(),
            flushed_through: state.broker(self.own).map_or(0, |broker| broker.flushed_through),
        };
        let listed = Arc::clone(&self.listed.lock());
        let before = listed.lock().replace(blocks);
        // Whoever was told of the one before takes this one.
        before.is_none().then_some(Event::Blocks(listed))
    }

    fn event(&self, command: &Command, outcome: &Outcome, state: &State) -> Option<Event> {
        match (command, outcome) {
            (Command::Under { command, .. }, _) => self.event(command, outcome, state),
            (Command::BeginLog { broker }, Outcome::Epoch(epoch)) if *broker == self.own => {
                self.list_anew();
                Some(Event::Begun { epoch: *epoch, state: Box::new(state.clone()) })
            }
            (Command::AddSegment(new), Outcome::Segment(passed_over)) if new.broker == self.own => {
                Some(Event::Segment { seq: new.seq, passed_over: passed_over.clone() })
            }
            (Command::AddSegment(new), Outcome::Segment(_)) => Some(Event::OfOther(new.range)),
            (Command::Put { key, value, .. }, _) if is_followed(key) => {
                Some(Event::Key { key: key.clone(), value: Some(value.clone()) })
            }
            (Command::Delete { key, .. }, _) if is_followed(key) => {
                Some(Event::Key { key: key.clone(), value: None })
            }
            (Command::DeleteRows(tombstone), _) => {
                Some(Event::Deleted(Arc::new(tombstone.clone())))
            }
            (
                Command::Flush { .. }
                | Command::FlushLog { .. }
                | Command::FlushUnread { .. }
                | Command::ForgetUnread { .. }
                | Command::AddBlocks { .. }
                | Command::Swap { .. }
                | Command::Expire { .. }
                | Command::Quarantine { .. }
                | Command::Restore { .. }
                | Command::SettleDeletes { .. },
                _,
            ) => self.blocks(state),
            _ => None,
        }
    }
}

impl Observer for CatalogFeed {
    fn applied(&self, command: &Command, outcome: &Result<Outcome, CatalogError>, state: &State) {
        // Fast path: before the broker is opened.
        if self.events.lock().is_none() {
            return;
        }
        let event = outcome.as_ref().ok().and_then(|outcome| self.event(command, outcome, state));
        if let Some(event) = event {
            self.tell(event);
        }
        self.version.send_replace(state.version());
    }

    fn replaced(&self, state: &State) {
        if self.events.lock().is_some() {
            self.list_anew();
            self.tell(Event::Replaced(Box::new(state.clone())));
            self.version.send_replace(state.version());
        }
    }
}
