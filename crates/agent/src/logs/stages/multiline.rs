//! `multiline`: lines that belong together become one.

use std::collections::HashMap;
use std::time::Instant;

use model::regex::Finder;
use settings::logs::StageFault;
use settings::logs::stage::MultilineStage;

use super::chain::{Holding, Link, Outlet};
use super::{Clock, Line, Plan, finder};

/// Streams of one source that are remembered; more are passed through as they come.
const MAX_STREAMS: usize = 10_000;
/// Longest block in bytes: what comes behind is a block of its own.
const MAX_BLOCK_BYTES: usize = 8 << 20;

pub(super) fn multiline(stage: &MultilineStage) -> Result<Plan, StageFault> {
    let stage = stage.clone();
    let first = finder("firstline", &stage.firstline)?;
    Ok(Plan::new(move || {
        let (stage, first) = (stage.clone(), first.clone());
        Link::holding(Multiline { stage, first, streams: HashMap::new(), key: Vec::new() })
    }))
}

struct Multiline {
    stage: MultilineStage,
    first: Finder,
    streams: HashMap<Vec<u8>, Block>,
    key: Vec<u8>,
}

/// Lines of a stream. There is one from the first line on that begins one.
#[derive(Default)]
struct Block {
    /// What came so far; its time, labels and values are those of the first line.
    line: Line,
    /// Lines in it, 0 if nothing is held.
    lines: u64,
    /// When it is complete if nothing comes.
    due: Option<Instant>,
}

impl Block {
    /// Puts out what is held. Time, labels and values stay, for lines that follow without a first one.
    fn put_out(&mut self, clock: &Clock, next: &mut dyn Outlet) {
        if self.lines == 0 {
            return;
        }
        let mut line = self.line.clone();
        self.lines = 0;
        self.due = None;
        self.line.text.clear();
        self.line.joined.clear();
        next.send(&mut line, clock);
    }
}

impl Holding for Multiline {
    fn process(&mut self, line: &mut Line, clock: &Clock, next: &mut dyn Outlet) {
        let is_first = self.first.is_match(&line.text);
        self.key.clear();
        line.stream_key(&mut self.key);
        if !self.streams.contains_key(&self.key) {
            // What comes before the first block is no part of one.
            if !is_first || self.streams.len() >= MAX_STREAMS {
                return next.send(line, clock);
            }
            self.streams.insert(self.key.clone(), Block::default());
        }
        let Some(block) = self.streams.get_mut(&self.key) else { return };
        if is_first || block.line.text.len() + line.text.len() > MAX_BLOCK_BYTES {
            block.put_out(clock, next);
        }
        if is_first {
            std::mem::swap(&mut block.line, line);
        } else if block.lines == 0 {
            block.line.text.clear();
            block.line.text.extend_from_slice(&line.text);
            block.line.offset = line.offset;
            block.line.joined.clone_from(&line.joined);
        } else {
            if !block.line.text.is_empty() {
                block.line.text.push(b'\n');
            }
            block.line.text.extend_from_slice(&line.text);
            block.line.join_offsets(line);
        }
        block.lines += 1;
        block.due = Some(clock.now + self.stage.max_wait_time);
        if block.lines == self.stage.max_lines {
            block.put_out(clock, next);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.streams.values().filter_map(|block| block.due).min()
    }

    fn flush(&mut self, until: Option<Instant>, clock: &Clock, next: &mut dyn Outlet) {
        let is_due = |block: &&mut Block| match (until, block.due) {
            (None, _) => block.lines > 0,
            (Some(until), Some(due)) => due <= until,
            (Some(_), None) => false,
        };
        let mut due: Vec<&mut Block> = self.streams.values_mut().filter(is_due).collect();
        due.sort_by_key(|block| block.line.offset);
        for block in due {
            block.put_out(clock, next);
        }
    }

    fn held(&self, offsets: &mut Vec<u64>) {
        for block in self.streams.values().filter(|block| block.lines > 0) {
            block.line.offsets(offsets);
        }
    }
}
