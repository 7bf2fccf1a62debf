//! Shapes beside those of MobileNet, each against a shape that is fast: how many times as long it takes, and how many it may take.
//!
//! A family is a kind of shape: batches of small images, signals, few channels. Each has several members, so that a cure for one sample shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aligned_vec::{AVec, ConstAlign};
use sepconv::{
    Activation, Conv2d, ConvDesc, DepthwiseConv2d, Error, Filter, GlobalAveragePool, InvertedResidual,
    InvertedResidualDesc, Isa, Layer, Network, Padding, ParallelFor, Plan, PlanOptions, PointwiseConv2d, Result,
    Scratch, SeparableConv2d, Shape, Shortcut, Strides, Threads, View, ViewMut,
};

/// A shape, a fast shape or a plain loop beside it, and how many times as long the first may take.
#[derive(Debug)]
pub struct Cliff {
    /// The kind of shape.
    pub family: &'static str,
    /// The shape.
    pub case: String,
    /// The fast shape, or the plain loop.
    pub against: String,
    /// The most that the ratio may be.
    pub bound: f64,
    measure: Measure,
}

/// How a cliff is measured.
enum Measure {
    /// The time of the first over that of the second, each for one unit of its work.
    Time(Box<[Side; 2]>, [f64; 2]),
    /// A ratio that no clock tells.
    Value(Box<dyn Fn() -> Result<f64>>),
}

impl Measure {
    fn time(sides: [Side; 2], work: [f64; 2]) -> Measure {
        Measure::Time(Box::new(sides), work)
    }
}

impl std::fmt::Debug for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Measure::Time(..) => f.write_str("Time"),
            Measure::Value(_) => f.write_str("Value"),
        }
    }
}

/// One of the two sides of a timed ratio.
enum Side {
    /// A plan for an input whose pixels lie so far apart and that begins so many values behind a cache line.
    Run { network: Network, input: Shape, options: PlanOptions, pixel: usize, behind: usize },
    /// A plain loop over as many values of input, to as many of output.
    Loop { values: [usize; 2], run: fn(Shape, &[f32], &mut [f32]), input: Shape },
}

/// A side with its memory.
enum Ready {
    Run { plan: Plan, scratch: Scratch, input: Values, output: Values, strides: Strides, behind: usize },
    Loop { input: Values, output: Values, run: fn(Shape, &[f32], &mut [f32]), shape: Shape },
}

type Values = AVec<f32, ConstAlign<64>>;

/// So many values, of which each is a number of the same generator.
fn values(count: usize) -> Values {
    let mut rng = fastrand::Rng::with_seed(0x2222);
    let mut values = AVec::with_capacity(64, count);
    values.extend_from_slice(&(0..count).map(|_| rng.f32()).collect::<Vec<_>>());
    values
}

impl Side {
    fn ready(&self) -> Result<Ready> {
        match self {
            Side::Run { network, input: shape, options, pixel, behind } => {
                let (shape, pixel, behind) = (*shape, *pixel, *behind);
                let plan = network.plan(shape, options)?;
                let row = shape.w * pixel;
                let strides = Strides { image: shape.h * row, row, pixel, channel: 1 };
                let (input, output) = (values(behind + strides.span(shape)?), values(16 + plan.output_shape().len()?));
                let scratch = plan.scratch()?;
                Ok(Ready::Run { plan, scratch, input, output, strides, behind })
            }
            Side::Loop { values: [from, to], run, input: shape } => {
                Ok(Ready::Loop { input: values(*from), output: values(*to), run: *run, shape: *shape })
            }
        }
    }
}

impl Ready {
    fn run(&mut self) -> Result<()> {
        match self {
            Ready::Run { plan, scratch, input, output, strides, behind } => {
                let (from, to) = (plan.input_shape(), plan.output_shape());
                let (input, output) = (&input[*behind..], &mut output[*behind..][..to.len()?]);
                plan.run(View::with_strides(input, from, *strides)?, ViewMut::new(output, to)?, scratch)
            }
            Ready::Loop { input, output, run, shape } => {
                run(*shape, input, output);
                Ok(())
            }
        }
    }

