//! What public items name can be named through `sepconv`, no two types share a name, the READMEs name every cargo feature, and the
//! headers of files are short.
//!
//! rustc's lint `unnameable_types` holds the types of this crate to a name. Those of `sepconv-kernels` are held to one by
//! `.ci/links.sh`: rustdoc leads to a page of the other crate where this one does not export what it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sepconv::{GlobalAveragePool, Isa, KernelKind, PlanOptions, Shape, UnknownIsa};

#[test]
fn types_of_the_kernels_are_exported() {
    let plan = GlobalAveragePool::new(1).unwrap().plan(Shape::new(1, 2, 2, 1), &PlanOptions::new()).unwrap();
    let kernels: Vec<KernelKind> = plan.explain().stages.swap_remove(0).kernels;
    assert_eq!(kernels, [KernelKind::AveragePool]);
    let unknown: UnknownIsa = "avx1024".parse::<Isa>().unwrap_err();
    assert!(!unknown.to_string().is_empty());
}

#[test]
fn the_readmes_name_every_feature() {
    let file = |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    for (manifest, readme) in [("Cargo.toml", "README.md"), ("kernels/Cargo.toml", "kernels/README.md")] {
        let mut named: BTreeSet<String> = BTreeSet::new();
        for row in file(readme).lines().filter(|row| row.contains("| on |") || row.contains("| off |")) {
            let on = row.contains("| on |");
            let names = row.split('|').nth(1).unwrap().split(", ");
            named.extend(names.map(|name| format!("{}: {on}", name.trim().trim_matches('`'))));
        }
        let manifest = file(manifest);
        let features = manifest.split("\n[features]\n").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
        let features: Vec<(&str, &str)> = features.lines().filter_map(|line| line.split_once(" = ")).collect();
        let (_, defaults) = features.iter().find(|(name, _)| *name == "default").unwrap();
        let others = features.iter().filter(|(name, _)| *name != "default");
        let expected = others.map(|(name, _)| format!("{name}: {}", defaults.contains(&format!("\"{name}\""))));
        assert_eq!(named, expected.collect(), "{readme}");
    }
}

/// One name for one thing: a reader who greps for `struct Name` finds one definition in all of the repository.
///
/// Definitions within functions and tests count. Associated types, aliases and generic parameters do not, since they name what has
/// a name, and neither do names that macros make.
#[test]
fn no_two_types_share_a_name() {
    let mut definitions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in sources() {
        for (line, text) in text.lines().enumerate() {
            if let Some(name) = defined_type(text) {
                definitions.entry(name.into()).or_default().push(format!("{}:{}", path.display(), line + 1));
            }
        }
    }
    assert!(definitions.contains_key("PlanOptions") && definitions.contains_key("Kernels"), "{definitions:?}");
    definitions.retain(|_, places| places.len() > 1);
    assert!(definitions.is_empty(), "rename until one is left: {definitions:#?}");
}

/// A header that is longer has what belongs into docs/.
#[test]
fn headers_are_short() {
    for (path, text) in sources() {
        let header = text.lines().take_while(|line| line.starts_with("//!")).count();
        assert!(header <= 60, "{}: a header of {header} lines", path.display());
    }
}

/// Every source file of the repository: where it is, and what it holds.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "kernels", "benches", "examples", "fuzz", "tests"].iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // what cargo builds for the packages that are workspaces of their own
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.push((path, text));
            }
        }
    }
    sources
}

/// The name of the type or trait that a line of source defines.
fn defined_type(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if let Some(after) = rest.strip_prefix("pub") {
        let after = after.strip_prefix('(').map_or(Some(after), |path| path.split_once(')').map(|(_, after)| after));
        rest = after?.trim_start();
    }
    let (keyword, rest) = rest.strip_prefix("unsafe ").unwrap_or(rest).split_once(' ')?;
    if !matches!(keyword, "struct" | "enum" | "union" | "trait") {
        return None;
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

#[test]
fn definitions_are_found() {
    for (line, name) in [
        ("pub struct Plan {", Some("Plan")),
        ("    struct Local<'a>(&'a u8);", Some("Local")),
        ("pub(crate) enum Step<T>", Some("Step")),
        ("pub(in crate::plan) unsafe trait Vector: Copy {", Some("Vector")),
        ("union Bits {", Some("Bits")),
        ("struct $name;", None),
        ("/// struct Plan", None),
        ("(\"pub(crate) enum Step\")", None),
        ("let x = 1;", None),
        ("", None),
    ] {
        assert_eq!(defined_type(line), name, "{line}");
    }
}
