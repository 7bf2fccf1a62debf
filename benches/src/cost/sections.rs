//! What is measured, part by part.

use std::collections::HashMap;

use sepconv::models::Weights;
use sepconv::{Fusion, Network, PlanOptions, Result, Schedule, Shape, Threads};

use super::im2col::Im2col;
use super::report::Section;
use crate::shapes::{self, BenchStage, Family, List, Net, Operator};
use crate::subject::{Buffers, Subject};

/// The name of a variant: a standard convolution on our kernels.
pub const STANDARD: &str = "standard";
/// The same by a matrix of windows and the `gemm` crate.
pub const IM2COL: &str = "standard, im2col + gemm";
/// The depthwise half alone.
pub const DEPTHWISE: &str = "depthwise";
/// The pointwise half alone.
pub const POINTWISE: &str = "pointwise";
/// Depthwise → pointwise as the plan does it.
pub const SEPARABLE: &str = "separable";
/// The same, each half on its own.
pub const SEPARABLE_UNFUSED: &str = "separable, unfused";
/// The same as one.
pub const SEPARABLE_FUSED: &str = "separable, fused";
/// The bottleneck of a residual block with a standard convolution.
pub const BOTTLENECK: &str = "standard bottleneck";
/// V2's block as the plan does it.
pub const INVERTED: &str = "inverted residual";
/// The same, each stage on its own.
pub const INVERTED_UNFUSED: &str = "inverted residual, unfused";
/// The same as one.
pub const INVERTED_FUSED: &str = "inverted residual, fused";
/// A whole network.
pub const NETWORK: &str = "network";

/// Planes, and channels of the narrow end, at which blocks are compared: those of MobileNetV2 at stride 1.
pub const BLOCK_SIZES: [(usize, usize); 5] = [(56, 24), (28, 32), (14, 64), (14, 96), (7, 160)];
/// The factor of expansion of MobileNetV2.
pub const EXPANSION: usize = 6;
/// Where the factor of expansion is varied.
pub const EXPANSION_SIZE: (usize, usize) = (28, 32);
/// Channels that all sweeps read.
pub const SWEEP_INPUTS: usize = 128;
/// The plane at which output channels and kernels are varied.
pub const SWEEP_PLANE: usize = 14;
/// The output channels at which the plane is varied.
pub const SWEEP_OUTPUTS: usize = 128;

/// What runs.
#[derive(Debug)]
enum TimedWork {
    Plan(Box<Subject>),
    Im2col(Box<Im2col>),
}

impl TimedWork {
    fn values(&self) -> [usize; 2] {
        match self {
            TimedWork::Plan(subject) => subject.values(),
            TimedWork::Im2col(im2col) => im2col.values(),
        }
    }

    fn scratch_bytes(&self) -> usize {
        match self {
            TimedWork::Plan(subject) => subject.plan.scratch_bytes(),
            TimedWork::Im2col(im2col) => im2col.scratch_bytes(),
        }
    }
}

/// What is known of a measurement before it is made.
#[derive(Clone, Debug)]
pub struct Task {
    /// What is compared.
    pub case: String,
    /// How it is done.
    pub variant: String,
    /// Operators and shapes.
    pub shape: String,
    /// Rows and columns of the input.
    pub plane: usize,
    /// Channels of the input and of the output.
    pub channels: [usize; 2],
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// The factor of expansion.
    pub expansion: Option<usize>,
    /// The width multiplier.
    pub alpha: Option<f64>,
    /// Multiply-adds.
    pub macs: u64,
    /// Weights and biases.
    pub parameters: u64,
    /// Bytes of input, output and parameters: what has to be moved at the least.
    pub bytes: u64,
    /// Bytes of activations: input, output and scratch.
    pub memory: u64,
    /// Kernels.
    pub kernels: String,
    /// Which of the things that run it is; two variants may be one.
    pub subject: usize,
}

/// Two variants to hold against each other.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The case of both.
    pub case: String,
    /// The variant that is divided.
    pub variant: &'static str,
    /// The variant that it is divided by.
    pub over: &'static str,
    /// `1/N + 1/Dk²`.
    pub formula: Option<f64>,
}

/// A part of the report, ready to be measured.
#[derive(Debug)]
pub struct Plans {
    /// Which one.
    pub section: Section,
    /// What is measured.
    pub tasks: Vec<Task>,
    /// What is compared.
    pub pairs: Vec<Pair>,
    works: Vec<TimedWork>,
    options: PlanOptions,
    threads: Threads,
}

