//! What is agreed upon without a segment: keys, deletes, marks.

use std::hash::{BuildHasher, RandomState};

use catalog::{CatalogError, Command};
use consensus::{Consensus, ProposeError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::feed::Event;
use super::writer::AGREE_DEADLINE;
use crate::commit::{CommitError, Message, OnApplied};
use crate::deletes::DeleteRequest;

/// Commands that are proposed side by side; those of one key follow each other.
const LANES: usize = 32;

/// What an outcome that is none means to who waits for it.
pub(super) fn refusal(error: ProposeError) -> CommitError {
    match error {
        ProposeError::Catalog(error) => CommitError::Catalog(error),
        ProposeError::NoLeader(why) => CommitError::NoQuorum(why),
        ProposeError::Unknown(_) => CommitError::Unknown(error.to_string()),
        ProposeError::Stopping => CommitError::Stopping,
    }
}

/// Proposes commands.
pub(super) struct Lanes {
    lanes: Vec<UnboundedSender<(Command, OnApplied)>>,
    hasher: RandomState,
}

impl Lanes {
    /// Starts the tasks.
    pub(super) fn start(consensus: &Consensus) -> (Lanes, Vec<JoinHandle<()>>) {
        let mut tasks = Vec::with_capacity(LANES);
        let start = |_| {
            let (lane, mut commands) = unbounded_channel::<(Command, OnApplied)>();
            let consensus = consensus.clone();
            tasks.push(tokio::spawn(async move {
                while let Some((command, done)) = commands.recv().await {
                    let outcome = consensus.propose(command, AGREE_DEADLINE).await;
                    done(outcome.map_err(refusal));
                }
            }));
            lane
        };
        let lanes = (0..LANES).map(start).collect();
        (Lanes { lanes, hasher: RandomState::new() }, tasks)
    }

    /// Has a command applied, behind those of the same key.
    pub(super) fn propose(&self, command: Command, done: OnApplied) {
        let lane = match &command {
            Command::Put { key, .. } | Command::Delete { key, .. } => {
                self.hasher.hash_one(key) as usize % LANES
            }
            _ => 0,
        };
        if let Err(refused) = self.lanes[lane].send((command, done)) {
            (refused.0.1)(Err(CommitError::Stopping));
        }
    }
}

/// Answers what needs no segment.
pub(super) struct Answering {
    pub(super) consensus: Consensus,
    pub(super) lanes: Lanes,
    pub(super) events: UnboundedSender<Event>,
}

impl Answering {
    /// Serves messages until all senders are gone.
    pub(super) async fn run(self, mut asked: UnboundedReceiver<Message>) {
        while let Some(message) = asked.recv().await {
            self.answer(message);
        }
    }

    fn answer(&self, message: Message) {
        let consensus = self.consensus.clone();
        match message {
            Message::Command { command, done } => self.lanes.propose(command, done),
            Message::Delete { request, done } => {
                tokio::spawn(delete(consensus, self.events.clone(), request, done));
            }
            Message::Marks { agent, incarnation, done } => {
                tokio::spawn(async move {
                    // What another broker stored counts. Batches that are on their way here may not:
                    // they come again then, and are known.
                    match consensus.catch_up(AGREE_DEADLINE).await {
                        Ok(_) => done(Ok(consensus.read(|s| s.marks_of(&agent, incarnation)))),
                        Err(error) => done(Err(CommitError::NoQuorum(error.to_string()))),
                    }
                });
            }
            Message::EndWindows { done, .. } => done(Err(no_log())),
            Message::Cut { reply, .. } => _ = reply.send(Err(no_log())),
            Message::Truncate { .. } | Message::LetGo => {}
            Message::Write { .. } | Message::WriteLines { .. } | Message::Fence { .. } => {
                unreachable!("the queue sends these another way")
            }
        }
    }
}

/// Who asks for it looks at the configuration first.
fn no_log() -> CommitError {
    CommitError::Maintenance("a clustered broker has no log of one machine".to_owned())
}

/// Makes a delete the next one in the order of commits; it is answered when it is in effect here.
pub(super) async fn delete(
    consensus: Consensus,
    events: UnboundedSender<Event>,
    request: DeleteRequest,
    done: OnApplied,
) {
    loop {
        let number = consensus.read(|state| state.last_delete()).saturating_add(1);
        let tombstone = request.clone().numbered(number);
        match consensus.propose(Command::DeleteRows(tombstone), AGREE_DEADLINE).await {
            Ok(outcome) => {
                let _ = events.send(Event::Then(Box::new(move || done(Ok(outcome)))));
                return;
            }
            // Another broker's delete took the number.
            Err(ProposeError::Catalog(CatalogError::StaleDelete { .. })) => {}
            Err(error) => return done(Err(refusal(error))),
        }
    }
}
