//! Whose turn it is.

use std::sync::Arc;

use net::Detour;
use parking_lot::RwLock;

use crate::notify::Notifications;
use crate::rules::Rules;

/// Rules and notifications that run in this process.
#[derive(Clone)]
pub struct Running {
    /// Alerts, silences and receivers.
    pub notifications: Notifications,
    /// Rules.
    pub rules: Rules,
}

/// Where handlers find what runs. In a cluster it is empty in all processes but one.
#[derive(Clone, Default)]
pub struct Seat {
    running: Arc<RwLock<Option<Running>>>,
    detour: Option<Arc<dyn Detour>>,
}

impl Seat {
    /// The same seat, whose requests take a detour to whoever may sit in that of another process.
    pub fn with_detour(&self, detour: Arc<dyn Detour>) -> Seat {
        Seat { running: Arc::clone(&self.running), detour: Some(detour) }
    }

    /// Where requests go before they are answered here.
    pub fn detour(&self) -> Option<Arc<dyn Detour>> {
        self.detour.clone()
    }

    /// Whether something runs here.
    pub fn is_taken(&self) -> bool {
        self.running.read().is_some()
    }

    /// What runs here, if it is this process' turn.
    pub fn running(&self) -> Option<Running> {
        self.running.read().clone()
    }

    /// From now on this runs.
    pub fn take(&self, running: Running) {
        *self.running.write() = Some(running);
    }

    /// Nothing runs here any more. Yields what ran.
    pub fn leave(&self) -> Option<Running> {
        self.running.write().take()
    }
}
