//! From a description to packed weights.

use core::ops::Range;

use sepconv_kernels::{BLOCK, CHANNEL_PARAMS, Epilogue, pack};

use crate::memory::{Arc, Packed, collect, push};
use crate::plan::{
    ConvStage, DepthwiseStage, FlatWeights, PackedConv, PackedDepthwise, PackedParams, PackedStage, StageEnd,
};
use crate::shape::ConvWindow;
use crate::{ChannelActivation, ConvDesc, Error, Padding, Result};

/// Checks and packs a standard convolution, the stage `what` of an operator.
pub(super) fn conv(desc: &ConvDesc<'_>, what: &'static str) -> Result<ConvStage> {
    repeated(desc, what, 1)
}

/// The same, with each output channel `repeat` times in a row.
pub(super) fn repeated(desc: &ConvDesc<'_>, what: &'static str, repeat: usize) -> Result<ConvStage> {
    check_standard(desc, what)?;
    ungrouped(desc, what)?;
    let filter = desc.filter;
    let ([kh, kw], inputs) = (filter.kernel(), filter.inputs());
    let outputs =
        filter.outputs().checked_mul(repeat).ok_or(Error::Allocation { what: "packed weights", bytes: usize::MAX })?;
    let weights = packed(desc, kh * kw * inputs, 0..outputs, repeat, |first, k, out| {
        let (tap, i) = (k / inputs, k % inputs);
        if repeat == 1 {
            filter.row(tap / kw, tap % kw, i, first, out);
        } else {
            for (lane, out) in out.iter_mut().enumerate() {
                *out = filter.at(tap / kw, tap % kw, i, (first + lane) / repeat);
            }
        }
    })?;
    let op = Arc::try_new("operator", PackedConv { window: desc.window(), inputs, outputs, weights })?;
    Ok(PackedStage { name: what, op, end: end(desc, 0..outputs, repeat, outputs)? })
}

/// Checks all of a standard convolution that does not depend on the input.
fn check_standard(desc: &ConvDesc<'_>, what: &'static str) -> Result<()> {
    if desc.filter.is_depthwise() {
        let (expected, got) = ("HWIO, HWOI, OIHW, IOHW or OHWI", desc.filter.order_name());
        return Err(Error::FilterOrder { operator: what, expected, got });
    }
    desc.check(what)
}

/// An error of a description of groups, where the operator has none.
fn ungrouped(desc: &ConvDesc<'_>, what: &'static str) -> Result<()> {
    if desc.groups != 1 {
        let (what, got) = (format!("{what} groups"), desc.groups.to_string());
        return Err(Error::Value { what, expected: "1: `Conv2d` takes groups", got });
    }
    Ok(())
}

/// Checks a standard convolution in groups.
pub(super) fn check_groups(desc: &ConvDesc<'_>, what: &'static str) -> Result<()> {
    check_standard(desc, what)?;
    let (filter, count) = (desc.filter, desc.groups);
    if count == 0 || !filter.outputs().is_multiple_of(count) {
        let (what, got) = (format!("{what} groups"), format!("{count} of {} outputs", filter.outputs()));
        return Err(Error::Value { what, expected: "a number that divides the outputs", got });
    }
    Ok(())
}

/// Packs a standard convolution in groups, which was checked: a convolution for each group.
pub(super) fn groups(desc: &ConvDesc<'_>, what: &'static str) -> Result<Vec<ConvStage>> {
    let (filter, count) = (desc.filter, desc.groups);
    let ([kh, kw], inputs, outputs) = (filter.kernel(), filter.inputs(), filter.outputs() / count);
    let mut stages = Vec::new();
    for group in 0..count {
        let all = group * outputs..(group + 1) * outputs;
        let of_group = end(desc, all.clone(), 1, outputs)?;
        let weights = packed(desc, kh * kw * inputs, all, 1, |first, k, out| {
            let (tap, i) = (k / inputs, k % inputs);
            filter.row(tap / kw, tap % kw, i, first, out);
        })?;
        let op = Arc::try_new("operator", PackedConv { window: desc.window(), inputs, outputs, weights })?;
        push("operator", &mut stages, PackedStage { name: what, op, end: of_group })?;
    }
    Ok(stages)
}

