//! One question to the leader for all that wait: how far everything is agreed upon.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::member::Inner;

/// Those that wait for the next question.
#[derive(Default)]
pub(crate) struct Reads(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    next: Vec<oneshot::Sender<Answer>>,
    /// Somebody asks, and will ask again for those that wait then.
    is_asked: bool,
}

type Answer = Result<u64, String>;

impl Inner {
    /// Through which entry everything was agreed upon before now. Whoever comes while the leader is
    /// asked waits for the next question: the answer to this one may be older than what it wants to
    /// see. So a thousand agents that connect at once cost a few questions and not a thousand.
    pub(crate) async fn read_index(self: &Arc<Self>) -> Answer {
        let (sender, told) = oneshot::channel();
        let is_asked = {
            let mut waiting = self.reads.0.lock();
            waiting.next.push(sender);
            std::mem::replace(&mut waiting.is_asked, true)
        };
        if !is_asked {
            // On its own, so that it goes on when this one waits no longer.
            tokio::spawn(Arc::clone(self).ask_for_all());
        }
        told.await.unwrap_or_else(|_| Err("this broker is stopping".to_owned()))
    }

    async fn ask_for_all(self: Arc<Self>) {
        loop {
            let asking = {
                let mut waiting = self.reads.0.lock();
                let asking = std::mem::take(&mut waiting.next);
                waiting.is_asked = !asking.is_empty();
                asking
            };
            if asking.is_empty() {
                return;
            }
            let answer = self.ask_read_index().await;
            for waiting in asking {
                // It may not wait any more.
                let _ = waiting.send(answer.clone());
            }
        }
    }
}
