//! MobileNet tells what is on a photo.
//!
//! ```text
//! cargo run --release --example classify [IMAGE…]
//! ```
//!
//! Without an image it classifies photos that it fetches; models, labels and photos come by pip on first use.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints what it finds")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use sepconv::models::{Config, MobileNetV1, MobileNetV2, Weights};
use sepconv::{Network, Plan, PlanOptions, Scratch, Shape, Threads, View, ViewMut};
use sepconv_examples::{assets, graph_def, keras, photo};

/// Tells what is on a photo, by MobileNetV1 or V2.
#[derive(Parser)]
struct ClassifyArgs {
    /// Photos, PNG or JPEG; without any, three that are fetched.
    images: Vec<PathBuf>,
    /// The network: V1 knows the 1000 classes of ImageNet, V2 knows 19 breeds of dogs.
    #[arg(long, value_enum, default_value_t = Model::V1)]
    model: Model,
    /// Seeded weights and, without images, a seeded picture: needs no network; the classes mean nothing.
    #[arg(long)]
    synthetic: bool,
    /// Threads to share a run.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Model {
    V1,
    V2,
}

/// A network, planned, and what its outputs are called.
struct Classifier {
    plan: Plan,
    scratch: Scratch,
    labels: Vec<String>,
}

impl Classifier {
    fn new(args: &ClassifyArgs) -> Result<Classifier> {
        let threads = match args.threads {
            1 => Threads::Serial,
            n => Threads::Pool(rayon::ThreadPoolBuilder::new().num_threads(n.into()).build()?.into()),
        };
        let (network, size) = match (args.model, args.synthetic) {
            (Model::V1, false) => {
                let weights = graph_def::mobilenet_v1(&assets::V1.read()?)?;
                (MobileNetV1::network(&Config::new().classes(1001), &weights)?, 224)
            }
            (Model::V2, false) => {
                let weights = keras::mobilenet_v2(&assets::V2.read()?)?;
                (MobileNetV2::network(&Config::new().classes(19), &weights)?, 160)
            }
            (Model::V1, true) => (seeded(&MobileNetV1::architecture(&Config::new())?)?, 224),
            (Model::V2, true) => (seeded(&MobileNetV2::architecture(&Config::new())?)?, 224),
        };
        let labels = match (args.model, args.synthetic) {
            (_, true) => (0..1000).map(|class| format!("class {class}")).collect(),
            (Model::V1, false) => imagenet_labels()?,
            (Model::V2, false) => keras::BREEDS.map(String::from).to_vec(),
        };
        let plan = network.plan(Shape::new(1, size, size, 3), &PlanOptions::new().threads(threads))?;
        let scratch = plan.scratch()?;
        Ok(Classifier { plan, scratch, labels })
    }

    /// Probabilities of all classes, and the median time of a few runs.
    fn run(&mut self, pixels: &[f32]) -> Result<(Vec<f64>, Duration)> {
        let mut logits = vec![0.0; self.plan.output_shape().len()?];
        let mut times = Vec::new();
        for _ in 0..11 {
            let start = Instant::now();
            let input = View::new(pixels, self.plan.input_shape())?;
            let output = ViewMut::new(&mut logits, self.plan.output_shape())?;
            self.plan.run(input, output, &mut self.scratch)?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = logits.iter().map(|&v| f64::from(v - max).exp()).collect();
        let sum: f64 = powers.iter().sum();
        Ok((powers.into_iter().map(|p| p / sum).collect(), times[times.len() / 2]))
    }

    /// Classifies one picture and prints what it is.
    fn classify(&mut self, name: &str, pixels: &[f32]) -> Result<()> {
        let (probabilities, time) = self.run(pixels)?;
        println!("{name}  ({:.2} ms a run, {})", time.as_secs_f64() * 1e3, self.plan.isa());
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        for &class in order.iter().take(5) {
            println!("  {:6.4}  {}", probabilities[class], self.labels[class]);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.plan.input_shape().h
    }
}

fn seeded(architecture: &sepconv::models::Architecture) -> Result<Network> {
    Ok(architecture.network(&Weights::seeded(architecture, 1)?)?)
}

/// The names of the 1001 classes: ImageNet's, after one for the background.
fn imagenet_labels() -> Result<Vec<String>> {
    let names: std::collections::HashMap<usize, String> = serde_json::from_slice(&assets::LABELS.read()?)?;
    let mut labels = vec!["background".to_owned()];
    for class in 0..1000 {
        labels.push(names.get(&class).with_context(|| format!("no label for class {class}"))?.clone());
    }
    Ok(labels)
}

fn photos(args: &ClassifyArgs) -> Result<Vec<PathBuf>> {
    if args.images.is_empty() { assets::PHOTOS.paths() } else { Ok(args.images.clone()) }
}

fn run(args: &ClassifyArgs) -> Result<bool> {
    let mut classifier = Classifier::new(args)?;
    if args.synthetic && args.images.is_empty() {
        let size = classifier.size();
        let picture: Vec<f32> = (0..size * size * 3).map(|i| (i as f32 * 0.37).sin()).collect();
        classifier.classify("a seeded picture", &picture)?;
        return Ok(true);
    }
    let mut all = true;
    for path in photos(args)? {
        let name = path.file_name().map_or(path.as_path(), Path::new).display().to_string();
        let result = photo::read(&path, classifier.size()).and_then(|pixels| classifier.classify(&name, &pixels));
        if let Err(error) = result {
            eprintln!("error: {error:#}");
            all = false;
        }
    }
    Ok(all)
}

fn main() -> ExitCode {
    match run(&ClassifyArgs::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
