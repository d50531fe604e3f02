//! The payload of a log frame of lines, as `docs/formats/log.md` draws it: which pushes it stores, then
//! their lines. One without lines only tells of pushes whose frames are about to be removed.

use bytes::Bytes;
use codec::varint::{put_i64, put_u64, take_bytes, take_i64, take_u64};

use super::pushes::{Push, PushId};

/// Appends what stands before the lines.
pub(crate) fn put_pushes(pushes: impl ExactSizeIterator<Item = Push>, out: &mut Vec<u8>) {
    put_u64(out, pushes.len() as u64);
    for push in pushes {
        out.extend_from_slice(&push.id.0);
        put_i64(out, push.at_ms);
    }
}

/// The pushes of a frame and its lines, which are empty if there are none.
///
/// # Errors
/// In words: it is none.
pub(crate) fn split(payload: &Bytes) -> Result<(Vec<Push>, Bytes), String> {
    let mut rest = &payload[..];
    let count = take_u64(&mut rest).map_err(|error| error.to_string())?;
    let mut pushes = Vec::new();
    for _ in 0..count {
        let id = take_bytes(&mut rest, 16).map_err(|error| error.to_string())?;
        let id = PushId(id.try_into().expect("sixteen bytes were taken"));
        let at_ms = take_i64(&mut rest).map_err(|error| error.to_string())?;
        pushes.push(Push { id, at_ms });
    }
    Ok((pushes, payload.slice_ref(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_cuts_are_noticed() {
        let push = |number: u8| Push { id: PushId([number; 16]), at_ms: -i64::from(number) };
        for count in [0_u8, 1, 3] {
            let pushes: Vec<Push> = (0..count).map(push).collect();
            let mut out = Vec::new();
            put_pushes(pushes.iter().copied(), &mut out);
            let head = out.len();
            out.extend_from_slice(b"lines");
            let payload = Bytes::from(out);
            assert_eq!(split(&payload), Ok((pushes, Bytes::from_static(b"lines"))));
            for end in 0..head {
                assert!(split(&payload.slice(..end)).is_err(), "{count} cut at {end}");
            }
        }
    }
}
