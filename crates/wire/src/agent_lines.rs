//! The batches of lines of Watchfire's own agents, as `docs/formats/agent-lines.md` draws them.

use std::cell::RefCell;

use codec::varint::{put_bytes, take_prefixed};
use model::{LogBatch, LogBatchError};

use crate::WireError;
use crate::agent_envelope::{self, KEPT_SCRATCH_BYTES, Opener, Sealer};

pub use crate::agent_envelope::{MAX_PAYLOAD_BYTES, body_len};

/// The version this program writes, and the highest it reads.
pub const VERSION: u8 = 1;
/// Longest name of a tenant, in bytes.
const MAX_TENANT_BYTES: usize = 256;

const FORMAT: &str = "agent batch of lines";

thread_local! {
    static PACKER: RefCell<(Sealer, Vec<u8>)> = RefCell::new((Sealer::new(), Vec::new()));
    static OPENER: RefCell<Opener> = RefCell::new(Opener::new());
}

/// Appends `batch` to `out`. `tenant` is whose the lines are, `None` for the tenant of the agent.
///
/// # Panics
/// The name of the tenant is empty or has more than 256 bytes.
pub fn encode(tenant: Option<&str>, batch: &LogBatch, out: &mut Vec<u8>) {
    let tenant = tenant.map_or("", |name| {
        assert!((1..=MAX_TENANT_BYTES).contains(&name.len()), "a tenant has a name");
        name
    });
    PACKER.with_borrow_mut(|(sealer, body)| {
        body.clear();
        put_bytes(body, tenant.as_bytes());
        body.extend_from_slice(batch.as_parts());
        sealer.seal(VERSION, body, out);
        body.shrink_to(KEPT_SCRATCH_BYTES);
    });
}

/// The lines of a payload and whose they are, `None` for the tenant of the agent. Of at most
/// `max_body_bytes` when they are unpacked.
///
/// # Errors
/// [`WireError::Newer`]: a newer program made it, `bytes` may be right; [`WireError::Limit`];
/// [`WireError::Malformed`] or [`WireError::Compression`]: damaged.
pub fn decode(
    bytes: &[u8],
    max_body_bytes: usize,
) -> Result<(Option<String>, LogBatch), WireError> {
    let check = |len| {
        if len <= max_body_bytes {
            return Ok(());
        }
        Err(WireError::Limit {
            what: format!("{FORMAT} of {len} bytes after decompression"),
            limit: format!("{max_body_bytes} bytes"),
            remedy: "send smaller batches or raise `limits.max_body_bytes`",
        })
    };
    OPENER.with_borrow_mut(|opener| {
        let body = opener.open(FORMAT, VERSION, bytes, check)?;
        let malformed = |offset, reason| WireError::Malformed { format: FORMAT, offset, reason };
        let mut rest = body;
        let tenant = take_prefixed(&mut rest).ok().filter(|name| name.len() <= MAX_TENANT_BYTES);
        let tenant = tenant.and_then(|name| std::str::from_utf8(name).ok());
        let tenant = tenant.ok_or_else(|| malformed(0, "the name of the tenant is damaged"))?;
        let tenant = (!tenant.is_empty()).then(|| tenant.to_owned());
        let begin = body.len() - rest.len();
        let batch = LogBatch::from_parts(rest.to_vec()).map_err(|error| match error {
            LogBatchError::Corrupt { offset, .. } => {
                malformed(begin + offset, "a stream or a line is damaged")
            }
            LogBatchError::TooLarge { .. } => malformed(begin, "more lines than a batch has"),
        })?;
        Ok((tenant, batch))
    })
}

/// The error for a payload above [`MAX_PAYLOAD_BYTES`].
pub fn too_large(bytes: usize) -> WireError {
    agent_envelope::too_large(FORMAT, bytes)
}

#[cfg(test)]
mod tests {
    use model::Labels;
    use proptest::prelude::*;

    use super::*;

    fn batch() -> LogBatch {
        let mut batch = LogBatch::default();
        batch.stream(&Labels::from_pairs([("job", "a")]).expect("valid"));
        for number in 0..50_i64 {
            batch.push(number, b"some line", &[("k", "v")]).expect("short");
        }
        batch
    }

    #[test]
    fn lines_come_back_with_their_tenant() {
        for tenant in [None, Some("t")] {
            let mut bytes = b"before".to_vec();
            encode(tenant, &batch(), &mut bytes);
            let payload = &bytes[6..];
            assert_eq!(decode(payload, 1 << 20), Ok((tenant.map(str::to_owned), batch())));
            let len = body_len(payload).expect("it is whole");
            assert!(decode(payload, len).is_ok());
            let error = decode(payload, len - 1).expect_err("it is too large").to_string();
            assert!(error.contains("limits.max_body_bytes"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn damage_is_an_error(at in any::<prop::sample::Index>(), bit in 0..8, cut in any::<bool>()) {
            let mut bytes = Vec::new();
            encode(Some("t"), &batch(), &mut bytes);
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1_u8 << bit;
            }
            prop_assert!(decode(&bytes, 1 << 20).is_err());
        }

        #[test]
        fn any_body_is_refused_or_read(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = Vec::new();
            Sealer::new().seal(VERSION, &body, &mut bytes);
            if let Ok((tenant, batch)) = decode(&bytes, 1 << 20) {
                let mut again = Vec::new();
                encode(tenant.as_deref(), &batch, &mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        let mut bytes = Vec::new();
        Sealer::new().seal(VERSION + 1, b"", &mut bytes);
        assert!(matches!(decode(&bytes, 9), Err(WireError::Newer { found: 2, .. })));
    }
}
