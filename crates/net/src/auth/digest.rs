//! What is stored in place of a secret that is random.

use sha2::{Digest, Sha256};

use crate::random;

/// SHA-256 in hexadecimal. Enough for secrets of 128 random bits and more, which cannot be guessed
/// however fast a guess is; passwords need [`super::password`]. Looking a digest up does not have
/// to take the same time for all: who has no secret cannot choose its digest.
pub(crate) fn token_digest(secret: &str) -> String {
    random::hexadecimal(&Sha256::digest(secret.as_bytes()))
}
