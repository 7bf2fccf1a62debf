//! Which stages may run as one step, and whether a step fits its tensors.
//!
//! ```text
//!   [convolution] depthwise [pointwise]     runs as a ChainStep
//!   convolution                             runs as a ConvStep
//!   average pool                            runs as a PoolStep
//! ```
//!
//! [`check`] decides the first question, and no other code does: operators, the regrouping of a network and lowering all
//! make a [`Chain`], whose constructors ask it. [`Ends::check`] decides the second one: every step asks it when it is made.
//! The unsafe code of the steps relies on both, and on `places` in `lower.rs`, which gives tensors that live at the same time
//! disjoint parts of the arena. A step subtracts channels, rows and columns without a check of its own, because these two
//! have compared them.

use core::ops::Range;

use sepconv_kernels::pack;

use super::{Conv, Depthwise, Ends, Layout, Place, Tensor};
use crate::memory::{Arc, product, text};
use crate::{Error, Result, Shape};

/// A stage with weights.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Conv(Arc<Conv>),
    Depthwise(Arc<Depthwise>),
}

/// Stages that may run as one step: an optional convolution, a depthwise convolution, an optional pointwise convolution;
/// or a convolution alone, which is the head then.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    head: Option<Arc<Conv>>,
    depthwise: Option<Arc<Depthwise>>,
    tail: Option<Arc<Conv>>,
}

/// The reason why stages cannot run as one step. `stage` is 0 for the head, 1 for the depthwise stage, 2 for the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// No step has stages in this order.
    Order,
    /// Sizes or packed weights of a stage contradict each other.
    Packed { stage: usize },
    /// A stage reads another number of channels than the one before it writes.
    Channels { stage: usize, expected: usize, got: usize },
    /// A convolution stands before a depthwise convolution that reads each channel several times. The ring holds what the
    /// head computes, so each channel would have to be there as often: the head's packed weights must repeat it.
    Multiplier { multiplier: usize },
    /// Behind a depthwise stage stands a convolution that is not 1×1, or has a stride or padding.
    Tail,
}

impl Misfit {
    /// The error, with these names for the head, the depthwise stage and the tail.
    pub(crate) fn named(self, names: [&'static str; 3]) -> Error {
        let refused = |why: core::fmt::Arguments<'_>| text(why).map_or_else(|error| error, Error::Fusion);
        match self {
            Misfit::Channels { stage, expected, got } => Error::Channels { what: names[stage], expected, got },
            Misfit::Order => refused(format_args!("stages in an order that no step has")),
            Misfit::Packed { stage } => refused(format_args!("{}: weights that are not of its sizes", names[stage])),
            Misfit::Multiplier { multiplier } => {
                let [head, depthwise, _] = names;
                refused(format_args!("{head} and {depthwise} with channel multiplier {multiplier} are no single step"))
            }
            Misfit::Tail => refused(format_args!("{}: expected 1×1, stride 1, no padding", names[2])),
        }
    }
}

/// The names of the stages of a step where no operator has better ones.
pub(super) const STAGES: [&str; 3] = ["convolution input", "depthwise input", "pointwise input"];

/// Whether these stages may run as one step, or why they may not.
pub(super) fn check(
    head: Option<&Conv>,
    depthwise: Option<&Depthwise>,
    tail: Option<&Conv>,
) -> core::result::Result<(), Misfit> {
    for (stage, conv) in [(0, head), (2, tail)] {
        if conv.is_some_and(|conv| !conv.is_packed()) {
            return Err(Misfit::Packed { stage });
        }
    }
    let Some(depthwise) = depthwise else {
        return if head.is_some() && tail.is_none() { Ok(()) } else { Err(Misfit::Order) };
    };
    if !depthwise.is_packed() {
        return Err(Misfit::Packed { stage: 1 });
    }
    if let Some(head) = head {
        if head.outputs != depthwise.inputs {
            return Err(Misfit::Channels { stage: 1, expected: head.outputs, got: depthwise.inputs });
        }
        if depthwise.multiplier != 1 {
            return Err(Misfit::Multiplier { multiplier: depthwise.multiplier });
        }
    }
    if let Some(tail) = tail {
        if tail.inputs != depthwise.outputs() {
            return Err(Misfit::Channels { stage: 2, expected: depthwise.outputs(), got: tail.inputs });
        }
        if !tail.is_pointwise() {
            return Err(Misfit::Tail);
        }
    }
    Ok(())
}

/// Stages in their order, as head, depthwise stage and tail.
type Slots<'a> = (Option<&'a Arc<Conv>>, Option<&'a Arc<Depthwise>>, Option<&'a Arc<Conv>>);

