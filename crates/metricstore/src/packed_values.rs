//! The values of an open tail, in as few bytes as are easily found and changed.
//!
//! Most series of a host hold still: one value says it all, and there is no cell. Most others are
//! decimals that move little: their mantissas' distances from the first one take a byte or two
//! each. What is neither is kept as it is. A tail begins as the first kind and only ever becomes
//! wider, so that each sample is looked at once; the next tail begins anew.

use crate::slab::{Class, Slabs};
use crate::tracks::MAX_TAIL_LEN;

/// Most decimal digits a packed value has.
const MAX_DIGITS: u8 = 7;
const POWERS: [f64; MAX_DIGITS as usize + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];

/// How the values of a tail are kept: 3 bits for the width, 3 for the digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form(u8);

/// Bytes of a value in its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    /// All values are the base; there is no cell.
    Same,
    One,
    Two,
    Three,
    Four,
    Six,
    /// A bit pattern.
    Bits,
}

use Width::{Bits, Four, One, Same, Six, Three, Two};

const WIDTHS: [Width; 8] = [Same, One, Two, Three, Four, Six, Bits, Bits];

impl Width {
    #[inline]
    fn bytes(self) -> usize {
        [0, 1, 2, 3, 4, 6, 8][self as usize]
    }

    /// The smallest that holds a distance.
    fn of(distance: i64) -> Width {
        let bits = 65 - (distance ^ (distance >> 63)).leading_zeros();
        match bits {
            0..=8 => One,
            9..=16 => Two,
            17..=24 => Three,
            25..=32 => Four,
            33..=48 => Six,
            _ => Bits,
        }
    }
}

impl Form {
    /// All values are one.
    pub(crate) const SAME: Form = Form(0);

    #[inline]
    fn width(self) -> Width {
        WIDTHS[usize::from(self.0 & 7)]
    }

    #[inline]
    fn power(self) -> f64 {
        POWERS[usize::from(self.0 >> 3 & 7)]
    }

    fn packed(width: Width, digits: u8) -> Form {
        Form(width as u8 | digits << 3)
    }
}

/// Where the values of a tail are. The number of values is known elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackedValues {
    /// The bit pattern of all values, or the first one's mantissa.
    pub(crate) base: u64,
    pub(crate) cell: u32,
    pub(crate) class: Class,
    pub(crate) form: Form,
}

impl PackedValues {
    /// One value.
    pub(crate) fn of(value: f64) -> Self {
        PackedValues { base: value.to_bits(), cell: 0, class: Class::SMALLEST, form: Form::SAME }
    }

    /// Appends a value to `len` ones.
    #[inline]
    pub(crate) fn push(&mut self, slabs: &mut Slabs, len: usize, value: f64) {
        let width = self.form.width();
        if width == Same {
            if self.base == value.to_bits() {
                return;
            }
        } else if (len + 1) * width.bytes() <= self.class.bytes()
            && let Some(distance) = self.distance(value)
        {
            put(slabs.get_mut(self.class, self.cell), width, len, distance);
            return;
        }
        self.push_slow(slabs, len, value);
    }

    /// What is put into the cell for `value`, if it fits there.
    #[inline]
    fn distance(&self, value: f64) -> Option<i64> {
        let width = self.form.width();
        if width == Bits {
            return Some(value.to_bits() as i64);
        }
        let mantissa = mantissa(value, self.form.power())?;
        let distance = mantissa.checked_sub(self.base as i64)?;
        (Width::of(distance) <= width).then_some(distance)
    }

    #[cold]
    fn push_slow(&mut self, slabs: &mut Slabs, len: usize, value: f64) {
        // Fast path: all stays as it is, in a larger cell.
        let width = self.form.width();
        if width != Same && self.distance(value).is_some() {
            let larger = Class::for_bytes((len + 1) * width.bytes());
            self.cell = slabs.grow(self.class, self.cell, len * width.bytes(), larger);
            self.class = larger;
            return self.push(slabs, len, value);
        }
        let mut values = [0.0; MAX_TAIL_LEN];
        let mut count = 0;
        self.for_each(slabs, len, |value| {
            values[count] = value;
            count += 1;
        });
        values[len] = value;
        self.free(slabs);
        *self = Self::pack(slabs, &values[..=len]);
    }

    /// Packs values that are not all the same.
    fn pack(slabs: &mut Slabs, values: &[f64]) -> Self {
        let (base, form) = Self::choose(values).unwrap_or((0, Form::packed(Bits, 0)));
        let class = Class::for_bytes(values.len() * form.width().bytes());
        let packed = PackedValues { base, cell: slabs.allocate(class), class, form };
        let cell = slabs.get_mut(class, packed.cell);
        for (index, &value) in values.iter().enumerate() {
            let distance = packed.distance(value).expect("the form was chosen for all values");
            put(cell, form.width(), index, distance);
        }
        packed
    }

    /// The base and the form of values that are decimals near one another.
    fn choose(values: &[f64]) -> Option<(u64, Form)> {
        let mut digits = 0;
        for &value in values {
            while mantissa(value, POWERS[usize::from(digits)]).is_none() {
                digits += 1;
                if digits > MAX_DIGITS {
                    return None;
                }
            }
        }
        // A value of fewer digits may have too large a mantissa with more.
        let power = POWERS[usize::from(digits)];
        let base = mantissa(values[0], power)?;
        let mut width = One;
        for &value in values {
            width = width.max(Width::of(mantissa(value, power)?.checked_sub(base)?));
        }
        (width < Bits).then_some((base as u64, Form::packed(width, digits)))
    }

