//! The short form of an authority's public key.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;

/// SHA-256 of a certificate's `SubjectPublicKeyInfo` in DER: of the key, not of the certificate,
/// so that it outlives a renewed certificate (RFC 7469, section 2.4). Written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of the key in a certificate.
    ///
    /// # Errors
    /// The bytes are no certificate.
    pub fn of_certificate(der: &[u8]) -> Result<Fingerprint, TlsError> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| TlsError::Invalid(format!("not a certificate: {error}")))?;
        Ok(Fingerprint(Sha256::digest(certificate.public_key().raw).into()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Fingerprint {
    type Err = TlsError;

    fn from_str(text: &str) -> Result<Self, TlsError> {
        let wrong = || TlsError::Invalid("a fingerprint has 64 hexadecimal digits".to_owned());
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Fingerprint(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let print = Fingerprint([0xa7; 32]);
        assert_eq!(print.to_string().parse::<Fingerprint>().expect("own form"), print);
        for wrong in ["", "a7", &"g".repeat(64), &"é".repeat(32), &"a".repeat(65)] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
        assert!(Fingerprint::of_certificate(b"no certificate").is_err());
    }
}
