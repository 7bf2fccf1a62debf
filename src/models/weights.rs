//! Tensors by name, and how a layer finds its own among them.

use core::cmp::Ordering;
use core::ops::Deref;
use std::borrow::Cow;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::half_precision::{bf16, f16};
use super::{Architecture, ConvKind, Convolution};
use crate::memory::{collect, push, reserve, text};
use crate::{Activation, BatchNorm, ConvDesc, Error, Filter, Result};

/// The order in which filters lie. It is stated, never guessed: a square matrix looks the same in both.
///
/// | layer | `Hwio` | `Oihw` |
/// |---|---|---|
/// | standard | `[h, w, i, o]` | `[o, i, h, w]` |
/// | depthwise | `[h, w, c, 1]` or `[h, w, c]` | `[c, 1, h, w]` |
/// | pointwise, dense | `[1, 1, i, o]` or `[i, o]` | `[o, i, 1, 1]` or `[o, i]` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightOrder {
    /// TensorFlow's and Keras's.
    Hwio,
    /// PyTorch's and ONNX's.
    Oihw,
}

impl WeightOrder {
    /// The shapes that the filter of a layer may have; the first one is named in errors.
    fn shapes(self, layer: &Convolution) -> [Sides; 2] {
        let &Convolution { kernel: k, inputs: i, outputs: o, .. } = layer;
        match (self, layer.kind) {
            (WeightOrder::Hwio, ConvKind::Standard) => [Sides::of([k, k, i, o]); 2],
            (WeightOrder::Hwio, ConvKind::Depthwise) => [Sides::of([k, k, i, 1]), Sides::of([k, k, i])],
            (WeightOrder::Hwio, ConvKind::Pointwise | ConvKind::Dense) => [Sides::of([1, 1, i, o]), Sides::of([i, o])],
            (WeightOrder::Oihw, ConvKind::Standard) => [Sides::of([o, i, k, k]); 2],
            (WeightOrder::Oihw, ConvKind::Depthwise) => [Sides::of([i, 1, k, k]); 2],
            (WeightOrder::Oihw, ConvKind::Pointwise | ConvKind::Dense) => [Sides::of([o, i, 1, 1]), Sides::of([o, i])],
        }
    }

    fn filter<'a>(self, layer: &Convolution, values: &'a [f32]) -> Filter<'a> {
        let &Convolution { kernel: k, inputs: i, outputs: o, .. } = layer;
        match (self, layer.kind == ConvKind::Depthwise) {
            (WeightOrder::Hwio, false) => Filter::hwio(values, [k, k, i, o]),
            (WeightOrder::Hwio, true) => Filter::depthwise_hwc(values, [k, k, i]),
            (WeightOrder::Oihw, false) => Filter::oihw(values, [o, i, k, k]),
            (WeightOrder::Oihw, true) => Filter::depthwise_c1hw(values, [i, k, k], 1),
        }
    }
}

/// Up to four sides of a tensor that a layer asks for.
#[derive(Clone, Copy, Debug)]
struct Sides {
    sides: [usize; 4],
    rank: usize,
}

impl Sides {
    fn of<const RANK: usize>(of: [usize; RANK]) -> Sides {
        let mut sides = [0; 4];
        sides[..RANK].copy_from_slice(&of);
        Sides { sides, rank: RANK }
    }
}

impl Deref for Sides {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.sides[..self.rank]
    }
}

#[derive(Clone, Debug)]
enum StoredValues<'a> {
    Floats(Cow<'a, [f32]>),
    /// The bytes of a file, little-endian, at any alignment. They become floats one tensor at a time, when a layer asks
    /// for them. A file may hold tensors of types that are no floats (a counter of batches, say), as long as no layer
    /// asks for one.
    Bytes(Dtype, &'a [u8]),
}

/// The types that a tensor may have in a file, as errors name them.
const FLOATS: &str = "f32, f16 or bf16";

#[derive(Clone, Debug)]
struct StoredTensor<'a> {
    shape: Vec<usize>,
    values: StoredValues<'a>,
}

