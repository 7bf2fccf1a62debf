//! Strategies: which cases are drawn, and how often.

mod graphs;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::{NewTree, ValueTree};
use proptest::test_runner::TestRunner;

use super::values::one_of;
use super::{ByChannel, Case, CaseNode, ConvCase, NormCase, Op, StageKind, Values};
use crate::{Activation, Padding, Shape};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Conv2d,
    Depthwise,
    Pointwise,
    Separable,
    InvertedResidual,
    AveragePool,
    Dense,
    Chain,
    Graph,
}

/// Cases of one operator, of chains of them, or of graphs: a proptest strategy, with what a kernel cannot do taken out.
///
/// Sizes are drawn most often at the edges where kernels go wrong: one pixel, one channel, the sizes of tiles, vectors
/// and blocks and those one off, windows larger than the plane, padding that a window sees nothing else of. Then the
/// case is cut down until it has no more multiply-adds than its budget.
///
/// Unless told, there are kernels and planes of every size up to the limits, strides and dilations of 1 to 3 that may
/// differ by axis, every [`Padding`], every [`Activation`], with and without bias and batch norm, all [`Values`], and
/// pixels side by side.
///
/// ```
/// use proptest::prelude::*;
/// use sepconv::testing::*;
///
/// proptest! {
///     // a strategy like others, for a property of one's own; in a test, `#[test]` stands here
///     fn an_output_has_values(case in Cases::depthwise().max_kernel(5).uniform().values(Values::FINITE)) {
///         prop_assert!(case.output().unwrap().len().unwrap() > 0);
///     }
/// }
/// # an_output_has_values();
/// ```
#[derive(Clone, Debug)]
pub struct Cases {
    kind: Kind,
    kernel: usize,
    stride: usize,
    dilation: usize,
    multiplier: usize,
    batch: usize,
    side: usize,
    channels: usize,
    macs: u64,
    uniform: bool,
    paddings: Vec<PaddingKind>,
    activations: Option<Vec<Activation>>,
    by_channel: bool,
    bias: bool,
    batch_norm: bool,
    gaps: bool,
    values: Vec<Values>,
    weights: Vec<Values>,
    nodes: usize,
    outputs: usize,
    without: Vec<StageKind>,
}

/// Kinds of padding that cases have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PaddingKind {
    /// [`Padding::Valid`].
    Valid,
    /// [`Padding::Same`]: the odd pixel goes to the bottom and to the right.
    Same,
    /// As many pixels at both ends of an axis: what keeps an odd window's plane at stride 1.
    Half,
    /// Any number at each side that is less than what the window covers.
    Within,
    /// Any number at each side, up to a few pixels that the window sees nothing but padding from.
    Beyond,
}

impl PaddingKind {
    /// Every kind.
    pub const ALL: &[PaddingKind] =
        &[PaddingKind::Valid, PaddingKind::Same, PaddingKind::Half, PaddingKind::Within, PaddingKind::Beyond];
}

impl Cases {
    fn new(kind: Kind) -> Cases {
        Cases {
            kind,
            kernel: 7,
            stride: 3,
            dilation: 3,
            multiplier: 4,
            batch: 3,
            side: 40,
            channels: 200,
            macs: 1_000_000,
            uniform: false,
            paddings: PaddingKind::ALL.to_vec(),
            activations: None,
            by_channel: true,
            bias: true,
            batch_norm: true,
            gaps: false,
            values: Values::ALL.to_vec(),
            weights: Values::ALL.to_vec(),
            nodes: 4,
            outputs: 2,
            without: vec![],
        }
    }

    /// Standard convolutions.
    pub fn conv2d() -> Cases {
        Cases::new(Kind::Conv2d)
    }

    /// Depthwise convolutions.
    pub fn depthwise() -> Cases {
        Cases::new(Kind::Depthwise)
    }

    /// 1×1 convolutions.
    pub fn pointwise() -> Cases {
        Cases::new(Kind::Pointwise)
    }

    /// Depthwise separable blocks.
    pub fn separable() -> Cases {
        Cases::new(Kind::Separable)
    }

    /// Inverted residual blocks: with and without expansion and shortcut; the expansion may have a window.
    pub fn inverted_residual() -> Cases {
        Cases::new(Kind::InvertedResidual)
    }

    /// Global averages.
    pub fn average_pool() -> Cases {
        Cases::new(Kind::AveragePool)
    }

    /// Dense layers, most often of one pixel.
    pub fn dense() -> Cases {
        Cases::new(Kind::Dense)
    }

