//! Identities of series.

use std::fmt;

use crate::{Labels, TenantId};

/// The identity of a series everywhere and forever: BLAKE3, cut to 128 bits, over the tenant
/// (u32 little endian) followed by the packed labels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u128);

impl SeriesId {
    /// Computes the identity. About 200 ns for ten labels, so it is done only when a series is
    /// first seen.
    pub fn of(tenant: TenantId, labels: &Labels) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&tenant.0.to_le_bytes());
        hasher.update(labels.as_packed());
        let mut cut = [0_u8; 16];
        cut.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        SeriesId(u128::from_le_bytes(cut))
    }
}

impl fmt::Debug for SeriesId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
