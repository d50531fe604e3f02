//! Tenants: whose data something is.

use std::fmt;
use std::str::FromStr;

/// A tenant, interned: a broker maps each [`TenantName`] to one of these, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub u32);

/// The tenant of everything that names none.
pub const DEFAULT_TENANT: TenantId = TenantId(0);

/// A tenant that never has data: what is read under a name that nobody has written under.
pub const NO_TENANT: TenantId = TenantId(u32::MAX);

/// The name of a tenant: 1 to 64 of `a-z A-Z 0-9 _ -`. Small enough to be copied, so that no
/// request allocates for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantName {
    /// Zeros behind the name, and a name has none: so bytes compare as names do.
    bytes: [u8; MAX_NAME_BYTES],
    len: u8,
}

const MAX_NAME_BYTES: usize = 64;

/// A text that is no tenant's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no tenant's name: it is 1 to 64 letters, digits, _ and - of ASCII, and one request \
     concerns one tenant"
)]
pub struct TenantNameError(String);

impl TenantName {
    /// The name of [`DEFAULT_TENANT`].
    pub const DEFAULT: TenantName = TenantName::of_ascii("default");

    const fn of_ascii(text: &str) -> TenantName {
        let mut bytes = [0; MAX_NAME_BYTES];
        let mut place = 0;
        while place < text.len() {
            bytes[place] = text.as_bytes()[place];
            place += 1;
        }
        TenantName { bytes, len: text.len() as u8 }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<TenantName, TenantNameError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_allowed) {
            return Ok(TenantName::of_ascii(text));
        }
        let cut = text.floor_char_boundary(2 * MAX_NAME_BYTES);
        Err(TenantNameError(text[..cut].to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let name = &self.bytes[..usize::from(self.len)];
        std::str::from_utf8(name).expect("names are ASCII")
    }

    /// Whether it is that of [`DEFAULT_TENANT`].
    pub fn is_default(&self) -> bool {
        *self == TenantName::DEFAULT
    }
}

impl Default for TenantName {
    fn default() -> Self {
        TenantName::DEFAULT
    }
}

impl FromStr for TenantName {
    type Err = TenantNameError;

    fn from_str(text: &str) -> Result<Self, TenantNameError> {
        TenantName::parse(text)
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_name_is_told_with_the_rule() {
        let long = "x".repeat(65);
        for bad in ["", "a|b", "../etc", "a b", "a.b", "ä", "a\0", "*", "a/b", " a", &long] {
            let error = TenantName::parse(bad).expect_err(bad).to_string();
            assert!(error.contains("1 to 64") && error.contains("one tenant"), "{error}");
        }
        let error = TenantName::parse(&"é".repeat(1 << 20)).expect_err("far too long");
        assert!(error.to_string().len() < 1_000);
        assert_eq!(TenantName::default().as_str(), "default");
        assert!(TenantName::parse("default").expect("a name").is_default());
    }

    proptest! {
        #[test]
        fn a_name_is_what_the_rule_says_and_stays_what_it_is(
            text in prop_oneof!["[a-zA-Z0-9_-]{0,66}", "\\PC{0,70}", "[a-z|./\\\\ -]{1,8}"],
        ) {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let is_name = (1..=64).contains(&text.chars().count()) && text.chars().all(is_allowed);
            match TenantName::parse(&text) {
                Ok(name) => {
                    prop_assert!(is_name);
                    prop_assert_eq!(name.as_str(), &text);
                    prop_assert_eq!(name.to_string().parse(), Ok(name));
                }
                Err(_) => prop_assert!(!is_name),
            }
        }

        #[test]
        fn names_compare_as_their_texts_do(a in "[a-zA-Z0-9_-]{1,64}", b in "[a-zA-Z0-9_-]{1,64}") {
            let names = [&a, &b].map(|text| TenantName::parse(text).expect("a name"));
            prop_assert_eq!(names[0].cmp(&names[1]), a.cmp(&b));
            prop_assert_eq!(names[0] == names[1], a == b);
        }
    }
}
