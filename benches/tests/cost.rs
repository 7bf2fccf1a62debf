//! The program `cost` as a user meets it: what it refuses, and what it leaves behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sepconv_bench::cost::compare::compare;
use sepconv_bench::cost::report::{self, Report, Section};

fn cost(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cost")).args(arguments).output().expect("the program starts")
}

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// That the program ends with code 2 and tells why, before it says how long it will take.
fn refused(arguments: &[&str], why: &str) {
    let output = cost(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert!(error.contains(why) && !error.contains("This takes about"), "{arguments:?}: {error}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

#[test]
fn wrong_options_are_refused_before_anything_runs() {
    let empty = folder("refused");
    let out = empty.join("out");
    let file = empty.join("file");
    fs::write(&file, "{}").unwrap();
    let [out, file] = [&out, &file].map(|path| path.to_str().unwrap());
    refused(&["--only", "layers,nothing", "--out", out], "nothing");
    refused(&["--threads", "0", "--out", out], "--threads");
    refused(&["--threads", "65", "--out", out], "--threads");
    refused(&["--isa", "mmx", "--out", out], "mmx");
    refused(&["--fast", "--out", out], "--fast");
    refused(&["--baseline", "no/such/file", "--out", out], "no/such/file");
    refused(&["--baseline", file, "--out", out], "schema");
    refused(&["--docs", empty.to_str().unwrap(), "--out", out], "cost.md");
    refused(&["--check", file, "--quick"], "--check");
    // a folder below a file cannot be made, not even by root
    refused(&["--out", &format!("{file}/below")], "cannot write to");
    assert!(!Path::new(out).exists(), "nothing was written");
}

#[test]
fn a_report_is_written_and_fits_its_schema() {
    let out = folder("report");
    let output = cost(&["--quick", "--only", "layers", "--out", out.to_str().unwrap()]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("The 13 layers take") && printed.contains("1/N + 1/Dk²"), "{printed}");

    let json = out.join("cost.json");
    let report = Report::read(&json).unwrap();
    assert_eq!(report.settings.sections, [Section::Layers]);
    assert_eq!(report.cases(Section::Layers).len(), 9);
    let checked = cost(&["--check", json.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let lines = |file: &str| fs::read_to_string(out.join(file)).unwrap().lines().count();
    assert_eq!(lines("measurements.csv"), report.measurements.len() + 1);
    assert_eq!(lines("comparisons.csv"), report.comparisons.len() + 1);
    for plot in ["layers-gain", "layers-time"] {
        assert!(fs::read_to_string(out.join(format!("{plot}.svg"))).unwrap().contains("im2col"));
        assert!(fs::read(out.join(format!("{plot}.png"))).unwrap().starts_with(b"\x89PNG"));
    }
    let page = fs::read_to_string(out.join("cost.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    // nothing is fetched: the only addresses are the names of SVG's own namespace
    assert!(!page.contains("src=") && !page.contains("<link") && !page.contains("@import"));

    // a report that is held against itself has not moved, and one that was made slower has
    assert!(compare(&report, &report).moved.is_empty());
    let mut slower = report.clone();
    slower.measurements[3].us *= 2.0 + slower.measurements[3].spread;
    let change = compare(&report, &slower);
    assert_eq!((change.moved.len(), change.both), (1, report.measurements.len()));
    assert!(change.lines().iter().any(|line| line.contains("× slower: layers")), "{:?}", change.lines());
}

#[test]
fn the_schema_refuses_what_is_not_a_report() {
    let out = folder("schema");
    let output = cost(&["--quick", "--only", "roofline", "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(out.join("cost.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    report::check(&value).unwrap();
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = value.clone();
        change(&mut value);
        report::check(&value).unwrap_err().to_string()
    };
    assert!(refused(&|v| v["version"] = 2.into()).contains("/version"));
    assert!(refused(&|v| v["measurements"][0]["us"] = (-1).into()).contains("/measurements/0/us"));
    assert!(refused(&|v| v["measurements"][0]["us"] = serde_json::Value::Null).contains("/measurements/0/us"));
    assert!(refused(&|v| v["machine"]["host"] = "name".into()).contains("host"));
    assert!(refused(&|v| v["settings"]["isa"] = "mmx".into()).contains("/settings/isa"));
    assert!(refused(&|v| v["measurements"] = serde_json::json!([])).contains("/measurements"));
    let lacking = refused(&|v| {
        v.as_object_mut().unwrap().remove("limits");
    });
    assert!(lacking.contains("limits"), "{lacking}");
}