/// Checks and packs a transposed convolution whose windows do not overlap: a pointwise convolution for each place of the window, row by
/// row.
pub(super) fn transposed(desc: &ConvDesc<'_>, what: &'static str) -> Result<Vec<ConvStage>> {
    check_standard(desc, what)?;
    ungrouped(desc, what)?;
    let filter = desc.filter;
    let [kh, kw] = filter.kernel();
    if desc.stride != [kh, kw] || desc.window().dilation != [1, 1] {
        let (what, [rows, columns]) = (format!("{what} stride"), desc.stride);
        let expected = "the size of the kernel, and no dilation: windows that do not overlap";
        return Err(Error::Value { what, expected, got: format!("stride {rows}×{columns} of a {kh}×{kw} kernel") });
    }
    if matches!(desc.padding, Padding::Explicit { top, bottom, left, right } if [top, bottom, left, right] != [0; 4]) {
        let (what, got) = (format!("{what} padding"), format!("{:?}", desc.padding));
        return Err(Error::Value { what, expected: "none", got });
    }
    let (inputs, outputs) = (filter.inputs(), filter.outputs());
    let window = ConvWindow { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], padding: Padding::Valid };
    let end = end(desc, 0..outputs, 1, outputs)?;
    let mut stages = Vec::new();
    for tap in 0..kh * kw {
        let row = |first: usize, i: usize, out: &mut [f32]| filter.row(tap / kw, tap % kw, i, first, out);
        let weights = packed(desc, inputs, 0..outputs, 1, row)?;
        let op = Arc::try_new("operator", PackedConv { window, inputs, outputs, weights })?;
        push("operator", &mut stages, PackedStage { name: what, op, end: end.clone() })?;
    }
    Ok(stages)
}

/// Checks and packs a 1×1 convolution of stride 1.
pub(super) fn pointwise(desc: &ConvDesc<'_>, what: &'static str) -> Result<ConvStage> {
    ungrouped(desc, what)?;
    if !desc.is_pointwise() {
        let expected = "a 1×1 kernel of stride 1 without padding";
        return Err(Error::Value { what: what.into(), expected, got: not_pointwise(desc) });
    }
    conv(desc, what)
}