impl Plans {
    /// Makes and plans everything of a part.
    pub fn new(section: Section, options: &PlanOptions, threads: &Threads) -> Result<Plans> {
        let (options, threads) = (options.clone(), threads.clone());
        let mut plans = Plans { section, tasks: Vec::new(), pairs: Vec::new(), works: Vec::new(), options, threads };
        match section {
            Section::Layers => plans.layers()?,
            Section::Sweeps => plans.sweeps()?,
            Section::Blocks => plans.blocks()?,
            Section::Multipliers => plans.multipliers()?,
            Section::Roofline => plans.roofline()?,
        }
        Ok(plans)
    }

    /// Things that run.
    pub fn subjects(&self) -> usize {
        self.works.len()
    }

    /// Values of input and output at the most.
    pub fn values(&self) -> [usize; 2] {
        let all = self.works.iter().map(TimedWork::values);
        all.fold([0, 0], |[i, o], [input, output]| [i.max(input), o.max(output)])
    }

    /// Runs one thing once.
    pub fn run(&mut self, subject: usize, buffers: &mut Buffers) -> Result<()> {
        match &mut self.works[subject] {
            TimedWork::Plan(subject) => subject.run(buffers),
            TimedWork::Im2col(im2col) => {
                let (input, output) = buffers.take(im2col.values());
                im2col.run(input, output)
            }
        }
    }

    fn plan(&self, network: &Network, input: Shape, fusion: Fusion) -> Result<Subject> {
        Subject::new(network, input, &self.options.clone().fusion(fusion))
    }

    /// Adds a thing that runs.
    fn work(&mut self, work: TimedWork) -> usize {
        self.works.push(work);
        self.works.len() - 1
    }

    /// Adds a measurement of a thing that was added before.
    fn task(&mut self, case: &str, variant: &str, operator: &Operator, subject: usize) -> &mut Task {
        let work = &self.works[subject];
        let [inputs, outputs] = work.values();
        let kernels = match work {
            TimedWork::Plan(subject) => subject.kernels(),
            TimedWork::Im2col(_) => "im2col + gemm".into(),
        };
        self.tasks.push(Task {
            case: case.into(),
            variant: variant.into(),
            shape: format!("{} {}", operator.name(), operator.shape()),
            plane: operator.input.h,
            channels: [operator.input.c, operator.output().c],
            kernel: operator.stages.iter().map(|stage| stage.kernel).max().unwrap_or(1),
            expansion: None,
            alpha: None,
            macs: operator.macs(),
            parameters: operator.parameters() as u64,
            bytes: operator.bytes(),
            memory: (size_of::<f32>() * (inputs + outputs) + work.scratch_bytes()) as u64,
            kernels,
            subject,
        });
        self.tasks.last_mut().expect("it was just added")
    }

    /// Adds an operator as the plan does it.
    fn operator(&mut self, case: &str, variant: &str, operator: &Operator) -> Result<&mut Task> {
        let subject = self.plan(&operator.network()?, operator.input, Fusion::Auto)?;
        let subject = self.work(TimedWork::Plan(subject.into()));
        Ok(self.task(case, variant, operator, subject))
    }

    /// Adds a block as the plan does it, unfused, and fused by the schedule that the plan would take. What the plan
    /// does is one of the two others, and is measured with it.
    fn block(&mut self, case: &str, variants: [&str; 3], operator: &Operator) -> Result<[usize; 3]> {
        let network = operator.network()?;
        let auto = self.plan(&network, operator.input, Fusion::Auto)?;
        let unfused = self.plan(&network, operator.input, Fusion::Never)?;
        let schedules = [Schedule::RowRing, Schedule::ChannelSlabs].map(Fusion::Require);
        let mut fused = Vec::new();
        for fusion in schedules {
            fused.push(self.plan(&network, operator.input, fusion)?);
        }
        let (same, unlike) = (|a: &Subject, b: &Subject| a.decisions() == b.decisions(), usize::MAX);
        let by_slabs = same(&auto, &fused[1]) && !same(&auto, &fused[0]);
        let fused = fused.swap_remove(usize::from(by_slabs));
        let is = [same(&auto, &unfused), same(&auto, &fused)];
        let unfused = self.work(TimedWork::Plan(unfused.into()));
        let fused = self.work(TimedWork::Plan(fused.into()));
        let planned = match is {
            [true, _] => unfused,
            [_, true] => fused,
            _ => unlike,
        };
        let planned = if planned == unlike { self.work(TimedWork::Plan(auto.into())) } else { planned };
        let subjects = [planned, unfused, fused];
        let first = self.tasks.len();
        for (variant, subject) in variants.into_iter().zip(subjects) {
            self.task(case, variant, operator, subject);
        }
        Ok([first, first + 1, first + 2])
    }

