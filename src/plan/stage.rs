//! Stages: which of them may run as one step, and whether a step fits its tensors.
//!
//! ```text
//!   [convolution] depthwise [pointwise]     runs as a ChainStep
//!   depthwise, from planes to planes        runs as a PlanesStep
//!   depthwise, of few channels              runs as a FlatStep
//!   convolution                             runs as a ConvStep
//!   no weights                              runs as a RowsStep
//!   average pool                            runs as a PoolStep
//! ```
//!
//! [`is_legal`] alone decides which stages may be one step. Operators, the regrouping of a network and lowering all make a
//! [`Chain`], whose constructors ask it. [`Ends::check`] alone decides whether a step fits its tensors. Every step asks it when
//! the step is made. The unsafe code of `run/` relies on both, and on `layout.rs`, which gives tensors that live at the same time
//! disjoint parts of the arena. A step subtracts channels, rows and columns without a check of its own, because these two
//! functions have compared them.

use core::fmt;
use core::ops::Range;

use sepconv_kernels::{BLOCK, CHANNEL_PARAMS, Epilogue, pack};

use super::layout::{Order, Place, PlannedTensor, SliceOf, TensorLayout};
use crate::memory::{Arc, Packed, product, text};
use crate::shape::ConvWindow;
use crate::{Error, Layout, Padding, Result, Shape};

/// A standard convolution, packed: taps in the order of rows, columns and input channels, 16 outputs a panel.
#[derive(Debug)]
pub(crate) struct PackedConv {
    pub(crate) window: ConvWindow,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) weights: Arc<Packed>,
}

/// A depthwise convolution, packed: output `c` reads input `c / multiplier`.
#[derive(Debug)]
pub(crate) struct PackedDepthwise {
    pub(crate) window: ConvWindow,
    pub(crate) inputs: usize,
    pub(crate) multiplier: usize,
    pub(crate) weights: Arc<Packed>,
    /// The same weights for flat rows, where its channels would leave lanes of a block empty.
    pub(crate) flat: Option<Arc<FlatWeights>>,
}

/// Weights of flat rows: those of all channels, over and over, until they fill whole blocks.
#[derive(Debug)]
pub(crate) struct FlatWeights {
    /// Channels of as many pixels as fill whole blocks.
    pub(crate) lanes: usize,
    pub(crate) weights: Packed,
}

impl FlatWeights {
    /// The lanes that weights of so many channels and taps are packed for, or `None` where flat rows gain nothing: lanes of blocks must be a
    /// tenth more than channels, and the weights stay in L1. The plan decides where they gain.
    pub(crate) fn lanes(channels: usize, taps: usize) -> Option<usize> {
        const MOST: usize = 8 << 10;
        let lanes = channels.checked_mul(BLOCK >> channels.trailing_zeros().min(BLOCK.trailing_zeros()))?;
        let values = lanes.checked_mul(taps.checked_add(1)?)?;
        let empty = channels.checked_next_multiple_of(BLOCK)? - channels;
        (empty >= channels.div_ceil(10) && values <= MOST).then_some(lanes)
    }
}

impl PackedConv {
    /// Products that one output is the sum of.
    pub(crate) fn k(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1] * self.inputs
    }

    /// Whether every output pixel reads the one input pixel at its place.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.window.kernel == [1, 1]
            && self.window.stride == [1, 1]
            && self.window.over([1, 1]).is_ok_and(|e| e.before == [0, 0] && e.out == [1, 1])
    }

    /// Multiply-adds of `pixels` output pixels.
    pub(super) fn macs(&self, pixels: usize) -> u64 {
        (pixels as u64).saturating_mul((self.k() as u64).saturating_mul(self.outputs as u64))
    }

    /// The same convolution over planes whose rows are columns.
    fn swapped(&self) -> PackedConv {
        let PackedConv { window, inputs, outputs, ref weights } = *self;
        PackedConv { window: window.swapped(), inputs, outputs, weights: weights.clone() }
    }

    /// Whether its weights are packed for its sizes, which are at least 1 and do not overflow.
    fn is_packed(&self) -> bool {
        let [kh, kw] = self.window.kernel;
        let k = kh.checked_mul(kw).and_then(|taps| taps.checked_mul(self.inputs));
        self.window.check("").is_ok()
            && self.inputs > 0
            && self.outputs > 0
            && k.and_then(|k| pack::pointwise_len(k, self.outputs)) == Some(self.weights.len())
    }
}

impl PackedDepthwise {
    pub(crate) fn outputs(&self) -> usize {
        self.inputs * self.multiplier
    }

