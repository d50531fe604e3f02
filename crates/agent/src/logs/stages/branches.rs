//! Ways that part: each gets all lines.

use std::time::Instant;

use super::chain::{self, Holding, Link, Outlet};
use super::{Clock, Line, Plan};

pub(super) fn branches(ways: Vec<Vec<Plan>>) -> Plan {
    Plan::new(move || {
        let start = |way: &Vec<Plan>| way.iter().map(Plan::start).collect();
        Link::holding(Branches { ways: ways.iter().map(start).collect() })
    })
}

struct Branches {
    ways: Vec<Vec<Link>>,
}

impl Holding for Branches {
    fn process(&mut self, line: &mut Line, clock: &Clock, next: &mut dyn Outlet) {
        let Some((last, others)) = self.ways.split_last_mut() else { return };
        for way in others {
            chain::run(way, &mut line.clone(), clock, next);
        }
        chain::run(last, line, clock, next);
    }

    fn deadline(&self) -> Option<Instant> {
        self.ways.iter().filter_map(|way| chain::deadline(way)).min()
    }

    fn flush(&mut self, until: Option<Instant>, clock: &Clock, next: &mut dyn Outlet) {
        for way in &mut self.ways {
            chain::flush(way, until, clock, next);
        }
    }

    fn held(&self, offsets: &mut Vec<u64>) {
        for way in &self.ways {
            chain::held(way, offsets);
        }
    }

    fn ready_at(&self) -> Option<Instant> {
        self.ways.iter().filter_map(|way| chain::ready_at(way)).max()
    }
}