    fn pair(&mut self, case: &str, variant: &'static str, over: &'static str, formula: Option<f64>) {
        self.pairs.push(Pair { case: case.into(), variant, over, formula });
    }

    /// The layers of V1, each once, as `7–11 · 14×14 · 512→512`.
    fn layers(&mut self) -> Result<()> {
        let blocks = shapes::blocks(Net::V1, 1.0, 224)?;
        let blocks: Vec<_> = blocks.into_iter().filter(|block| block.family() == Family::Separable).collect();
        let mut numbers: HashMap<&Operator, Vec<usize>> = HashMap::new();
        for (number, block) in (1..).zip(&blocks) {
            numbers.entry(block).or_default().push(number);
        }
        for (number, block) in (1..).zip(&blocks) {
            // those that are alike stand together
            let numbers = &numbers[block];
            let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
            if number != first {
                continue;
            }
            let numbers = if first == last { first.to_string() } else { format!("{first}–{last}") };
            let [depthwise, pointwise] = [block.stages[0], block.stages[1]];
            let stride = if depthwise.stride[0] == 2 { " /2" } else { "" };
            let [plane, inputs, outputs] = [block.input.h, depthwise.inputs, pointwise.outputs];
            let case = format!("{numbers} · {plane}×{plane}{stride} · {inputs}→{outputs}");
            self.separable(&case, block, true)?;
        }
        Ok(())
    }

    /// A separable convolution, and the standard one that it stands for.
    fn separable(&mut self, case: &str, block: &Operator, in_full: bool) -> Result<()> {
        let [depthwise, pointwise] = [block.stages[0], block.stages[1]];
        let standard = BenchStage::standard(depthwise.kernel, depthwise.stride[0], depthwise.inputs, pointwise.outputs);
        let single = |stage, input| Operator { stages: vec![stage], shortcut: false, input };
        let formula = 1.0 / pointwise.outputs as f64 + 1.0 / (depthwise.kernel * depthwise.kernel) as f64;
        self.operator(case, STANDARD, &single(standard, block.input))?;
        self.operator(case, DEPTHWISE, &single(depthwise, block.input))?;
        self.operator(case, POINTWISE, &single(pointwise, depthwise.output(block.input)))?;
        if in_full {
            let im2col =
                self.work(TimedWork::Im2col(Box::new(Im2col::new(standard, block.input, self.threads.clone()))));
            self.task(case, IM2COL, &single(standard, block.input), im2col);
            self.block(case, [SEPARABLE, SEPARABLE_UNFUSED, SEPARABLE_FUSED], block)?;
            self.pair(case, SEPARABLE, IM2COL, Some(formula));
            self.pair(case, SEPARABLE_FUSED, SEPARABLE_UNFUSED, None);
        } else {
            self.operator(case, SEPARABLE, block)?;
        }
        self.pair(case, SEPARABLE, STANDARD, Some(formula));
        Ok(())
    }

    /// One size after the other is varied: output channels with each kernel, then the plane.
    fn sweeps(&mut self) -> Result<()> {
        let outputs = (3..=10).map(|log| 1 << log);
        let mut sizes: Vec<_> =
            [3, 5, 7].into_iter().flat_map(|kernel| outputs.clone().map(move |n| (n, kernel, SWEEP_PLANE))).collect();
        let planes = [7, 14, 28, 56, 112].into_iter().map(|plane| (SWEEP_OUTPUTS, 3, plane));
        sizes.extend(planes.filter(|&(.., plane)| plane != SWEEP_PLANE));
        for (outputs, kernel, plane) in sizes {
            let block = Operator::separable(BenchStage::depthwise(kernel, 1, SWEEP_INPUTS), outputs, plane);
            self.separable(&format!("N {outputs} · Dk {kernel} · {plane}×{plane}"), &block, false)?;
        }
        Ok(())
    }

