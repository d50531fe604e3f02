//! Timestamps of open tails, once for all series that have the same ones.
//!
//! Series of one target are scraped at one moment, scrape after scrape. So a series does not keep
//! timestamps but names a *track*, a list of ascending timestamps, and where it began there. The
//! first series of a scrape makes the track longer, the others find that it says what they need.
//! A series that has missed a scrape goes over to another track, which those with the same gap
//! follow. One with samples out of order has a track of its own.

use crate::slab::{Class, Slabs};

/// Timestamps of the longest track. A series begins in its first half, so that there is always room
/// for a tail.
const MAX_LEN: u16 = 2 * MAX_TAIL_LEN as u16;
/// Samples of the longest tail.
pub(crate) const MAX_TAIL_LEN: usize = 128;
/// Bytes of a timestamp: its distance from the base.
const OFFSET_BYTES: usize = size_of::<i32>();

/// A list of timestamps. 32 bytes.
#[derive(Debug, Clone, Copy)]
struct Track {
    base_ms: i64,
    /// The latest timestamp; of an own track, the latest the series is known to have.
    high_ms: i64,
    /// Series that name it.
    users: u32,
    cell: u32,
    len: u16,
    class: Class,
    /// Of one series, in no order.
    is_own: bool,
}

/// Which part of which track a tail has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) track: u32,
    pub(crate) first: u8,
    pub(crate) len: u8,
}

/// What a track is asked to say of the next sample of a tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The timestamp is there, or was added.
    Fits,
    /// It is later than all of the tail, but the track goes on otherwise.
    Elsewhere,
    /// It is later than all of the tail, but too far away for the track.
    Far,
    /// It is not later than all of the tail.
    Late,
}

/// All tracks of a generation.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    all: Vec<Track>,
    unused: Vec<u32>,
    /// The one that was begun or joined last.
    latest: Option<u32>,
}

