//! Stages one behind the other.

use std::time::Instant;

use super::line::Line;

/// What time it is.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) now: Instant,
    /// Nanoseconds since the epoch, for who needs them.
    pub(super) wall_ns: fn() -> i64,
}

/// A stage that changes a line or drops it.
pub(super) trait Simple: Send {
    /// Yields whether the line stays.
    fn apply(&mut self, line: &mut Line, clock: &Clock) -> bool;

    /// Before this moment no further line is to come.
    fn ready_at(&self) -> Option<Instant> {
        None
    }
}

impl<F: FnMut(&mut Line, &Clock) -> bool + Send> Simple for F {
    fn apply(&mut self, line: &mut Line, clock: &Clock) -> bool {
        self(line, clock)
    }
}

/// A stage that holds lines back, makes several of one, or has stages inside.
pub(super) trait Holding: Send {
    fn process(&mut self, line: &mut Line, clock: &Clock, next: &mut dyn Outlet);
    /// When there is something to flush.
    fn deadline(&self) -> Option<Instant>;
    /// Puts out what was held for long enough; all of it without a moment.
    fn flush(&mut self, until: Option<Instant>, clock: &Clock, next: &mut dyn Outlet);
    fn held(&self, offsets: &mut Vec<u64>);

    /// As [`Simple::ready_at`].
    fn ready_at(&self) -> Option<Instant> {
        None
    }
}

/// Where a line goes next.
pub(super) trait Outlet {
    fn send(&mut self, line: &mut Line, clock: &Clock);
}

/// One stage.
pub(super) enum Link {
    Simple(Box<dyn Simple>),
    Holding(Box<dyn Holding>),
}

impl Link {
    pub(super) fn simple(stage: impl Simple + 'static) -> Self {
        Link::Simple(Box::new(stage))
    }

    pub(super) fn holding(stage: impl Holding + 'static) -> Self {
        Link::Holding(Box::new(stage))
    }
}

/// What follows a stage.
struct Rest<'r> {
    links: &'r mut [Link],
    out: &'r mut dyn Outlet,
}

impl Outlet for Rest<'_> {
    fn send(&mut self, line: &mut Line, clock: &Clock) {
        run(self.links, line, clock, self.out);
    }
}

/// Sends a line through stages.
pub(super) fn run(links: &mut [Link], line: &mut Line, clock: &Clock, out: &mut dyn Outlet) {
    let mut links = links;
    while let Some((first, rest)) = links.split_first_mut() {
        match first {
            Link::Simple(stage) => {
                if !stage.apply(line, clock) {
                    return;
                }
                links = rest;
            }
            Link::Holding(stage) => {
                return stage.process(line, clock, &mut Rest { links: rest, out });
            }
        }
    }
    out.send(line, clock);
}

/// Flushes stages, each through those behind it.
pub(super) fn flush(
    links: &mut [Link],
    until: Option<Instant>,
    clock: &Clock,
    out: &mut dyn Outlet,
) {
    let mut links = links;
    while let Some((first, rest)) = links.split_first_mut() {
        if let Link::Holding(stage) = first {
            stage.flush(until, clock, &mut Rest { links: &mut *rest, out: &mut *out });
        }
        links = rest;
    }
}

/// When some stage has something to flush.
pub(super) fn deadline(links: &[Link]) -> Option<Instant> {
    let deadlines = links.iter().filter_map(|link| match link {
        Link::Simple(_) => None,
        Link::Holding(stage) => stage.deadline(),
    });
    deadlines.min()
}

/// Appends the offsets of what stages hold.
pub(super) fn held(links: &[Link], offsets: &mut Vec<u64>) {
    for link in links {
        if let Link::Holding(stage) = link {
            stage.held(offsets);
        }
    }
}

/// When the last of the stages lets a further line in.
pub(super) fn ready_at(links: &[Link]) -> Option<Instant> {
    let moments = links.iter().filter_map(|link| match link {
        Link::Simple(stage) => stage.ready_at(),
        Link::Holding(stage) => stage.ready_at(),
    });
    moments.max()
}
