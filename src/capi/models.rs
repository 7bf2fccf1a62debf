//! MobileNetV1 and V2 from files of weights. Part of libraries built with the feature `models`.

use core::mem::offset_of;

use super::describe::read_code;
use super::network::sepconv_network;
use super::pointer::{Out, slice};
use super::status::{Name, Result, boundary, sepconv_status};
use super::versioned::{self, Versioned};
use crate::models::{Config, MobileNetV1, MobileNetV2, ModelOutput, StridePadding, WeightOrder, Weights};
use crate::{Activation, Network};

/// The order in which the filters of a file of weights lie. There is no default: orders are not guessed.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_weight_order {
    /// TensorFlow's and Keras's: `[h, w, i, o]`, depthwise `[h, w, c, 1]` or `[h, w, c]`, pointwise and dense `[1, 1, i, o]` or
    /// `[i, o]`.
    Hwio = 1,
    /// PyTorch's and ONNX's: `[o, i, h, w]`, depthwise `[c, 1, h, w]`, pointwise and dense `[o, i, 1, 1]` or `[o, i]`.
    Oihw = 2,
}

/// How planes are padded where the stride is 2.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_stride_padding {
    /// As weights trained with TensorFlow expect: on an even plane a pixel at the bottom and to the right.
    Same = 0,
    /// As weights trained with PyTorch expect: a pixel at each side.
    Symmetric = 1,
}

/// The layer that a MobileNet ends with. Weights of layers behind it are not asked for.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_model_output {
    /// The global average pool: `Nx1x1xC`.
    Features = 0,
    /// The dense layer: `Nx1x1xclasses`, before any softmax.
    Logits = 1,
    /// The last convolution: `NxHxWxC`, with a pixel for each 32x32 pixels of the image.
    FeatureMap = 2,
}

/// The activation of a MobileNet: of every layer but V2's projections and the dense layer, which are linear.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_model_activation {
    /// `min(max(0, x), 6)`: TensorFlow's weights of both networks, and torchvision's of V2.
    Relu6 = 0,
    /// `max(0, x)`: V1's paper, and weights that follow it.
    Relu = 1,
}

// What C passes is an integer, which the header calls by the name of its enum (see cbindgen.toml).
type WeightOrderCode = i32;
type StridePaddingCode = i32;
type ModelOutputCode = i32;
type ModelActivationCode = i32;

/// The options of a MobileNet. Call `sepconv_mobilenet_config_init` first, then set what differs.
///
/// A file of weights does not say with which activation, padding and epsilon it was trained. Another one than the training's
/// is no error: the network computes slightly wrong results.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sepconv_mobilenet_config {
    /// `sizeof(sepconv_mobilenet_config)`, as the init function sets it.
    pub struct_size: usize,
    /// How many classes the logits are for, 1 to 16777216; not used with another output. Init: 1000.
    pub classes: usize,
    /// The width multiplier, above 0 and at most 1024. Init: 1.
    pub alpha: f64,
    /// What is added to the variance of a batch norm, at least 0: 1e-3 in TensorFlow's weights, 1e-5 in PyTorch's. Init: 1e-3.
    pub epsilon: f64,
    /// How planes are padded at stride 2. Init: `SEPCONV_STRIDE_PADDING_SAME`.
    pub stride_padding: StridePaddingCode,
    /// The layer that the network ends with. Init: `SEPCONV_MODEL_OUTPUT_LOGITS`.
    pub output: ModelOutputCode,
    /// The activation. Init: `SEPCONV_MODEL_ACTIVATION_RELU6`.
    pub activation: ModelActivationCode,
}

// SAFETY: `repr(C)`, the size first; integers and floats.
unsafe impl Versioned for sepconv_mobilenet_config {
    const INIT: Self = sepconv_mobilenet_config {
        struct_size: 0,
        classes: 1000,
        alpha: 1.0,
        epsilon: 1e-3,
        stride_padding: sepconv_stride_padding::Same as i32,
        output: sepconv_model_output::Logits as i32,
        activation: sepconv_model_activation::Relu6 as i32,
    };
    const LEAST: usize = offset_of!(sepconv_mobilenet_config, output) + size_of::<i32>();
}