    /// Chains: up to four of the others, then as often as not an average, and dense layers behind it.
    pub fn chain() -> Cases {
        Cases::new(Kind::Chain)
    }

    /// Graphs of a few nodes, after faults of fusion: sums with an activation before or behind them, shortcuts, scales of each channel
    /// (squeeze-and-excite), concatenations, pools behind convolutions, tensors with several readers, several outputs.
    ///
    /// ```
    /// use sepconv::testing::*;
    /// // an engine that has no pools and one output
    /// let cases = Cases::graphs().max_nodes(3).max_outputs(1).without(&[StageKind::MaxPool, StageKind::MeanPool]);
    /// ```
    pub fn graphs() -> Cases {
        Cases::new(Kind::Graph)
    }

    /// The most nodes of a graph: 4 unless told. Other cases do not read it.
    pub fn max_nodes(mut self, nodes: usize) -> Cases {
        self.nodes = nodes.max(1);
        self
    }

    /// The most outputs of a graph: 2 unless told. Other cases have one.
    pub fn max_outputs(mut self, outputs: usize) -> Cases {
        self.outputs = outputs.max(1);
        self
    }

    /// Kinds of nodes that graphs are not to have. Other cases do not read it.
    ///
    /// # Panics
    /// Where no kind is left that reads one tensor.
    pub fn without(mut self, kinds: &[StageKind]) -> Cases {
        self.without = kinds.to_vec();
        let of_two = [StageKind::Add, StageKind::Scale, StageKind::Concat];
        let left = |kind: &&(u32, StageKind)| !kinds.contains(&kind.1) && !of_two.contains(&kind.1);
        assert!(graphs::KINDS.iter().any(|kind| left(&kind)), "a graph needs a kind of nodes that reads one tensor");
        self
    }

    /// The longest side of a kernel: 7 unless told.
    pub fn max_kernel(mut self, taps: usize) -> Cases {
        self.kernel = taps.max(1);
        self
    }

    /// The largest stride: 3 unless told.
    pub fn max_stride(mut self, stride: usize) -> Cases {
        self.stride = stride.max(1);
        self
    }

    /// The largest dilation: 3 unless told, and 1 is none.
    pub fn max_dilation(mut self, dilation: usize) -> Cases {
        self.dilation = dilation.max(1);
        self
    }

    /// The largest channel multiplier: 4 unless told.
    pub fn max_multiplier(mut self, multiplier: usize) -> Cases {
        self.multiplier = multiplier.max(1);
        self
    }

    /// The largest batch: 3 unless told.
    pub fn max_batch(mut self, batch: usize) -> Cases {
        self.batch = batch.max(1);
        self
    }

    /// The longest side of a plane, unless its window needs a longer one: 40 unless told.
    pub fn max_side(mut self, pixels: usize) -> Cases {
        self.side = pixels.max(1);
        self
    }

    /// The most channels of a tensor, before a multiplier: 200 unless told.
    pub fn max_channels(mut self, channels: usize) -> Cases {
        self.channels = channels.max(1);
        self
    }

    /// The most multiply-adds of a case: a million unless told, and most cases have far fewer.
    pub fn max_macs(mut self, macs: u64) -> Cases {
        self.macs = macs.max(1000);
        self
    }

    /// One stride, one dilation, and one padding for all four sides: all that some interfaces can say. Of
    /// [`paddings`](Self::paddings) only [`PaddingKind::Valid`] and those with explicit sides are left.
    pub fn uniform(mut self) -> Cases {
        self.uniform = true;
        self
    }

    /// Which paddings there are.
    ///
    /// # Panics
    /// On an empty list.
    pub fn paddings(mut self, kinds: &[PaddingKind]) -> Cases {
        assert!(!kinds.is_empty(), "a window needs some padding: PaddingKind::Valid is none");
        self.paddings = kinds.to_vec();
        self
    }

    /// Which activations there are: these, and none with parameters for each channel.
    ///
    /// # Panics
    /// On an empty list.
    pub fn activations(mut self, activations: &[Activation]) -> Cases {
        assert!(!activations.is_empty(), "a convolution needs some activation: Activation::Linear is none");
        self.activations = Some(activations.to_vec());
        self.by_channel = false;
        self
    }

    /// Whether there are activations with parameters for each channel ([`ByChannel`]): there are, unless told.
    pub fn by_channel(mut self, by_channel: bool) -> Cases {
        self.by_channel = by_channel;
        self
    }