fn slots(parts: &[Part]) -> Option<Slots<'_>> {
    Some(match parts {
        [Part::Conv(head)] => (Some(head), None, None),
        [Part::Depthwise(depthwise)] => (None, Some(depthwise), None),
        [Part::Conv(head), Part::Depthwise(depthwise)] => (Some(head), Some(depthwise), None),
        [Part::Depthwise(depthwise), Part::Conv(tail)] => (None, Some(depthwise), Some(tail)),
        [Part::Conv(head), Part::Depthwise(depthwise), Part::Conv(tail)] => (Some(head), Some(depthwise), Some(tail)),
        _ => return None,
    })
}

/// Whether stages that follow each other may run as one step.
pub(super) fn may_be_one_step(parts: &[Part]) -> bool {
    slots(parts).is_some_and(|(head, depthwise, tail)| {
        check(head.map(|head| &**head), depthwise.map(|depthwise| &**depthwise), tail.map(|tail| &**tail)).is_ok()
    })
}

impl Chain {
    /// The most stages of a step.
    pub(super) const MOST: usize = 3;

    /// These stages as one step, or why they are none.
    pub(crate) fn new(
        head: Option<Arc<Conv>>,
        depthwise: Option<Arc<Depthwise>>,
        tail: Option<Arc<Conv>>,
    ) -> core::result::Result<Chain, Misfit> {
        check(head.as_deref(), depthwise.as_deref(), tail.as_deref())?;
        Ok(Chain { head, depthwise, tail })
    }

    /// Stages that follow each other as one step, or why they are none.
    pub(super) fn of(parts: &[Part]) -> core::result::Result<Chain, Misfit> {
        let (head, depthwise, tail) = slots(parts).ok_or(Misfit::Order)?;
        Chain::new(head.cloned(), depthwise.cloned(), tail.cloned())
    }

    pub(super) fn head(&self) -> Option<&Arc<Conv>> {
        self.head.as_ref()
    }

    pub(super) fn depthwise(&self) -> Option<&Arc<Depthwise>> {
        self.depthwise.as_ref()
    }

    pub(super) fn tail(&self) -> Option<&Arc<Conv>> {
        self.tail.as_ref()
    }

    /// Input channels and output channels.
    pub(crate) fn channels(&self) -> [usize; 2] {
        let [head, tail] = [&self.head, &self.tail].map(|conv| conv.as_ref().map(|conv| [conv.inputs, conv.outputs]));
        let depthwise = self.depthwise.as_ref().map(|depthwise| [depthwise.inputs, depthwise.outputs()]);
        let first = head.or(depthwise).map_or(0, |[inputs, _]| inputs);
        [first, tail.or(depthwise).or(head).map_or(0, |[_, outputs]| outputs)]
    }

    /// Its stages, each in its place.
    pub(super) fn parts(&self) -> [Option<Part>; Chain::MOST] {
        [
            self.head.clone().map(Part::Conv),
            self.depthwise.clone().map(Part::Depthwise),
            self.tail.clone().map(Part::Conv),
        ]
    }

    /// Checks the tensors of a step against the stages, and returns the shape behind each stage.
    pub(super) fn over(&self, tensors: &[Tensor], ends: &Ends) -> Result<[Shape; Chain::MOST]> {
        let shapes = self.shapes(ends.input(tensors)?.shape)?;
        // the last convolution adds a residual to its sums
        ends.check(tensors, shapes[2], self.tail.is_some() || self.depthwise.is_none())?;
        Ok(shapes)
    }