    /// V2's block at its own sizes, and at one size with other factors of expansion. The bottleneck of a residual block
    /// stands beside it at the same two widths, turned round: wide, narrow, wide.
    fn blocks(&mut self) -> Result<()> {
        let (plane, narrow) = EXPANSION_SIZE;
        let own = BLOCK_SIZES.map(|(plane, narrow)| (plane, narrow, EXPANSION));
        let factors = (1..=10).map(|factor| (plane, narrow, factor)).filter(|size| !own.contains(size));
        for (plane, narrow, factor) in own.into_iter().chain(factors) {
            let wide = factor * narrow;
            let case = format!("{plane}×{plane} · {narrow} · t {factor}");
            let mut stages = vec![BenchStage::depthwise(3, 1, wide), BenchStage::pointwise(wide, narrow).linear()];
            if factor > 1 {
                stages.insert(0, BenchStage::pointwise(narrow, wide));
            }
            let block = Operator { stages, shortcut: true, input: Shape::new(1, plane, plane, narrow) };
            // the shortcut's addition is left out in its favour: a network is a chain
            let bottleneck = Operator {
                stages: vec![
                    BenchStage::pointwise(wide, narrow),
                    BenchStage::standard(3, 1, narrow, narrow),
                    BenchStage::pointwise(narrow, wide),
                ],
                shortcut: false,
                input: Shape::new(1, plane, plane, wide),
            };
            let mut layers = Vec::new();
            for &stage in &bottleneck.stages {
                layers.push(Operator::single(stage, plane).layer()?);
            }
            let subject = self.plan(&Network::new(layers)?, bottleneck.input, Fusion::Auto)?;
            let subject = self.work(TimedWork::Plan(subject.into()));
            let task = self.task(&case, BOTTLENECK, &bottleneck, subject);
            task.expansion = Some(factor);
            task.shape = format!("pw + conv3x3s1 + pw {plane}x{plane} {wide}-{narrow}-{narrow}-{wide}");
            for task in self.block(&case, [INVERTED, INVERTED_UNFUSED, INVERTED_FUSED], &block)? {
                self.tasks[task].expansion = Some(factor);
            }
            self.pair(&case, INVERTED, BOTTLENECK, None);
            self.pair(&case, INVERTED_FUSED, INVERTED_UNFUSED, None);
        }
        Ok(())
    }

    fn multipliers(&mut self) -> Result<()> {
        for net in [Net::V1, Net::V2] {
            for &alpha in net.alphas() {
                let architecture = net.architecture(alpha)?;
                let network = architecture.network(&Weights::seeded(&architecture, 0)?)?;
                for &size in net.sizes() {
                    let input = Shape::new(1, size, size, architecture.inputs());
                    let subject = self.plan(&network, input, Fusion::Auto)?;
                    let (macs, scratch) = (subject.plan.macs(), subject.plan.scratch_bytes());
                    let [inputs, outputs] = subject.values();
                    let mut kernels: Vec<&str> = Vec::new();
                    let all = subject.kernels();
                    for kernel in all.split(" + ") {
                        if !kernels.contains(&kernel) {
                            kernels.push(kernel);
                        }
                    }
                    let kernels = kernels.join(" + ");
                    let case = format!("{} · α {alpha} · {size}", net.to_string().to_uppercase());
                    let subject = self.work(TimedWork::Plan(subject.into()));
                    self.tasks.push(Task {
                        shape: format!("MobileNet{case}"),
                        case,
                        variant: NETWORK.into(),
                        plane: size,
                        channels: [architecture.inputs(), architecture.outputs()],
                        kernel: 3,
                        expansion: None,
                        alpha: Some(alpha),
                        macs,
                        parameters: architecture.parameters(),
                        bytes: (size_of::<f32>() * (inputs + outputs)) as u64 + 4 * architecture.parameters(),
                        memory: (size_of::<f32>() * (inputs + outputs) + scratch) as u64,
                        kernels,
                        subject,
                    });
                }
            }
        }
        Ok(())
    }

