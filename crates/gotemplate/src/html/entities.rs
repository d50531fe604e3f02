//! Entities of HTML that mean something to scripts, styles and addresses.

const NAMED: [(&str, char); 33] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", '\u{a0}'),
    ("lpar", '('),
    ("rpar", ')'),
    ("lbrace", '{'),
    ("lcub", '{'),
    ("rbrace", '}'),
    ("rcub", '}'),
    ("lbrack", '['),
    ("lsqb", '['),
    ("rbrack", ']'),
    ("rsqb", ']'),
    ("sol", '/'),
    ("bsol", '\\'),
    ("colon", ':'),
    ("semi", ';'),
    ("num", '#'),
    ("quest", '?'),
    ("excl", '!'),
    ("comma", ','),
    ("period", '.'),
    ("equals", '='),
    ("plus", '+'),
    ("ast", '*'),
    ("dollar", '$'),
    ("grave", '`'),
    ("Tab", '\t'),
    ("NewLine", '\n'),
    ("percnt", '%'),
];

/// Longest that an entity is, behind its `&`.
const MAX_LEN: usize = 12;

/// A text with those entities resolved; others stay as they are.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match entity(rest) {
            Some((c, len)) => {
                out.push(c);
                rest = &rest[len..];
            }
            None => out.push('&'),
        }
    }
    out.push_str(rest);
    out
}

/// The character of the entity at the start, behind its `&`, and how long it is.
fn entity(text: &str) -> Option<(char, usize)> {
    let bytes = text.as_bytes();
    let (digits_at, radix) = match bytes {
        [b'#', b'x' | b'X', ..] => (2, 16),
        [b'#', ..] => (1, 10),
        _ => {
            let len = bytes.iter().take(MAX_LEN).take_while(|b| b.is_ascii_alphanumeric()).count();
            let ends = usize::from(bytes.get(len) == Some(&b';'));
            // The oldest ones need no `;`.
            let old = ["amp", "lt", "gt", "quot", "nbsp"];
            let name = &text[..len];
            let (_, c) = NAMED.iter().find(|(known, _)| *known == name)?;
            return (ends == 1 || old.contains(&name)).then_some((*c, len + ends));
        }
    };
    let digits = &bytes[digits_at..];
    let len = digits.iter().take(MAX_LEN).take_while(|b| char::from(**b).is_digit(radix)).count();
    let code = u32::from_str_radix(&text[digits_at..digits_at + len], radix).ok()?;
    let c = char::from_u32(code).filter(|c| *c != '\0').unwrap_or(char::REPLACEMENT_CHARACTER);
    Some((c, digits_at + len + usize::from(digits.get(len) == Some(&b';'))))
}
