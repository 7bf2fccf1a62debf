//! The networks: ResNet-18, and MobileNetV2 with a feature pyramid.

use sepconv::{Activation, Result};

use crate::{Describe, NamedTensors};

/// [ResNet-18](https://arxiv.org/abs/1512.03385) with `base` channels behind the stem, 64 as published, and 1000 classes.
///
/// The names of its layers are torchvision's. A batch norm is part of the convolution before it.
pub fn resnet18<G: Describe>(graph: &mut G, tensors: &NamedTensors<'_>, base: usize) -> Result<()> {
    let image = graph.input(3);
    let mut x = graph.conv(image, &tensors.conv("conv1", 7, [3, base], Activation::Relu)?.stride(2))?;
    x = graph.max_pool(x, 3, 2)?;
    let mut inputs = base;
    for (stage, block) in (0..4).flat_map(|stage| [(stage, 0), (stage, 1)]) {
        let outputs = base << stage;
        let stride = if stage > 0 && block == 0 { 2 } else { 1 };
        let name = format!("layer{}.{block}", stage + 1);
        let conv1 = tensors.conv(&format!("{name}.conv1"), 3, [inputs, outputs], Activation::Relu)?;
        let y = graph.conv(x, &conv1.stride(stride))?;
        let conv2 = tensors.conv(&format!("{name}.conv2"), 3, [outputs, outputs], Activation::Linear)?;
        let y = graph.conv(y, &conv2)?;
        if stride == 2 {
            let downsample = tensors.conv(&format!("{name}.downsample"), 1, [inputs, outputs], Activation::Linear)?;
            x = graph.conv(x, &downsample.stride(2))?;
        }
        // the planner makes the sum a part of the convolution before it
        x = graph.add(y, x, Activation::Relu)?;
        inputs = outputs;
    }
    x = graph.global_average_pool(x)?;
    let logits = graph.dense(x, &tensors.conv("fc", 1, [inputs, 1000], Activation::Linear)?)?;
    graph.output(logits);
    Ok(())
}

/// Expansion, output channels, blocks, and the stride of the first block, of the stages of MobileNetV2.
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

/// The stages that the pyramid reads: the last ones at a fourth, an eighth, a sixteenth and a 32nd of the image.
const TAPS: [usize; 4] = [1, 2, 4, 6];

/// [MobileNetV2](https://arxiv.org/abs/1801.04381) of a width, up to its last block, with a [feature
/// pyramid](https://arxiv.org/abs/1612.03144) of so many channels. The outputs are the levels of the pyramid, from a fourth of the image to a
/// 32nd. The sides of the image are multiples of 32.
///
/// The names of MobileNetV2's layers are those of [`sepconv::models`], so a file of weights for that serves this network too.
pub fn pyramid<G: Describe>(graph: &mut G, tensors: &NamedTensors<'_>, alpha: f64, channels: usize) -> Result<()> {
    let mut inputs = width(32, alpha);
    let image = graph.input(3);
    let mut x = graph.conv(image, &tensors.conv("stem", 3, [3, inputs], Activation::Relu6)?.stride(2))?;
    let mut block = 0;
    let mut taps = Vec::new();
    for (stage, (expansion, outputs, blocks, stride)) in STAGES.into_iter().enumerate() {
        let outputs = width(outputs, alpha);
        for stride in [stride].into_iter().chain([1; 3]).take(blocks) {
            let (name, wide) = (format!("block{block}"), expansion * inputs);
            let mut y = x;
            if expansion > 1 {
                y = graph.conv(y, &tensors.conv(&format!("{name}.expand"), 1, [inputs, wide], Activation::Relu6)?)?;
            }
            let depthwise = tensors.depthwise(&format!("{name}.depthwise"), 3, wide, Activation::Relu6)?;
            y = graph.conv(y, &depthwise.stride(stride))?;
            y = graph.conv(y, &tensors.conv(&format!("{name}.project"), 1, [wide, outputs], Activation::Linear)?)?;
            // the planner makes one step of these three and the sum
            x = if stride == 1 && inputs == outputs { graph.add(y, x, Activation::Linear)? } else { y };
            inputs = outputs;
            block += 1;
        }
        if TAPS.contains(&stage) {
            taps.push((x, outputs));
        }
    }

    let mut levels = Vec::new();
    let mut above = None;
    for (level, &(tap, inputs)) in taps.iter().enumerate().rev() {
        let lateral = tensors.conv(&format!("lateral{level}"), 1, [inputs, channels], Activation::Relu)?;
        let mut sum = graph.conv(tap, &lateral)?;
        if let Some(above) = above {
            let larger = graph.resize(above, [2, 2])?;
            sum = graph.add(sum, larger, Activation::Linear)?;
        }
        above = Some(sum);
        let smooth = tensors.conv(&format!("output{level}"), 3, [channels, channels], Activation::Linear)?;
        levels.push(graph.conv(sum, &smooth)?);
    }
    levels.into_iter().rev().for_each(|level| graph.output(level));
    Ok(())
}

/// Channels of a width of MobileNetV2: a multiple of 8, and at most a tenth fewer than the product.
fn width(channels: usize, alpha: f64) -> usize {
    let product = channels as f64 * alpha;
    let rounded = ((product + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * product { rounded + 8 } else { rounded }
}
