//! Tells the programs which compiler made them, and which `gemm` they are compared with.
#![allow(clippy::print_stdout, reason = "how a build script speaks to cargo")]

use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=../Cargo.lock");
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().ok().and_then(|out| String::from_utf8(out.stdout).ok());
    println!("cargo::rustc-env=RUSTC_VERSION={}", version.as_deref().unwrap_or("rustc of unknown version").trim());
    let lock = fs::read_to_string("../Cargo.lock").unwrap_or_default();
    let gemm = lock.split("[[package]]").find(|package| package.contains("name = \"gemm\"\n"));
    let version = gemm.and_then(|package| package.split("version = \"").nth(1)?.split('"').next());
    println!("cargo::rustc-env=GEMM_VERSION={}", version.unwrap_or("0.0.0"));
}