/// What a convolution has that a pointwise one has not.
fn not_pointwise(desc: &ConvDesc<'_>) -> String {
    let ([h, w], [rows, columns]) = (desc.filter.kernel(), desc.stride);
    let kernel = ([h, w] != [1, 1]).then(|| format!("a {h}×{w} kernel"));
    let stride = ([rows, columns] != [1, 1]).then(|| format!("stride {rows}×{columns}"));
    let padding = match desc.padding {
        Padding::Explicit { top, bottom, left, right } if [top, bottom, left, right] != [0; 4] => {
            Some(format!("padding of {top} above, {bottom} below, {left} left and {right} right"))
        }
        _ => None,
    };
    [kernel, stride, padding].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Checks and packs a depthwise convolution.
pub(super) fn depthwise(desc: &ConvDesc<'_>, what: &'static str) -> Result<DepthwiseStage> {
    depthwise_of(desc, what, false)
}

/// The same behind a stage that computes each channel as often as the multiplier says: the packed convolution has multiplier 1.
pub(super) fn depthwise_once(desc: &ConvDesc<'_>, what: &'static str) -> Result<DepthwiseStage> {
    depthwise_of(desc, what, true)
}

fn depthwise_of(desc: &ConvDesc<'_>, what: &'static str, once: bool) -> Result<DepthwiseStage> {
    let filter = desc.filter;
    if !filter.is_depthwise() {
        return Err(Error::FilterOrder {
            operator: what,
            expected: "depthwise HWC, HWCM or C1HW",
            got: filter.order_name(),
        });
    }
    desc.check(what)?;
    ungrouped(desc, what)?;
    let ([kh, kw], inputs, outputs) = (filter.kernel(), filter.inputs(), filter.outputs());
    let multiplier = outputs / inputs;
    let weights = packed(desc, kh * kw, 0..outputs, 1, |first, tap, out| {
        for (o, out) in (first..).zip(out) {
            *out = filter.at(tap / kw, tap % kw, o / multiplier, o % multiplier);
        }
    })?;
    // behind another stage no rows are flat
    let flat = match FlatWeights::lanes(outputs, kh * kw).filter(|_| !once) {
        Some(lanes) => {
            let weights = flat(&weights, kh * kw, outputs, lanes)?;
            Some(Arc::try_new("operator", FlatWeights { lanes, weights })?)
        }
        None => None,
    };
    let lanes = flat.as_ref().map_or(outputs, |flat: &Arc<FlatWeights>| flat.lanes);
    let (inputs, multiplier) = if once { (outputs, 1) } else { (inputs, multiplier) };
    let op = Arc::try_new("operator", PackedDepthwise { window: desc.window(), inputs, multiplier, weights, flat })?;
    Ok(PackedStage { name: what, op, end: end(desc, 0..outputs, 1, lanes)? })
}

/// Packed weights of `channels` channels, repeated until they fill `lanes` lanes.
fn flat(weights: &Packed, taps: usize, channels: usize, lanes: usize) -> Result<Packed> {
    let from = weights.values::<f32>();
    let len =
        pack::depthwise_len(taps, lanes).ok_or(Error::Allocation { what: "packed weights", bytes: usize::MAX })?;
    Packed::new(len, |packed| {
        pack::pack(taps, lanes, packed, |lane, row| {
            let channel = lane % channels;
            from[channel / BLOCK * (taps + 1) * BLOCK + row * BLOCK + channel % BLOCK]
        });
    })
}

/// Panels of 16 of the outputs `all`, each of the description's `repeat` times: bias, then `k` rows. `weights(first, k, out)` writes
/// the weights of a row for the outputs from `first` on, before a batch norm is folded in.
fn packed(
    desc: &ConvDesc<'_>,
    k: usize,
    all: Range<usize>,
    repeat: usize,
    weights: impl Fn(usize, usize, &mut [f32]),
) -> Result<Arc<Packed>> {
    let outputs = all.len();
    let overflow = Error::Allocation { what: "packed weights", bytes: usize::MAX };
    let len = pack::pointwise_len(k, outputs).ok_or(overflow)?;
    let scales = collect("folded batch norm", all.clone().map(|o| desc.fold(o / repeat).0))?;
    let row = |first: usize, row: usize, out: &mut [f32]| match row {
        0 => {
            for (o, out) in (all.start + first..).zip(out) {
                *out = desc.fold(o / repeat).1 as f32;
            }
        }
        _ => {
            weights(all.start + first, row - 1, out);
            if desc.batch_norm.is_some() {
                for (out, scale) in out.iter_mut().zip(&scales[first..]) {
                    // rounded once
                    *out = (f64::from(*out) * scale) as f32;
                }
            }
        }
    };
    Arc::try_new("packed weights", Packed::new(len, |packed| pack::pack_rows(k, outputs, packed, row))?)
}

/// How the sums of a stage end that has the outputs `all`, each of the description's `repeat` times, with parameters for `lanes` lanes.
fn end(desc: &ConvDesc<'_>, all: Range<usize>, repeat: usize, lanes: usize) -> Result<StageEnd> {
    match desc.by_channel {
        Some(activation) => end_by_channel(activation, all, repeat, lanes),
        None => Ok(StageEnd::of(Epilogue::of(desc.activation.into()))),
    }
}

/// The same of an activation by channel, which was checked. Where all channels are alike it is one that is not.
pub(super) fn end_by_channel(
    activation: ChannelActivation<'_>,
    all: Range<usize>,
    repeat: usize,
    lanes: usize,
) -> Result<StageEnd> {
    let (kind, channels) = (activation.nonlinearity(), all.len());
    let of = |lane: usize| activation.params((all.start + lane % channels) / repeat);
    let bits = |lane: usize| of(lane).map(f32::to_bits);
    if (0..channels).all(|channel| bits(channel) == bits(0)) {
        return Ok(StageEnd::of(Epilogue::of(kind.of_channel(of(0)))));
    }
    let values = Packed::new::<f32>(lanes.div_ceil(BLOCK) * CHANNEL_PARAMS, |packed| {
        for (block, packed) in packed.chunks_exact_mut(CHANNEL_PARAMS).enumerate() {
            for lane in 0..BLOCK {
                [packed[lane], packed[BLOCK + lane]] = of(block * BLOCK + lane);
            }
        }
    })?;
    let params = Arc::try_new("operator", PackedParams { channels, values })?;
    Ok(StageEnd { epilogue: Epilogue::of(kind), params: Some(params) })
}
