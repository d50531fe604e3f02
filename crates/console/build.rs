//! Embeds `web/dist`: every file plain and compressed, in a table the program searches by path.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let dist = root.join("../../web/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    let out = PathBuf::from(env::var("OUT_DIR").expect("set by cargo"));
    let mut files = Vec::new();
    collect(&dist, &mut files);
    files.sort();
    if files.is_empty() {
        println!("cargo::warning=web/dist is missing: the console has no pages in this build");
    }
    let mut table = String::from("static PAGES: &[Page] = &[\n");
    for (number, path) in files.iter().enumerate() {
        println!("cargo::rerun-if-changed={}", path.display());
        let plain = fs::read(path).expect("a listed file is readable");
        let gzip = compress(&plain);
        let gzip = if gzip.len() + 64 < plain.len() { gzip } else { Vec::new() };
        let gzip_path = out.join(format!("page-{number}.gz"));
        fs::write(&gzip_path, &gzip).expect("OUT_DIR is writable");
        let name = path.strip_prefix(&dist).expect("collected below dist");
        let name = name.to_str().expect("file names are UTF-8").replace('\\', "/");
        writeln!(
            table,
            "Page {{ path: {name:?}, content_type: {:?}, etag: {:?}, plain: include_bytes!({:?}), \
             gzip: include_bytes!({:?}) }},",
            content_type(&name),
            format!("\"{:016x}\"", fingerprint(&plain)),
            path.display().to_string(),
            gzip_path.display().to_string(),
        )
        .expect("writing to a string");
    }
    table.push_str("];\n");
    fs::write(out.join("pages.rs"), table).expect("OUT_DIR is writable");
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn compress(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

/// FNV-1a: only has to differ when the content does.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" | "webmanifest" => "application/json",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