    /// Multiply-adds of `pixels` output pixels.
    pub(super) fn macs(&self, pixels: usize) -> u64 {
        let taps = self.window.kernel[0] * self.window.kernel[1];
        (pixels as u64).saturating_mul((taps as u64).saturating_mul(self.outputs() as u64))
    }

    /// The same weights, shared, in another window of as many taps.
    fn with_window(&self, window: ConvWindow) -> PackedDepthwise {
        let PackedDepthwise { inputs, multiplier, ref weights, ref flat, .. } = *self;
        let (weights, flat) = (weights.clone(), flat.clone());
        PackedDepthwise { window, inputs, multiplier, weights, flat }
    }

    /// The same as a standard convolution, where there is one input channel: all outputs read it.
    fn as_conv(&self) -> Option<PackedConv> {
        let PackedDepthwise { window, inputs, ref weights, .. } = *self;
        (inputs == 1).then(|| PackedConv { window, inputs, outputs: self.outputs(), weights: weights.clone() })
    }

    /// As [`PackedConv::is_packed`].
    fn is_packed(&self) -> bool {
        let [kh, kw] = self.window.kernel;
        let len = match (kh.checked_mul(kw), self.inputs.checked_mul(self.multiplier)) {
            (Some(taps), Some(outputs)) if outputs > 0 => pack::depthwise_len(taps, outputs),
            _ => None,
        };
        let is_flat = |flat: &Arc<FlatWeights>| {
            flat.lanes.is_multiple_of(self.outputs())
                && flat.lanes.is_multiple_of(BLOCK)
                && pack::depthwise_len(kh * kw, flat.lanes) == Some(flat.weights.len())
        };
        self.window.check("").is_ok() && len == Some(self.weights.len()) && self.flat.iter().all(is_flat)
    }
}

/// The operation of a stage.
#[derive(Clone, Debug)]
pub(crate) enum PackedOp {
    Conv(Arc<PackedConv>),
    Depthwise(Arc<PackedDepthwise>),
}

/// Parameters of an activation by channel, packed: [`CHANNEL_PARAMS`] for each 16 channels.
#[derive(Debug)]
pub(crate) struct PackedParams {
    pub(crate) channels: usize,
    /// Lanes behind the last channel have the parameters of the first ones again: they serve flat rows as well.
    pub(crate) values: Packed,
}

/// How the sums of a stage end.
#[derive(Clone)]
pub(crate) struct StageEnd {
    /// What the kernels do with a sum.
    pub(crate) epilogue: Epilogue,
    /// Of an activation by channel.
    pub(crate) params: Option<Arc<PackedParams>>,
}

impl StageEnd {
    /// An end without parameters.
    pub(crate) const fn of(epilogue: Epilogue) -> StageEnd {
        StageEnd { epilogue, params: None }
    }

    /// Whether it has parameters for so many channels, packed for so many lanes, or needs none.
    fn is_packed(&self, channels: usize, lanes: usize) -> bool {
        match &self.params {
            None => !self.epilogue.activation().is_by_channel(),
            Some(params) => {
                params.channels == channels && params.values.len() / CHANNEL_PARAMS >= lanes.div_ceil(BLOCK)
            }
        }
    }

    /// Whether it is the end of sums of so many channels.
    pub(super) fn suits(&self, channels: usize) -> bool {
        self.is_packed(channels, channels)
    }

    /// Bytes of its parameters.
    pub(super) fn bytes(&self) -> usize {
        self.params.as_ref().map_or(0, |params| params.values.bytes())
    }
}

/// In few words: the text of an operator has one for each stage.
impl fmt::Debug for StageEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.epilogue.activation())
    }
}

/// Ends with parameters are the same where they share them.
impl PartialEq for StageEnd {
    fn eq(&self, other: &StageEnd) -> bool {
        let same = match (&self.params, &other.params) {
            (Some(params), Some(others)) => params.is(others),
            (params, others) => params.is_none() && others.is_none(),
        };
        same && self.epilogue == other.epilogue
    }
}

/// A stage with weights: what it computes, and how its sums end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedStage<O = PackedOp, E = StageEnd> {
    /// The name that errors call it by.
    pub(crate) name: &'static str,
    pub(crate) op: O,
    /// How its sums end. A residual of the step is added to the sums of the last stage first.
    pub(crate) end: E,
}

/// A convolution as a stage.
pub(crate) type ConvStage = PackedStage<Arc<PackedConv>>;
/// A depthwise convolution as a stage.
pub(crate) type DepthwiseStage = PackedStage<Arc<PackedDepthwise>>;

impl<O: Clone> PackedStage<&O, &StageEnd> {
    /// The same stage, shared.
    pub(super) fn cloned(self) -> PackedStage<O> {
        PackedStage { name: self.name, op: self.op.clone(), end: self.end.clone() }
    }
}

