//! From a description to packed weights.

use sepconv_kernels::{BLOCK, Epilogue, pack};

use crate::memory::{Arc, Packed, collect};
use crate::plan::{ConvStage, DepthwiseStage, FlatWeights, PackedConv, PackedDepthwise, PackedStage};
use crate::{ConvDesc, Error, Padding, Result};

/// Checks and packs a standard convolution, the stage `what` of an operator.
pub(super) fn conv(desc: &ConvDesc<'_>, what: &'static str) -> Result<ConvStage> {
    repeated(desc, what, 1)
}

/// The same, with each output channel `repeat` times in a row.
pub(super) fn repeated(desc: &ConvDesc<'_>, what: &'static str, repeat: usize) -> Result<ConvStage> {
    let filter = desc.filter;
    if filter.is_depthwise() {
        return Err(Error::FilterOrder { operator: what, expected: "HWIO, OIHW or OHWI", got: filter.order_name() });
    }
    desc.check(what)?;
    let ([kh, kw], inputs) = (filter.kernel(), filter.inputs());
    let outputs =
        filter.outputs().checked_mul(repeat).ok_or(Error::Allocation { what: "packed weights", bytes: usize::MAX })?;
    let weights = packed(desc, kh * kw * inputs, outputs, repeat, |first, k, out| {
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
    Ok(PackedStage { name: what, op, epilogue: epilogue(desc) })
}

/// The same for a 1×1 convolution of stride 1.
pub(super) fn pointwise(desc: &ConvDesc<'_>, what: &'static str) -> Result<ConvStage> {
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
    let ([kh, kw], inputs, outputs) = (filter.kernel(), filter.inputs(), filter.outputs());
    let multiplier = outputs / inputs;
    let weights = packed(desc, kh * kw, outputs, 1, |first, tap, out| {
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
    let (inputs, multiplier) = if once { (outputs, 1) } else { (inputs, multiplier) };
    let op = Arc::try_new("operator", PackedDepthwise { window: desc.window(), inputs, multiplier, weights, flat })?;
    Ok(PackedStage { name: what, op, epilogue: epilogue(desc) })
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

/// Panels of 16 outputs, each of the description's `repeat` times: bias, then `k` rows. `weights(first, k, out)` writes
/// the weights of a row for the outputs from `first` on, before a batch norm is folded in.
fn packed(
    desc: &ConvDesc<'_>,
    k: usize,
    outputs: usize,
    repeat: usize,
    weights: impl Fn(usize, usize, &mut [f32]),
) -> Result<Arc<Packed>> {
    let overflow = Error::Allocation { what: "packed weights", bytes: usize::MAX };
    let len = pack::pointwise_len(k, outputs).ok_or(overflow)?;
    let scales = collect("folded batch norm", (0..outputs).map(|o| desc.fold(o / repeat).0))?;
    let row = |first: usize, row: usize, out: &mut [f32]| match row {
        0 => {
            for (o, out) in (first..).zip(out) {
                *out = desc.fold(o / repeat).1 as f32;
            }
        }
        _ => {
            weights(first, row - 1, out);
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

/// How the sums of a stage end.
fn epilogue(desc: &ConvDesc<'_>) -> Epilogue {
    Epilogue::of(desc.activation.into())
}
