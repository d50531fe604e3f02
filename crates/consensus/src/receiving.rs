//! A snapshot that another member sends: its parts are put together, and what is whole is installed once,
//! however often it is asked for.

use openraft::SnapshotMeta;
use openraft::raft::SnapshotResponse;
use openraft::storage::Snapshot;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::machine;
use crate::member::Inner;
use crate::message::Response;
use crate::types::{Seat, Vote};

/// What is there of the snapshot that came last.
#[derive(Default)]
pub(crate) struct Receiving(Mutex<Option<(Which, Arrived)>>);

/// By which leader, and which of its snapshots.
type Which = (Vote, String);

enum Arrived {
    /// So much of it.
    Parts(Vec<u8>),
    /// All of it.
    Whole(watch::Receiver<Option<Installed>>),
}

/// The vote of this member when it was in use, or why it never will be.
type Installed = Result<Vote, String>;

impl Inner {
    /// Takes a part of a snapshot that begins at `offset`; tells how much of it is there.
    pub(crate) fn receive_part(&self, which: Which, offset: u64, bytes: Vec<u8>) -> Response {
        let mut receiving = self.receiving.0.lock();
        if offset == 0 {
            *receiving = Some((which, Arrived::Parts(bytes)));
        } else if let Some((of, Arrived::Parts(there))) = &mut *receiving
            && *of == which
            && there.len() as u64 == offset
        {
            there.extend_from_slice(&bytes);
        }
        let there = match &*receiving {
            Some((_, Arrived::Parts(there))) => there.len() as u64,
            _ => 0,
        };
        Response::SnapshotParts(there)
    }

    /// Brings a snapshot that was received into use. Whoever asks again, since the answer was lost, hears
    /// what came of it.
    pub(crate) async fn install(
        &self,
        vote: Vote,
        meta: SnapshotMeta<u64, Seat>,
        size_bytes: u64,
    ) -> Response {
        let mut installed = {
            let mut receiving = self.receiving.0.lock();
            let which = (vote, meta.snapshot_id.clone());
            match receiving.take() {
                Some((of, Arrived::Whole(installed))) if of == which => {
                    *receiving = Some((of, Arrived::Whole(installed.clone())));
                    installed
                }
                Some((of, Arrived::Parts(bytes)))
                    if of == which && bytes.len() as u64 == size_bytes =>
                {
                    // One that cannot be read must not get as far as openraft: it would end this member.
                    if let Err(error) = machine::decode(&bytes) {
                        self.end_if_newer(&error);
                        return Response::Failed(format!("the snapshot cannot be read: {error}"));
                    }
                    let (tell, installed) = watch::channel(None);
                    let raft = self.raft.clone();
                    // On its own, so that it goes on when who asked waits no longer.
                    tokio::spawn(async move {
                        let snapshot = Snapshot { meta, snapshot: Box::new(bytes) };
                        let answer = raft.install_full_snapshot(vote, snapshot).await;
                        let answer = answer.map(|SnapshotResponse { vote }| vote);
                        tell.send_replace(Some(answer.map_err(|error| error.to_string())));
                    });
                    *receiving = Some((of, Arrived::Whole(installed.clone())));
                    installed
                }
                _ => return Response::Failed("parts of the snapshot are missing".to_owned()),
            }
        };
        let told = installed.wait_for(Option::is_some).await.map(|told| told.clone());
        match told {
            Ok(Some(Ok(vote))) => {
                self.note_leader();
                Response::Snapshot(SnapshotResponse { vote })
            }
            Ok(Some(Err(why))) => Response::Failed(why),
            Ok(None) | Err(_) => Response::Failed("this broker is stopping".to_owned()),
        }
    }
}
