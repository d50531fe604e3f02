//! Random numbers from a seed, so that a failure can be repeated.

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The seed in `WATCHFIRE_SEED`, else one from the clock. Tests print it.
    pub(crate) fn seed() -> u64 {
        let given = std::env::var("WATCHFIRE_SEED").ok().and_then(|text| text.parse().ok());
        given.unwrap_or_else(|| super::now_ms().cast_unsigned())
    }

    /// Always the same numbers for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Any 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }
}

/// Spreads any number over 64 bits, reversibly.
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