    /// Whether there are biases.
    pub fn bias(mut self, bias: bool) -> Cases {
        self.bias = bias;
        self
    }

    /// Whether there are batch norms.
    pub fn batch_norm(mut self, batch_norm: bool) -> Cases {
        self.batch_norm = batch_norm;
        self
    }

    /// Lets values lie between the pixels of input and output, in NCHW between the rows of a plane. A kernel has to heed
    /// [`Problem::input_strides`](super::Problem::input_strides) and its like of the output then.
    pub fn gaps(mut self) -> Cases {
        self.gaps = true;
        self
    }

    /// What inputs and weights are like, each drawn by itself.
    ///
    /// # Panics
    /// On an empty list.
    pub fn values(mut self, kinds: &[Values]) -> Cases {
        assert!(!kinds.is_empty(), "an input needs some values");
        self.values = kinds.to_vec();
        self.weights(kinds)
    }

    /// What weights and biases are like.
    ///
    /// # Panics
    /// On an empty list.
    pub fn weights(mut self, kinds: &[Values]) -> Cases {
        assert!(!kinds.is_empty(), "a filter needs some values");
        self.weights = kinds.to_vec();
        self
    }

    fn sizes(&self, edges: &[usize], limit: usize) -> BoxedStrategy<usize> {
        let mut edges: Vec<usize> = edges.iter().copied().filter(|&edge| edge <= limit).collect();
        // the limit may be an edge of its own
        edges.extend([limit, limit.max(2) - 1]);
        prop_oneof![3 => select(edges), 1 => 1..=limit].boxed()
    }

