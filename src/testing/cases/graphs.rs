//! Graphs: nodes are drawn without shapes, then laid over the tensors that are there.
//!
//! ```text
//! drawn   a kind, a convolution or a window, picks among tensors        shrinks to fewer and simpler nodes
//! laid    the first pick that has the shape that the operator needs;    each graph is valid, whatever was drawn
//!         a tensor that nothing reads becomes an output or is left out
//! cut     plane and channels, until the graph fits its budget; it is laid anew each time
//! ```

use proptest::prelude::*;
use proptest::strategy::Union;

use super::{CaseFrame, Cases, Keep, PaddingKind};
use crate::testing::{Case, CaseNode, ConvCase, Op, StageKind, WindowPoolCase};
use crate::{Activation, Padding, Shape};

/// Kinds of nodes, and how often each is drawn.
pub(super) const KINDS: &[(u32, StageKind)] = &[
    (4, StageKind::Standard),
    (2, StageKind::Depthwise),
    (4, StageKind::Add),
    (3, StageKind::Scale),
    (3, StageKind::Concat),
    (2, StageKind::MaxPool),
    (2, StageKind::MeanPool),
    (1, StageKind::AveragePool),
    (1, StageKind::Activate),
];

/// A kind of node, and which tensors it reads, counted from the last one.
type PatternNode = (StageKind, [usize; 2]);

/// Graphs that chance makes seldom, and fusion is made for. Their convolutions have the plane of the input.
const PATTERNS: &[&[PatternNode]] = &[
    // conv → add, with a shortcut
    &[(StageKind::Standard, [0, 0]), (StageKind::Add, [0, 0])],
    // the block of ResNet
    &[(StageKind::Standard, [0, 0]), (StageKind::Standard, [0, 0]), (StageKind::Add, [0, 1])],
    // the block of MobileNetV2
    &[
        (StageKind::Standard, [0, 0]),
        (StageKind::Depthwise, [0, 0]),
        (StageKind::Standard, [0, 0]),
        (StageKind::Add, [0, 2]),
    ],
    // the sum, the product and the concatenation of two convolutions of one tensor
    &[(StageKind::Standard, [0, 0]), (StageKind::Standard, [1, 0]), (StageKind::Add, [0, 0])],
    &[(StageKind::Standard, [0, 0]), (StageKind::Standard, [1, 0]), (StageKind::Scale, [0, 6])],
    &[(StageKind::Standard, [0, 0]), (StageKind::Standard, [1, 0]), (StageKind::Concat, [0, 0])],
    // tensors with a second reader: of a convolution, and of an activation
    &[(StageKind::Standard, [0, 0]), (StageKind::Standard, [0, 0]), (StageKind::Concat, [0, 0])],
    &[(StageKind::Standard, [0, 0]), (StageKind::Activate, [0, 0]), (StageKind::Concat, [0, 0])],
    // scales from the mean of what they scale; squeeze-and-excite
    &[(StageKind::Depthwise, [0, 0]), (StageKind::AveragePool, [0, 0]), (StageKind::Scale, [1, 0])],
    &[
        (StageKind::Standard, [0, 0]),
        (StageKind::AveragePool, [0, 0]),
        (StageKind::Standard, [0, 0]),
        (StageKind::Scale, [2, 0]),
    ],
];

/// A node before shapes are known.
#[derive(Clone, Debug)]
pub(super) struct NodeDraw {
    kind: StageKind,
    /// Of a node that is no convolution, the window and the activation.
    conv: ConvCase,
    /// Whether the output has the plane of the input, and its channels.
    keeps_plane: bool,
    keeps_channels: bool,
    /// Which tensors it reads, counted from the last one.
    picks: [usize; 2],
    /// Whether two operands are swapped, and whether a mean counts padding.
    flag: bool,
    is_output: bool,
}

impl Cases {
    /// A node of one of the kinds that are not excluded.
    fn node(&self, kinds: &[(u32, StageKind)]) -> BoxedStrategy<NodeDraw> {
        let of_kind = |&(weight, kind): &(u32, StageKind)| {
            let conv = match kind {
                StageKind::Standard => prop_oneof![self.point_conv(), self.window_conv()].boxed(),
                _ => self.depthwise_conv(self.window()),
            };
            (weight, conv.prop_map(move |conv| (kind, conv)).boxed())
        };
        let pick = || prop_oneof![3 => Just(0usize), 2 => 0usize..8];
        let keeps = (prop_oneof![4 => Just(true), 1 => Just(false)], prop_oneof![3 => Just(true), 2 => Just(false)]);
        let is_output = prop_oneof![4 => Just(false), 1 => Just(true)];
        (Union::new_weighted(kinds.iter().map(of_kind).collect()), keeps, [pick(), pick()], any::<bool>(), is_output)
            .prop_map(|((kind, conv), (keeps_plane, keeps_channels), picks, flag, is_output)| NodeDraw {
                kind,
                conv,
                keeps_plane,
                keeps_channels,
                picks,
                flag,
                is_output,
            })
            .boxed()
    }