    /// Seconds of a run: the best of some batches.
    fn best(&mut self, slot: Duration) -> Result<f64> {
        let start = Instant::now();
        self.run()?;
        let once = start.elapsed();
        let batch = (Duration::from_micros(200).as_nanos() / once.as_nanos().max(1)).clamp(1, 10_000) as u32;
        let (start, mut best) = (Instant::now(), f64::INFINITY);
        while best.is_infinite() || start.elapsed() < slot {
            let before = Instant::now();
            for _ in 0..batch {
                self.run()?;
            }
            best = best.min((before.elapsed() / batch).as_secs_f64());
        }
        Ok(best)
    }
}

impl Cliff {
    /// The ratio, timed for about as long as `time` says, and each side at least twelve times. It is infinite where there is no plan for its scratch.
    pub fn ratio(&self, time: Duration) -> Result<f64> {
        let (sides, work) = match &self.measure {
            Measure::Value(ratio) => return ratio(),
            Measure::Time(sides, work) => (sides, work),
        };
        let [mut first, mut second] = match [sides[0].ready(), sides[1].ready()] {
            [Err(error), _] if too_much_scratch(&error).is_some() => return Ok(f64::INFINITY),
            [first, second] => [first?, second?],
        };
        const TURNS: u32 = 6;
        let mut best = [f64::INFINITY; 2];
        for _ in 0..TURNS {
            for (best, side) in best.iter_mut().zip([&mut first, &mut second]) {
                *best = best.min(side.best(time / (2 * TURNS))?);
            }
        }
        Ok(best[0] / work[0] / (best[1] / work[1]))
    }
}

/// The bytes of scratch for which there is no plan, where that is the error.
fn too_much_scratch(error: &Error) -> Option<usize> {
    match error.without_layers() {
        Error::Scratch { bytes, .. } => Some(*bytes),
        _ => None,
    }
}

/// Filters and layers that cliffs are made of. Weights are the same numbers again and again.
mod layer {
    use super::*;

    fn weights(count: usize) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(0x3333);
        (0..count).map(|_| rng.f32() - 0.5).collect()
    }

    pub(super) fn pointwise(inputs: usize, outputs: usize) -> Result<Layer> {
        let weights = weights(inputs * outputs);
        let desc = ConvDesc::new(Filter::oihw(&weights, [outputs, inputs, 1, 1])).activation(Activation::Relu6);
        Ok(PointwiseConv2d::new(desc)?.into())
    }

    pub(super) fn standard(inputs: usize, outputs: usize, stride: usize, dilation: usize) -> Result<Layer> {
        let weights = weights(9 * inputs * outputs);
        let desc = ConvDesc::new(Filter::oihw(&weights, [outputs, inputs, 3, 3]));
        Ok(Conv2d::new(desc.stride(stride).dilation(dilation).padding(Padding::all(dilation)))?.into())
    }

    /// `[rows, columns]` of the window, which has padding as on all sides as keeps the plane.
    pub(super) fn depthwise(channels: usize, window: [usize; 2], multiplier: usize, stride: usize) -> Result<Layer> {
        let [rows, columns] = window;
        let weights = weights(rows * columns * channels * multiplier);
        let filter = Filter::depthwise_c1hw(&weights, [channels, rows, columns], multiplier);
        let desc = ConvDesc::new(filter).stride(stride).padding(Padding::Same).activation(Activation::Relu6);
        Ok(DepthwiseConv2d::new(desc)?.into())
    }

    pub(super) fn separable(inputs: usize, outputs: usize) -> Result<Layer> {
        let (taps, matrix) = (weights(9 * inputs), weights(inputs * outputs));
        let depthwise = ConvDesc::new(Filter::depthwise_c1hw(&taps, [inputs, 3, 3], 1)).padding(Padding::Same);
        Ok(SeparableConv2d::new(depthwise, ConvDesc::new(Filter::oihw(&matrix, [outputs, inputs, 1, 1])))?.into())
    }

    pub(super) fn inverted(channels: usize, expanded: usize, window: usize) -> Result<Layer> {
        let (taps, matrix) = (weights(window * window * expanded), weights(channels * expanded));
        let filter = Filter::depthwise_c1hw(&taps, [expanded, window, window], 1);
        let depthwise = ConvDesc::new(filter).padding(Padding::Same).activation(Activation::Relu6);
        let project = ConvDesc::new(Filter::oihw(&matrix, [channels, expanded, 1, 1]));
        let expand = ConvDesc::new(Filter::oihw(&matrix, [expanded, channels, 1, 1])).activation(Activation::Relu6);
        let block = InvertedResidualDesc::new(depthwise, project).expand(expand).shortcut(Shortcut::Required);
        Ok(InvertedResidual::new(block)?.into())
    }

    pub(super) fn mean(channels: usize) -> Result<Layer> {
        Ok(GlobalAveragePool::new(channels)?.into())
    }
}

