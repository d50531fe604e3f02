//! Streams of bits, highest bit first, and the variable-width numbers in them.
//!
//! Source: Prometheus `tsdb/chunkenc/{bstream,varbit,xor}.go`.

/// Appends bits to bytes.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits of the last byte that are not used yet.
    free: u32,
}

impl<'a> BitWriter<'a> {
    /// Begins at the next byte of `out`.
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        BitWriter { out, free: 0 }
    }

    /// Appends the lowest `count` bits of `value`; at most 64.
    pub(super) fn bits(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.out.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let piece = (value >> (left - take)) as u8 & (u8::MAX >> (8 - take));
            let last = self.out.len() - 1;
            self.out[last] |= piece << (self.free - take);
            self.free -= take;
            left -= take;
        }
    }

    /// Appends a whole float.
    pub(super) fn float(&mut self, value: f64) {
        self.bits(value.to_bits(), 64);
    }

    /// Appends an unsigned number of seven bits a byte, lowest first.
    pub(super) fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bits(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.bits(value, 8);
    }

    /// As [`BitWriter::uvarint`], with the sign in the lowest bit.
    pub(super) fn varint(&mut self, value: i64) {
        self.uvarint((value << 1 ^ value >> 63) as u64);
    }

    /// Appends a number of histograms: a prefix of ones says how wide it is.
    pub(super) fn varbit(&mut self, value: i64) {
        if value == 0 {
            return self.bits(0, 1);
        }
        match WIDTHS.iter().position(|&width| fits(value, width)) {
            Some(place) => self.wide(place, value as u64),
            None => self.widest(value as u64),
        }
    }

    /// As [`BitWriter::varbit`], for numbers without a sign.
    pub(super) fn uvarbit(&mut self, value: u64) {
        if value == 0 {
            return self.bits(0, 1);
        }
        match WIDTHS.iter().position(|&width| value >> width == 0) {
            Some(place) => self.wide(place, value),
            None => self.widest(value),
        }
    }

    fn wide(&mut self, place: usize, value: u64) {
        // As many ones as the place says, one more, and a zero.
        self.bits((1 << (place + 2)) - 2, place as u32 + 2);
        self.bits(value, WIDTHS[place]);
    }

    fn widest(&mut self, value: u64) {
        self.bits(0xff, 8);
        self.bits(value, 64);
    }
}

/// Widths of variable-width numbers; wider ones take 64 bits.
const WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

/// Whether a signed number fits `width` bits. The range is shifted by one towards positive numbers,
/// unlike two's complement.
pub(super) fn fits(value: i64, width: u32) -> bool {
    let half = 1_i64 << (width - 1);
    -half < value && value <= half
}

/// Extends the sign of a number of `width` bits, see [`fits`].
fn signed(bits: u64, width: u32) -> i64 {
    let bits = bits as i64;
    if bits > 1 << (width - 1) { bits - (1 << width) } else { bits }
}

/// The stream ended early.
pub(super) const CUT_OFF: &str = "the chunk's data is cut off";

/// Takes bits from bytes.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, at: 0 }
    }

    /// Bytes not begun yet; where a fault was seen, counted from the start.
    pub(super) fn offset(&self) -> usize {
        self.at / 8
    }

    /// Bits not read yet.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    pub(super) fn bit(&mut self) -> Result<bool, &'static str> {
        let byte = *self.bytes.get(self.at / 8).ok_or(CUT_OFF)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// The next `count` bits, at most 64, as a number.
    pub(super) fn bits(&mut self, count: u32) -> Result<u64, &'static str> {
        if self.left() < count as usize {
            return Err(CUT_OFF);
        }
        let (mut value, mut left) = (0_u64, count as usize);
        while left > 0 {
            let inside = self.at % 8;
            let take = left.min(8 - inside);
            let byte = self.bytes[self.at / 8] << inside >> (8 - take);
            value = value << take | u64::from(byte);
            self.at += take;
            left -= take;
        }
        Ok(value)
    }

    pub(super) fn float(&mut self) -> Result<f64, &'static str> {
        self.bits(64).map(f64::from_bits)
    }

    pub(super) fn uvarint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.bits(8)?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number of the chunk does not fit 64 bits")
    }

    pub(super) fn varint(&mut self) -> Result<i64, &'static str> {
        self.uvarint().map(|zigzag| (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    pub(super) fn varbit(&mut self) -> Result<i64, &'static str> {
        match self.width()? {
            Width::Zero => Ok(0),
            Width::Bits(64) => Ok(self.bits(64)? as i64),
            Width::Bits(width) => Ok(signed(self.bits(width)?, width)),
        }
    }

    pub(super) fn uvarbit(&mut self) -> Result<u64, &'static str> {
        match self.width()? {
            Width::Zero => Ok(0),
            Width::Bits(width) => self.bits(width),
        }
    }

    /// A signed number of `width` bits, see [`fits`].
    pub(super) fn signed(&mut self, width: u32) -> Result<i64, &'static str> {
        self.bits(width).map(|bits| signed(bits, width))
    }

    fn width(&mut self) -> Result<Width, &'static str> {
        let mut ones = 0;
        while ones < 8 && self.bit()? {
            ones += 1;
        }
        Ok(match ones {
            0 => Width::Zero,
            8 => Width::Bits(64),
            ones => Width::Bits(WIDTHS[ones - 1]),
        })
    }
}