impl StoredTensor<'_> {
    /// The name of its type.
    fn type_name(&self) -> String {
        match &self.values {
            StoredValues::Floats(_) => "f32".into(),
            StoredValues::Bytes(dtype, _) => dtype.to_string().to_lowercase(),
        }
    }

    /// Its values, or `None` where they are of another type than [`FLOATS`].
    fn floats(&self) -> Result<Option<Cow<'_, [f32]>>> {
        let (dtype, bytes) = match &self.values {
            StoredValues::Floats(values) => return Ok(Some(Cow::Borrowed(values))),
            StoredValues::Bytes(dtype, bytes) => (*dtype, *bytes),
        };
        let floats = match dtype {
            Dtype::F32 => collect("weights", bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value))),
            Dtype::F16 => collect("weights", bytes.as_chunks().0.iter().map(|&value| f16(u16::from_le_bytes(value)))),
            Dtype::BF16 => collect("weights", bytes.as_chunks().0.iter().map(|&value| bf16(u16::from_le_bytes(value)))),
            _ => return Ok(None),
        };
        floats.map(Cow::Owned).map(Some)
    }
}

/// Tensors by name: what a network is made with.
///
/// Values are borrowed where they can be. See [the module](super#names-of-tensors) for the names that layers ask for.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::models::{WeightOrder, Weights};
/// let mut weights = Weights::new(WeightOrder::Hwio);
/// weights.insert("block1.depthwise.weight", &[3, 3, 32, 1], vec![0.1; 288])?;
/// weights.insert("block1.depthwise.bias", &[32], &[0.0; 32][..])?;
/// assert!(weights.insert("block1.pointwise.weight", &[32, 64], vec![0.1; 100]).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Weights<'a> {
    order: WeightOrder,
    /// In the order of names.
    tensors: Vec<(String, StoredTensor<'a>)>,
}

/// How a name compares with that of a part of a layer, or with a whole name where there is no part.
fn compare(name: &str, layer: &str, part: Option<&str>) -> Ordering {
    let (dot, part) = part.map_or(("", ""), |part| (".", part));
    name.bytes().cmp(layer.bytes().chain(dot.bytes()).chain(part.bytes()))
}

impl<'a> Weights<'a> {
    /// No tensors yet.
    pub fn new(order: WeightOrder) -> Self {
        Weights { order, tensors: Vec::new() }
    }

    /// Adds a tensor, in place of one of the same name.
    ///
    /// # Errors
    /// [`Error::Weights`] where `values` are not as many as `shape` says, [`Error::Allocation`] where there is no memory.
    pub fn insert(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        values: impl Into<Cow<'a, [f32]>>,
    ) -> Result<()> {
        let (name, values) = (name.into(), values.into());
        let expected = shape.iter().try_fold(1usize, |len, &side| len.checked_mul(side));
        if expected != Some(values.len()) {
            let shape = shape_text(shape);
            let expected = expected.map_or("more than memory".into(), |len| format!("{len}"));
            return Err(Error::Weights(format!("{name}: {shape} holds {expected} values, got {}", values.len())));
        }
        let shape = collect("weights", shape.iter().copied())?;
        let tensor = StoredTensor { shape, values: StoredValues::Floats(values) };
        match self.find(&name, None) {
            Ok(at) => self.tensors[at].1 = tensor,
            Err(at) => {
                reserve("weights", &mut self.tensors, 1)?;
                self.tensors.insert(at, (name, tensor));
            }
        }
        Ok(())
    }