/// So many threads, whose work the calling thread does alone, one after the other: its time is the work of all.
struct InTurn(usize);

impl ParallelFor for InTurn {
    fn threads(&self) -> usize {
        self.0
    }

    fn parallel_for(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(task);
    }
}

fn on_threads(options: &PlanOptions, count: usize) -> PlanOptions {
    options.clone().threads(Threads::Custom(Arc::new(InTurn(count)))).max_threads(count)
}

/// The cliffs as they are made.
struct CliffList<'a> {
    options: &'a PlanOptions,
    cliffs: Vec<Cliff>,
}

impl CliffList<'_> {
    fn run(&self, layer: Layer, input: Shape) -> Result<Side> {
        self.run_apart(layer, input, input.c, 0)
    }

    fn run_apart(&self, layer: Layer, input: Shape, pixel: usize, behind: usize) -> Result<Side> {
        Ok(Side::Run { network: Network::new(vec![layer])?, input, options: self.options.clone(), pixel, behind })
    }

    fn add(&mut self, family: &'static str, bound: f64, case: String, against: String, measure: Measure) {
        self.cliffs.push(Cliff { family, case, against, bound, measure });
    }

    /// One layer on two inputs, by the time for each unit of work.
    fn shapes(
        &mut self,
        family: &'static str,
        bound: f64,
        what: &str,
        layer: impl Fn() -> Result<Layer>,
        shapes: [Shape; 2],
        work: [f64; 2],
    ) -> Result<()> {
        let sides = [self.run(layer()?, shapes[0])?, self.run(layer()?, shapes[1])?];
        let [case, against] = shapes;
        self.add(family, bound, format!("{what} on {case}"), against.to_string(), Measure::time(sides, work));
        Ok(())
    }

    /// Two layers on their inputs.
    fn layers(
        &mut self,
        family: &'static str,
        bound: f64,
        [case, against]: [(String, Layer, Shape); 2],
        work: [f64; 2],
    ) -> Result<()> {
        let sides = [self.run(case.1, case.2)?, self.run(against.1, against.2)?];
        let [case, against] =
            [(case.0, case.2), (against.0, against.2)].map(|(what, shape)| format!("{what} on {shape}"));
        self.add(family, bound, case, against, Measure::time(sides, work));
        Ok(())
    }

    /// A layer against a plain loop over the same values, which writes `outputs` values.
    fn loops(
        &mut self,
        family: &'static str,
        what: &str,
        layer: Layer,
        input: Shape,
        outputs: usize,
        run: fn(Shape, &[f32], &mut [f32]),
    ) -> Result<()> {
        let sides = [self.run(layer, input)?, Side::Loop { values: [input.len()?, outputs], run, input }];
        let (case, against) = (format!("{what} on {input}"), "a plain loop".into());
        self.add(family, 1.0, case, against, Measure::time(sides, [1.0; 2]));
        Ok(())
    }
}

/// All cliffs, for plans by these options.
pub fn all(options: &PlanOptions) -> Result<Vec<Cliff>> {
    let mut list = CliffList { options, cliffs: Vec::new() };
    list.planes()?;
    list.batches()?;
    list.windows()?;
    list.signals()?;
    list.channels()?;
    list.means()?;
    list.threads()?;
    Ok(list.cliffs)
}

