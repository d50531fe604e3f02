//! Randomness for keys, tokens and salts.

/// Random bytes from the system.
///
/// # Panics
/// When the system has none to give: nothing secret can be made then, and going on with something
/// that is not random would be worse than to end.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// `length` letters and digits, 5.95 bits each: 43 hold 256 bits. One double click selects them.
pub(crate) fn alphanumeric(length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        // Above the largest multiple of 62 some letters would come more often than others.
        let fair = bytes::<64>().into_iter().filter(|byte| *byte < 248);
        for byte in fair.take(length - text.len()) {
            text.push(char::from(ALPHABET[usize::from(byte % 62)]));
        }
    }
    text
}

/// Two lower-case digits per byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_length_and_differ() {
        let one = alphanumeric(43);
        assert_eq!(one.len(), 43);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one, alphanumeric(43));
        assert_ne!(bytes::<16>(), bytes::<16>());
        assert_eq!(hexadecimal(&[0, 0xab]), "00ab");
        let many = alphanumeric(20_000);
        let mut seen: Vec<u8> = many.into_bytes();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 62);
    }
}
