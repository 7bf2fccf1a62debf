//! How a convolution is described in C.

use core::mem::offset_of;
use core::ptr::null;

use super::pointer::slice;
use super::status::{CallFailure, Name, Result, boundary, sepconv_status};
use super::versioned::{self, Versioned};
use crate::{Activation, BatchNorm, ChannelActivation, ConvDesc, Error, Filter, Padding, Shape};

/// Reads a code of C: the variant, or an error that names the enum.
macro_rules! read_code {
    ($name:expr, $code:expr, $of:ident { $($variant:ident => $value:expr,)* }) => {{
        let code: i32 = $code;
        $(if code == $of::$variant as i32 {
            Ok($value)
        } else)* {
            Err($crate::capi::status::CallFailure::Code { name: $name, of: stringify!($of), got: code })
        }
    }};
}
pub(super) use read_code;

/// Images, rows, columns and channels of a tensor, whatever its layout. Rows, columns and channels are at least 1. A batch of 0 images
/// is planned and run as any other, and its output is empty.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct sepconv_shape {
    /// Images in the batch.
    pub n: usize,
    /// Rows of an image.
    pub h: usize,
    /// Columns of an image, in pixels.
    pub w: usize,
    /// Channels of a pixel.
    pub c: usize,
}

impl From<sepconv_shape> for Shape {
    fn from(sepconv_shape { n, h, w, c }: sepconv_shape) -> Shape {
        Shape { n, h, w, c }
    }
}

impl From<Shape> for sepconv_shape {
    fn from(Shape { n, h, w, c }: Shape) -> sepconv_shape {
        sepconv_shape { n, h, w, c }
    }
}

/// The order in which the values of a filter lie, the last index fastest. There is no default: orders are not guessed.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_filter_order {
    /// `[kernel_h][kernel_w][input_channels][output_channels]`: TensorFlow's convolution; with a kernel of 1x1 its dense layer.
    Hwio = 1,
    /// `[output_channels][input_channels][kernel_h][kernel_w]`: PyTorch's and ONNX's convolution; with a kernel of 1x1 the
    /// dense layer of PyTorch.
    Oihw = 2,
    /// `[output_channels][kernel_h][kernel_w][input_channels]`: TensorFlow Lite's convolution.
    Ohwi = 3,
    /// Depthwise, `[kernel_h][kernel_w][input_channels][multiplier]`: TensorFlow's. The multiplier is output over input
    /// channels; with 1 it is also TensorFlow Lite's.
    DepthwiseHwcm = 4,
    /// Depthwise, `[output_channels][1][kernel_h][kernel_w]`: PyTorch's convolution with as many groups as input channels.
    DepthwiseC1hw = 5,
    /// `[kernel_h][kernel_w][output_channels][input_channels]`: TensorFlow's transposed convolution.
    Hwoi = 6,
    /// `[input_channels][output_channels][kernel_h][kernel_w]`: PyTorch's and ONNX's transposed convolution.
    Iohw = 7,
}

/// How a plane is padded before the window slides over it. What is added reads as 0.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_padding {
    /// TensorFlow's `SAME`: the output has `ceil(input / stride)` rows and columns, an odd pixel goes to the bottom and to
    /// the right.
    Same = 0,
    /// Nothing is added: the output shrinks.
    Valid = 1,
    /// `pad_top` and so on: as PyTorch's `padding`, which is the same at opposite sides.
    Explicit = 2,
}

