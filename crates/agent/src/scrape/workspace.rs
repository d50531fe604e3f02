//! Memory that scrapes work in, lent to whichever runs.

use parking_lot::Mutex;

use super::append::Scratch;

/// Workspaces that wait to be used; more scrapes at once make their own.
const MAX_WAITING: usize = 16;
/// A buffer that grew beyond this for one large target is not kept.
const MAX_KEPT_BYTES: usize = 4 << 20;

/// What one scrape needs: five thousand targets do not each keep it.
#[derive(Default)]
pub(super) struct Workspace {
    /// The body as it came.
    pub(super) body: Vec<u8>,
    /// The body unpacked.
    pub(super) unpacked: Vec<u8>,
    pub(super) scratch: Scratch,
}

/// The workspaces of one scraper.
#[derive(Default)]
pub(super) struct Workspaces(Mutex<Vec<Workspace>>);

impl Workspaces {
    pub(super) fn take(&self) -> Workspace {
        self.0.lock().pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, mut workspace: Workspace) {
        for buffer in [&mut workspace.body, &mut workspace.unpacked] {
            buffer.clear();
            buffer.shrink_to(MAX_KEPT_BYTES);
        }
        let mut waiting = self.0.lock();
        if waiting.len() < MAX_WAITING {
            waiting.push(workspace);
        }
    }
}