impl CliffList<'_> {
    /// Large planes, unaligned memory, slices of wide pixels.
    fn planes(&mut self) -> Result<()> {
        if self.options.isa()? == Isa::Avx512 {
            for (side, channels, stride) in [(512, 64, 1), (512, 64, 2), (1024, 32, 1), (768, 48, 1)] {
                let (input, name) = (Shape::new(1, side, side, channels), format!("depthwise 3×3 stride {stride}"));
                let mut sides = [0, 1].map(|_| self.run(layer::depthwise(channels, [3, 3], 1, stride)?, input));
                if let Ok(Side::Run { options, .. }) = &mut sides[1] {
                    *options = options.clone().max_isa(Isa::Avx2);
                }
                let [first, second] = sides;
                let measure = Measure::time([first?, second?], [1.0; 2]);
                self.add("1 large planes, AVX-512", 1.0, format!("{name} on {input}"), "AVX2".into(), measure);
            }
        }
        for (side, channels) in [(14, 512), (112, 32), (28, 256)] {
            let input = Shape::new(1, side, side, channels);
            let layer = || layer::depthwise(channels, [3, 3], 1, 1);
            let sides = [self.run_apart(layer()?, input, channels, 4)?, self.run(layer()?, input)?];
            let case = format!("depthwise 3×3 on {input}, 4 values behind a line");
            self.add("2 behind a cache line", 1.15, case, "on a line".into(), Measure::time(sides, [1.0; 2]));
        }
        for (pixel, channels) in [(1024, 64), (1280, 64), (2048, 96)] {
            let input = Shape::new(1, 56, 56, channels);
            let layer = || layer::depthwise(channels, [3, 3], 1, 1);
            let sides = [self.run_apart(layer()?, input, pixel, 0)?, self.run(layer()?, input)?];
            let case = format!("depthwise 3×3 on {input}, pixels {pixel} values apart");
            self.add("15 slices of wide pixels", 1.3, case, "dense pixels".into(), Measure::time(sides, [1.0; 2]));
        }
        for size in [224, 160] {
            let input = Shape::new(1, size, size, 3);
            let sides = [
                self.run_apart(layer::standard(3, 32, 2, 1)?, input, 4, 0)?,
                self.run(layer::standard(3, 32, 2, 1)?, input)?,
            ];
            let case = format!("3×3 stride 2, 3 → 32 on {input}, pixels 4 values apart");
            self.add("17 four-channel pixels", 1.1, case, "3 values apart".into(), Measure::time(sides, [1.0; 2]));
        }
        for (height, width) in [(540, 960), (4, 65_536), (1000, 40)] {
            let work = [(height * width) as f64, 56.0 * 56.0];
            let shapes = |c| [Shape::new(1, height, width, c), Shape::new(1, 56, 56, c)];
            let inverted = || layer::inverted(24, 144, 3);
            self.shapes("19 large planes", 1.25, "inverted 24-144-24", inverted, shapes(24), work)?;
            let separable = || layer::separable(64, 128);
            self.shapes("19 large planes", 1.25, "separable 64 → 128", separable, shapes(64), work)?;
        }
        Ok(())
    }

    /// Batches of small images, rows of all pixels, two pixels.
    fn batches(&mut self) -> Result<()> {
        const FAMILY: &str = "3 batches of small images";
        for (inputs, outputs, batch, plane) in [
            (1280, 1000, Shape::new(64, 1, 1, 1280), [8, 8]),
            (64, 64, Shape::new(4096, 1, 1, 64), [64, 64]),
            (512, 512, Shape::new(32, 2, 2, 512), [8, 16]),
            (24, 40, Shape::new(300, 3, 1, 24), [30, 30]),
        ] {
            let shapes = [batch, Shape::new(1, plane[0], plane[1], inputs)];
            let name = format!("pointwise {inputs} → {outputs}");
            self.shapes(FAMILY, 1.15, &name, || layer::pointwise(inputs, outputs), shapes, [1.0; 2])?;
        }
        for (channels, batch, side) in [(256, Shape::new(3136, 1, 1, 256), 56), (128, Shape::new(400, 3, 3, 128), 60)] {
            let shapes = [batch, Shape::new(1, side, side, channels)];
            let separable = || layer::separable(channels, channels);
            self.shapes(FAMILY, 1.15, &format!("separable {channels}"), separable, shapes, [1.0; 2])?;
        }
        for (channels, batch, side) in [(160, Shape::new(784, 1, 1, 160), 28), (32, Shape::new(100, 3, 3, 32), 30)] {
            let (shapes, expanded) = ([batch, Shape::new(1, side, side, channels)], 6 * channels);
            let inverted = || layer::inverted(channels, expanded, 3);
            self.shapes(
                FAMILY,
                1.15,
                &format!("inverted {channels}-{expanded}-{channels}"),
                inverted,
                shapes,
                [1.0; 2],
            )?;
        }
        for (inputs, outputs) in [(1280, 1000), (512, 256)] {
            let shapes = [2, 3].map(|n| Shape::new(n, 1, 1, inputs));
            let name = format!("pointwise {inputs} → {outputs}");
            self.shapes("4 two pixels", 0.8, &name, || layer::pointwise(inputs, outputs), shapes, [1.0; 2])?;
        }
        for (inputs, outputs, side) in [(64, 256, 256), (256, 1024, 128), (32, 64, 200)] {
            let shapes = [Shape::new(1, 1, side * side, inputs), Shape::new(1, side, side, inputs)];
            let name = format!("pointwise {inputs} → {outputs}");
            self.shapes("12 long rows", 1.1, &name, || layer::pointwise(inputs, outputs), shapes, [1.0; 2])?;
        }
        Ok(())
    }

    /// Multipliers, small windows, dilation.
    fn windows(&mut self) -> Result<()> {
        let depthwise = |channels: usize, multiplier: usize, stride: usize, side: usize| -> Result<_> {
            let name = format!("depthwise 3×3 stride {stride} × {multiplier}");
            let layer = layer::depthwise(channels, [3, 3], multiplier, stride)?;
            Ok((name, layer, Shape::new(1, side, side, channels)))
        };
        for multiplier in [2, 3, 4, 6, 8] {
            let sides = [depthwise(192 / multiplier, multiplier, 1, 56)?, depthwise(192, 1, 1, 56)?];
            self.layers("6 multipliers", 1.5, sides, [1.0; 2])?;
        }
        self.layers("6 multipliers", 1.5, [depthwise(1, 32, 2, 64)?, depthwise(32, 1, 2, 64)?], [1.0; 2])?;
        for (side, channels) in [(56, 128), (28, 96)] {
            for (window, bound) in [([1, 3], 0.7), ([3, 1], 0.7), ([2, 2], 0.7), ([1, 1], 0.55)] {
                let input = Shape::new(1, side, side, channels);
                let of = |window: [usize; 2]| -> Result<_> {
                    let name = format!("depthwise {}×{}", window[0], window[1]);
                    Ok((name, layer::depthwise(channels, window, 1, 1)?, input))
                };
                self.layers("7 small windows", bound, [of(window)?, of([3, 3])?], [1.0; 2])?;
            }
        }
        for (inputs, side, bound) in [(3, 64, 1.5), (16, 64, 1.25), (8, 40, 1.5)] {
            let input = Shape::new(1, side, side, inputs);
            let of = |dilation: usize| -> Result<_> {
                Ok((format!("3×3 {inputs} → 16 dilation {dilation}"), layer::standard(inputs, 16, 1, dilation)?, input))
            };
            self.layers("14 dilation", bound, [of(2)?, of(1)?], [1.0; 2])?;
        }
        Ok(())
    }

    /// Planes of one row or one column.
    fn signals(&mut self) -> Result<()> {
        for (taps, length, channels) in [(3, 65_536, 1), (31, 1000, 512), (5, 4000, 16), (9, 3000, 64)] {
            let along_h = layer::depthwise(channels, [taps, 1], 1, 1)?;
            let along_w = layer::depthwise(channels, [1, taps], 1, 1)?;
            let sides = [
                (format!("{taps} taps"), along_h, Shape::new(1, length, 1, channels)),
                (format!("{taps} taps"), along_w, Shape::new(1, 1, length, channels)),
            ];
            self.layers("8 signals along H", 1.2, sides, [1.0; 2])?;
        }
        for length in [65_536, 4000] {
            let layer = layer::depthwise(1, [1, 3], 1, 1)?;
            self.loops("9 signals along W", "3 taps", layer, Shape::new(1, 1, length, 1), length, loops::three_taps)?;
        }
        for (taps, length) in [(5, 8 << 20), (3, 4 << 20)] {
            let input = Shape::new(1, 1, length, 1);
            let network = Network::new(vec![layer::depthwise(1, [1, taps], 1, 1)?])?;
            let most = (2 * length * size_of::<f32>() + (1 << 20)) as f64;
            let ratio = match network.plan(input, self.options) {
                Ok(plan) => plan.scratch_bytes() as f64 / most,
                Err(error) => too_much_scratch(&error).ok_or(error)? as f64 / most,
            };
            let (case, against) = (format!("scratch of 1×{taps} on {input}"), "2 × the input + 1 MiB".into());
            self.add("11 scratch of long rows", 1.0, case, against, Measure::Value(Box::new(move || Ok(ratio))));
        }
        Ok(())
    }

    /// Few channels in, or out.
    fn channels(&mut self) -> Result<()> {
        for side in [112, 60] {
            for (channels, bound) in [(1, 3.0), (3, 2.0), (8, 1.5), (24, 1.15)] {
                let of = |channels: usize| -> Result<_> {
                    let layer = layer::depthwise(channels, [3, 3], 1, 1)?;
                    Ok(("depthwise 3×3".to_owned(), layer, Shape::new(1, side, side, channels)))
                };
                let work = [channels as f64, 32.0];
                self.layers("13 few channels, each value", bound, [of(channels)?, of(32)?], work)?;
            }
        }
        let (layer, input) = (layer::depthwise(1, [3, 3], 1, 1)?, Shape::new(1, 1080, 1920, 1));
        self.loops("13 few channels, each value", "depthwise 3×3", layer, input, 1080 * 1920, loops::three_by_three)?;
        for (inputs, side) in [(256, 28), (96, 56)] {
            for (outputs, bound) in [(1, 0.3), (17, 1.35)] {
                let of = |outputs: usize| -> Result<_> {
                    let layer = layer::pointwise(inputs, outputs)?;
                    Ok((format!("pointwise {inputs} → {outputs}"), layer, Shape::new(1, side, side, inputs)))
                };
                self.layers("16 few outputs", bound, [of(outputs)?, of(16)?], [1.0; 2])?;
            }
        }
        Ok(())
    }

    fn means(&mut self) -> Result<()> {
        for (height, width, channels) in
            [(512, 512, 64), (1000, 1000, 3), (300, 300, 256), (7, 7, 1024), (2000, 2000, 1)]
        {
            let input = Shape::new(1, height, width, channels);
            self.loops("18 the mean", "mean", layer::mean(channels)?, input, channels, loops::mean)?;
        }
        for side in [2048, 5000] {
            let input = Shape::new(1, side, side, 1);
            let side = self.run(layer::mean(1)?, input)?;
            let error = move || {
                let mut ready = side.ready()?;
                ready.run()?;
                let Ready::Run { input: values, output, .. } = &ready else { return Ok(f64::NAN) };
                let exact = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
                Ok((f64::from(output[0]) - exact).abs() / exact / 1e-6)
            };
            let case = format!("error of the mean of {input}");
            self.add("18 the mean", 1.0, case, "10⁻⁶".into(), Measure::Value(Box::new(error)));
        }
        Ok(())
    }

    /// Work that threads share.
    fn threads(&mut self) -> Result<()> {
        for (images, threads) in [(19, 4), (35, 8), (67, 16), (7, 4)] {
            let input = Shape::new(images, 24, 24, 32);
            let side = |options: PlanOptions| -> Result<Side> {
                let network = Network::new(vec![layer::inverted(32, 192, 5)?])?;
                Ok(Side::Run { network, input, options, pixel: input.c, behind: 0 })
            };
            let sides =
                [side(on_threads(self.options, threads))?, side(self.options.clone().threads(Threads::Serial))?];
            let case = format!("work of {threads} threads, inverted 32-192-32, 5×5 on {input}");
            self.add("5 uneven batches", 1.1, case, "one thread".into(), Measure::time(sides, [1.0; 2]));
        }
        let long = |channels| Shape::new(1, 1, 4096, channels);
        for (what, layer, input) in [
            ("depthwise 1×15", layer::depthwise(64, [1, 15], 1, 1)?, long(64)),
            ("separable 64", layer::separable(64, 64)?, long(64)),
            ("inverted 32-192-32", layer::inverted(32, 192, 3)?, long(32)),
        ] {
            let network = Network::new(vec![layer])?;
            for threads in [2, 8] {
                self.pieces("10 one row on threads", what, &network, input, threads)?;
            }
        }
        for (side, channels, threads) in [(7, 1024, 8), (5, 512, 8), (3, 1024, 4)] {
            let network = Network::new(vec![layer::depthwise(channels, [7, 7], 1, 1)?])?;
            let input = Shape::new(1, side, side, channels);
            self.pieces("20 pieces for all threads", "depthwise 7×7", &network, input, threads)?;
        }
        Ok(())
    }

    /// Threads over the pieces that they share.
    fn pieces(
        &mut self,
        family: &'static str,
        what: &str,
        network: &Network,
        input: Shape,
        threads: usize,
    ) -> Result<()> {
        let plan = network.plan(input, &on_threads(self.options, threads))?;
        let pieces = plan.explain().stages.iter().map(|stage| stage.pieces).min().unwrap_or(1);
        let (case, against) = (format!("{what} on {input}, {threads} threads"), format!("{pieces} pieces"));
        let ratio = threads as f64 / pieces as f64;
        self.add(family, 1.0, case, against, Measure::Value(Box::new(move || Ok(ratio))));
        Ok(())
    }
}

