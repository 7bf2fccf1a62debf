//! A depthwise 3×3 convolution from planes to planes, planned: nothing is transposed.

use sepconv_kernels::{DwPlanesArgs, KernelKind};

use super::Lowering;
use super::layout::{Order, PlannedTensor};
use super::share::busiest;
use super::stage::{Chain, DepthwiseStage, Ends, Misfit, STAGES};
use crate::Result;
use crate::memory::{Carver, product};
use crate::shape::Extent;

/// A depthwise convolution over planes, a channel at a time.
#[derive(Debug)]
pub(crate) struct PlanesStep {
    pub(crate) stage: DepthwiseStage,
    pub(crate) ends: Ends,
    pub(crate) extent: Extent,
    pub(crate) kind: KernelKind,
    /// Parts that the rows of the planes of all images are shared out in.
    pub(crate) parts: usize,
    /// Whether parts are of whole planes.
    pub(crate) whole: bool,
    /// The place of the kernel's scratch in a worker's, in bytes.
    pub(crate) scratch: usize,
    pub(crate) scratch_bytes: usize,
}

impl PlanesStep {
    /// The kernel for stages over these tensors, or `None` where planes are no way to go.
    pub(super) fn kind_of(
        chain: &Chain,
        tensors: &[PlannedTensor],
        ends: &Ends,
        lowering: &Lowering,
    ) -> Result<Option<KernelKind>> {
        let thresholds = &lowering.thresholds;
        let is_planes = |tensor: &PlannedTensor| match tensor.layout.order {
            Order::Planes => true,
            // pixels of one channel are a plane, and flat rows; those take less scratch
            Order::Pixels => tensor.shape.c == 1 && tensor.shape.w <= thresholds.one_channel_width,
            Order::Blocks => false,
        };
        let planes = [ends.input, ends.output].into_iter().all(|end| is_planes(&tensors[end]));
        let window = match (chain.head(), chain.depthwise(), chain.tail()) {
            (None, Some(depthwise), None) if planes => depthwise.op.window,
            _ => return Ok(None),
        };
        let kind = match (window.kernel, window.stride, window.dilation) {
            ([3, 3], [1, 1], [1, 1]) => KernelKind::DwPlanes3x3S1,
            ([3, 3], [2, 2], [1, 1]) => KernelKind::DwPlanes3x3S2,
            _ => return Ok(None),
        };
        let [input, output] = [ends.input, ends.output].map(|end| tensors[end].shape);
        let before = window.over([input.h, input.w])?.before[1];
        let copies = lowering.kernels.dwplanes3x3_copies(window.stride[1], before, input.w, [output.h, output.w]);
        let least = if copies { thresholds.copied_planes_width } else { thresholds.planes_width };
        Ok((output.w >= least).then_some(kind))
    }

    /// A step of a depthwise convolution alone, or an error where it does not fit the tensors.
    pub(super) fn new(
        chain: &Chain,
        kind: KernelKind,
        tensors: &[PlannedTensor],
        ends: Ends,
        workers: usize,
        scratch: &mut Carver,
    ) -> Result<PlanesStep> {
        let [_, out, _] = chain.over(tensors, &ends)?;
        let stage = chain.depthwise().ok_or_else(|| Misfit::Order.named(STAGES))?.cloned();
        let input = tensors[ends.input].shape;
        let window = stage.op.window;
        let extent = window.over([input.h, input.w])?;
        // a length that overflows is one that no memory has
        let len = DwPlanesArgs::scratch_len(window.stride[1], out.w).unwrap_or(usize::MAX);
        let scratch_bytes = product(&[len])? * size_of::<f32>();
        let scratch = scratch.bytes(scratch_bytes)?;
        let planes = out.n * out.c;
        // rows at the border between two parts are read by both
        let whole = busiest(planes, workers) <= busiest(planes * out.h, workers);
        let parts = workers.min(if whole { planes } else { planes * out.h });
        Ok(PlanesStep { stage, ends, extent, kind, parts, whole, scratch, scratch_bytes })
    }
}