    /// The shapes that it makes of `input`: behind the head, behind the depthwise stage, and behind the tail. A stage that is
    /// not there leaves the shape as it is.
    pub(super) fn shapes(&self, input: Shape) -> Result<[Shape; Chain::MOST]> {
        input.len()?;
        let mut shapes = [input; Chain::MOST];
        let mut shape = input;
        if let Some(conv) = &self.head {
            channels(STAGES[0], conv.inputs, shape.c)?;
            let [h, w] = conv.window.over([shape.h, shape.w])?.out;
            shape = Shape::new(shape.n, h, w, conv.outputs);
        }
        shapes[0] = shape;
        if let Some(depthwise) = &self.depthwise {
            channels(STAGES[1], depthwise.inputs, shape.c)?;
            let [h, w] = depthwise.window.over([shape.h, shape.w])?.out;
            shape = Shape::new(shape.n, h, w, depthwise.outputs());
        }
        shapes[1] = shape;
        if let Some(conv) = &self.tail {
            channels(STAGES[2], conv.inputs, shape.c)?;
            shape = Shape { c: conv.outputs, ..shape };
        }
        shapes[2] = shape;
        for shape in shapes {
            shape.len()?;
        }
        Ok(shapes)
    }
}

/// An error where a stage, called `what`, reads `got` channels and `expected` come to it.
pub(crate) fn channels(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Channels { what, expected, got }) }
}

impl Conv {
    /// Whether its weights are packed for its sizes, which are at least 1 and do not overflow.
    fn is_packed(&self) -> bool {
        let [kh, kw] = self.window.kernel;
        let k = kh.checked_mul(kw).and_then(|taps| taps.checked_mul(self.inputs));
        self.window.check().is_ok()
            && self.inputs > 0
            && self.outputs > 0
            && k.and_then(|k| pack::pointwise_len(k, self.outputs)) == Some(self.weights.len())
    }
}

impl Depthwise {
    /// As [`Conv::is_packed`].
    fn is_packed(&self) -> bool {
        let [kh, kw] = self.window.kernel;
        let len = match (kh.checked_mul(kw), self.inputs.checked_mul(self.multiplier)) {
            (Some(taps), Some(outputs)) if outputs > 0 => pack::depthwise_len(taps, outputs),
            _ => None,
        };
        self.window.check().is_ok() && len == Some(self.weights.len())
    }
}

impl Ends {
    /// The tensor that the step reads.
    pub(super) fn input<'a>(&self, tensors: &'a [Tensor]) -> Result<&'a Tensor> {
        tensor(tensors, self.input)
    }

    /// Checks the tensors of a step that writes a tensor of shape `output`, and that `adds` a residual to it or not:
    /// shapes, layouts, and that nothing is written where the step still reads.
    pub(super) fn check(&self, tensors: &[Tensor], output: Shape, adds: bool) -> Result<()> {
        let refused = |why| Err(Error::Network(text(format_args!("a step {why}"))?));
        let (from, to) = (self.input(tensors)?, tensor(tensors, self.output)?);
        let residual = self.residual.map(|residual| tensor(tensors, residual)).transpose()?;
        if to.shape != output {
            return Err(Error::ShapeMismatch { what: "output of a step", expected: output, got: to.shape });
        }
        if let Some(residual) = residual {
            if residual.shape != output {
                return Err(Error::ShapeMismatch { what: "residual of a step", expected: output, got: residual.shape });
            }
            if !adds {
                return refused("that adds no residual has one");
            }
        }
        let written = to.memory()?;
        for read in [Some(from), residual].into_iter().flatten() {
            if read.place == Place::Output || read.place == to.place || overlap(&written, &read.memory()?) {
                return refused("that writes what it reads");
            }
        }
        if to.place == Place::Input {
            return refused("that writes the caller's input");
        }
        Ok(())
    }
}

fn tensor(tensors: &[Tensor], at: usize) -> Result<&Tensor> {
    match tensors.get(at) {
        Some(tensor) => Ok(tensor),
        None => Err(Error::Network(text(format_args!("a step of tensor {at}, of which there are {}", tensors.len()))?)),
    }
}

