//! Unpacks `ttar` archives, in which Node Exporter keeps trees with links, as text.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};

/// Makes the directories, files and links of `archive` below `root`.
///
/// An entry begins with `Directory: path`, or with `Path: path` and then either `SymlinkTo:
/// target` or `Lines: n` and n lines. A last line that ends with `EOF` has no line feed; NUL is
/// written `NULLBYTE`.
///
/// # Errors
/// An archive that is cut short or leads out of `root`, and those of the disk.
pub(crate) fn unpack(archive: &[u8], root: &Path) -> anyhow::Result<()> {
    let mut lines = archive.split(|&b| b == b'\n');
    let mut path = None;
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix(b"Directory: ") {
            fs::create_dir_all(place(root, name)?)?;
        } else if let Some(name) = line.strip_prefix(b"Path: ") {
            path = Some(place(root, name)?);
        } else if let Some(target) = line.strip_prefix(b"SymlinkTo: ") {
            let path = path.take().context("a link without a path")?;
            symlink(std::str::from_utf8(target)?, &path)
                .with_context(|| format!("link {}", path.display()))?;
        } else if let Some(count) = line.strip_prefix(b"Lines: ") {
            let path = path.take().context("a file without a path")?;
            let count: usize = std::str::from_utf8(count)?.parse().context("number of lines")?;
            let mut contents = Vec::new();
            for _ in 0..count {
                contents.extend_from_slice(lines.next().context("the archive is cut short")?);
                contents.push(b'\n');
            }
            fs::write(&path, unescape(&contents))
                .with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

fn place(root: &Path, name: &[u8]) -> anyhow::Result<PathBuf> {
    let name = Path::new(std::str::from_utf8(name)?);
    if !name.components().all(|part| matches!(part, Component::Normal(_))) {
        bail!("{} leads out of the archive", name.display());
    }
    Ok(root.join(name))
}

fn unescape(contents: &[u8]) -> Vec<u8> {
    const NUL: &[u8] = b"NULLBYTE";
    let mut rest = contents.strip_suffix(b"EOF\n").unwrap_or(contents);
    let mut plain = Vec::with_capacity(rest.len());
    while let Some((&byte, tail)) = rest.split_first() {
        match rest.strip_prefix(NUL) {
            Some(after) => {
                plain.push(0);
                rest = after;
            }
            None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_with_links() {
        let root = tempfile::tempdir().expect("temporary directory");
        let archive = b"# x\nDirectory: a\nMode: 755\nPath: a/f\nLines: 2\none\ntwoNULLBYTEEOF\n\
                        Mode: 644\n# y\nPath: a/l\nSymlinkTo: f\n";
        unpack(archive, root.path()).expect("valid");
        assert_eq!(fs::read(root.path().join("a/l")).expect("linked"), b"one\ntwo\0");
        assert!(unpack(b"Path: ../x\nLines: 0\n", root.path()).is_err());
        assert!(unpack(b"Path: x\nLines: 3\na\n", root.path()).is_err());
    }
}