    /// Most often at the ends of tiles (4, 5, 6, 8, 12 and 16 pixels) and of the planes of MobileNet.
    fn side(&self) -> BoxedStrategy<usize> {
        const EDGES: &[usize] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 24, 25, 28, 29];
        self.sizes(EDGES, self.side)
    }

    /// Most often at the ends of vectors, half panels, blocks, and groups of panels.
    fn channels(&self) -> BoxedStrategy<usize> {
        const EDGES: &[usize] = &[
            1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23, 24, 25, 31, 32, 33, 40, 41, 47, 48, 49, 56, 63, 64, 65, 72, 80,
            96, 97, 112, 127, 128, 129, 144, 160, 192, 199,
        ];
        self.sizes(EDGES, self.channels)
    }

    fn batch(&self) -> BoxedStrategy<usize> {
        prop_oneof![2 => Just(1), 1 => 1..=self.batch].boxed()
    }

    /// Kernels, strides, dilations and paddings up to the limits. A 3×3 at equal strides of 1 or 2 is what most engines
    /// have tiles of its own for, so it comes most often. The rest of the convolution is drawn by [`Cases::conv`].
    fn window(&self) -> BoxedStrategy<ConvCase> {
        let (kernel_max, stride_max, dilation_max, uniform) = (self.kernel, self.stride, self.dilation, self.uniform);
        let kernel = prop_oneof![
            5 => Just([3, 3]),
            1 => Just([1, 1]),
            1 => Just([5, 5]),
            2 => [1..=kernel_max, 1..=kernel_max],
        ];
        let stride = prop_oneof![3 => Just([1, 1]), 3 => Just([2, 2]), 2 => [1..=stride_max, 1..=stride_max]];
        let dilation = prop_oneof![3 => Just([1, 1]), 1 => [1..=dilation_max, 1..=dilation_max]];
        let sides = [0usize..64, 0usize..64, 0usize..64, 0usize..64];
        (kernel, stride, dilation, select(self.paddings.clone()), sides)
            .prop_map(move |(kernel, stride, dilation, padding, sides)| {
                let cut = |v: [usize; 2], most: usize| v.map(|v| v.min(most));
                let mut conv = ConvCase::standard(cut(kernel, kernel_max), 1)
                    .strides(cut(stride, stride_max))
                    .dilations(cut(dilation, dilation_max));
                if uniform {
                    conv.strides[1] = conv.strides[0];
                    conv.dilations[1] = conv.dilations[0];
                }
                let reach = [conv.reach(0), conv.reach(1)];
                let explicit = |beyond: usize| {
                    let side = |side: usize, axis: usize| sides[side] % (reach[axis] + beyond);
                    if uniform {
                        return Padding::all(sides[0] % (reach[0].min(reach[1]) + beyond));
                    }
                    Padding::Explicit { top: side(0, 0), bottom: side(1, 0), left: side(2, 1), right: side(3, 1) }
                };
                let half = [reach[0] / 2, reach[1] / 2];
                conv.padding(match padding {
                    PaddingKind::Valid => Padding::Valid,
                    PaddingKind::Same | PaddingKind::Half if uniform => Padding::all(half[0].min(half[1])),
                    PaddingKind::Same => Padding::Same,
                    PaddingKind::Half => {
                        Padding::Explicit { top: half[0], bottom: half[0], left: half[1], right: half[1] }
                    }
                    PaddingKind::Within => explicit(0),
                    PaddingKind::Beyond => explicit(4),
                })
            })
            .boxed()
    }

    /// Padding of a 1×1 kernel is nothing under either name.
    fn point(&self) -> BoxedStrategy<ConvCase> {
        let paddings = vec![Padding::Same, Padding::Valid, Padding::all(0)];
        select(paddings).prop_map(|padding| ConvCase::pointwise(1).padding(padding)).boxed()
    }

    fn activation(&self) -> BoxedStrategy<Activation> {
        if let Some(activations) = &self.activations {
            return select(activations.clone()).boxed();
        }
        let bounds = vec![
            [-0.5, 0.5],
            [0.25, 0.25],
            [-0.0, 1.0],
            [-1.0, -0.0],
            [f32::NEG_INFINITY, 0.1],
            [-0.1, f32::INFINITY],
            [f32::MIN, f32::MAX],
        ];
        let beyond = vec![
            Activation::HardSwish,
            Activation::HardSigmoid,
            Activation::Sigmoid,
            Activation::Silu,
            Activation::Tanh,
            Activation::Gelu,
            Activation::LeakyRelu { slope: 0.01 },
            Activation::LeakyRelu { slope: -1.5 },
        ];
        prop_oneof![
            2 => Just(Activation::Linear),
            2 => Just(Activation::Relu),
            3 => Just(Activation::Relu6),
            2 => select(bounds).prop_map(|[min, max]| Activation::Clamp { min, max }),
            3 => select(beyond),
        ]
        .boxed()
    }

    fn channel_activation(&self) -> BoxedStrategy<Option<ByChannel>> {
        if !self.by_channel {
            return Just(None).boxed();
        }
        prop_oneof![8 => Just(None), 1 => Just(Some(ByChannel::PRelu)), 1 => Just(Some(ByChannel::Clamp))].boxed()
    }

    fn norm(&self) -> BoxedStrategy<Option<NormCase>> {
        if !self.batch_norm {
            return Just(None).boxed();
        }
        let norm = (any::<bool>(), any::<bool>(), select(vec![1e-3, 1e-5, 0.0]))
            .prop_map(|(gamma, beta, epsilon)| NormCase::new(epsilon).gamma(gamma).beta(beta));
        proptest::option::of(norm).boxed()
    }

    /// A convolution of a window, standard or depthwise.
    fn conv(
        &self,
        depthwise: bool,
        window: BoxedStrategy<ConvCase>,
        outputs: BoxedStrategy<usize>,
    ) -> BoxedStrategy<ConvCase> {
        let bias = if self.bias { any::<bool>().boxed() } else { Just(false).boxed() };
        let activation = (self.activation(), self.channel_activation());
        (window, outputs, activation, bias, self.norm(), one_of(self.weights.clone()), any::<u16>())
            .prop_map(move |(window, outputs, (activation, by_channel), bias, batch_norm, values, seed)| ConvCase {
                depthwise,
                outputs,
                activation: if by_channel.is_some() { Activation::Linear } else { activation },
                by_channel,
                bias,
                batch_norm,
                values,
                seed: seed.into(),
                ..window
            })
            .boxed()
    }

    fn depthwise_conv(&self, window: BoxedStrategy<ConvCase>) -> BoxedStrategy<ConvCase> {
        let multiplier = prop_oneof![3 => Just(1), 1 => 1..=self.multiplier].boxed();
        self.conv(true, window, multiplier)
    }

    fn point_conv(&self) -> BoxedStrategy<ConvCase> {
        self.conv(false, self.point(), self.channels())
    }

    fn window_conv(&self) -> BoxedStrategy<ConvCase> {
        self.conv(false, self.window(), self.channels())
    }

    fn op(&self, kind: Kind) -> BoxedStrategy<Op> {
        match kind {
            Kind::Conv2d => self.window_conv().prop_map(Op::Conv2d).boxed(),
            Kind::Depthwise => self.depthwise_conv(self.window()).prop_map(Op::Depthwise).boxed(),
            Kind::Pointwise => self.point_conv().prop_map(Op::Pointwise).boxed(),
            Kind::Dense => self.point_conv().prop_map(Op::Dense).boxed(),
            Kind::AveragePool => Just(Op::AveragePool).boxed(),
            Kind::Separable => (self.depthwise_conv(self.window()), self.point_conv())
                .prop_map(|(depthwise, pointwise)| Op::Separable { depthwise, pointwise })
                .boxed(),
            Kind::InvertedResidual => {
                let expand = prop_oneof![
                    1 => Just(None),
                    3 => self.point_conv().prop_map(Some),
                    2 => self.window_conv().prop_map(Some),
                ];
                // half of them as in the papers, since only stride 1 and SAME keep the shape that a shortcut needs
                let (most, uniform) = (self.kernel, self.uniform);
                let kept = select(vec![[3, 3], [5, 5], [3, 1], [7, 7]]).prop_map(move |kernel: [usize; 2]| {
                    let mut kernel = kernel.map(|taps| taps.min(most - (most + 1) % 2));
                    if uniform {
                        kernel[1] = kernel[0];
                        return ConvCase::standard(kernel, 1).padding(Padding::all(kernel[0] / 2));
                    }
                    ConvCase::standard(kernel, 1)
                });
                let depthwise =
                    prop_oneof![self.depthwise_conv(kept.boxed()), self.depthwise_conv(self.window())].boxed();
                let shortcut = prop_oneof![3 => Just(true), 1 => Just(false)];
                (expand, depthwise, self.point_conv(), shortcut, 0..8)
                    .prop_map(|(expand, depthwise, mut project, shortcut, chance)| {
                        if shortcut && chance > 0 {
                            project.outputs = AS_ENTERED;
                        }
                        Op::InvertedResidual { expand, depthwise, project, shortcut }
                    })
                    .boxed()
            }
            // a graph is drawn by its nodes
            Kind::Chain | Kind::Graph => {
                let kinds = [Kind::Conv2d, Kind::Depthwise, Kind::Pointwise, Kind::Separable, Kind::Separable];
                let blocks = [Kind::InvertedResidual; 3];
                proptest::strategy::Union::new(kinds.into_iter().chain(blocks).map(|kind| self.op(kind))).boxed()
            }
        }
    }

    fn ops(&self) -> BoxedStrategy<Vec<Op>> {
        if self.kind != Kind::Chain {
            return self.op(self.kind).prop_map(|op| vec![op]).boxed();
        }
        let tail = prop_oneof![
            Just(vec![]),
            Just(vec![Op::AveragePool]),
            self.op(Kind::Dense).prop_map(|dense| vec![Op::AveragePool, dense]),
            (self.op(Kind::Pointwise), self.op(Kind::Dense)).prop_map(|(pointwise, dense)| vec![
                Op::AveragePool,
                pointwise,
                dense
            ]),
        ];
        (proptest::collection::vec(self.op(Kind::Chain), 1..=4), tail)
            .prop_map(|(mut ops, tail)| {
                ops.extend(tail);
                ops
            })
            .boxed()
    }

    fn strategy(&self) -> BoxedStrategy<Case> {
        let flat = if self.kind == Kind::Dense {
            prop_oneof![3 => Just(true), 1 => Just(false)].boxed()
        } else {
            Just(false).boxed()
        };
        let plane = (self.batch(), self.side(), self.side(), flat)
            .prop_map(|(n, h, w, flat)| if flat { [n, 1, 1] } else { [n, h, w] });
        let gap = || prop_oneof![Just(0usize), 1usize..=20];
        let gaps = if self.gaps { (gap(), gap()).boxed() } else { Just((0, 0)).boxed() };
        // most are small, some as large as they may be
        let small = if self.kind == Kind::Graph { 10 } else { 40 };
        let budget = prop_oneof![4 => Just(small), 3 => Just(7), 1 => Just(1)];
        let keep = prop_oneof![Just(Keep::Both), Just(Keep::Channels), Just(Keep::Plane)];
        let macs = self.macs;
        let frame = (plane, self.channels(), one_of(self.values.clone()), any::<u16>(), gaps, budget, keep).prop_map(
            move |([n, h, w], c, values, seed, gaps, budget, keep)| CaseFrame {
                input: Shape::new(n, h, w, c),
                values,
                seed: seed.into(),
                gaps,
                budget: (macs / budget).max(1000),
                keep,
            },
        );
        if self.kind == Kind::Graph {
            let cases = self.clone();
            return (self.nodes(), frame).prop_map(move |(nodes, frame)| cases.graph(nodes, frame)).boxed();
        }
        (self.ops(), frame)
            .prop_map(|(ops, frame)| fit(ops.into_iter().fold(frame.case(), Case::op), frame.budget, frame.keep))
            .boxed()
    }
}