/// Plain loops: the programs that have no library to call.
mod loops {
    use super::Shape;

    pub(super) fn three_taps(_: Shape, x: &[f32], out: &mut [f32]) {
        let last = x.len() - 1;
        out[0] = (0.25 * x[0] + 0.5 * x[1]).clamp(0.0, 6.0);
        for i in 1..last {
            out[i] = (0.125 * x[i - 1] + 0.25 * x[i] + 0.5 * x[i + 1]).clamp(0.0, 6.0);
        }
        out[last] = (0.125 * x[last - 1] + 0.25 * x[last]).clamp(0.0, 6.0);
    }

    pub(super) fn three_by_three(Shape { h, w, .. }: Shape, x: &[f32], out: &mut [f32]) {
        const TAPS: [[f32; 3]; 3] = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]];
        for y in 0..h {
            for column in 0..w {
                let mut sum = 0.0;
                for (ky, taps) in TAPS.iter().enumerate() {
                    for (kx, tap) in taps.iter().enumerate() {
                        let (row, column) = (y + ky, column + kx);
                        if (1..=h).contains(&row) && (1..=w).contains(&column) {
                            sum += tap * x[(row - 1) * w + column - 1];
                        }
                    }
                }
                out[y * w + column] = sum.clamp(0.0, 6.0);
            }
        }
    }

    pub(super) fn mean(Shape { h, w, c, .. }: Shape, x: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        for pixel in x.chunks_exact(c) {
            for (sum, value) in out.iter_mut().zip(pixel) {
                *sum += value;
            }
        }
        for sum in out {
            *sum /= (h * w) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_members() {
        let cliffs = all(&PlanOptions::new().max_isa(Isa::Scalar)).unwrap();
        for number in 2..=20 {
            let members = cliffs.iter().filter(|cliff| cliff.family.starts_with(&format!("{number} "))).count();
            assert!(members >= 2, "family {number} has {members} members");
        }
    }

    #[test]
    fn a_loop_that_does_twice_the_work_is_seen() {
        fn once(_: Shape, x: &[f32], out: &mut [f32]) {
            out[0] = x.iter().fold(0.0, |sum, x| sum + x);
        }
        fn twice(shape: Shape, x: &[f32], out: &mut [f32]) {
            once(shape, x, out);
            once(shape, x, std::hint::black_box(out));
        }
        let side = |run| Side::Loop { values: [100_000, 1], run, input: Shape::new(1, 1, 1, 1) };
        let measure = Measure::time([side(twice), side(once)], [1.0; 2]);
        let cliff = Cliff { family: "", case: String::new(), against: String::new(), bound: 1.0, measure };
        let ratio = cliff.ratio(Duration::from_millis(200)).unwrap();
        assert!((1.3..3.0).contains(&ratio), "{ratio}");
    }
}