/// Writes the defaults to `config`; `size` is `sizeof(sepconv_mobilenet_config)`, which tells this library how long the
/// caller's struct is.
///
/// Part of libraries built with the feature `models`, as all about MobileNets.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_mobilenet_config_init(
    config: *mut sepconv_mobilenet_config,
    size: usize,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    boundary(|| unsafe { versioned::init("config", config, size) })
}

/// MobileNetV1, for images `NxHxWx3`, with the weights of a file in the safetensors format, which is `file_len` bytes at `file`
/// and only read during the call. `config` may be NULL for the defaults.
///
/// Tensors are of type F32, F16 or BF16, which may be mixed; F16 and BF16 become floats of the same value. Tensors are called
/// `stem.weight`, `block1.depthwise.weight`, `block1.pointwise.weight`, up to `head.weight`. Each layer has a `.bias`, or a batch
/// norm: `.mean` and `.variance`, and `.gamma` and `.beta` where they were learnt. It may have both: the bias is added before the
/// batch norm. Tensors of other names are left alone, whatever their type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_mobilenet_v1(
    config: *const sepconv_mobilenet_config,
    file: *const u8,
    file_len: usize,
    order: WeightOrderCode,
    network: *mut *mut sepconv_network,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { of_file(config, file, file_len, order, network, MobileNetV1::network) }
}

/// MobileNetV2, as `sepconv_network_mobilenet_v1`. Tensors are called `stem.weight`, `block0.depthwise.weight`,
/// `block0.project.weight`, `block1.expand.weight`, `block1.depthwise.weight`, up to `block16.project.weight`, then `last.weight`
/// and `head.weight`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_mobilenet_v2(
    config: *const sepconv_mobilenet_config,
    file: *const u8,
    file_len: usize,
    order: WeightOrderCode,
    network: *mut *mut sepconv_network,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { of_file(config, file, file_len, order, network, MobileNetV2::network) }
}

/// Makes a network of a file.
///
/// # Safety
/// The contract of all functions.
unsafe fn of_file(
    config: *const sepconv_mobilenet_config,
    file: *const u8,
    file_len: usize,
    order: i32,
    network: *mut *mut sepconv_network,
    make: impl FnOnce(&Config, &Weights<'_>) -> crate::Result<Network>,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the caller's.
        let (out, file, config) =
            unsafe { (Out::new("network", network)?, slice("file", file, file_len)?, read_config(config)?) };
        let order = read_code!("order".into(), order, sepconv_weight_order {
            Hwio => WeightOrder::Hwio,
            Oihw => WeightOrder::Oihw,
        })?;
        let network = make(&config, &Weights::from_safetensors(file, order)?)?;
        out.hand_over("network", sepconv_network { network })
    })
}

/// # Safety
/// The contract of all functions.
unsafe fn read_config(config: *const sepconv_mobilenet_config) -> Result<Config> {
    if config.is_null() {
        return Ok(Config::new());
    }
    // SAFETY: the caller's.
    let config = unsafe { versioned::read("config", config) }?;
    let padding = read_code!(Name::field("config", "stride_padding"), config.stride_padding, sepconv_stride_padding {
        Same => StridePadding::Same,
        Symmetric => StridePadding::Symmetric,
    })?;
    let output = read_code!(Name::field("config", "output"), config.output, sepconv_model_output {
        Features => ModelOutput::Features,
        Logits => ModelOutput::Logits,
        FeatureMap => ModelOutput::FeatureMap,
    })?;
    let activation = read_code!(Name::field("config", "activation"), config.activation, sepconv_model_activation {
        Relu6 => Activation::Relu6,
        Relu => Activation::Relu,
    })?;
    Ok(Config::new()
        .alpha(config.alpha)
        .classes(config.classes)
        .epsilon(config.epsilon)
        .padding(padding)
        .output(output)
        .activation(activation))
}