    /// Every operator of both networks at width 1 and 224×224.
    fn roofline(&mut self) -> Result<()> {
        let mut list = List::new();
        for net in [Net::V1, Net::V2] {
            shapes::add_network(&mut list, net, 1.0, 224)?;
        }
        let mut entries = list.into_entries();
        entries.sort_by_key(|entry| entry.operator.family());
        for operator in entries.into_iter().map(|entry| entry.operator) {
            let variant = match operator.family() {
                Family::Standard => STANDARD,
                Family::Depthwise | Family::GeneralDepthwise => DEPTHWISE,
                Family::Pointwise => POINTWISE,
                Family::Separable => SEPARABLE,
                Family::InvertedResidual => INVERTED,
            };
            self.operator(&format!("{} {}", operator.name(), operator.shape()), variant, &operator)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::{plan_options, pool};

    /// Millions, as papers count them.
    fn millions(net: Net, alpha: f64, size: usize) -> (f64, f64) {
        let architecture = net.architecture(alpha).unwrap();
        let network = architecture.network(&Weights::seeded(&architecture, 0).unwrap()).unwrap();
        let plan = network.plan(Shape::new(1, size, size, 3), &PlanOptions::new()).unwrap();
        (plan.macs() as f64 / 1e6, architecture.parameters() as f64 / 1e6)
    }

    #[test]
    fn macs_and_parameters_are_those_of_the_papers() {
        // network, the paper's millions of MACs and parameters, and a unit of the last digit that it prints
        for (net, alpha, size, macs, parameters) in [
            // arXiv 1704.04861, tables 4, 6, 7 and 8
            (Net::V1, 1.0, 224, (569.0, 1.0), (4.2, 0.1)),
            (Net::V1, 0.75, 224, (325.0, 1.0), (2.6, 0.1)),
            (Net::V1, 0.5, 224, (149.0, 1.0), (1.3, 0.1)),
            (Net::V1, 0.25, 224, (41.0, 1.0), (0.5, 0.1)),
            (Net::V1, 1.0, 192, (418.0, 1.0), (4.2, 0.1)),
            (Net::V1, 1.0, 160, (290.0, 1.0), (4.2, 0.1)),
            (Net::V1, 1.0, 128, (186.0, 1.0), (4.2, 0.1)),
            (Net::V1, 0.5, 160, (76.0, 1.0), (1.32, 0.02)),
            // arXiv 1801.04381, table 4; 6.06 million parameters in the authors' list of checkpoints, where the table
            // says 6.9: 6.06 is what its own table 2 makes at this width
            (Net::V2, 1.0, 224, (300.0, 1.0), (3.4, 0.1)),
            (Net::V2, 1.4, 224, (582.0, 1.0), (6.06, 0.06)),
        ] {
            let got = millions(net, alpha, size);
            let near = |got: f64, (paper, digit): (f64, f64)| (got - paper).abs() <= digit;
            assert!(near(got.0, macs) && near(got.1, parameters), "{net} {alpha} {size}: {got:?}");
        }
    }

    #[test]
    fn every_case_has_what_it_is_compared_with() {
        let (options, threads) = (plan_options(None, 1).unwrap(), pool(1).unwrap());
        for section in Section::ALL {
            let mut plans = Plans::new(section, &options, &threads).unwrap();
            let has = |case: &str, variant: &str| plans.tasks.iter().any(|t| t.case == case && t.variant == variant);
            for pair in &plans.pairs {
                assert!(has(&pair.case, pair.variant) && has(&pair.case, pair.over), "{pair:?}");
            }
            let mut names: Vec<_> = plans.tasks.iter().map(|t| (&t.case, &t.variant)).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), plans.tasks.len(), "{section:?}");
            assert!(plans.tasks.iter().all(|task| task.subject < plans.subjects()));
            let mut buffers = Buffers::new(plans.values(), crate::subject::CacheState::Warm);
            plans.run(0, &mut buffers).unwrap();
        }
    }

    #[test]
    fn the_formula_is_the_ratio_of_macs() {
        let (options, threads) = (plan_options(None, 1).unwrap(), pool(1).unwrap());
        for section in [Section::Layers, Section::Sweeps] {
            let plans = Plans::new(section, &options, &threads).unwrap();
            let macs = |case: &str, variant: &str| {
                plans.tasks.iter().find(|t| t.case == case && t.variant == variant).unwrap().macs as f64
            };
            for Pair { case, variant, over, formula } in &plans.pairs {
                if let Some(formula) = formula {
                    assert!((macs(case, variant) / macs(case, over) - formula).abs() < 1e-12, "{case}");
                }
            }
        }
    }
}