    /// The tensors of a file in the [safetensors](https://github.com/huggingface/safetensors) format, borrowed from it.
    ///
    /// A tensor of a layer is of type F32, F16 or BF16; types may be mixed. F16 and BF16 become `f32` when a network is
    /// made, which every value of theirs is exactly.
    ///
    /// # Errors
    /// [`Error::Weights`] where the bytes are no such file. A tensor of another shape than its layer asks for, or of
    /// another type, is an error when a network is made.
    ///
    /// The header is read by the crates serde_json and safetensors, for which memory that runs out is an abort; they
    /// take no more than some 200 bytes for each byte that the header has.
    pub fn from_safetensors(file: &'a [u8], order: WeightOrder) -> Result<Self> {
        let malformed = |why: String| Error::Weights(format!("not a safetensors file: {why}"));
        // The crate's own reader adds up offsets of the header unchecked; reading the header alone does not.
        let (len, rest) = file
            .split_first_chunk()
            .ok_or_else(|| malformed(format!("expected a header length of 8 bytes, got {} bytes", file.len())))?;
        let len = u64::from_le_bytes(*len);
        let (header, data) = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)).ok_or_else(|| {
            malformed(format!("expected a header of {len} bytes, got {} bytes after its length", rest.len()))
        })?;
        let metadata: Metadata = serde_json::from_slice(header).map_err(|e| malformed(format!("header: {e}")))?;
        // that the tensors follow each other without gaps is checked by now
        if metadata.data_len() != data.len() {
            return Err(malformed(format!("expected {} bytes of tensors, got {}", metadata.data_len(), data.len())));
        }
        let mut tensors = Vec::new();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let bytes = data.get(start..end).ok_or_else(|| malformed(format!("{name}: lies outside of the file")))?;
            let shape = collect("weights", info.shape.iter().copied())?;
            push(
                "weights",
                &mut tensors,
                (name, StoredTensor { shape, values: StoredValues::Bytes(info.dtype, bytes) }),
            )?;
        }
        // no name comes twice, so this is an order
        tensors.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Weights { order, tensors })
    }

    /// Seeded random weights and biases for every layer, the same on every machine: for measuring and testing.
    ///
    /// Weights are spread evenly, as wide as keeps the spread of activations from layer to layer ([arXiv
    /// 1502.01852](https://arxiv.org/abs/1502.01852)), so that few of them meet a bound. The values of a layer depend
    /// on the seed, its name, its sizes, and whether its activation cuts at 0.
    pub fn seeded(architecture: &Architecture, seed: u64) -> Result<Self> {
        let order = WeightOrder::Hwio;
        let mut weights = Weights::new(order);
        for layer in architecture.convolutions() {
            let fan_in = layer.fan_in();
            // a rectifier cuts off half of the variance
            let halves = match layer.activation {
                Activation::HardSwish | Activation::Silu | Activation::Gelu | Activation::LeakyRelu { .. } => true,
                activation => activation.bounds().is_some_and(|[min, max]| min < max && min == 0.0),
            };
            let gain = if halves { 6.0 } else { 3.0 };
            let bound = (gain / fan_in as f64).sqrt() as f32;
            let len = layer.outputs.saturating_mul(fan_in);
            for (part, shape, len, bound) in [
                ("weight", order.shapes(layer)[0], len, bound),
                ("bias", Sides::of([layer.outputs]), layer.outputs, 0.1),
            ] {
                let name = text(format_args!("{}.{part}", layer.name))?;
                let values = Random::new(seed, &name).values(len, bound)?;
                weights.insert(name, &shape, values)?;
            }
        }
        Ok(weights)
    }

    /// The order in which filters lie.
    pub fn order(&self) -> WeightOrder {
        self.order
    }

    /// Names and shapes, in the order of names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()))
    }

    /// The values of a tensor, or an error where it is not there or of another type than F32, F16 and BF16.
    pub fn values(&self, name: &str) -> Result<Cow<'_, [f32]>> {
        let wrong = |got: &str| Error::Weights(format!("{name}: expected {FLOATS}, got {got}"));
        let at = self.find(name, None).map_err(|_| wrong("no such tensor"))?;
        let tensor = &self.tensors[at].1;
        tensor.floats()?.ok_or_else(|| wrong(&tensor.type_name()))
    }

    /// Where a tensor is, or where it would be; `name` is that of a layer where there is a `part`.
    fn find(&self, name: &str, part: Option<&str>) -> Result<usize, usize> {
        self.tensors.binary_search_by(|(other, _)| compare(other, name, part))
    }

    fn contains(&self, layer: &Convolution, part: &str) -> bool {
        self.find(&layer.name, Some(part)).is_ok()
    }

    /// A tensor that must have one of these shapes.
    fn shaped(&self, layer: &Convolution, part: &str, shapes: &[Sides]) -> Result<Cow<'_, [f32]>> {
        let wrong = |got: &str| {
            let shape = shape_text(&shapes[0]);
            Error::Weights(format!("{}.{part}: expected {shape} {FLOATS}, got {got}", layer.name))
        };
        let at = self.find(&layer.name, Some(part)).map_err(|_| wrong("no such tensor"))?;
        let tensor = &self.tensors[at].1;
        let wrong = || wrong(&format!("{} {}", shape_text(&tensor.shape), tensor.type_name()));
        // before its values are converted, which may be many
        if !shapes.iter().any(|shape| **shape == *tensor.shape) {
            return Err(wrong());
        }
        tensor.floats()?.ok_or_else(wrong)
    }

    /// Everything that belongs to a layer.
    pub(super) fn layer<'w>(&'w self, layer: &'w Convolution) -> Result<LayerWeights<'w>> {
        let vector = |part| self.shaped(layer, part, &[Sides::of([layer.outputs])]);
        let optional = |part| self.contains(layer, part).then(|| vector(part)).transpose();
        let weight = self.shaped(layer, "weight", &self.order.shapes(layer))?;
        let bias = optional("bias")?;
        let norm_is_there = ["gamma", "beta", "mean", "variance"].iter().any(|part| self.contains(layer, part));
        if bias.is_none() && !norm_is_there {
            let name = &layer.name;
            return Err(Error::Weights(format!(
                "{name}.bias: expected [{}] {FLOATS}, or {name}.mean and {name}.variance, got no such tensors",
                layer.outputs
            )));
        }
        let norm = if norm_is_there {
            Some(StoredNorm {
                gamma: optional("gamma")?,
                beta: optional("beta")?,
                mean: vector("mean")?,
                variance: vector("variance")?,
            })
        } else {
            None
        };
        Ok(LayerWeights { layer, order: self.order, weight, bias, norm })
    }
}

