//! The operators, made from descriptions.

use super::describe::{describe, sepconv_conv_desc, sepconv_shape};
use super::options::{read_options, sepconv_plan_options};
use super::plan::sepconv_plan;
use super::pointer::{Out, free, shared};
use super::status::{boundary, sepconv_status};
use super::window_pool::{describe_window_pool, sepconv_window_pool_desc};
use crate::{
    Conv2d, ConvDesc, Dense, DepthwiseConv2d, GlobalAveragePool, InvertedResidual, InvertedResidualDesc, Layer,
    PointwiseConv2d, Resize, SeparableConv2d, Shortcut, TransposedConv2d, WindowPool,
};

/// An operator: checked, its batch norm folded, its weights packed. Any number of threads may use one at once.
pub struct sepconv_operator {
    pub(super) layer: Layer,
}

/// Makes an operator of one convolution.
///
/// # Safety
/// The contract of all functions.
unsafe fn of_one<T: Into<Layer>>(
    desc: *const sepconv_conv_desc,
    op: *mut *mut sepconv_operator,
    new: impl FnOnce(ConvDesc<'_>) -> crate::Result<T>,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the caller's.
        let (out, desc) = unsafe { (Out::new("op", op)?, describe("desc", desc)?) };
        out.hand_over("operator", sepconv_operator { layer: new(desc)?.into() })
    })
}

/// A standard convolution. Takes a filter of any order that is not depthwise, and groups.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_conv2d_new(
    desc: *const sepconv_conv_desc,
    op: *mut *mut sepconv_operator,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { of_one(desc, op, Conv2d::new) }
}

/// A depthwise convolution. Takes a depthwise filter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_depthwise_conv2d_new(
    desc: *const sepconv_conv_desc,
    op: *mut *mut sepconv_operator,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { of_one(desc, op, DepthwiseConv2d::new) }
}

/// A pointwise convolution: 1x1, at stride 1, without padding. Takes a filter of any order that is not depthwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_pointwise_conv2d_new(
    desc: *const sepconv_conv_desc,
    op: *mut *mut sepconv_operator,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { of_one(desc, op, PointwiseConv2d::new) }
}

/// A depthwise convolution and a pointwise one behind it: MobileNetV1's block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_separable_conv2d_new(
    depthwise: *const sepconv_conv_desc,
    pointwise: *const sepconv_conv_desc,
    op: *mut *mut sepconv_operator,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, depthwise, pointwise) =
            unsafe { (Out::new("op", op)?, describe("depthwise", depthwise)?, describe("pointwise", pointwise)?) };
        out.hand_over("operator", sepconv_operator { layer: SeparableConv2d::new(depthwise, pointwise)?.into() })
    })
}

/// Expand, depthwise, project: MobileNetV2's block. `expand` may be NULL for none, and may be any standard convolution,
/// such as the stem of a network. With `shortcut` (0 or not 0) the input is added to the output where their shapes are equal;
/// the activation of `project`, which MobileNetV2 does not have, comes after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_inverted_residual_new(
    expand: *const sepconv_conv_desc,
    depthwise: *const sepconv_conv_desc,
    project: *const sepconv_conv_desc,
    shortcut: i32,
    op: *mut *mut sepconv_operator,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, depthwise, project) =
            unsafe { (Out::new("op", op)?, describe("depthwise", depthwise)?, describe("project", project)?) };
        let shortcut = if shortcut == 0 { Shortcut::None } else { Shortcut::IfShapesAllow };
        let mut desc = InvertedResidualDesc::new(depthwise, project).shortcut(shortcut);
        if !expand.is_null() {
            // SAFETY: the contract of all functions.
            desc = desc.expand(unsafe { describe("expand", expand) }?);
        }
        out.hand_over("operator", sepconv_operator { layer: InvertedResidual::new(desc)?.into() })
    })
}

/// A dense layer: `Nx1x1xC` to `Nx1x1xK`, or the same for every pixel of a plane. Takes a filter of any order that is not depthwise,
/// with a kernel of 1x1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_dense_new(
    desc: *const sepconv_conv_desc,
    op: *mut *mut sepconv_operator,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { of_one(desc, op, Dense::new) }
}

/// The mean of each of `channels` channels over the plane.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_global_average_pool_new(
    channels: usize,
    op: *mut *mut sepconv_operator,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let out = unsafe { Out::new("op", op) }?;
        out.hand_over("operator", sepconv_operator { layer: GlobalAveragePool::new(channels)?.into() })
    })
}

/// A transposed convolution whose stride is the size of its kernel: each input pixel makes a window of output pixels of its own, as the
/// necks of detectors enlarge a plane with 2x2 and stride 2. The plane grows by the kernel on both axes. No dilation, and no padding: with
/// windows that do not overlap `SEPCONV_PADDING_SAME` adds none. Takes a filter of any order that is not depthwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_transposed_conv2d_new(
    desc: *const sepconv_conv_desc,
    op: *mut *mut sepconv_operator,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { of_one(desc, op, TransposedConv2d::new) }
}

/// The maximum or the mean over a window that slides over the plane. It takes any number of channels.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_window_pool_new(
    desc: *const sepconv_window_pool_desc,
    op: *mut *mut sepconv_operator,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, desc) = unsafe { (Out::new("op", op)?, describe_window_pool(desc)?) };
        out.hand_over("operator", sepconv_operator { layer: WindowPool::new(desc)?.into() })
    })
}

/// Each pixel `factor_h` times along rows and `factor_w` times along columns, at least once: nearest neighbours. It takes any number of
/// channels.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_resize_new(
    factor_h: usize,
    factor_w: usize,
    op: *mut *mut sepconv_operator,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let out = unsafe { Out::new("op", op) }?;
        out.hand_over("operator", sepconv_operator { layer: Resize::new([factor_h, factor_w])?.into() })
    })
}

/// The shape that an operator makes of `input`, or why it cannot take it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_operator_output_shape(
    op: *const sepconv_operator,
    input: sepconv_shape,
    output: *mut sepconv_shape,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, operator) = unsafe { (Out::new("output", output)?, shared("op", op)?) };
        out.write(operator.layer.output(&[input.into()])?.into());
        Ok(())
    })
}

/// Plans an operator for an input shape. `options` may be NULL for the defaults. The plan keeps what it needs of the operator,
/// which may be freed before it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_operator_plan(
    op: *const sepconv_operator,
    input: sepconv_shape,
    options: *const sepconv_plan_options,
    plan: *mut *mut sepconv_plan,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, operator, options) = unsafe { (Out::new("plan", plan)?, shared("op", op)?, read_options(options)?) };
        out.hand_over("plan", sepconv_plan::new(operator.layer.plan(input.into(), &options)?, &options))
    })
}

/// Frees an operator. NULL is no operator, and nothing is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_operator_free(op: *mut sepconv_operator) {
    let _ = boundary(|| {
        // SAFETY: the contract of all functions.
        unsafe { free(op) };
        Ok(())
    });
}
