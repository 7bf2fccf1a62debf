//! What public items name can be named through `sepconv`, and the READMEs name every cargo feature.
//!
//! rustc's lint `unnameable_types` holds the types of this crate to a name. Those of `sepconv-kernels` are held to one by
//! `.ci/links.sh`: rustdoc leads to a page of the other crate where this one does not export what it names.

use std::collections::BTreeSet;
use std::path::Path;

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