    /// Nodes of a graph, the first of them a convolution where there may be one.
    pub(super) fn nodes(&self) -> BoxedStrategy<Vec<NodeDraw>> {
        let kinds: Vec<_> = KINDS.iter().copied().filter(|(_, kind)| !self.without.contains(kind)).collect();
        let convs = [StageKind::Standard, StageKind::Depthwise];
        let mut first: Vec<_> = kinds.iter().copied().filter(|(_, kind)| convs.contains(kind)).collect();
        if first.is_empty() {
            first.clone_from(&kinds);
        }
        let others = proptest::collection::vec(self.node(&kinds), self.nodes.min(2) - 1..self.nodes);
        let by_chance = (self.node(&first), others).prop_map(|(first, mut others)| {
            others.insert(0, first);
            others
        });
        let fits = |pattern: &&&[PatternNode]| {
            pattern.len() <= self.nodes && pattern.iter().all(|(kind, _)| !self.without.contains(kind))
        };
        let patterns = PATTERNS.iter().filter(fits).map(|pattern| (1, self.pattern(pattern)));
        Union::new_weighted([(4, by_chance.boxed())].into_iter().chain(patterns).collect()).boxed()
    }

    /// The nodes of a pattern.
    fn pattern(&self, pattern: &'static [PatternNode]) -> BoxedStrategy<Vec<NodeDraw>> {
        let is_concat = pattern.iter().any(|(kind, _)| *kind == StageKind::Concat);
        let node = |&(kind, picks): &PatternNode| {
            let node = self.node(&[(1, kind)]);
            node.prop_map(move |node| NodeDraw {
                picks,
                keeps_plane: true,
                keeps_channels: node.keeps_channels || !is_concat,
                ..node
            })
        };
        let has_linear = self.activations.as_ref().is_none_or(|all| all.contains(&Activation::Linear));
        (pattern.iter().map(node).collect::<Vec<_>>(), 0..3usize)
            .prop_map(move |(mut nodes, place)| {
                // of a sum, an activation behind it, before it, or both
                if let (true, [.., before, sum]) = (has_linear, &mut nodes[..])
                    && sum.kind == StageKind::Add
                    && place < 2
                {
                    let node = [before, sum];
                    node[place].conv = node[place].conv.activation(Activation::Linear);
                }
                nodes
            })
            .boxed()
    }

    /// The graph of these nodes, within its budget.
    pub(super) fn graph(&self, mut draws: Vec<NodeDraw>, mut frame: CaseFrame) -> Case {
        let cut = |size: usize| (size - size.div_ceil(4)).max(1);
        let mut step = 0;
        loop {
            let case = self.lay_out(&draws, &frame);
            let Shape { n, h, w, .. } = frame.input;
            let channels = frame.input.c.max(draws.iter().map(|draw| draw.conv.outputs).max().unwrap_or(1));
            if case.macs() <= frame.budget {
                return case;
            }
            // of the smallest tensors, fewer nodes
            if n * h * w * channels == 1 {
                if draws.len() == 1 {
                    return case;
                }
                draws.truncate(draws.len().div_ceil(2));
                continue;
            }
            step += 1;
            let plane = match frame.keep {
                Keep::Channels => true,
                Keep::Plane => false,
                Keep::Both => step % 2 == 0,
            };
            // the size to keep is cut last, and only where the rest is as small as it can be; a plane of few pixels and a batch go last of all, since
            // many faults need them
            if (plane && h * w > 4) || channels == 1 {
                if h * w == 1 {
                    frame.input.n -= 1;
                } else if h > w {
                    frame.input.h = cut(h);
                } else {
                    frame.input.w = cut(w);
                }
            } else {
                frame.input.c = cut(frame.input.c);
                draws.iter_mut().for_each(|draw| draw.conv.outputs = cut(draw.conv.outputs));
            }
        }
    }

