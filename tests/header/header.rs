//! The C header, which cbindgen makes of `src/capi/`: `cargo run -p sepconv-header` writes it, the test holds it to what the
//! library does.

use std::error::Error;
use std::path::{Path, PathBuf};

/// The files of the C ABI, in the order of the header.
const FILES: [&str; 13] = [
    "version",
    "status",
    "describe",
    "window_pool",
    "operator",
    "network",
    "graph",
    "threads",
    "options",
    "tensor",
    "plan",
    "cache",
    "models",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/capi")
}

/// The text of the header.
fn generate() -> Result<Vec<u8>, Box<dyn Error>> {
    let config = cbindgen::Config::from_file(folder().join("cbindgen.toml"))?;
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in FILES {
        builder = builder.with_src(folder().join(file).with_extension("rs"));
    }
    let mut header = Vec::new();
    builder.generate()?.write(&mut header);
    Ok(header)
}

fn main() -> Result<(), Box<dyn Error>> {
    Ok(std::fs::write(folder().join("sepconv.h"), generate()?)?)
}

#[test]
fn the_header_is_up_to_date() {
    let header = std::fs::read_to_string(folder().join("sepconv.h")).unwrap().replace("\r\n", "\n");
    let expected = String::from_utf8(generate().unwrap()).unwrap();
    let differs = header.lines().zip(expected.lines()).position(|(is, should)| is != should);
    assert!(
        header == expected,
        "src/capi/sepconv.h is not what cbindgen makes of src/capi/, from line {} on; cargo run -p sepconv-header writes it",
        1 + differs.unwrap_or(header.lines().count().min(expected.lines().count()))
    );
}

/// A file that is missing in the list would be missing in the header.
#[test]
fn every_function_is_in_the_header() {
    let header = std::fs::read_to_string(folder().join("sepconv.h")).unwrap();
    let mut functions = 0;
    for file in std::fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(path).unwrap();
        // what is exported has this attribute; a function that only C calls back has none
        for (at, _) in source.match_indices("#[unsafe(no_mangle)]") {
            let (_, function) = source[at..].split_once("extern \"C\" fn ").unwrap();
            let name = function.split('(').next().unwrap();
            assert!(header.contains(&format!("{name}(")), "{name} is not in the header");
            functions += 1;
        }
    }
    assert!(functions > 30, "only {functions} functions were found");
}