/// What one layer was given.
pub(super) struct LayerWeights<'a> {
    layer: &'a Convolution,
    order: WeightOrder,
    weight: Cow<'a, [f32]>,
    bias: Option<Cow<'a, [f32]>>,
    norm: Option<StoredNorm<'a>>,
}

struct StoredNorm<'a> {
    gamma: Option<Cow<'a, [f32]>>,
    beta: Option<Cow<'a, [f32]>>,
    mean: Cow<'a, [f32]>,
    variance: Cow<'a, [f32]>,
}

impl LayerWeights<'_> {
    pub(super) fn kernel(&self) -> usize {
        self.layer.kernel
    }

    pub(super) fn stride(&self) -> usize {
        self.layer.stride
    }

    /// The layer as an operator takes it, but for its padding.
    pub(super) fn describe(&self, epsilon: f64) -> ConvDesc<'_> {
        let mut description = ConvDesc::new(self.order.filter(self.layer, &self.weight))
            .stride(self.layer.stride)
            .activation(self.layer.activation);
        if let Some(bias) = &self.bias {
            description = description.bias(bias);
        }
        if let Some(norm) = &self.norm {
            description = description.batch_norm(BatchNorm {
                gamma: norm.gamma.as_deref(),
                beta: norm.beta.as_deref(),
                mean: &norm.mean,
                variance: &norm.variance,
                epsilon,
            });
        }
        description
    }
}

fn shape_text(shape: &[usize]) -> String {
    format!("{shape:?}").replace(' ', "")
}

/// SplitMix64, from a seed and a name.
struct Random(u64);

impl Random {
    fn new(seed: u64, name: &str) -> Self {
        // FNV-1a
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Random(seed ^ name.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Values spread evenly from `-bound` to `bound`.
    fn values(&mut self, len: usize, bound: f32) -> Result<Vec<f32>> {
        // 24 bits: every one of them has a float of its own
        collect("weights", (0..len).map(|_| ((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) * bound))
    }
}