    /// The graph of these nodes over an input.
    fn lay_out(&self, draws: &[NodeDraw], frame: &CaseFrame) -> Case {
        let mut graph = LaidGraph { case: frame.case(), shapes: vec![frame.input] };
        let mut wanted = Vec::new();
        for draw in draws {
            let room = self.nodes.saturating_sub(graph.case.nodes.len());
            if room == 0 {
                break;
            }
            self.lay_node(&mut graph, draw, room);
            if draw.is_output {
                wanted.push(graph.case.nodes.len());
            }
        }
        graph.finish(&wanted, self.outputs, draws[0].flag)
    }

    /// Adds a node where there is a tensor for it; a scale without a tensor of one pixel adds a mean as well.
    fn lay_node(&self, graph: &mut LaidGraph, draw: &NodeDraw, room: usize) {
        let x = graph.pick(draw.picks[0]);
        let input = graph.shapes[x];
        let activation = draw.conv.activation;
        match draw.kind {
            StageKind::Standard | StageKind::Depthwise => {
                let mut conv = self.fitted(draw, input);
                if draw.keeps_channels {
                    conv.outputs = if conv.depthwise { 1 } else { input.c };
                }
                let op = match conv {
                    _ if conv.depthwise => Op::Depthwise(conv),
                    _ if conv.is_pointwise() => Op::Pointwise(conv),
                    _ => Op::Conv2d(conv),
                };
                graph.push(op, &[x]);
            }
            StageKind::AveragePool => graph.push(Op::AveragePool, &[x]),
            StageKind::Activate => graph.push(Op::Activate(activation), &[x]),
            StageKind::MaxPool | StageKind::MeanPool => {
                let ConvCase { kernel, strides, padding, .. } = self.pool_window(draw, input);
                let pool = if draw.kind == StageKind::MaxPool {
                    WindowPoolCase::max(kernel)
                } else {
                    WindowPoolCase::mean(kernel).count_padding(draw.flag)
                };
                graph.push(Op::WindowPool(pool.strides(strides).padding(padding)), &[x]);
            }
            StageKind::Add => {
                let pair = graph.pair(draw, x, |a, b| a == b);
                graph.push(Op::Add(activation), &pair);
            }
            StageKind::Concat => {
                let beside = |a: Shape, b: Shape| (a.n, a.h, a.w) == (b.n, b.h, b.w);
                let mut tensors = graph.pair(draw, x, beside).to_vec();
                // three of them, now and then
                if draw.picks[1] == 7 {
                    tensors.push(tensors[0]);
                }
                graph.push(Op::Concat, &tensors);
            }
            StageKind::Scale => {
                let scales = |a: Shape, b: Shape| a.h * a.w > 1 && b == Shape { h: 1, w: 1, ..a };
                if let Some(pair) = graph.find_pair(draw, x, scales) {
                    graph.push(Op::Scale, &pair);
                } else if room > 1 && draw.picks[1] < 6 && !self.without.contains(&StageKind::AveragePool) {
                    graph.push(Op::AveragePool, &[x]);
                    graph.push(Op::Scale, &[x, graph.case.nodes.len()]);
                } else {
                    let pair = graph.pair(draw, x, |a, b| a == b);
                    graph.push(Op::Scale, &pair);
                }
            }
        }
    }

    /// The convolution of a node, with a window that the plane is large enough for.
    fn fitted(&self, draw: &NodeDraw, input: Shape) -> ConvCase {
        let mut conv = draw.conv;
        if draw.keeps_plane {
            conv.strides = [1, 1];
            self.keep_plane(&mut conv);
        }
        if [(0, input.h), (1, input.w)].iter().any(|&(axis, size)| conv.lay(axis, size).is_none()) {
            conv.kernel = [conv.kernel[0].min(input.h), conv.kernel[1].min(input.w)];
            (conv.dilations, conv.padding) = ([1, 1], Padding::all(0));
        }
        conv
    }

    /// Padding by which a window of stride 1 keeps its plane, of the kinds that there are.
    fn keep_plane(&self, conv: &mut ConvCase) {
        let has = |kind| self.paddings.contains(&kind);
        if conv.kernel == [1, 1] {
            // nothing, under either name
            conv.padding = if self.uniform { Padding::all(0) } else { Padding::Same };
        } else if has(PaddingKind::Same) && !self.uniform {
            conv.padding = Padding::Same;
        } else if has(PaddingKind::Same) || has(PaddingKind::Half) {
            // an odd window has as much padding at both sides
            conv.kernel = conv.kernel.map(|taps| taps - (taps + 1) % 2);
            if self.uniform {
                conv.kernel[1] = conv.kernel[0];
            }
            let [rows, columns] = [conv.reach(0) / 2, conv.reach(1) / 2];
            conv.padding = Padding::Explicit { top: rows, bottom: rows, left: columns, right: columns };
        } else {
            (conv.kernel, conv.padding) = ([1, 1], Padding::all(0));
        }
    }