/// What is applied to a sum before it is stored. NaN passes.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_activation {
    /// The sum as it is.
    Linear = 0,
    /// `max(0, x)`.
    Relu = 1,
    /// `min(max(0, x), 6)`.
    Relu6 = 2,
    /// `min(max(clamp_min, x), clamp_max)`.
    Clamp = 3,
    /// `x * min(max(0, x + 3), 6) / 6`.
    HardSwish = 4,
    /// `min(max(0, x + 3), 6) / 6`.
    HardSigmoid = 5,
    /// `1 / (1 + exp(-x))`.
    Sigmoid = 6,
    /// `x / (1 + exp(-x))`, which is Swish.
    Silu = 7,
    /// `tanh(x)`.
    Tanh = 8,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`: GELU in its tanh form.
    Gelu = 9,
    /// `x`, where it is negative times `leaky_slope`.
    LeakyRelu = 10,
    /// `x`, where it is negative times the slope of its channel.
    Prelu = 11,
    /// `min(max(lower, x), upper)`, of the bounds of its channel.
    ChannelClamp = 12,
}

// What C passes is an integer, which the header calls by the name of its enum (see cbindgen.toml).
type FilterOrderCode = i32;
type PaddingCode = i32;
type ActivationCode = i32;

/// A convolution: a filter, then a bias, a batch norm or both, then an activation. Call `sepconv_conv_desc_init` first, then set
/// what differs; filter, order, kernel and channels always do.
///
/// What it points to is only read while an operator is made, and may be freed after.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sepconv_conv_desc {
    /// `sizeof(sepconv_conv_desc)`, as the init function sets it.
    pub struct_size: usize,
    /// The values of the filter.
    pub filter: *const f32,
    /// How many: `kernel_h * kernel_w * input_channels * output_channels`, of which a convolution in groups has one of `groups` parts;
    /// of a depthwise filter `kernel_h * kernel_w * output_channels`.
    pub filter_len: usize,
    /// Rows of the kernel.
    pub kernel_h: usize,
    /// Columns of the kernel.
    pub kernel_w: usize,
    /// Channels that it reads, those of all groups.
    pub input_channels: usize,
    /// Channels that it writes; of a depthwise convolution a multiple of those it reads.
    pub output_channels: usize,
    /// The order of the filter. Init leaves 0, which is none.
    pub filter_order: FilterOrderCode,
    /// The padding. Init: `SEPCONV_PADDING_SAME`.
    pub padding: PaddingCode,
    /// Rows that the window moves at each step. Init: 1, as for the three that follow.
    pub stride_h: usize,
    /// Columns that the window moves at each step.
    pub stride_w: usize,
    /// Rows from one tap to the next.
    pub dilation_h: usize,
    /// Columns from one tap to the next.
    pub dilation_w: usize,
    /// Rows added above. The four sides are 0 unless the padding is `SEPCONV_PADDING_EXPLICIT`.
    pub pad_top: usize,
    /// Rows added below.
    pub pad_bottom: usize,
    /// Columns added before.
    pub pad_left: usize,
    /// Columns added after.
    pub pad_right: usize,
    /// A value for each output channel, added to the sum, or NULL for none.
    pub bias: *const f32,
    /// How many: `output_channels`, or 0 where there is no bias.
    pub bias_len: usize,
    /// Batch norm after sum and bias, `(x - mean) / sqrt(variance + epsilon) * gamma + beta` for each output channel: the
    /// scale, or NULL for 1. It is folded into filter and bias. Without it, all four are NULL.
    pub batch_norm_gamma: *const f32,
    /// The offset, or NULL for 0.
    pub batch_norm_beta: *const f32,
    /// The moving mean.
    pub batch_norm_mean: *const f32,
    /// The moving variance.
    pub batch_norm_variance: *const f32,
    /// Values in each of the four: `output_channels`, or 0 where there is no batch norm.
    pub batch_norm_len: usize,
    /// What keeps the root away from zero: 1e-3 in TensorFlow's MobileNets, 1e-5 in PyTorch's. Init: NaN, which is an error
    /// with a batch norm.
    pub batch_norm_epsilon: f64,
    /// The activation. Init: `SEPCONV_ACTIVATION_LINEAR`.
    pub activation: ActivationCode,
    /// The lower bound of `SEPCONV_ACTIVATION_CLAMP`, -INFINITY with any other.
    pub clamp_min: f32,
    /// The upper bound, INFINITY with any other.
    pub clamp_max: f32,
    /// The slope of `SEPCONV_ACTIVATION_LEAKY_RELU`. Init: NaN, which is an error with that activation; any other takes nothing else.
    pub leaky_slope: f32,
    /// In how many groups the channels are: each group of outputs reads a group of inputs of its own. The filter's `input_channels`
    /// are those of a group: `input_channels / groups`. For `sepconv_conv2d_new` alone. Init: 0, which is 1 as well.
    pub groups: usize,
    /// The slopes of `SEPCONV_ACTIVATION_PRELU`, one for each output channel. Init: NULL, as any other activation has it; so are the two that
    /// follow.
    pub channel_slopes: *const f32,
    /// The lower bounds of `SEPCONV_ACTIVATION_CHANNEL_CLAMP`, one for each output channel.
    pub channel_min: *const f32,
    /// The upper bounds.
    pub channel_max: *const f32,
    /// How many slopes, lower and upper bounds there are: `output_channels`, or 0 where the activation has none. Init: 0.
    pub channel_len: usize,
}

// SAFETY: `repr(C)`, the size first; integers, floats and pointers.
unsafe impl Versioned for sepconv_conv_desc {
    const INIT: Self = sepconv_conv_desc {
        struct_size: 0,
        filter: null(),
        filter_len: 0,
        kernel_h: 0,
        kernel_w: 0,
        input_channels: 0,
        output_channels: 0,
        filter_order: 0,
        padding: sepconv_padding::Same as i32,
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 0,
        pad_bottom: 0,
        pad_left: 0,
        pad_right: 0,
        bias: null(),
        bias_len: 0,
        batch_norm_gamma: null(),
        batch_norm_beta: null(),
        batch_norm_mean: null(),
        batch_norm_variance: null(),
        batch_norm_len: 0,
        batch_norm_epsilon: f64::NAN,
        activation: sepconv_activation::Linear as i32,
        clamp_min: f32::NEG_INFINITY,
        clamp_max: f32::INFINITY,
        leaky_slope: f32::NAN,
        groups: 0,
        channel_slopes: null(),
        channel_min: null(),
        channel_max: null(),
        channel_len: 0,
    };
    const LEAST: usize = offset_of!(sepconv_conv_desc, clamp_max) + size_of::<f32>();
}

/// Writes the defaults to `desc`; `size` is `sizeof(sepconv_conv_desc)`, which tells this library how long the caller's
/// struct is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_conv_desc_init(desc: *mut sepconv_conv_desc, size: usize) -> sepconv_status {
    // SAFETY: the contract of all functions.
    boundary(|| unsafe { versioned::init("desc", desc, size) })
}

/// Reads the description `name`, and what it points to.
///
/// # Safety
/// The contract of all functions holds for `desc` and for its pointers, for as long as `'a`.
pub(super) unsafe fn describe<'a>(name: &'static str, desc: *const sepconv_conv_desc) -> Result<ConvDesc<'a>> {
    // SAFETY: the caller's.
    let desc = unsafe { versioned::read(name, desc) }?;
    let field = |field| Name::field(name, field);
    // SAFETY: the caller's.
    let floats = |name, first, len| unsafe { slice::<f32>(field(name), first, len) };
    let optional = |name, first: *const f32, len| (!first.is_null()).then(|| floats(name, first, len)).transpose();

    let mut conv = ConvDesc::new(desc.filter(name, floats("filter", desc.filter, desc.filter_len)?)?)
        .strides([desc.stride_h, desc.stride_w])
        .dilations([desc.dilation_h, desc.dilation_w])
        .groups(desc.groups.max(1))
        .padding(desc.padding(name)?)
        .activation(desc.activation(name)?);
    // SAFETY: the caller's.
    if let Some(activation) = unsafe { desc.by_channel(name) }? {
        conv = conv.activation_by_channel(activation);
    }
    // a length without values is an array that was forgotten, or that could not be allocated
    if !desc.bias.is_null() || desc.bias_len != 0 {
        conv = conv.bias(floats("bias", desc.bias, desc.bias_len)?);
    }
    let norm = [desc.batch_norm_gamma, desc.batch_norm_beta, desc.batch_norm_mean, desc.batch_norm_variance];
    if norm.iter().any(|values| !values.is_null()) || desc.batch_norm_len != 0 {
        let len = desc.batch_norm_len;
        conv = conv.batch_norm(BatchNorm {
            gamma: optional("batch_norm_gamma", desc.batch_norm_gamma, len)?,
            beta: optional("batch_norm_beta", desc.batch_norm_beta, len)?,
            mean: floats("batch_norm_mean", desc.batch_norm_mean, len)?,
            variance: floats("batch_norm_variance", desc.batch_norm_variance, len)?,
            epsilon: desc.batch_norm_epsilon,
        });
    }
    Ok(conv)
}

