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
    /// The task of a clustered broker, and who takes damaged blocks out: at once, also while the task
    /// waits for the store or the cluster.
    Task(UnboundedSender<Wake>, Box<dyn Fn(BlockId) + Send + Sync>),
}

impl WakeQueue {
    /// Hands it over, and waits for a place if need be; whether anybody takes it.
    pub(crate) fn send(&self, wake: Wake) -> bool {
        match self {
            WakeQueue::Thread(sender) => sender.send(wake).is_ok(),
            WakeQueue::Task(sender, _) => sender.send(wake).is_ok(),
        }
    }

    /// A reader found a block damaged. Nobody is told if too much waits there: it will be noticed again.
    pub(crate) fn damaged(&self, block: BlockId) {
        match self {
            WakeQueue::Thread(sender) => _ = sender.try_send(Wake::Damaged(block)),
            WakeQueue::Task(_, take) => take(block),
        }
    }
}
