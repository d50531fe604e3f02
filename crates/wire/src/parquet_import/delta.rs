//! Numbers by their differences, packed in blocks: `DELTA_BINARY_PACKED`.

use super::hybrid::bits;
use super::thrift::unzigzag;
use crate::protobuf;

/// Most numbers of a block, far more than any writer packs.
const MAX_BLOCK: u64 = 1 << 16;

/// Reads such numbers from bytes that are handed over each time.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    at: usize,
    end: usize,
    left: u64,
    /// The number that comes next.
    value: i64,
    miniblocks: usize,
    per_miniblock: u64,
    least: i64,
    /// Where the widths of the miniblocks to come lie, and how many come.
    widths: usize,
    widths_left: usize,
    /// Of the miniblock at hand: differences left, their width, the bit that comes next.
    held: u64,
    width: u32,
    bit: u64,
}

impl Delta {
    /// Begins with the header at `at`.
    pub(super) fn new(bytes: &[u8], at: usize, end: usize) -> Result<Self, &'static str> {
        let mut place = at;
        let mut varint =
            || protobuf::varint(bytes, &mut place, end).map_err(|_| "differences are cut off");
        let (block, miniblocks, left) = (varint()?, varint()?, varint()?);
        let value = unzigzag(varint()?);
        if miniblocks == 0
            || block > MAX_BLOCK
            || !block.is_multiple_of(miniblocks)
            || block / miniblocks % 8 != 0
            || block == 0
        {
            return Err("differences are in blocks of an impossible size");
        }
        Ok(Delta {
            at: place,
            end,
            left,
            value,
            miniblocks: miniblocks as usize,
            per_miniblock: block / miniblocks,
            least: 0,
            widths: 0,
            widths_left: 0,
            held: 0,
            width: 0,
            bit: 0,
        })
    }

    /// How many numbers come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Where the bytes end of which all numbers were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next number.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<i64, &'static str> {
        let value = self.value;
        self.left = self.left.checked_sub(1).ok_or("there are fewer numbers than values")?;
        if self.left > 0 {
            if self.held == 0 {
                self.begin_miniblock(bytes)?;
            }
            let start = self.at - self.miniblock_bytes();
            let difference = bits(&bytes[start..self.at], self.bit, self.width);
            let difference = difference.ok_or("differences are cut off")?;
            self.bit += u64::from(self.width);
            self.held -= 1;
            self.value = value.wrapping_add(self.least).wrapping_add(difference.cast_signed());
        }
        Ok(value)
    }

    fn miniblock_bytes(&self) -> usize {
        self.per_miniblock as usize / 8 * self.width as usize
    }

    /// Puts `at` behind the miniblock.
    fn begin_miniblock(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        if self.widths_left == 0 {
            let least = protobuf::varint(bytes, &mut self.at, self.end);
            self.least = unzigzag(least.map_err(|_| "differences are cut off")?);
            self.widths = self.at;
            self.widths_left = self.miniblocks;
            self.at += self.miniblocks;
        }
        let width = bytes[..self.end].get(self.widths).ok_or("differences are cut off")?;
        self.width = u32::from(*width);
        if self.width > 64 {
            return Err("differences have more than 64 bits");
        }
        self.widths += 1;
        self.widths_left -= 1;
        (self.held, self.bit) = (self.per_miniblock, 0);
        self.at += self.miniblock_bytes();
        if self.at > self.end {
            return Err("differences are cut off");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_are_read() {
        // 1 to 5: all differences are 1 and take no bits.
        let bytes = [0x80, 1, 4, 5, 2, 2, 0, 0, 0, 0];
        let mut delta = Delta::new(&bytes, 0, bytes.len()).expect("a header");
        let read: Vec<i64> = (0..5).map(|_| delta.next(&bytes).expect("all there")).collect();
        assert_eq!((read, delta.at()), (vec![1, 2, 3, 4, 5], bytes.len()));
        assert!(delta.next(&bytes).is_err());
        // 7 5 3 1 2 3 4 5: differences from -2, which take two bits.
        let mut bytes = vec![0x80, 1, 4, 8, 14, 3, 2, 0, 0, 0, 0b1100_0000, 0b0011_1111];
        bytes.extend([0; 6]);
        let mut delta = Delta::new(&bytes, 0, bytes.len()).expect("a header");
        let read: Vec<i64> = (0..8).map(|_| delta.next(&bytes).expect("all there")).collect();
        assert_eq!((read, delta.at()), (vec![7, 5, 3, 1, 2, 3, 4, 5], bytes.len()));
        for end in 0..bytes.len() {
            let read = Delta::new(&bytes, 0, end)
                .and_then(|mut delta| (0..8).try_for_each(|_| delta.next(&bytes[..end]).map(drop)));
            assert!(read.is_err(), "cut at {end}");
        }
    }
}