    /// The window of a pool: without dilation, and with less padding than it has taps.
    fn pool_window(&self, draw: &NodeDraw, input: Shape) -> ConvCase {
        let draw = NodeDraw { conv: ConvCase { dilations: [1, 1], ..draw.conv }, ..draw.clone() };
        let mut window = self.fitted(&draw, input);
        if let Padding::Explicit { top, bottom, left, right } = window.padding {
            let mut most = window.kernel.map(|taps| taps - 1);
            if self.uniform {
                most = [most[0].min(most[1]); 2];
            }
            let [top, bottom] = [top, bottom].map(|side| side.min(most[0]));
            let [left, right] = [left, right].map(|side| side.min(most[1]));
            window.padding = Padding::Explicit { top, bottom, left, right };
        }
        // with less padding it may not fit any more
        self.fitted(&NodeDraw { conv: window, keeps_plane: false, ..draw }, input)
    }
}

/// A graph that is being laid out, and the shapes of its tensors.
struct LaidGraph {
    case: Case,
    shapes: Vec<Shape>,
}

impl LaidGraph {
    /// A tensor, counted from the last one.
    fn pick(&self, pick: usize) -> usize {
        self.shapes.len() - 1 - pick % self.shapes.len()
    }

    /// Adds a node. One that its tensors do not fit is left out.
    fn push(&mut self, op: Op, reads: &[usize]) {
        let inputs: Vec<Shape> = reads.iter().map(|&tensor| self.shapes[tensor]).collect();
        if let Ok(shape) = op.output(&inputs) {
            self.shapes.push(shape);
            self.case.nodes.push(CaseNode { op, reads: reads.to_vec() });
        }
    }

    /// Two tensors that fit each other, the first of them `x` if there are such.
    fn find_pair(&self, draw: &NodeDraw, x: usize, fit: impl Fn(Shape, Shape) -> bool) -> Option<[usize; 2]> {
        let tensors = || (0..self.shapes.len()).rev();
        [x].into_iter().chain(tensors()).find_map(|a| {
            let others: Vec<usize> = tensors().filter(|&b| b != a && fit(self.shapes[a], self.shapes[b])).collect();
            let other = others.get(draw.picks[1] % others.len().max(1))?;
            Some([a, *other])
        })
    }

    /// Two tensors that fit each other, in either order; `x` twice where there are none.
    fn pair(&self, draw: &NodeDraw, x: usize, fit: impl Fn(Shape, Shape) -> bool) -> [usize; 2] {
        let [a, b] = self.find_pair(draw, x, fit).unwrap_or([x, x]);
        if draw.flag { [b, a] } else { [a, b] }
    }

    /// The case: the last tensor is an output, and so are some that nothing reads, and some of those that are wanted. Nodes that
    /// come into no output are left out.
    fn finish(mut self, wanted: &[usize], most: usize, ascending: bool) -> Case {
        let last = self.case.nodes.len();
        let unused = self.case.unused();
        let mut outputs = vec![last];
        for &tensor in unused.iter().chain(wanted).filter(|&&tensor| tensor > 0) {
            if outputs.len() < most && !outputs.contains(&tensor) {
                outputs.push(tensor);
            }
        }
        if ascending {
            outputs.sort_unstable();
        }
        let mut alive: Vec<bool> = (0..=last).map(|tensor| outputs.contains(&tensor)).collect();
        for (at, node) in self.case.nodes.iter().enumerate().rev() {
            if alive[at + 1] {
                node.reads.iter().for_each(|&tensor| alive[tensor] = true);
            }
        }
        // the numbers of those that are left
        let number = |tensor: usize| alive[1..=tensor].iter().filter(|&&alive| alive).count();
        let nodes = std::mem::take(&mut self.case.nodes).into_iter().enumerate();
        self.case.nodes = nodes
            .filter(|(at, _)| alive[at + 1])
            .map(|(_, CaseNode { op, reads })| CaseNode { op, reads: reads.into_iter().map(number).collect() })
            .collect();
        if outputs != [last] {
            self.case.outputs = outputs.into_iter().map(number).collect();
        }
        self.case
    }
}
