//! The report of a plan: its decisions, step by step.

use core::fmt;

use sepconv_kernels::{KernelKind, Nonlinearity};

use super::layout::PlannedTensor;
use super::lower::{Draft, DraftKind};
use super::stage::{PackedOp, StageEnd};
use crate::memory::{push, reserve, text};
use crate::{Arithmetic, Isa, Result, Shape};

/// What bounds a step, as predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bound {
    /// Multiply-adds.
    Compute,
    /// Bytes moved.
    Bandwidth,
}

impl Bound {
    /// FLOPs that a core does in the time in which it moves a byte between L2 and L3: about 100 GFLOP/s over 50 GB/s.
    const FLOPS_PER_BYTE: u64 = 2;

    pub(crate) fn predict(macs: u64, bytes: u64) -> Bound {
        if macs.saturating_mul(2) < bytes.saturating_mul(Self::FLOPS_PER_BYTE) {
            Bound::Bandwidth
        } else {
            Bound::Compute
        }
    }
}

/// What a plan decided, step by step. It prints as a table.
///
/// A caller describes stages. A step is what runs: one stage, or several fused ones. Each [`StageReport`] is of a step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explain {
    /// The instruction set.
    pub isa: Isa,
    /// How a step of a sum is rounded.
    pub arithmetic: Arithmetic,
    /// Threads that can take part.
    pub threads: usize,
    /// Bytes of the arena: the tensors between steps. [`crate::Plan::scratch_bytes`] counts the memory of workers too.
    pub arena_bytes: usize,
    /// Bytes of the tensors between steps that are alive at the step where they are most: no arena is smaller.
    pub arena_least_bytes: usize,
    /// Whether the steps run as if rows were columns: planes of one column run as planes of one row. Shapes and layouts are the caller's
    /// all the same. Where a step speaks of rows, these are rows of the planes that run.
    pub axes_swapped: bool,
    /// The steps, in the order in which they run.
    pub stages: Vec<StageReport>,
}

/// One step of a plan: a stage, or several stages that run as one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StageReport {
    /// The stages of the step: `pointwise → depthwise → pointwise`.
    pub name: &'static str,
    /// What it reads.
    pub input: Shape,
    /// What it writes.
    pub output: Shape,
    /// Whether a residual is added to what it computes: the input of the block, or another tensor of the network.
    pub shortcut: bool,
    /// The kernels that it runs on, in the order of the data.
    pub kernels: Vec<KernelKind>,
    /// Activations of its stages that are more than a clamp with the same bounds for all channels, in the order of the data.
    pub activations: Vec<&'static str>,
    /// Whether it runs several stages.
    pub fused: bool,
    /// Why it is fused, or is not.
    pub why: String,
    /// How a step with a depthwise stage goes over its plane.
    pub schedule: Option<String>,
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// Bytes of inputs, outputs and weights.
    pub bytes: u64,
    /// Bytes of scratch that each worker needs for it.
    pub scratch_bytes: usize,
    /// Pieces that it is shared out in.
    pub pieces: usize,
    /// What bounds it, as predicted.
    pub bound: Bound,
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} ({:?} arithmetic), {} thread{}, arena of {} KiB{}",
            self.isa,
            self.arithmetic,
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            self.arena_bytes.div_ceil(1024),
            if self.axes_swapped { ", rows and columns swapped" } else { "" }
        )?;
        for (i, s) in self.stages.iter().enumerate() {
            let shortcut = if s.shortcut { " + input" } else { "" };
            write!(f, "{i:3}  {}{shortcut}  {} → {}  ", s.name, s.input, s.output)?;
            for (k, kernel) in s.kernels.iter().enumerate() {
                write!(f, "{}{}_{}", if k > 0 { " + " } else { "" }, kernel.name(), self.isa)?;
            }
            for (at, activation) in s.activations.iter().enumerate() {
                write!(f, "{}{activation}", if at > 0 { ", " } else { "; " })?;
            }
            writeln!(f)?;
            writeln!(
                f,
                "     {}: {}{}",
                if s.fused { "fused" } else { "not fused" },
                s.why,
                s.schedule.as_ref().map_or(String::new(), |s| format!("; {s}"))
            )?;
            writeln!(
                f,
                "     {:.2} MFLOP, {} KiB moved, {} KiB scratch, {} piece{}; bound by {}",
                s.macs as f64 * 2e-6,
                s.bytes.div_ceil(1024),
                s.scratch_bytes.div_ceil(1024),
                s.pieces,
                if s.pieces == 1 { "" } else { "s" },
                match s.bound {
                    Bound::Compute => "compute",
                    Bound::Bandwidth => "bandwidth",
                }
            )?;
        }
        Ok(())
    }
}

impl StageReport {
    /// The facts about a step that are there before it is made.
    pub(super) fn new(
        draft: &Draft,
        from: &PlannedTensor,
        to: &PlannedTensor,
        residual: Option<&PlannedTensor>,
    ) -> Result<StageReport> {
        let mut report = StageReport {
            name: draft.name,
            input: from.shape,
            output: to.shape,
            // the second tensor of a sum or a product is no residual
            shortcut: residual.is_some() && !matches!(draft.kind, DraftKind::Rows(_)),
            kernels: Vec::new(),
            activations: Vec::new(),
            fused: draft.fused,
            why: text(format_args!("{}", draft.why))?,
            schedule: None,
            macs: 0,
            bytes: 0,
            scratch_bytes: 0,
            pieces: 1,
            bound: Bound::Compute,
        };
        // a head, a depthwise stage and a tail
        reserve("plan", &mut report.kernels, 3)?;
        let mut weights = 0;
        match &draft.kind {
            DraftKind::Pool => report.kernels.push(KernelKind::AveragePool),
            DraftKind::Rows(op) => {
                report.kernels.extend(op.kernel());
                if let Some(end) = op.end() {
                    report.ends(end)?;
                    weights += end.bytes() as u64;
                }
            }
            DraftKind::Conv(chain) | DraftKind::Chain { chain, .. } => {
                let shapes = chain.shapes(from.shape)?;
                for (stage, shape) in chain.stages().iter().zip(shapes) {
                    let Some(stage) = stage else { continue };
                    let (macs, bytes) = match &stage.op {
                        PackedOp::Conv(conv) => {
                            report.kernels.push(KernelKind::Pointwise);
                            (conv.macs(shape.pixels()), conv.weights.bytes())
                        }
                        PackedOp::Depthwise(depthwise) => (depthwise.macs(shape.pixels()), depthwise.weights.bytes()),
                    };
                    report.macs = report.macs.saturating_add(macs);
                    weights += (bytes + stage.end.bytes()) as u64;
                    report.ends(&stage.end)?;
                }
            }
        }
        let bytes =
            |t: &PlannedTensor| ((t.shape.pixels() * t.shape.c) as u64).saturating_mul(t.element.bytes() as u64);
        let tensors = [Some(from), Some(to), residual].into_iter().flatten();
        report.bytes = tensors.fold(weights, |sum, tensor| sum.saturating_add(bytes(tensor)));
        report.bound = Bound::predict(report.macs, report.bytes);
        Ok(report)
    }

    /// Adds the activation that a stage ends by.
    fn ends(&mut self, end: &StageEnd) -> Result<()> {
        match end.epilogue.activation() {
            Nonlinearity::Clamp(_) => Ok(()),
            activation => push("plan", &mut self.activations, activation.name()),
        }
    }
}
