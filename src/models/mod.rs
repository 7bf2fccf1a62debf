//! MobileNetV1, V2 and V3, as data over the operators.
//!
//! An [`Architecture`] lists the blocks of a network and the tensors that they need, [`Weights`] holds tensors by name,
//! and the two together make a [`Network`](crate::Network), to be planned for any resolution and any batch.
//!
//! | | first described in | input | output |
//! |---|---|---|---|
//! | [`MobileNetV1`] | [arXiv 1704.04861](https://arxiv.org/abs/1704.04861), table 1 | N×H×W×3 | N×1×1×classes, logits |
//! | [`MobileNetV2`] | [arXiv 1801.04381](https://arxiv.org/abs/1801.04381), table 2 | N×H×W×3 | N×1×1×classes, logits |
//! | [`MobileNetV3`], large and small | [arXiv 1905.02244](https://arxiv.org/abs/1905.02244), tables 1 and 2 | N×H×W×3 | N×1×1×classes, logits |
//!
//! [`Config::output`] ends a network earlier: at the pooled features, N×1×1×1024 in V1 at width 1, N×1×1×1280 in V2, or
//! at the feature map before the pool, 7×7 pixels of an image of 224×224. What a pixel's values mean is up to the
//! weights; those trained with TensorFlow take RGB as `x / 127.5 − 1`.
//!
//! ```
//! use sepconv::models::{Config, MobileNetV2, Weights};
//! use sepconv::{PlanOptions, Shape, View, ViewMut};
//!
//! # fn main() -> sepconv::Result<()> {
//! let config = Config::new().alpha(0.35).classes(10);
//! // trained weights come from a file: Weights::from_safetensors(&bytes, WeightOrder::Hwio)?
//! let weights = Weights::seeded(&MobileNetV2::architecture(&config)?, 1)?;
//! let network = MobileNetV2::network(&config, &weights)?;
//!
//! let image = Shape::new(1, 96, 96, 3);
//! let plan = network.plan(image, &PlanOptions::new())?;
//! let mut logits = [0.0; 10];
//! plan.run(
//!     View::new(&vec![0.5; image.len()?], image)?,
//!     ViewMut::new(&mut logits, Shape::new(1, 1, 1, 10))?,
//!     &mut plan.scratch()?,
//! )?;
//! # assert!(logits.iter().all(|v| v.is_finite() && *v != 0.0));
//! # Ok(())
//! # }
//! ```
//!
//! [`Config::activation`] makes networks with ReLU in place of ReLU6, which V1's paper has, and weights that follow it.
//!
//! # Names of tensors
//!
//! | network | layers |
//! |---|---|
//! | V1 | `stem`, `block1.depthwise`, `block1.pointwise` … `block13.depthwise`, `block13.pointwise`, `head` |
//! | V2 | `stem`, `block0.depthwise`, `block0.project`, `block1.expand`, `block1.depthwise`, `block1.project` … `block16.project`, `last`, `head` |
//! | V3 | as V2, with `block3.excite.reduce` and `block3.excite.expand` where a block has squeeze-and-excite, and `hidden` before `head` |
//!
//! To the name of a layer comes `.weight`, and either `.bias`, or the batch norm that follows, not folded: `.mean` and
//! `.variance`, and `.gamma` and `.beta` where they were learnt. A layer may have both, the bias before the batch norm.
//! Tensors of other names are left alone. Shapes are those of [`WeightOrder`], types are F32, F16 and BF16.

mod architecture;
mod half_precision;
mod mobilenet_v1;
mod mobilenet_v2;
mod mobilenet_v3;
mod weights;

pub use architecture::{Architecture, Block, Config, ConvKind, Convolution, ModelOutput, SqueezeExcite, StridePadding};
pub use mobilenet_v1::MobileNetV1;
pub use mobilenet_v2::MobileNetV2;
pub use mobilenet_v3::{MobileNetV3, V3Size};
pub use weights::{WeightOrder, Weights};