enum Width {
    Zero,
    Bits(u32),
}

/// One column of floats, each as the bits in which it differs from the one before.
#[derive(Debug, Clone, Default)]
pub(super) struct Xor {
    before: u64,
    /// Zeros before and behind the bits that differed last; `None` where nothing differed yet.
    window: Option<(u32, u32)>,
}

impl Xor {
    /// Begins with `value`, which stands in the stream as a whole.
    pub(super) fn first(value: f64) -> Self {
        Xor { before: value.to_bits(), window: None }
    }

    /// The newest value.
    pub(super) fn bits(&self) -> u64 {
        self.before
    }

    pub(super) fn write(&mut self, out: &mut BitWriter<'_>, value: f64) {
        let differs = self.before ^ value.to_bits();
        self.before = value.to_bits();
        if differs == 0 {
            return out.bits(0, 1);
        }
        // Five bits hold at most 31.
        let (leading, trailing) = (differs.leading_zeros().min(31), differs.trailing_zeros());
        if let Some((before, behind)) = self.window
            && leading >= before
            && trailing >= behind
        {
            out.bits(0b10, 2);
            return out.bits(differs >> behind, 64 - before - behind);
        }
        self.window = Some((leading, trailing));
        let width = 64 - leading - trailing;
        out.bits(0b11, 2);
        out.bits(leading.into(), 5);
        // 64 does not fit six bits and is written as the width that cannot be, 0.
        out.bits(u64::from(width & 63), 6);
        out.bits(differs >> trailing, width);
    }

    pub(super) fn read(&mut self, from: &mut BitReader<'_>) -> Result<f64, &'static str> {
        if from.bit()? {
            let (leading, trailing) = if from.bit()? {
                let leading = from.bits(5)? as u32;
                let width = match from.bits(6)? as u32 {
                    0 => 64,
                    width => width,
                };
                if leading + width > 64 {
                    return Err("a value of the chunk has more than 64 bits");
                }
                (leading, 64 - leading - width)
            } else {
                self.window.ok_or("a value of the chunk refers to one that is not there")?
            };
            self.window = Some((leading, trailing));
            self.before ^= from.bits(64 - leading - trailing)? << trailing;
        }
        Ok(f64::from_bits(self.before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(values in proptest::collection::vec((any::<i64>(), 0_u32..64), 1..50)) {
            let mut bytes = Vec::new();
            let mut out = BitWriter::new(&mut bytes);
            for &(value, shift) in &values {
                let value = value >> shift;
                out.bits(1, 1);
                out.varbit(value);
                out.uvarbit(value as u64);
                out.varint(value);
                out.uvarint(value as u64);
            }
            let mut from = BitReader::new(&bytes);
            for &(value, shift) in &values {
                let value = value >> shift;
                prop_assert_eq!(from.bits(1), Ok(1));
                prop_assert_eq!(from.varbit(), Ok(value));
                prop_assert_eq!(from.uvarbit(), Ok(value as u64));
                prop_assert_eq!(from.varint(), Ok(value));
                prop_assert_eq!(from.uvarint(), Ok(value as u64));
            }
            prop_assert!(from.bits(8).is_err());
        }

        #[test]
        fn floats_round_trip(values in proptest::collection::vec(any::<u64>(), 1..50)) {
            let mut bytes = Vec::new();
            let mut out = BitWriter::new(&mut bytes);
            let first = f64::from_bits(values[0]);
            let mut column = Xor::first(first);
            out.float(first);
            for &bits in &values[1..] {
                column.write(&mut out, f64::from_bits(bits));
            }
            let mut from = BitReader::new(&bytes);
            let mut column = Xor::first(from.float().expect("the first"));
            for &bits in &values[1..] {
                prop_assert_eq!(column.read(&mut from).map(f64::to_bits), Ok(bits));
            }
        }
    }

    #[test]
    fn the_widest_of_each_width_fits() {
        for width in WIDTHS {
            let half = 1_i64 << (width - 1);
            assert!(fits(half, width) && fits(1 - half, width));
            assert!(!fits(half + 1, width) && !fits(-half, width));
        }
    }
}
