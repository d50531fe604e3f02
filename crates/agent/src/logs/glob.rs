//! Which files a pattern names: `*`, `?`, `[a-z]`, `{a,b}` within a name, `**` for any directories.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use regex::bytes::{Regex, RegexBuilder};

/// How deep `**` looks.
const MAX_DEPTH: usize = 32;

/// A pattern of paths.
#[derive(Debug, Clone)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
    whole: Regex,
}

#[derive(Debug, Clone)]
enum Part {
    /// A name, or the root.
    Plain(PathBuf),
    Name(Regex),
    /// Any number of directories.
    Any,
}

impl Glob {
    /// Reads a pattern. It must be an absolute path, so that it means the same wherever the program is
    /// started.
    ///
    /// # Errors
    /// In words: what is wrong with it.
    pub fn new(text: &str) -> Result<Glob, String> {
        if !text.starts_with('/') {
            return Err(format!("{text:?} is no absolute path, such as /var/log/*.log"));
        }
        let mut parts = Vec::new();
        for component in Path::new(text).components() {
            let name = match component {
                Component::Normal(name) => name.to_string_lossy().into_owned(),
                Component::ParentDir => return Err(format!("{text:?}: `..` cannot be collected")),
                other => {
                    parts.push(Part::Plain(PathBuf::from(other.as_os_str())));
                    continue;
                }
            };
            parts.push(match name.as_str() {
                "**" => Part::Any,
                name if !name.contains(['*', '?', '[', '{', '\\']) => {
                    Part::Plain(PathBuf::from(name))
                }
                name => Part::Name(compile(&expression(name)?, text)?),
            });
        }
        Ok(Glob { text: text.to_owned(), parts, whole: compile(&expression(text)?, text)? })
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names a path.
    pub fn is_match(&self, path: &Path) -> bool {
        self.whole.is_match(path.as_os_str().as_bytes())
    }

    /// Appends the files it names, without directories. What cannot be read is left out.
    pub fn find(&self, found: &mut Vec<PathBuf>) {
        walk(&self.parts, PathBuf::new(), 0, found);
    }

    /// Why it names no file, as far as that can be seen.
    pub fn why_nothing(&self) -> String {
        let mut at = PathBuf::new();
        for (place, part) in self.parts.iter().enumerate() {
            let Part::Plain(name) = part else { break };
            let next = at.join(name);
            let is_last = place + 1 == self.parts.len();
            match fs::metadata(&next) {
                Err(error) => return format!("{}: {error}", next.display()),
                Ok(info) if is_last && info.is_dir() => {
                    return format!("{} is a directory; name the files in it", next.display());
                }
                Ok(info) if is_last && !info.is_file() => {
                    return format!("{} is no file", next.display());
                }
                Ok(_) => at = next,
            }
        }
        match fs::read_dir(&at) {
            Err(error) => format!("{}: {error}", at.display()),
            Ok(_) => format!("no file below {} has such a name", at.display()),
        }
    }
}

fn walk(parts: &[Part], at: PathBuf, depth: usize, found: &mut Vec<PathBuf>) {
    let Some((part, rest)) = parts.split_first() else {
        // A link counts as what it leads to.
        if fs::metadata(&at).is_ok_and(|info| info.is_file()) {
            found.push(at);
        }
        return;
    };
    match part {
        Part::Plain(name) => walk(rest, at.join(name), depth, found),
        Part::Name(name) => {
            let Ok(entries) = fs::read_dir(&at) else { return };
            for entry in entries.flatten() {
                if name.is_match(entry.file_name().as_bytes()) {
                    walk(rest, at.join(entry.file_name()), depth, found);
                }
            }
        }
        Part::Any => {
            walk(rest, at.clone(), depth, found);
            let Ok(entries) = fs::read_dir(&at) else { return };
            for entry in entries.flatten() {
                // Links to directories may lead in circles.
                if depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    walk(parts, at.join(entry.file_name()), depth + 1, found);
                }
            }
        }
    }
}

fn compile(expression: &str, text: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(expression);
    builder.unicode(false).dot_matches_new_line(true);
    builder.build().map_err(|_| format!("{text:?} is no pattern of paths"))
}