impl PackedStage {
    /// Whether it has the parameters of its activation, for weights that are packed.
    fn has_params(&self) -> bool {
        match &self.op {
            PackedOp::Conv(conv) => self.end.suits(conv.outputs),
            PackedOp::Depthwise(depthwise) => {
                // of sizes that contradict each other there are too many
                let outputs = depthwise.inputs.saturating_mul(depthwise.multiplier);
                self.end.is_packed(outputs, depthwise.flat.as_ref().map_or(outputs, |flat| flat.lanes))
            }
        }
    }
}

impl From<ConvStage> for PackedStage {
    fn from(stage: ConvStage) -> PackedStage {
        PackedStage { name: stage.name, op: PackedOp::Conv(stage.op), end: stage.end }
    }
}

impl From<DepthwiseStage> for PackedStage {
    fn from(stage: DepthwiseStage) -> PackedStage {
        PackedStage { name: stage.name, op: PackedOp::Depthwise(stage.op), end: stage.end }
    }
}

/// The places of a step's stages: the head, the depthwise stage and the tail.
type StageSlots = [Option<PackedStage>; Chain::MOST];

/// Stages that may run as one step: an optional convolution, a depthwise convolution, an optional pointwise convolution;
/// or a convolution alone, which is the head then.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    stages: StageSlots,
}

/// The reason why stages cannot run as one step. `stage` is 0 for the head, 1 for the depthwise stage, 2 for the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// No step has stages in this order.
    Order,
    /// Sizes or packed weights of a stage contradict each other.
    Packed { stage: usize },
    /// A stage reads `expected` channels, and the one before it writes `got`.
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
        let refused = |why: fmt::Arguments<'_>| text(why).map_or_else(|error| error, Error::Fusion);
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
pub(super) const STAGES: [&str; 3] = ["convolution", "depthwise", "pointwise"];

/// Whether these stages may run as one step, or why they may not.
pub(super) fn is_legal(stages: &StageSlots) -> core::result::Result<(), Misfit> {
    let [head, depthwise, tail] = stages.each_ref().map(|stage| stage.as_ref().map(|stage| &stage.op));
    let conv = |stage, op: Option<&'_ PackedOp>| match op {
        None => Ok(()),
        Some(PackedOp::Conv(conv)) if conv.is_packed() => Ok(()),
        Some(PackedOp::Conv(_)) => Err(Misfit::Packed { stage }),
        Some(PackedOp::Depthwise(_)) => Err(Misfit::Order),
    };
    conv(0, head)?;
    conv(2, tail)?;
    let without = stages.iter().position(|stage| stage.as_ref().is_some_and(|stage| !stage.has_params()));
    let params = without.map_or(Ok(()), |stage| Err(Misfit::Packed { stage }));
    let depthwise = match depthwise {
        Some(PackedOp::Depthwise(depthwise)) => depthwise,
        None if head.is_some() && tail.is_none() => return params,
        _ => return Err(Misfit::Order),
    };
    if !depthwise.is_packed() {
        return Err(Misfit::Packed { stage: 1 });
    }
    params?;
    if let Some(PackedOp::Conv(head)) = head {
        if head.outputs != depthwise.inputs {
            return Err(Misfit::Channels { stage: 1, expected: depthwise.inputs, got: head.outputs });
        }
        if depthwise.multiplier != 1 {
            return Err(Misfit::Multiplier { multiplier: depthwise.multiplier });
        }
    }
    if let Some(PackedOp::Conv(tail)) = tail {
        if tail.inputs != depthwise.outputs() {
            return Err(Misfit::Channels { stage: 2, expected: tail.inputs, got: depthwise.outputs() });
        }
        if !tail.is_pointwise() {
            return Err(Misfit::Tail);
        }
    }
    Ok(())
}

/// Stages that follow each other, each in its place; `None` of more than fit.
fn places(stages: &[PackedStage]) -> Option<StageSlots> {
    let depthwise = stages.iter().position(|stage| matches!(stage.op, PackedOp::Depthwise(_)));
    // the depthwise stage stands in the second place
    let first = 1usize.checked_sub(depthwise.unwrap_or(1))?;
    let mut places = [None, None, None];
    for (place, stage) in (first..).zip(stages) {
        *places.get_mut(place)? = Some(stage.clone());
    }
    Some(places)
}

/// Whether stages that follow each other may run as one step.
pub(super) fn may_be_one_step(stages: &[PackedStage]) -> bool {
    places(stages).is_some_and(|places| is_legal(&places).is_ok())
}

impl Chain {
    /// The most stages of a step.
    pub(super) const MOST: usize = 3;

