//! Runs of one small number, and small numbers packed: levels and places in a dictionary.

/// Reads such numbers from bytes that are handed over each time.
#[derive(Debug, Clone, Default)]
pub(super) struct Hybrid {
    at: usize,
    end: usize,
    width: u32,
    left: u64,
    run: Run,
}

#[derive(Debug, Clone, Copy)]
enum Run {
    Same(u32),
    /// The bit that comes next, counted from `at`.
    Packed(u64),
}

impl Default for Run {
    fn default() -> Self {
        Run::Same(0)
    }
}

impl Hybrid {
    /// Numbers of `width` bits, 32 at most, in the bytes from `at` to `end`, which are there.
    pub(super) fn new(at: usize, end: usize, width: u32) -> Self {
        Hybrid { at, end, width, ..Hybrid::default() }
    }

    /// The next number.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<u32, &'static str> {
        if self.width == 0 {
            return Ok(0);
        }
        while self.left == 0 {
            self.begin(bytes)?;
        }
        self.left -= 1;
        match &mut self.run {
            Run::Same(value) => Ok(*value),
            Run::Packed(bit) => {
                let value = bits(&bytes[self.at..self.end], *bit, self.width);
                *bit += u64::from(self.width);
                if self.left == 0 {
                    self.at = self.end.min(self.at + bit.div_ceil(8) as usize);
                }
                value.map(|value| value as u32).ok_or("packed numbers are cut off")
            }
        }
    }

    fn begin(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let head = crate::protobuf::varint(bytes, &mut self.at, self.end)
            .map_err(|_| "runs of numbers are cut off")?;
        self.left = head >> 1;
        if head & 1 == 1 {
            // What lies behind the end is never reached.
            self.left = self.left.min(1 << 40) * 8;
            self.run = Run::Packed(0);
            return Ok(());
        }
        let len = self.width.div_ceil(8) as usize;
        let value = bytes[..self.end].get(self.at..self.at + len);
        let value = value.ok_or("a run of numbers is cut off")?;
        self.at += len;
        self.run =
            Run::Same(value.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)));
        Ok(())
    }
}

/// `width` bits, 64 at most, from the bit `at` on, the lowest first.
pub(super) fn bits(bytes: &[u8], at: u64, width: u32) -> Option<u64> {
    let (first, shift) = (usize::try_from(at / 8).ok()?, (at % 8) as u32);
    let len = (shift + width).div_ceil(8) as usize;
    let held = bytes.get(first..first.checked_add(len)?)?;
    let value = held.iter().rev().fold(0_u128, |value, byte| value << 8 | u128::from(*byte));
    Some((value >> shift) as u64 & u64::MAX.checked_shr(64 - width).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_runs_are_read() {
        // Five times 3, then 0 to 7 of three bits, then five times 1, as the specification shows them.
        let bytes = [5 << 1, 3, 1 << 1 | 1, 0b1000_1000, 0b1100_0110, 0b1111_1010, 5 << 1, 1];
        let mut hybrid = Hybrid::new(0, bytes.len(), 3);
        let read: Vec<u32> = (0..18).map(|_| hybrid.next(&bytes).expect("all there")).collect();
        assert_eq!(read, [3, 3, 3, 3, 3, 0, 1, 2, 3, 4, 5, 6, 7, 1, 1, 1, 1, 1]);
        assert!(hybrid.next(&bytes).is_err());
    }

    #[test]
    fn bits_of_every_width() {
        let bytes = [0xff; 9];
        for width in 0..=64 {
            for at in 0..8 {
                let wanted = ((1_u128 << width) - 1) as u64;
                assert_eq!(bits(&bytes, at, width), Some(wanted), "{width} bits at {at}");
            }
        }
        assert_eq!(bits(&bytes, 9, 64), None);
        assert_eq!(bits(&bytes, u64::MAX, 1), None);
    }
}