/// A pattern as a regular expression.
fn expression(text: &str) -> Result<String, String> {
    let mut out = String::from("^");
    let (mut chars, mut depth) = (text.chars().peekable(), 0);
    while let Some(char) = chars.next() {
        match char {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                if chars.peek() == Some(&'/') {
                    chars.next();
                    out.push_str("(?:[^/]*/)*");
                } else {
                    out.push_str(".*");
                }
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' => {
                out.push('[');
                if matches!(chars.peek(), Some('!' | '^')) {
                    chars.next();
                    out.push('^');
                }
                let mut is_first = true;
                loop {
                    match chars.next() {
                        None => return Err(format!("{text:?}: a `[` is not closed")),
                        Some(']') if !is_first => break,
                        Some(char @ ('-' | ']')) if char == '-' && !is_first => out.push('-'),
                        Some(char) => out.push_str(&regex::escape(&char.to_string())),
                    }
                    is_first = false;
                }
                out.push(']');
            }
            '{' => {
                depth += 1;
                out.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            '\\' => match chars.next() {
                Some(char) => out.push_str(&escaped(char)),
                None => return Err(format!("{text:?}: nothing follows the last backslash")),
            },
            char => out.push_str(&escaped(char)),
        }
    }
    if depth > 0 {
        return Err(format!("{text:?}: a `{{` is not closed"));
    }
    out.push('$');
    Ok(out)
}

/// A character that stands for itself; without Unicode classes, bytes beyond ASCII are told one by one.
fn escaped(char: char) -> String {
    if char.is_ascii() {
        return regex::escape(&char.to_string());
    }
    let mut buffer = [0; 4];
    char.encode_utf8(&mut buffer).bytes().map(|byte| format!("(?-u:\\x{byte:02x})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_paths() {
        for (pattern, path, wanted) in [
            ("/var/log/*.log", "/var/log/a.log", true),
            ("/var/log/*.log", "/var/log/a.log.1", false),
            ("/var/log/*.log", "/var/log/b/a.log", false),
            ("/var/log/**/*.log", "/var/log/b/c/a.log", true),
            ("/var/log/**/*.log", "/var/log/a.log", true),
            ("/l/{a,b*}.log", "/l/b1.log", true),
            ("/l/{a,b*}.log", "/l/c.log", false),
            ("/l/[!a-c]?.log", "/l/d1.log", true),
            ("/l/[!a-c]?.log", "/l/b1.log", false),
            ("/l/ä*", "/l/äb", true),
            ("/l/\\*", "/l/*", true),
            ("/l/\\*", "/l/x", false),
        ] {
            let glob = Glob::new(pattern).expect("a pattern");
            assert_eq!(glob.is_match(Path::new(path)), wanted, "{pattern} {path}");
        }
        for wrong in ["a.log", "/a/../b", "/a/[b", "/a/{b", "/a\\"] {
            assert!(Glob::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_are_found_and_directories_and_circles_are_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        fs::create_dir_all(root.join("a/b")).expect("made");
        for name in ["x.log", "a/y.log", "a/b/z.log", "a/b/z.txt"] {
            fs::write(root.join(name), "").expect("written");
        }
        fs::create_dir(root.join("a/d.log")).expect("made");
        std::os::unix::fs::symlink(root, root.join("a/circle")).expect("linked");
        std::os::unix::fs::symlink(root.join("x.log"), root.join("link.log")).expect("linked");
        let names = |pattern: &str| {
            let mut found = Vec::new();
            let pattern = format!("{}/{pattern}", root.display());
            Glob::new(&pattern).expect("a pattern").find(&mut found);
            found.sort();
            let below = |path: PathBuf| path.strip_prefix(root).expect("below").to_owned();
            found.into_iter().map(|path| below(path).display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("**/*.log"), ["a/b/z.log", "a/y.log", "link.log", "x.log"]);
        assert_eq!(names("*/*.log"), ["a/y.log"]);
        assert_eq!(names("nothing/*.log"), Vec::<String>::new());
    }
}