    /// These stages as one step, or why they are none.
    pub(crate) fn new(
        head: Option<ConvStage>,
        depthwise: Option<DepthwiseStage>,
        tail: Option<ConvStage>,
    ) -> core::result::Result<Chain, Misfit> {
        Chain::of_places([head.map(PackedStage::from), depthwise.map(PackedStage::from), tail.map(PackedStage::from)])
    }

    /// Stages that follow each other as one step, or why they are none.
    pub(super) fn of(stages: &[PackedStage]) -> core::result::Result<Chain, Misfit> {
        Chain::of_places(places(stages).ok_or(Misfit::Order)?)
    }

    fn of_places(stages: StageSlots) -> core::result::Result<Chain, Misfit> {
        is_legal(&stages)?;
        Ok(Chain { stages })
    }

    fn conv(&self, place: usize) -> Option<PackedStage<&Arc<PackedConv>, &StageEnd>> {
        match &self.stages[place] {
            Some(PackedStage { name, op: PackedOp::Conv(op), end }) => Some(PackedStage { name, op, end }),
            _ => None,
        }
    }

    pub(super) fn head(&self) -> Option<PackedStage<&Arc<PackedConv>, &StageEnd>> {
        self.conv(0)
    }

    pub(super) fn depthwise(&self) -> Option<PackedStage<&Arc<PackedDepthwise>, &StageEnd>> {
        match &self.stages[1] {
            Some(PackedStage { name, op: PackedOp::Depthwise(op), end }) => Some(PackedStage { name, op, end }),
            _ => None,
        }
    }

    pub(super) fn tail(&self) -> Option<PackedStage<&Arc<PackedConv>, &StageEnd>> {
        self.conv(2)
    }

    /// The same computation as a standard convolution: of a depthwise convolution alone that makes several channels of one.
    pub(super) fn as_conv(&self) -> Result<Option<Chain>> {
        let (None, Some(depthwise), None) = (self.head(), self.depthwise(), self.tail()) else { return Ok(None) };
        let Some(conv) = depthwise.op.as_conv().filter(|conv| conv.outputs > 1) else { return Ok(None) };
        let PackedStage { name, end, .. } = depthwise;
        let head = PackedStage { name, op: Arc::try_new("plan", conv)?, end: end.clone() };
        Ok(Some(Chain { stages: [Some(head.into()), None, None] }))
    }

    /// The same stages with another padding of the depthwise stage.
    pub(super) fn with_padding(&self, padding: Padding) -> Result<Chain> {
        let mut stages = self.stages.clone();
        if let Some(PackedStage { op: PackedOp::Depthwise(depthwise), .. }) = &mut stages[1] {
            let window = ConvWindow { padding, ..depthwise.window };
            *depthwise = Arc::try_new("plan", depthwise.with_window(window))?;
        }
        Ok(Chain { stages })
    }

    /// Whether both share their packed weights.
    pub(super) fn is(&self, other: &Chain) -> bool {
        self.stages.iter().zip(&other.stages).all(|pair| match pair {
            (Some(PackedStage { op: PackedOp::Conv(a), .. }), Some(PackedStage { op: PackedOp::Conv(b), .. })) => {
                a.is(b)
            }
            (
                Some(PackedStage { op: PackedOp::Depthwise(a), .. }),
                Some(PackedStage { op: PackedOp::Depthwise(b), .. }),
            ) => a.is(b),
            (a, b) => a.is_none() && b.is_none(),
        })
    }

    /// Sets the end of the last stage, which has as many outputs.
    pub(super) fn end_by(&mut self, end: StageEnd) {
        if let Some(last) = self.stages.iter_mut().flatten().last() {
            last.end = end;
        }
    }

    /// Its stages, each in its place.
    pub(super) fn stages(&self) -> &StageSlots {
        &self.stages
    }

    /// Whether every window has one column, and no padding beside it.
    pub(super) fn has_windows_of_one_column(&self) -> bool {
        self.stages.iter().flatten().all(|stage| match &stage.op {
            PackedOp::Conv(conv) => conv.window.is_of_one_column(),
            PackedOp::Depthwise(depthwise) => depthwise.window.is_of_one_column(),
        })
    }

    /// The same stages over planes whose rows are columns. They share the packed weights, so every window has one column: its taps
    /// keep their order then.
    pub(super) fn swapped(&self) -> Result<Chain> {
        debug_assert!(self.has_windows_of_one_column());
        let mut stages = [None, None, None];
        for (to, stage) in stages.iter_mut().zip(&self.stages) {
            let Some(PackedStage { name, op, end }) = stage else { continue };
            let op = match op {
                PackedOp::Conv(conv) => PackedOp::Conv(Arc::try_new("plan", conv.swapped())?),
                PackedOp::Depthwise(depthwise) => {
                    PackedOp::Depthwise(Arc::try_new("plan", depthwise.with_window(depthwise.window.swapped()))?)
                }
            };
            *to = Some(PackedStage { name, op, end: end.clone() });
        }
        // unreached: stages that fit each other still do
        Chain::of_places(stages).map_err(|misfit| misfit.named(STAGES))
    }