/// Reads the padding of the description `name`: its code, then the rows above and below, and the columns before and after.
pub(super) fn read_padding(
    name: &'static str,
    code: PaddingCode,
    [top, bottom, left, right]: [usize; 4],
) -> Result<Padding> {
    let padding = read_code!(Name::field(name, "padding"), code, sepconv_padding {
        Same => Padding::Same,
        Valid => Padding::Valid,
        Explicit => Padding::Explicit { top, bottom, left, right },
    })?;
    // sides that were set and do not count are a padding that was forgotten
    match padding {
        Padding::Same | Padding::Valid if [top, bottom, left, right] != [0; 4] => {
            Err(CallFailure::Library(Error::Value {
                what: format!("{name}.pad_top, pad_bottom, pad_left, pad_right"),
                expected: "0 unless the padding is SEPCONV_PADDING_EXPLICIT",
                got: format!("{top}, {bottom}, {left}, {right}"),
            }))
        }
        padding => Ok(padding),
    }
}

/// Whether it is the code of an activation that has values for each channel.
pub(super) fn is_by_channel(code: ActivationCode) -> bool {
    [sepconv_activation::Prelu, sepconv_activation::ChannelClamp].iter().any(|&of| of as i32 == code)
}

/// Reads an activation that is the same for all channels; the bounds are those of a clamp, and the slope that of a leaky ReLU.
pub(super) fn read_activation(
    name: Name,
    code: ActivationCode,
    [min, max]: [f32; 2],
    slope: f32,
) -> Result<Activation> {
    read_code!(name, code, sepconv_activation {
        Linear => Activation::Linear,
        Relu => Activation::Relu,
        Relu6 => Activation::Relu6,
        Clamp => Activation::Clamp { min, max },
        HardSwish => Activation::HardSwish,
        HardSigmoid => Activation::HardSigmoid,
        Sigmoid => Activation::Sigmoid,
        Silu => Activation::Silu,
        Tanh => Activation::Tanh,
        Gelu => Activation::Gelu,
        LeakyRelu => Activation::LeakyRelu { slope },
    })
}