    /// Shows each of `len` values to `visit`.
    #[inline]
    pub(crate) fn for_each(&self, slabs: &Slabs, len: usize, mut visit: impl FnMut(f64)) {
        let width = self.form.width();
        if width == Same {
            return (0..len).for_each(|_| visit(f64::from_bits(self.base)));
        }
        let cell = slabs.get(self.class, self.cell);
        let power = self.form.power();
        for index in 0..len {
            let distance = get(cell, width, index);
            visit(match width {
                Bits => f64::from_bits(distance as u64),
                _ => (self.base as i64).wrapping_add(distance) as f64 / power,
            });
        }
    }

    /// Gives the cell back, if there is one.
    pub(crate) fn free(&self, slabs: &mut Slabs) {
        if self.form.width() != Same {
            slabs.free(self.class, self.cell);
        }
    }
}

/// The integer of which `value` is the quotient by `power`, bit for bit.
#[inline]
fn mantissa(value: f64, power: f64) -> Option<i64> {
    let mantissa = (value * power + 0.5_f64.copysign(value)) as i64;
    (mantissa as f64 / power).to_bits().eq(&value.to_bits()).then_some(mantissa)
}

#[inline]
fn put(cell: &mut [u8], width: Width, index: usize, distance: i64) {
    let bytes = distance.to_le_bytes();
    let start = index * width.bytes();
    match width {
        Same => {}
        One => cell[start] = bytes[0],
        Two => cell[start..start + 2].copy_from_slice(&bytes[..2]),
        Three => cell[start..start + 3].copy_from_slice(&bytes[..3]),
        Four => cell[start..start + 4].copy_from_slice(&bytes[..4]),
        Six => cell[start..start + 6].copy_from_slice(&bytes[..6]),
        Bits => cell[start..start + 8].copy_from_slice(&bytes),
    }
}

#[inline]
fn get(cell: &[u8], width: Width, index: usize) -> i64 {
    let start = index * width.bytes();
    let mut bytes = [0; 8];
    match width {
        Same => {}
        One => bytes[0] = cell[start],
        Two => bytes[..2].copy_from_slice(&cell[start..start + 2]),
        Three => bytes[..3].copy_from_slice(&cell[start..start + 3]),
        Four => bytes[..4].copy_from_slice(&cell[start..start + 4]),
        Six => bytes[..6].copy_from_slice(&cell[start..start + 6]),
        Bits => bytes.copy_from_slice(&cell[start..start + 8]),
    }
    // The sign of what was cut off.
    let unused = 64 - 8 * width.bytes() as u32;
    i64::from_le_bytes(bytes) << unused >> unused
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs of values of one kind, so that tails change their form on the way.
    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            (-100_i64..100).prop_map(|v| v as f64),
            (-5_000_000_i64..5_000_000).prop_map(|v| v as f64 / 100.0),
            (0_i64..1 << 45).prop_map(|v| v as f64),
            any::<i64>().prop_map(|v| v as f64),
            (0_u64..1 << 40, 0_usize..8).prop_map(|(v, d)| v as f64 / POWERS[d]),
            any::<u64>().prop_map(f64::from_bits),
            Just(-0.0),
            Just(9.007_199_254_740_993e15),
            Just(i64::MAX as f64),
            Just(i64::MIN as f64),
            Just(f64::INFINITY),
        ];
        proptest::collection::vec((value, 1_usize..20, -3_i64..4), 1..12).prop_map(|runs| {
            let run = |(start, len, stride): (f64, usize, i64)| {
                (0..len).map(move |at| start + (at as i64 * stride) as f64)
            };
            runs.into_iter().flat_map(run).take(MAX_TAIL_LEN).collect()
        })
    }

    proptest! {
        #[test]
        fn values_come_back_bit_for_bit(all in proptest::collection::vec(values(), 1..8)) {
            let mut slabs = Slabs::default();
            let mut tails: Vec<PackedValues> = Vec::new();
            for values in &all {
                let mut tail = PackedValues::of(values[0]);
                for (len, &value) in values.iter().enumerate().skip(1) {
                    tail.push(&mut slabs, len, value);
                }
                tails.push(tail);
            }
            for (tail, values) in tails.iter().zip(&all) {
                let mut back = Vec::new();
                tail.for_each(&slabs, values.len(), |value| back.push(value.to_bits()));
                let wanted: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
                prop_assert_eq!(back, wanted);
                tail.free(&mut slabs);
            }
        }
    }

    #[test]
    fn what_holds_still_has_no_cell_and_decimals_are_small() {
        let mut slabs = Slabs::default();
        let mut still = PackedValues::of(f64::NAN);
        (1..MAX_TAIL_LEN).for_each(|len| still.push(&mut slabs, len, f64::NAN));
        assert_eq!(slabs.bytes(), 0);
        let mut counter = PackedValues::of(71_234.25);
        (1..64).for_each(|len| counter.push(&mut slabs, len, 71_234.25 + 1.5 * len as f64));
        assert_eq!(counter.class.bytes(), 64 * 2);
    }
}