    /// Input channels and output channels.
    pub(crate) fn channels(&self) -> [usize; 2] {
        let of = |stage: &PackedStage| match &stage.op {
            PackedOp::Conv(conv) => [conv.inputs, conv.outputs],
            PackedOp::Depthwise(depthwise) => [depthwise.inputs, depthwise.outputs()],
        };
        let mut channels = self.stages.iter().flatten().map(of);
        // a chain has at least one stage
        let [inputs, outputs] = channels.next().unwrap_or_default();
        [inputs, channels.next_back().map_or(outputs, |[_, outputs]| outputs)]
    }

    /// Checks the tensors of a step against the stages, and returns the shape behind each stage.
    pub(super) fn over(&self, tensors: &[PlannedTensor], ends: &Ends) -> Result<[Shape; Chain::MOST]> {
        let shapes = self.shapes(ends.input(tensors)?.shape)?;
        // the last convolution adds a residual to its sums
        let adds = self.tail().is_some() || self.depthwise().is_none();
        ends.check(tensors, shapes[2], adds.then_some(shapes[2]))?;
        Ok(shapes)
    }

    /// The shapes that it makes of `input`: behind the head, behind the depthwise stage, and behind the tail. A place without a
    /// stage leaves the shape as it is.
    pub(super) fn shapes(&self, input: Shape) -> Result<[Shape; Chain::MOST]> {
        input.len()?;
        let mut shapes = [input; Chain::MOST];
        let mut shape = input;
        for (place, stage) in self.stages.iter().enumerate() {
            if let Some(stage) = stage {
                let (window, inputs, outputs) = match &stage.op {
                    PackedOp::Conv(conv) => (&conv.window, conv.inputs, conv.outputs),
                    PackedOp::Depthwise(depthwise) => (&depthwise.window, depthwise.inputs, depthwise.outputs()),
                };
                channels(stage.name, inputs, shape.c)?;
                let extent = window.over([shape.h, shape.w]).map_err(|error| error.in_stage(stage.name))?;
                let [h, w] = extent.out;
                shape = Shape::new(shape.n, h, w, outputs);
                shape.len()?;
            }
            shapes[place] = shape;
        }
        Ok(shapes)
    }
}

/// An error where a stage, called `what`, reads `expected` channels and others come to it.
pub(crate) fn channels(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Channels { what, expected, got }) }
}

/// The tensors that a step reads and writes, by their places in the program's list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// The tensor that is added to the output.
    pub(crate) residual: Option<usize>,
}

impl Ends {
    /// The tensor that the step reads.
    pub(super) fn input<'a>(&self, tensors: &'a [PlannedTensor]) -> Result<&'a PlannedTensor> {
        tensor(tensors, self.input)
    }

    /// Checks the tensors of a step that writes a tensor of shape `output`, and may read a residual of shape `adds`: shapes, layouts, and
    /// that nothing is written where the step still reads.
    pub(super) fn check(&self, tensors: &[PlannedTensor], output: Shape, adds: Option<Shape>) -> Result<()> {
        let refused = |why| Err(Error::Network(text(format_args!("a step {why}"))?));
        let (from, to) = (self.input(tensors)?, tensor(tensors, self.output)?);
        let residual = self.residual.map(|residual| tensor(tensors, residual)).transpose()?;
        if to.shape != output {
            return Err(Error::ShapeMismatch { what: "output of a step", expected: output, got: to.shape });
        }
        if let Some(residual) = residual {
            let Some(expected) = adds else { return refused("that adds no residual has one") };
            if residual.shape != expected {
                return Err(Error::ShapeMismatch { what: "residual of a step", expected, got: residual.shape });
            }
        }
        for read in [Some(from), residual].into_iter().flatten() {
            if to.meets(read)? {
                return refused("that writes what it reads");
            }
        }
        if matches!(to.place, Place::Input(_)) {
            return refused("that writes the caller's input");
        }
        Ok(())
    }
}

fn tensor(tensors: &[PlannedTensor], at: usize) -> Result<&PlannedTensor> {
    match tensors.get(at) {
        Some(tensor) => Ok(tensor),
        None => Err(Error::Network(text(format_args!("a step of tensor {at}, of which there are {}", tensors.len()))?)),
    }
}

