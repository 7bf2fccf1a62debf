//! The conformance kit of sepconv over engines that are not ours.
//!
//! ```sh
//! cd examples/conformance
//! cargo run -- tract
//! cargo run -- candle
//! cargo run -- ort --python python3      # after: pip install onnxruntime
//! ```
//!
//! For each operator it asks one question after another, from plain numbers to those that are none, and prints what the
//! kit finds: within the bound, or the smallest case that is not. A difference is a finding and no failure of this
//! program; `--strict` makes it one.

mod engines;
mod onnx;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use engines::{Candle, Engine, Ort, Tract};
use sepconv::testing::{
    Activation, Cases, Check, Denormals, Layout, NanPolicy, PaddingKind, PaddingPolicy, Problem, Values,
};

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Tract,
    Candle,
    Ort,
}

/// Checks the convolutions of another engine.
#[derive(Parser)]
struct EngineArgs {
    /// The engine.
    engine: Which,
    /// Cases for each question.
    #[arg(long, default_value_t = 256)]
    cases: u32,
    /// From which the cases are drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only operators whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
    /// The Python that has onnxruntime.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// How far ONNX Runtime optimises a model: its own levels.
    #[arg(long, default_value = "all", value_parser = ["disable_all", "basic", "extended", "all"])]
    optimization: String,
    /// Ends with an error where a question finds a difference.
    #[arg(long)]
    strict: bool,
}

/// What is asked, in the order in which answers matter.
struct Question {
    name: &'static str,
    inputs: &'static [Values],
    weights: &'static [Values],
    /// Whether padding goes beyond the window, where it sees nothing but padding.
    beyond: bool,
    relax: fn(Check) -> Check,
}

const PLAIN: &[Values] = &[Values::Uniform, Values::Zeros, Values::Equal, Values::Cancelling];
const SMALL: &[Values] = &[Values::Tiny, Values::Denormal];

const QUESTIONS: &[Question] = &[
    Question { name: "plain numbers", inputs: PLAIN, weights: PLAIN, beyond: false, relax: |check| check },
    Question { name: "padding beyond the window", inputs: PLAIN, weights: PLAIN, beyond: true, relax: |check| check },
    Question { name: "denormals", inputs: SMALL, weights: SMALL, beyond: false, relax: |check| check },
    Question {
        name: "denormals, which may be flushed",
        inputs: SMALL,
        weights: SMALL,
        beyond: false,
        relax: |check| check.denormals(Denormals::MayBeFlushed),
    },
    Question {
        name: "huge numbers",
        inputs: &[Values::Huge],
        weights: &[Values::Huge],
        beyond: false,
        relax: |check| check,
    },
    Question {
        name: "infinite inputs",
        inputs: &[Values::Infinite],
        weights: PLAIN,
        beyond: false,
        relax: |check| check,
    },
    Question {
        name: "infinite inputs, NaN lost",
        inputs: &[Values::Infinite],
        weights: PLAIN,
        beyond: false,
        relax: |check| check.nan(NanPolicy::MayBeLost),
    },
    Question { name: "NaN in inputs", inputs: &[Values::Nan], weights: PLAIN, beyond: false, relax: |check| check },
    Question {
        name: "NaN in inputs, which may be lost",
        inputs: &[Values::Nan],
        weights: PLAIN,
        beyond: false,
        relax: |check| check.nan(NanPolicy::MayBeLost),
    },
    Question {
        name: "infinite and NaN weights",
        inputs: PLAIN,
        weights: &[Values::Infinite, Values::Nan],
        beyond: false,
        relax: |check| check,
    },
    Question {
        name: "infinite and NaN weights, padding skipped, NaN lost",
        inputs: PLAIN,
        weights: &[Values::Infinite, Values::Nan],
        beyond: false,
        relax: |check| check.padding(PaddingPolicy::Skipped).nan(NanPolicy::MayBeLost),
    },
];

fn main() -> Result<()> {
    let args = EngineArgs::parse();
    let mut engine: Box<dyn Engine> = match args.engine {
        Which::Tract => Box::new(Tract::default()),
        Which::Candle => Box::new(Candle),
        Which::Ort => {
            let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("check_ort.py");
            Box::new(Ort::start(&args.python, &script, &args.optimization)?)
        }
    };
    let mut operators =
        vec![("depthwise", Cases::depthwise()), ("pointwise", Cases::pointwise()), ("conv2d", Cases::conv2d())];
    // how exact an exponential is, is the engine's own
    let clamps = [Activation::Linear, Activation::Relu, Activation::Relu6, Activation::Clamp { min: -0.5, max: 0.5 }];
    for (_, cases) in &mut operators {
        *cases = cases.clone().activations(&clamps);
    }
    match args.engine {
        // no more than its interface can say
        Which::Candle => {
            for (_, cases) in &mut operators {
                *cases = cases.clone().uniform().batch_norm(false).activations(&[Activation::Linear]);
            }
        }
        Which::Tract | Which::Ort => operators.extend([
            ("separable", Cases::separable().activations(&clamps)),
            ("inverted residual", Cases::inverted_residual().activations(&clamps)),
            ("average pool", Cases::average_pool()),
            ("graphs", Cases::graphs().activations(&clamps)),
        ]),
    }
    println!("{}", engine.name());
    let mut differences = 0;
    for (operator, cases) in operators.into_iter().filter(|(operator, _)| operator.contains(&args.only)) {
        println!("\n{operator}");
        for question in QUESTIONS {
            let paddings = match (question.beyond, args.engine) {
                (true, _) => vec![PaddingKind::Beyond],
                (false, _) => PaddingKind::ALL.iter().copied().filter(|&kind| kind != PaddingKind::Beyond).collect(),
            };
            let cases =
                cases.clone().paddings(&paddings).values(question.inputs).weights(question.weights).max_macs(200_000);
            let check = (question.relax)(Check::bounded().layout(Layout::Nchw)).cases(args.cases).seed(args.seed);
            // a panic of the engine is a finding, and is printed as one
            std::panic::set_hook(Box::new(|_| {}));
            let outcome = check.try_run(cases, |problem: &Problem, output: &mut [f32]| engine.run(problem, output));
            let _ = std::panic::take_hook();
            match outcome {
                Ok(summary) => println!("  {}: within the bound; {summary}", question.name),
                Err(failure) => {
                    differences += 1;
                    println!("  {}: {}", question.name, failure.to_string().replace('\n', "\n    "));
                }
            }
        }
    }
    if args.strict && differences > 0 {
        anyhow::bail!("{differences} questions found a difference");
    }
    Ok(())
}