impl Tensor {
    /// The values of the arena that it takes, or none; an error where its layout is not one of its shape.
    pub(super) fn memory(&self) -> Result<Range<usize>> {
        let Tensor { shape, place, layout } = *self;
        if shape.is_empty() {
            return Err(Error::ZeroSize { shape });
        }
        shape.len()?;
        let expected = match place {
            Place::Arena(_) if layout.whole => Layout::blocked(shape, layout.columns)?,
            _ => Layout::nhwc(shape, shape.c),
        };
        if layout != expected {
            return Err(Error::Network(text(format_args!("a tensor of {shape} whose layout is of another shape"))?));
        }
        match place {
            Place::Input | Place::Output => Ok(0..0),
            Place::Arena(at) => {
                let end = at.checked_add(product(&[shape.n, shape.h, layout.row])?);
                end.map(|end| at..end).ok_or(Error::TooLarge { what: "arena", shape })
            }
        }
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    !a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests {
    use sepconv_kernels::Kernels;

    use super::*;
    use crate::memory::{Carver, zeros};
    use crate::program::cost::Thresholds;
    use crate::program::{ChainStep, ConvStep, Lowering, PoolStep};
    use crate::shape::Window;
    use crate::{Fusion, Padding, Schedule};

    fn window(kernel: usize, stride: usize) -> Window {
        Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], padding: Padding::Same }
    }

    fn conv(kernel: usize, inputs: usize, outputs: usize) -> Conv {
        let weights = zeros("weights", pack::pointwise_len(kernel * kernel * inputs, outputs).unwrap()).unwrap();
        Conv { window: window(kernel, 1), inputs, outputs, clamp: [0.0, 1.0], weights }
    }

    fn depthwise(inputs: usize, multiplier: usize) -> Depthwise {
        let weights = zeros("weights", pack::depthwise_len(9, inputs * multiplier).unwrap()).unwrap();
        Depthwise { window: window(3, 1), inputs, multiplier, clamp: [0.0, 1.0], weights }
    }

    fn shared<T>(value: T) -> Arc<T> {
        Arc::try_new("part", value).unwrap()
    }

    #[test]
    fn stages_that_fit_are_a_step() {
        let (c, d) = (|| shared(conv(3, 4, 20)), || shared(depthwise(20, 1)));
        let p = || shared(conv(1, 20, 7));
        for parts in [
            &[Part::Conv(c())][..],
            &[Part::Depthwise(d())],
            &[Part::Conv(c()), Part::Depthwise(d())],
            &[Part::Depthwise(d()), Part::Conv(p())],
            &[Part::Depthwise(shared(depthwise(10, 2))), Part::Conv(p())],
            &[Part::Conv(c()), Part::Depthwise(d()), Part::Conv(p())],
        ] {
            assert!(may_be_one_step(parts), "{parts:?}");
            let chain = Chain::of(parts).unwrap();
            assert_eq!(chain.parts().iter().flatten().count(), parts.len());
        }
        for parts in [
            &[][..],
            &[Part::Conv(c()), Part::Conv(p())],
            &[Part::Depthwise(d()), Part::Depthwise(d())],
            &[Part::Depthwise(d()), Part::Conv(p()), Part::Conv(p())],
            &[Part::Depthwise(d()), Part::Conv(p()), Part::Depthwise(d())],
        ] {
            assert!(!may_be_one_step(parts), "{parts:?}");
            assert_eq!(Chain::of(parts).unwrap_err(), Misfit::Order);
        }
    }