/// What a case is drawn with beside its operators.
#[derive(Clone, Copy, Debug)]
struct CaseFrame {
    input: Shape,
    values: Values,
    seed: u64,
    gaps: (usize, usize),
    /// The most multiply-adds.
    budget: u64,
    keep: Keep,
}

impl CaseFrame {
    /// A case without operators.
    fn case(&self) -> Case {
        Case::new(self.input).values(self.values).seed(self.seed).gaps(self.gaps.0, self.gaps.1)
    }
}

impl Strategy for Cases {
    type Tree = Box<dyn ValueTree<Value = Case>>;
    type Value = Case;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        self.strategy().new_tree(runner)
    }
}

/// Outputs of a projection that are to be as many as the block's inputs: a shortcut needs it, and by chance it is
/// seldom so.
const AS_ENTERED: usize = usize::MAX;

/// Which sizes a budget does not cut while others are left.
#[derive(Clone, Copy, Debug)]
enum Keep {
    Channels,
    Plane,
    Both,
}

/// Cuts sizes until the case fits its budget, and every kernel its plane. Where sizes alone do not do, the last
/// operators go.
fn fit(mut case: Case, budget: u64, keep: Keep) -> Case {
    let entered: Vec<bool> = case.ops().map(|op| op.convs().iter().any(|c| c.outputs == AS_ENTERED)).collect();
    link(&mut case, &entered);
    let least = [0, 1].map(|axis| (1..).find(|&size| fits(&case, axis, size)).unwrap_or(1));
    case.input.h = case.input.h.max(least[0]);
    case.input.w = case.input.w.max(least[1]);
    let mut turn = 0;
    for step in 0.. {
        if case.macs() <= budget {
            break;
        }
        let cut = |size: usize, least: usize| least.max(size - size.div_ceil(4));
        let before = case.clone();
        let plane = match keep {
            Keep::Channels => true,
            Keep::Plane => false,
            Keep::Both => step % 2 == 0,
        };
        // what is kept goes last, and only where the rest is as small as it can be
        for plane in [plane, !plane] {
            let input = &mut case.input;
            if plane {
                turn += 1;
                match turn % 4 {
                    // the batch last, which is small as it is
                    0 if input.n > 1 => input.n -= 1,
                    1 | 3 if input.w > least[1] => input.w = cut(input.w, least[1]),
                    _ if input.h > least[0] => input.h = cut(input.h, least[0]),
                    _ if input.w > least[1] => input.w = cut(input.w, least[1]),
                    _ => input.n = (input.n - 1).max(1),
                }
            } else {
                input.c = cut(input.c, 1);
                let convs = case.nodes.iter_mut().flat_map(|node| node.op.convs_mut());
                for conv in convs.filter(|conv| !conv.depthwise) {
                    conv.outputs = cut(conv.outputs, 1);
                }
                link(&mut case, &entered);
            }
            if case != before {
                break;
            }
        }
        if case == before {
            if case.nodes.len() == 1 {
                // a window over the smallest plane there is, of one channel: nothing makes it smaller
                break;
            }
            // strides multiply from operator to operator, and so does the smallest plane that all of them fit
            case.nodes.pop();
            return fit(case, budget, keep);
        }
    }
    case
}

/// Makes projections with a shortcut as wide as what entered their block.
fn link(case: &mut Case, as_entered: &[bool]) {
    let mut channels = case.input.c;
    for (CaseNode { op, .. }, &as_entered) in case.nodes.iter_mut().zip(as_entered) {
        let entered = channels;
        let mut convs = op.convs_mut();
        if let (true, Some(project)) = (as_entered, convs.last_mut()) {
            project.outputs = entered;
        }
        for conv in convs {
            channels = conv.channels_out(channels);
        }
    }
}

/// Whether every kernel fits the axis of the plane that reaches it.
fn fits(case: &Case, axis: usize, size: usize) -> bool {
    let mut size = Some(size);
    for op in case.ops() {
        if *op == Op::AveragePool {
            size = size.map(|_| 1);
        }
        for conv in op.convs() {
            size = size.and_then(|size| conv.lay(axis, size)).map(|(_, out)| out);
        }
    }
    size.is_some()
}