impl PlannedTensor {
    /// Whether the rows and columns of a slice are in its whole; and a grid has no columns of zeros.
    fn is_inside(&self, whole: Shape) -> bool {
        let Some(SliceOf { at, step, .. }) = self.slice else { return true };
        let end = |axis: usize, len: usize| len.checked_sub(1)?.checked_mul(step[axis])?.checked_add(at[axis]);
        let ends = [end(0, self.shape.h), end(1, self.shape.w)];
        let sides = [whole.h, whole.w];
        let plain = step == [1, 1] && at == [0, 0];
        let fits = ends.iter().zip(sides).all(|(end, side)| end.is_some_and(|end| end < side));
        whole.n == self.shape.n && fits && (plain || (self.layout.columns == [0, 0] && self.section.is_none()))
    }

    /// Whether both have a value in common, as far as the plan knows: no two tensors of the caller's share memory.
    fn meets(&self, other: &PlannedTensor) -> Result<bool> {
        let (mine, others) = (self.memory()?, other.memory()?);
        Ok(match self.place == other.place {
            true => !self.is_beside(other),
            false => overlap(&mine, &others),
        })
    }

    /// The bytes of the arena that it takes, or none; an error where its layout is not one of its shape.
    pub(super) fn memory(&self) -> Result<Range<usize>> {
        let PlannedTensor { element, place, .. } = *self;
        let (shape, layout) = self.whole();
        let channels = self.channels();
        let apart = !layout.is_whole()
            || (channels.start.is_multiple_of(BLOCK)
                && (channels.end.is_multiple_of(BLOCK) || channels.end == shape.c));
        if channels.end > shape.c || !apart || !self.is_inside(shape) {
            return Err(Error::Network(text(format_args!("channels {channels:?} of a tensor of {shape}"))?));
        }
        if shape.is_empty() {
            return Err(Error::ZeroSize { shape });
        }
        shape.len()?;
        let expected = match place {
            Place::Arena(_) if layout.is_whole() => TensorLayout::blocked(shape, layout.columns)?,
            Place::Input(_) | Place::Output(_) if layout.order == Order::Planes => {
                TensorLayout::dense(Layout::Nchw, shape)
            }
            _ => TensorLayout::nhwc(shape),
        };
        if layout != expected {
            return Err(Error::Network(text(format_args!("a tensor of {shape} whose layout is of another shape"))?));
        }
        match place {
            Place::Input(_) | Place::Output(_) => Ok(0..0),
            Place::Arena(at) => {
                let bytes = product(&[shape.n, layout.image])?.checked_mul(element.bytes());
                let end = bytes.and_then(|bytes| at.checked_add(bytes));
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
    use sepconv_kernels::{Kernels, Nonlinearity};

    use super::*;
    use crate::memory::Carver;
    use crate::plan::cost::Thresholds;
    use crate::plan::{ChainStep, ConvStep, Lowering, PoolStep};
    use crate::shape::ConvWindow;
    use crate::tensor::ElementType;
    use crate::{Fusion, Schedule};

    fn window(kernel: usize, stride: usize) -> ConvWindow {
        ConvWindow { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], padding: Padding::Same }
    }

    fn zeros(len: Option<usize>) -> Arc<Packed> {
        Arc::try_new("zeros", Packed::new::<f32>(len.unwrap(), |_| {}).unwrap()).unwrap()
    }

    fn conv(kernel: usize, inputs: usize, outputs: usize) -> PackedConv {
        let weights = zeros(pack::pointwise_len(kernel * kernel * inputs, outputs));
        PackedConv { window: window(kernel, 1), inputs, outputs, weights }
    }

    fn depthwise(inputs: usize, multiplier: usize) -> PackedDepthwise {
        let weights = zeros(pack::depthwise_len(9, inputs * multiplier));
        PackedDepthwise { window: window(3, 1), inputs, multiplier, weights, flat: None }
    }

    fn stage<O>(op: O) -> PackedStage<Arc<O>> {
        PackedStage {
            name: "stage",
            op: Arc::try_new("stage", op).unwrap(),
            end: StageEnd::of(Epilogue::clamp([0.0, 1.0])),
        }
    }

    #[test]
    fn stages_that_fit_are_a_step() {
        let (c, d) = (|| stage(conv(3, 4, 20)), || stage(depthwise(20, 1)));
        let p = || stage(conv(1, 20, 7));
        for parts in [
            &[c().into()][..],
            &[d().into()],
            &[c().into(), d().into()],
            &[d().into(), p().into()],
            &[stage(depthwise(10, 2)).into(), p().into()],
            &[c().into(), d().into(), p().into()],
        ] {
            assert!(may_be_one_step(parts), "{parts:?}");
            let chain = Chain::of(parts).unwrap();
            assert_eq!(chain.stages().iter().flatten().count(), parts.len());
        }
        for parts in [
            &[][..],
            &[c().into(), p().into()],
            &[d().into(), d().into()],
            &[d().into(), p().into(), p().into()],
            &[d().into(), p().into(), d().into()],
        ] {
            assert!(!may_be_one_step(parts), "{parts:?}");
            assert_eq!(Chain::of(parts).unwrap_err(), Misfit::Order);
        }
    }

    #[test]
    fn stages_that_do_not_fit_are_none() {
        let misfit = |head: Option<PackedConv>, depthwise: Option<PackedDepthwise>, tail: Option<PackedConv>| {
            let found = Chain::new(head.map(stage), depthwise.map(stage), tail.map(stage)).unwrap_err();
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
        assert_eq!(found, Misfit::Channels { stage: 1, expected: 16, got: 15 });
        let found = misfit(None, Some(depthwise(16, 2)), Some(conv(1, 16, 4)));
        assert_eq!(found, Misfit::Channels { stage: 2, expected: 16, got: 32 });

        let tail = |window| Some(PackedConv { window, ..conv(1, 16, 4) });
        assert_eq!(misfit(None, Some(depthwise(16, 1)), Some(conv(3, 16, 4))), Misfit::Tail);
        assert_eq!(misfit(None, Some(depthwise(16, 1)), tail(window(1, 2))), Misfit::Tail);
        let padded = |bottom| Padding::Explicit { top: 0, bottom, left: 1 - bottom, right: 0 };
        for padding in [padded(0), padded(1)] {
            assert_eq!(
                misfit(None, Some(depthwise(16, 1)), tail(ConvWindow { padding, ..window(1, 1) })),
                Misfit::Tail
            );
        }

        for wrong in [
            PackedConv { inputs: 4, ..conv(1, 3, 16) },
            PackedConv { outputs: 17, ..conv(1, 3, 16) },
            PackedConv { inputs: 0, ..conv(1, 3, 16) },
            PackedConv { outputs: 0, weights: zeros(Some(0)), ..conv(1, 3, 16) },
            PackedConv { inputs: usize::MAX, ..conv(3, 3, 16) },
            PackedConv { window: window(2, 1), ..conv(1, 3, 16) },
            PackedConv { window: window(1, 0), ..conv(1, 3, 16) },
        ] {
            assert_eq!(misfit(Some(wrong), None, None), Misfit::Packed { stage: 0 });
        }
        for wrong in [
            PackedDepthwise { inputs: 17, ..depthwise(16, 1) },
            PackedDepthwise { multiplier: 0, ..depthwise(16, 1) },
            PackedDepthwise { multiplier: usize::MAX, ..depthwise(16, 1) },
            PackedDepthwise { window: window(5, 1), ..depthwise(16, 1) },
            PackedDepthwise { window: window(0, 1), ..depthwise(16, 1) },
        ] {
            assert_eq!(misfit(None, Some(wrong), None), Misfit::Packed { stage: 1 });
        }
    }

    #[test]
    fn parameters_are_those_of_the_channels() {
        let end = |channels: usize, blocks: usize| {
            let values = Packed::new::<f32>(blocks * CHANNEL_PARAMS, |_| {}).unwrap();
            let params = Arc::try_new("parameters", PackedParams { channels, values }).unwrap();
            StageEnd { epilogue: Epilogue::of(Nonlinearity::PRelu), params: Some(params) }
        };
        let none = StageEnd::of(Epilogue::of(Nonlinearity::ClampByChannel));
        for (end, fits) in
            [(end(20, 2), true), (end(20, 1), false), (end(21, 2), false), (end(4, 2), false), (none, false)]
        {
            let ends_by = |stage: PackedStage| PackedStage { end: end.clone(), ..stage };
            let conv = ends_by(stage(conv(3, 4, 20)).into());
            let depthwise = ends_by(stage(depthwise(20, 1)).into());
            for (stages, at) in [
                (core::slice::from_ref(&conv), 0),
                (core::slice::from_ref(&depthwise), 1),
                (&[conv.clone(), depthwise.clone()], 0),
            ] {
                let misfit = if fits { None } else { Some(Misfit::Packed { stage: at }) };
                assert_eq!(Chain::of(stages).err(), misfit, "{end:?}");
            }
            assert_eq!(end.suits(20), fits);
            assert!(end == end.clone());
        }
        // ends are one where they share parameters
        assert!(end(20, 2) != end(20, 2) && end(20, 2) != StageEnd::of(Epilogue::of(Nonlinearity::PRelu)));
        // flat rows have parameters for all of their lanes
        let lanes = |blocks: usize| {
            let flat = FlatWeights { lanes: 48, weights: Packed::new::<f32>(10 * 48, |_| {}).unwrap() };
            let flat = Some(Arc::try_new("flat", flat).unwrap());
            let few = stage(PackedDepthwise { flat, ..depthwise(3, 1) });
            Chain::of(&[PackedStage { end: end(3, blocks), ..few.into() }]).err()
        };
        assert_eq!(
            [lanes(1), lanes(2), lanes(3)],
            [Some(Misfit::Packed { stage: 1 }), Some(Misfit::Packed { stage: 1 }), None]
        );
    }

    /// Tensors of a step from the caller's input, a tensor of the arena, to another one; a third is as the second is.
    fn tensors(from: Shape, to: Shape) -> [PlannedTensor; 4] {
        let blocked = |shape, place| PlannedTensor {
            shape,
            element: ElementType::F32,
            place,
            layout: TensorLayout::blocked(shape, [1, 1]).unwrap(),
            section: None,
            slice: None,
        };
        let len = |t: &PlannedTensor| t.shape.n * t.layout.image * t.element.bytes();
        let x = blocked(from, Place::Arena(0));
        let out = blocked(to, Place::Arena(len(&x)));
        let residual = blocked(to, Place::Arena(len(&x) + len(&out)));
        [
            x,
            out,
            residual,
            PlannedTensor {
                element: ElementType::F32,
                shape: to,
                place: Place::Output(0),
                layout: TensorLayout::nhwc(to),
                section: None,
                slice: None,
            },
        ]
    }

    const ENDS: Ends = Ends { input: 0, output: 1, residual: None };
    const ADDS: Ends = Ends { residual: Some(2), ..ENDS };

    /// Makes a step of `[head] [depthwise] [tail]`, or of none of them a pool.
    fn step(chain: Option<&Chain>, tensors: &[PlannedTensor], ends: Ends) -> Result<()> {
        let kernels = Kernels::available().next().unwrap();
        let thresholds = Thresholds::of(kernels.isa());
        let layouts = [Layout::Nhwc; 2];
        let lowering = Lowering { fusion: Fusion::Auto, layouts, workers: 1, kernels, thresholds };
        let scratch = &mut Carver::default();
        match chain {
            None => PoolStep::new(tensors, ends, 1, &lowering.thresholds, scratch).map(drop),
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
        let (c, d) = (|| Some(stage(conv(3, 4, 20))), || Some(stage(depthwise(20, 1))));
        let p = || Some(stage(conv(1, 20, 7)));
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

            let refused =
                |tensors: &[PlannedTensor], ends| assert!(step(chain, tensors, ends).is_err(), "{chain:?} {ends:?}");
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
            wrong[1].layout = TensorLayout::blocked(Shape { w: made.w + 1, ..made }, [1, 1]).unwrap();
            refused(&wrong, ENDS);
            let mut wrong = fit;
            wrong[3].layout.order = Order::Blocks;
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
            wrong[1] = PlannedTensor {
                element: ElementType::F32,
                shape: made,
                place: Place::Input(0),
                layout: TensorLayout::nhwc(made),
                section: None,
                slice: None,
            };
            refused(&wrong, ENDS);
            let mut wrong = fit;
            wrong[0] = PlannedTensor {
                element: ElementType::F32,
                shape: input,
                place: Place::Output(0),
                layout: TensorLayout::nhwc(input),
                section: None,
                slice: None,
            };
            // what was written for the caller may be read, but not where the step writes
            step(chain, &wrong, ENDS).unwrap();
            refused(&wrong, Ends { output: 3, ..ENDS });
        }
    }

    #[test]
    fn a_step_refuses_the_stages_of_another() {
        let shape = Shape::new(1, 5, 5, 20);
        let kernels = Kernels::available().next().unwrap();
        let thresholds = Thresholds::of(kernels.isa());
        let layouts = [Layout::Nhwc; 2];
        let lowering = Lowering { fusion: Fusion::Auto, layouts, workers: 1, kernels, thresholds };
        let scratch = &mut Carver::default();
        let alone = Chain::new(Some(stage(conv(3, 20, 20))), None, None).unwrap();
        let tensors = tensors(shape, shape);
        let made = ChainStep::new(&alone, &tensors, ENDS, Schedule::RowRing, false, 1, &lowering, scratch);
        assert_eq!(made.err(), Some(Misfit::Order.named(STAGES)));
        let chain = Chain::new(None, Some(stage(depthwise(20, 1))), None).unwrap();
        let made = ConvStep::new(&chain, &tensors, ENDS, 1, &thresholds, scratch);
        assert_eq!(made.err(), Some(Misfit::Order.named(STAGES)));
    }
}