    #[test]
    fn stages_that_do_not_fit_are_none() {
        let misfit = |head: Option<Conv>, depthwise: Option<Depthwise>, tail: Option<Conv>| {
            let found = check(head.as_ref(), depthwise.as_ref(), tail.as_ref()).unwrap_err();
            // every one of them is an error that says what it is
            assert!(!found.named(["head", "depthwise", "tail"]).to_string().is_empty());
            found
        };
        assert_eq!(misfit(None, None, None), Misfit::Order);
        assert_eq!(misfit(Some(conv(1, 3, 4)), None, Some(conv(1, 4, 5))), Misfit::Order);
        for multiplier in [2, 3] {
            let found = misfit(Some(conv(3, 3, 16)), Some(depthwise(16, multiplier)), None);
            assert_eq!(found, Misfit::Multiplier { multiplier });
        }
        let found = misfit(Some(conv(3, 3, 15)), Some(depthwise(16, 1)), None);
        assert_eq!(found, Misfit::Channels { stage: 1, expected: 15, got: 16 });
        let found = misfit(None, Some(depthwise(16, 2)), Some(conv(1, 16, 4)));
        assert_eq!(found, Misfit::Channels { stage: 2, expected: 32, got: 16 });

        let tail = |window| Some(Conv { window, ..conv(1, 16, 4) });
        assert_eq!(misfit(None, Some(depthwise(16, 1)), Some(conv(3, 16, 4))), Misfit::Tail);
        assert_eq!(misfit(None, Some(depthwise(16, 1)), tail(window(1, 2))), Misfit::Tail);
        let padded = |bottom| Padding::Explicit { top: 0, bottom, left: 1 - bottom, right: 0 };
        for padding in [padded(0), padded(1)] {
            assert_eq!(misfit(None, Some(depthwise(16, 1)), tail(Window { padding, ..window(1, 1) })), Misfit::Tail);
        }

        for wrong in [
            Conv { inputs: 4, ..conv(1, 3, 16) },
            Conv { outputs: 17, ..conv(1, 3, 16) },
            Conv { inputs: 0, ..conv(1, 3, 16) },
            Conv { outputs: 0, weights: zeros("weights", 0).unwrap(), ..conv(1, 3, 16) },
            Conv { inputs: usize::MAX, ..conv(3, 3, 16) },
            Conv { window: window(2, 1), ..conv(1, 3, 16) },
            Conv { window: window(1, 0), ..conv(1, 3, 16) },
        ] {
            assert_eq!(misfit(Some(wrong), None, None), Misfit::Packed { stage: 0 });
        }
        for wrong in [
            Depthwise { inputs: 17, ..depthwise(16, 1) },
            Depthwise { multiplier: 0, ..depthwise(16, 1) },
            Depthwise { multiplier: usize::MAX, ..depthwise(16, 1) },
            Depthwise { window: window(5, 1), ..depthwise(16, 1) },
            Depthwise { window: window(0, 1), ..depthwise(16, 1) },
        ] {
            assert_eq!(misfit(None, Some(wrong), None), Misfit::Packed { stage: 1 });
        }
    }

    /// Tensors of a step from the caller's input, a tensor of the arena, to another one; a third is as the second is.
    fn tensors(from: Shape, to: Shape) -> [Tensor; 4] {
        let blocked = |shape, place| Tensor { shape, place, layout: Layout::blocked(shape, [1, 1]).unwrap() };
        let len = |t: &Tensor| t.shape.n * t.shape.h * t.layout.row;
        let x = blocked(from, Place::Arena(0));
        let out = blocked(to, Place::Arena(len(&x)));
        let residual = blocked(to, Place::Arena(len(&x) + len(&out)));
        [x, out, residual, Tensor { shape: to, place: Place::Output, layout: Layout::nhwc(to, to.c) }]
    }

    const ENDS: Ends = Ends { input: 0, output: 1, residual: None };
    const ADDS: Ends = Ends { residual: Some(2), ..ENDS };

    /// Makes a step of `[head] [depthwise] [tail]`, or of none of them a pool.
    fn step(chain: Option<&Chain>, tensors: &[Tensor], ends: Ends) -> Result<()> {
        let kernels = Kernels::available().next().unwrap();
        let thresholds = Thresholds::of(kernels.isa());
        let lowering = Lowering { fusion: Fusion::Auto, workers: 1, kernels, thresholds };
        let scratch = &mut Carver::default();
        match chain {
            None => PoolStep::new(tensors, ends, 1).map(drop),
            Some(chain) if chain.depthwise().is_none() => {
                ConvStep::new(chain, tensors, ends, 1, &thresholds, scratch).map(drop)
            }
            Some(chain) => {
                let schedule = Schedule::RowRing;
                ChainStep::new(chain, tensors, ends, schedule, false, 1, &lowering, scratch).map(drop)
            }
        }
    }