impl sepconv_conv_desc {
    fn filter<'a>(&self, name: &'static str, values: &'a [f32]) -> Result<Filter<'a>> {
        let &sepconv_conv_desc { kernel_h: h, kernel_w: w, input_channels: i, output_channels: o, .. } = self;
        // without inputs there is no multiplier; that there are none is for the operator to say
        let multiplier = o.checked_div(i).unwrap_or(o);
        let groups = self.groups.max(1);
        let of_group = i / groups;
        let filter = read_code!(Name::field(name, "filter_order"), self.filter_order, sepconv_filter_order {
            Hwio => Filter::hwio(values, [h, w, of_group, o]),
            Oihw => Filter::oihw(values, [o, of_group, h, w]),
            Ohwi => Filter::ohwi(values, [o, h, w, of_group]),
            DepthwiseHwcm => Filter::depthwise_hwcm(values, [h, w, i, multiplier]),
            DepthwiseC1hw => Filter::depthwise_c1hw(values, [i, h, w], multiplier),
            Hwoi => Filter::hwoi(values, [h, w, o, of_group]),
            Iohw => Filter::iohw(values, [of_group, o, h, w]),
        })?;
        let refuse = |field, expected, got| {
            Err(CallFailure::Library(Error::Value { what: format!("{name}.{field}"), expected, got }))
        };
        if filter.is_depthwise() {
            if i != 0 && o % i != 0 {
                let expected = "a multiple of the input channels of a depthwise filter";
                return refuse("output_channels", expected, format!("{o} of {i}"));
            }
        } else if i % groups != 0 {
            return refuse("groups", "a number that divides the input channels", format!("{groups} of {i}"));
        }
        Ok(filter)
    }

