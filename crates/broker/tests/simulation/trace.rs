//! What the programs of a simulation say, with its own time: `LOG=info` for one seed.

use std::fmt::{Debug, Write as _};

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::BEGAN;

/// Shows events to this level on standard error.
struct Shown(Level);

impl Subscriber for Shown {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        of.is_event() && *of.level() <= self.0
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let since = BEGAN.get().map_or(0, |began| Instant::now().duration_since(began).as_millis());
        eprintln!(
            "{since:>7} {} {}:{}",
            event.metadata().level(),
            event.metadata().target(),
            line.0
        );
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of an event.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Has events shown, if `LOG` names a level.
pub(crate) fn show() {
    if let Some(level) = std::env::var("LOG").ok().and_then(|level| level.parse().ok()) {
        // Another seed of this process may have done so.
        let _ = tracing::subscriber::set_global_default(Shown(level));
    }
}