impl Tracks {
    /// Bytes held, without cells.
    pub(crate) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<Track>() + self.unused.capacity() * size_of::<u32>()
    }

    /// Begins a tail at `t_ms`, which is after everything the series has.
    pub(crate) fn begin(&mut self, slabs: &mut Slabs, t_ms: i64) -> Place {
        let joined = self.latest.and_then(|track| {
            let (base_ms, offsets) = self.offsets(slabs, track, 0..self.all[track as usize].len);
            let wanted = t_ms.checked_sub(base_ms).and_then(|o| i32::try_from(o).ok())?;
            // The latest first: series of a target come together.
            let first = offsets.iter().rposition(|offset| i32::from_le_bytes(*offset) == wanted)?;
            (first < MAX_TAIL_LEN).then_some(Place { track, first: first as u8, len: 1 })
        });
        if let Some(place) = joined {
            self.all[place.track as usize].users += 1;
            return place;
        }
        let track = self.add(slabs, t_ms, t_ms, false);
        self.latest = Some(track);
        self.push(slabs, track, 0);
        Place { track, first: 0, len: 1 }
    }

    /// Begins a tail of a series that is known to have a sample at `high_ms`, `t_ms` or later.
    pub(crate) fn begin_late(&mut self, slabs: &mut Slabs, t_ms: i64, high_ms: i64) -> Place {
        let track = self.add(slabs, t_ms, high_ms, true);
        self.push(slabs, track, 0);
        Place { track, first: 0, len: 1 }
    }

    /// Whether the tail at `place` can have a sample at `t_ms` as its next. The tail is neither
    /// empty nor full.
    #[inline]
    pub(crate) fn next(&mut self, slabs: &mut Slabs, place: Place, t_ms: i64) -> Next {
        let track = &mut self.all[place.track as usize];
        let next = u16::from(place.first) + u16::from(place.len);
        // Fast path: another series of the target was here.
        if next + 1 == track.len && t_ms == track.high_ms && !track.is_own {
            return Next::Fits;
        }
        self.next_slow(slabs, place, next, t_ms)
    }

    fn next_slow(&mut self, slabs: &mut Slabs, place: Place, next: u16, t_ms: i64) -> Next {
        let track = &mut self.all[place.track as usize];
        if next == track.len {
            if t_ms <= track.high_ms {
                return Next::Late;
            }
            let Some(offset) = offset(track.base_ms, t_ms) else { return Next::Far };
            track.high_ms = t_ms;
            self.push(slabs, place.track, offset);
            return Next::Fits;
        }
        // Somebody else went on: the track is ascending.
        let base_ms = track.base_ms;
        let (_, offsets) = self.offsets(slabs, place.track, next - 1..next + 1);
        let of = |index: usize| at(base_ms, i32::from_le_bytes(offsets[index]));
        match t_ms {
            _ if t_ms == of(1) => Next::Fits,
            _ if t_ms > of(0) => Next::Elsewhere,
            _ => Next::Late,
        }
    }

    /// Takes a tail over to a track that has its timestamps and then `t_ms`, which is later than
    /// they. The tail is not full. `None` if `t_ms` is too far from them.
    pub(crate) fn turn_off(&mut self, slabs: &mut Slabs, place: Place, t_ms: i64) -> Option<Place> {
        offset(self.first_ms(slabs, place), t_ms)?;
        let turned = self.latest.and_then(|latest| self.find_in(slabs, latest, place, t_ms));
        let turned = match turned {
            Some(turned) => {
                self.all[turned.track as usize].users += 1;
                turned
            }
            None => {
                let copy = self.copy(slabs, place, t_ms, false);
                let base_ms = self.all[copy.track as usize].base_ms;
                let offset = offset(base_ms, t_ms).expect("the base is the tail's first timestamp");
                self.push(slabs, copy.track, offset);
                self.latest = Some(copy.track);
                copy
            }
        };
        self.leave(slabs, place.track);
        Some(Place { len: place.len + 1, ..turned })
    }

    /// Where the timestamps of a tail and then `t_ms` are in another track.
    fn find_in(&self, slabs: &Slabs, other: u32, place: Place, t_ms: i64) -> Option<Place> {
        let (from, to) = (&self.all[place.track as usize], &self.all[other as usize]);
        let moved = from.base_ms.checked_sub(to.base_ms)?;
        let (_, wanted) = self.offsets(slabs, place.track, place.range());
        let (_, there) = self.offsets(slabs, other, 0..to.len);
        let last = t_ms.checked_sub(to.base_ms)?;
        let end = there.iter().rposition(|&o| i64::from(i32::from_le_bytes(o)) == last)?;
        let first = end.checked_sub(wanted.len()).filter(|&first| first < MAX_TAIL_LEN)?;
        let same = wanted.iter().zip(&there[first..end]).all(|(&wanted, &there)| {
            i64::from(i32::from_le_bytes(wanted)).checked_add(moved)
                == Some(i64::from(i32::from_le_bytes(there)))
        });
        same.then_some(Place { track: other, first: first as u8, len: place.len })
    }

    /// Adds `t_ms`, not later than all timestamps of the tail, to them. The tail is not full. Whether
    /// that could be done: not if `t_ms` is too far from them.
    pub(crate) fn push_late(
        &mut self,
        slabs: &mut Slabs,
        place: Place,
        t_ms: i64,
        high_ms: i64,
    ) -> Option<Place> {
        let base_ms = match self.all[place.track as usize].is_own {
            true => self.all[place.track as usize].base_ms,
            false => self.first_ms(slabs, place),
        };
        let offset = offset(base_ms, t_ms)?;
        let own = self.make_own(slabs, place, high_ms);
        self.push(slabs, own.track, offset);
        Some(Place { len: own.len + 1, ..own })
    }

    /// Notes that the series of a tail has something at `high_ms`, or later, that is not in its
    /// tail.
    pub(crate) fn make_own(&mut self, slabs: &mut Slabs, place: Place, high_ms: i64) -> Place {
        let track = &mut self.all[place.track as usize];
        if track.is_own {
            track.high_ms = track.high_ms.max(high_ms);
            return place;
        }
        let own = self.copy(slabs, place, high_ms, true);
        self.leave(slabs, place.track);
        own
    }

    /// Gives up a tail's part of a track.
    pub(crate) fn leave(&mut self, slabs: &mut Slabs, track: u32) {
        let left = &mut self.all[track as usize];
        left.users -= 1;
        if left.users == 0 {
            slabs.free(left.class, left.cell);
            left.len = 0;
            self.unused.push(track);
            self.latest = self.latest.filter(|&latest| latest != track);
        }
    }

    /// Whether a tail may be out of order.
    pub(crate) fn is_unsorted(&self, place: Place) -> bool {
        self.all[place.track as usize].is_own
    }

    /// The latest timestamp its series is known to have.
    #[inline]
    pub(crate) fn high_ms(&self, slabs: &Slabs, place: Place) -> i64 {
        let track = &self.all[place.track as usize];
        let end = u16::from(place.first) + u16::from(place.len);
        if end == track.len {
            return track.high_ms;
        }
        let (base_ms, offsets) = self.offsets(slabs, place.track, end - 1..end);
        at(base_ms, i32::from_le_bytes(offsets[0]))
    }

    /// The timestamps of a tail.
    #[inline]
    pub(crate) fn timestamps<'a>(
        &self,
        slabs: &'a Slabs,
        place: Place,
    ) -> impl ExactSizeIterator<Item = i64> + use<'a> {
        let (base_ms, offsets) = self.offsets(slabs, place.track, place.range());
        offsets.iter().map(move |&offset| at(base_ms, i32::from_le_bytes(offset)))
    }

    /// Shows every timestamp of every track to `visit`.
    pub(crate) fn for_each_timestamp(&self, slabs: &Slabs, mut visit: impl FnMut(i64)) {
        for (number, track) in (0..).zip(&self.all) {
            if track.users > 0 {
                let (base_ms, offsets) = self.offsets(slabs, number, 0..track.len);
                offsets.iter().for_each(|&o| visit(at(base_ms, i32::from_le_bytes(o))));
            }
        }
    }

    fn first_ms(&self, slabs: &Slabs, place: Place) -> i64 {
        let first = u16::from(place.first);
        let (base_ms, offsets) = self.offsets(slabs, place.track, first..first + 1);
        at(base_ms, i32::from_le_bytes(offsets[0]))
    }

    #[inline]
    fn offsets<'a>(
        &self,
        slabs: &'a Slabs,
        track: u32,
        range: std::ops::Range<u16>,
    ) -> (i64, &'a [[u8; OFFSET_BYTES]]) {
        let track = &self.all[track as usize];
        let (offsets, _) = slabs.get(track.class, track.cell).as_chunks::<OFFSET_BYTES>();
        (track.base_ms, &offsets[range.start.into()..range.end.into()])
    }

    /// A new track with the timestamps of a tail.
    fn copy(&mut self, slabs: &mut Slabs, place: Place, high_ms: i64, is_own: bool) -> Place {
        let base_ms = self.first_ms(slabs, place);
        let mut copied = [0_i64; MAX_TAIL_LEN];
        let len = usize::from(place.len);
        copied.iter_mut().zip(self.timestamps(slabs, place)).for_each(|(to, from)| *to = from);
        let track = self.add(slabs, base_ms, high_ms, is_own);
        for &t_ms in &copied[..len] {
            self.push(slabs, track, t_ms.wrapping_sub(base_ms) as i32);
        }
        Place { track, first: 0, len: place.len }
    }

    /// A new track without timestamps and with one user.
    fn add(&mut self, slabs: &mut Slabs, base_ms: i64, high_ms: i64, is_own: bool) -> u32 {
        let class = Class::SMALLEST;
        let cell = slabs.allocate(class);
        let track = Track { base_ms, high_ms, users: 1, cell, len: 0, class, is_own };
        if let Some(number) = self.unused.pop() {
            self.all[number as usize] = track;
            return number;
        }
        self.all.push(track);
        self.all.len() as u32 - 1
    }

    fn push(&mut self, slabs: &mut Slabs, track: u32, offset: i32) {
        let track = &mut self.all[track as usize];
        debug_assert!(track.len < MAX_LEN, "tails begin in the first half");
        let start = usize::from(track.len) * OFFSET_BYTES;
        let end = start + OFFSET_BYTES;
        if end > track.class.bytes() {
            let larger = Class::for_bytes(end);
            track.cell = slabs.grow(track.class, track.cell, start, larger);
            track.class = larger;
        }
        slabs.get_mut(track.class, track.cell)[start..end].copy_from_slice(&offset.to_le_bytes());
        track.len += 1;
    }
}

impl Place {
    fn range(self) -> std::ops::Range<u16> {
        let first = u16::from(self.first);
        first..first + u16::from(self.len)
    }
}

fn offset(base_ms: i64, t_ms: i64) -> Option<i32> {
    t_ms.checked_sub(base_ms).and_then(|offset| i32::try_from(offset).ok())
}

#[inline]
fn at(base_ms: i64, offset_ms: i32) -> i64 {
    // Cannot overflow: the sum was a timestamp when the sample came.
    base_ms.wrapping_add(i64::from(offset_ms))
}