    fn padding(&self, name: &'static str) -> Result<Padding> {
        let &sepconv_conv_desc { pad_top, pad_bottom, pad_left, pad_right, .. } = self;
        read_padding(name, self.padding, [pad_top, pad_bottom, pad_left, pad_right])
    }

    /// Reads the activation by channel, if it is one.
    ///
    /// # Safety
    /// As [`describe`].
    unsafe fn by_channel<'a>(&self, name: &'static str) -> Result<Option<ChannelActivation<'a>>> {
        let &sepconv_conv_desc { channel_slopes, channel_min, channel_max, channel_len: len, .. } = self;
        // SAFETY: the caller's.
        let floats = |field, first| unsafe { slice::<f32>(Name::field(name, field), first, len) };
        let (of_prelu, of_clamp) = (
            self.activation == sepconv_activation::Prelu as i32,
            self.activation == sepconv_activation::ChannelClamp as i32,
        );
        // values that were set and do not count are an activation that was forgotten
        let forgotten = (!of_prelu && !channel_slopes.is_null())
            || (!of_clamp && (!channel_min.is_null() || !channel_max.is_null()))
            || (!of_prelu && !of_clamp && len != 0);
        if forgotten {
            return Err(CallFailure::Library(Error::Value {
                what: format!("{name}.channel_slopes, channel_min, channel_max, channel_len"),
                expected: "NULL and 0 where the activation has no such values",
                got: format!("{len} values"),
            }));
        }
        Ok(if of_prelu {
            Some(ChannelActivation::PRelu { slopes: floats("channel_slopes", channel_slopes)? })
        } else if of_clamp {
            let (min, max) = (floats("channel_min", channel_min)?, floats("channel_max", channel_max)?);
            Some(ChannelActivation::Clamp { min, max })
        } else {
            None
        })
    }

    fn activation(&self, name: &'static str) -> Result<Activation> {
        let &sepconv_conv_desc { clamp_min: min, clamp_max: max, leaky_slope: slope, .. } = self;
        // of one by channel the values are elsewhere
        let code = if is_by_channel(self.activation) { sepconv_activation::Linear as i32 } else { self.activation };
        let activation = read_activation(Name::field(name, "activation"), code, [min, max], slope)?;
        // values that were set and do not count are an activation that was forgotten
        if !slope.is_nan() && !matches!(activation, Activation::LeakyRelu { .. }) {
            return Err(CallFailure::Library(Error::Value {
                what: format!("{name}.leaky_slope"),
                expected: "NaN unless the activation is SEPCONV_ACTIVATION_LEAKY_RELU",
                got: slope.to_string(),
            }));
        }
        match activation {
            Activation::Clamp { .. } => Ok(activation),
            _ if [min, max] == [f32::NEG_INFINITY, f32::INFINITY] => Ok(activation),
            _ => Err(CallFailure::Library(Error::Value {
                what: format!("{name}.clamp_min, clamp_max"),
                expected: "-INFINITY and INFINITY unless the activation is SEPCONV_ACTIVATION_CLAMP",
                got: format!("{min}, {max}"),
            })),
        }
    }
}