    #[test]
    fn a_step_refuses_tensors_that_do_not_fit() {
        let (c, d) = (|| Some(shared(conv(3, 4, 20))), || Some(shared(depthwise(20, 1))));
        let p = || Some(shared(conv(1, 20, 7)));
        let input = Shape::new(2, 5, 6, 4);
        let chains = [
            Some(Chain::new(c(), None, None).unwrap()),
            Some(Chain::new(c(), d(), None).unwrap()),
            Some(Chain::new(c(), d(), p()).unwrap()),
            None,
        ];
        for chain in &chains {
            let made = match chain {
                Some(chain) => chain.shapes(input).unwrap()[2],
                None => Shape { h: 1, w: 1, ..input },
            };
            let adds = chain.as_ref().is_some_and(|chain| chain.tail().is_some() || chain.depthwise().is_none());
            let fit = tensors(input, made);
            let chain = chain.as_ref();
            step(chain, &fit, ENDS).unwrap();
            step(chain, &fit, Ends { output: 3, ..ENDS }).unwrap();
            assert_eq!(step(chain, &fit, ADDS).is_ok(), adds);

            let refused = |tensors: &[Tensor], ends| assert!(step(chain, tensors, ends).is_err(), "{chain:?} {ends:?}");
            // another input; of a pool, any plane makes one pixel
            for shape in [Shape { c: 5, ..input }, Shape { n: 1, ..input }, Shape { h: 4, ..input }] {
                if chain.is_some() || shape.h == input.h {
                    refused(&tensors(shape, made), ENDS);
                }
            }
            // no images
            let none = |shape| Shape { n: 0, ..shape };
            refused(&tensors(none(input), none(made)), ENDS);
            // another output, or another residual
            for shape in [Shape { c: made.c + 16, ..made }, Shape { w: made.w + 1, ..made }, Shape { n: 3, ..made }] {
                refused(&tensors(input, shape), ENDS);
                let mut wrong = fit;
                wrong[2] = tensors(input, shape)[2];
                refused(&wrong, ADDS);
            }
            // a layout of another shape
            let mut wrong = fit;
            wrong[1].layout = Layout::blocked(Shape { w: made.w + 1, ..made }, [1, 1]).unwrap();
            refused(&wrong, ENDS);
            let mut wrong = fit;
            (wrong[3].layout.whole, wrong[3].layout.columns) = (true, [0, 0]);
            refused(&wrong, Ends { output: 3, ..ENDS });
            // tensors that are not there, or that share memory
            for ends in [Ends { input: 4, ..ENDS }, Ends { output: 4, ..ENDS }, Ends { residual: Some(4), ..ENDS }] {
                refused(&fit, ends);
            }
            refused(&fit, Ends { residual: Some(1), ..ENDS });
            let mut wrong = fit;
            wrong[1].place = Place::Arena(16);
            refused(&wrong, ENDS);
            wrong[1].place = Place::Arena(usize::MAX);
            refused(&wrong, ENDS);
            wrong[1] = Tensor { shape: made, place: Place::Input, layout: Layout::nhwc(made, made.c) };
            refused(&wrong, ENDS);
            let mut wrong = fit;
            wrong[0] = Tensor { shape: input, place: Place::Output, layout: Layout::nhwc(input, input.c) };
            refused(&wrong, ENDS);
        }
    }

    #[test]
    fn a_step_refuses_the_stages_of_another() {
        let shape = Shape::new(1, 5, 5, 20);
        let kernels = Kernels::available().next().unwrap();
        let thresholds = Thresholds::of(kernels.isa());
        let lowering = Lowering { fusion: Fusion::Auto, workers: 1, kernels, thresholds };
        let scratch = &mut Carver::default();
        let alone = Chain::new(Some(shared(conv(3, 20, 20))), None, None).unwrap();
        let tensors = tensors(shape, shape);
        let made = ChainStep::new(&alone, &tensors, ENDS, Schedule::RowRing, false, 1, &lowering, scratch);
        assert_eq!(made.err(), Some(Misfit::Order.named(STAGES)));
        let chain = Chain::new(None, Some(shared(depthwise(20, 1))), None).unwrap();
        let made = ConvStep::new(&chain, &tensors, ENDS, 1, &thresholds, scratch);
        assert_eq!(made.err(), Some(Misfit::Order.named(STAGES)));
    }
}
