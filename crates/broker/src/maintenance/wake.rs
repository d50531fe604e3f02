//! What others ask of the maintenance, and the way to it.

use catalog::BlockId;
use crossbeam_channel::Sender;
use tokio::sync::mpsc::UnboundedSender;

use crate::deletes::Done;

/// What wakes the thread before its tick.
pub(crate) enum Wake {
    /// A reader found this block damaged.
    Damaged(BlockId),
    /// Write the head into blocks.
    Flush(Done),
    /// Write every block anew in which something is deleted.
    CleanDeleted(Done),
    /// Copy the store.
    Snapshot { name: String, with_head: bool, reply: Done },
    /// End.
    Stop,
}

/// The way to whoever does it.
pub(crate) enum WakeQueue {
    /// The maintenance thread, beside a log.
    Thread(Sender<Wake>),
    /// The task of a clustered broker.
    Task(UnboundedSender<Wake>),
}

impl WakeQueue {
    /// Hands it over, and waits for a place if need be; whether anybody takes it.
    pub(crate) fn send(&self, wake: Wake) -> bool {
        match self {
            WakeQueue::Thread(sender) => sender.send(wake).is_ok(),
            WakeQueue::Task(sender) => sender.send(wake).is_ok(),
        }
    }

    /// Hands it over unless too much waits there: for what will be noticed again.
    pub(crate) fn suggest(&self, wake: Wake) {
        let _ = match self {
            WakeQueue::Thread(sender) => sender.try_send(wake).is_ok(),
            WakeQueue::Task(sender) => sender.send(wake).is_ok(),
        };
    }
}
