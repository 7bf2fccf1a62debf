use core::mem::MaybeUninit;

use super::*;
use crate::{
    Activation, ConvDesc, DepthwiseConv2d, Filter, Fusion, InvertedResidual, InvertedResidualDesc, Network, Padding,
    PointwiseConv2d, SeparableConv2d, Shortcut, Strides,
};

/// A value for each of `len` places, small enough for exact sums.
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7) % 13) as f32 - 6.0).collect()
}

/// Descriptions of odd numbers of channels: 3 → 7 → 20 → 3, of which the last has a shortcut.
fn network() -> Result<Network> {
    let weights = values(3 * 7 * 20);
    let filter = |shape| Filter::oihw(&weights[..shape_len(shape)], shape);
    let depthwise = |c| {
        ConvDesc::new(Filter::depthwise_c1hw(&weights[..9 * c], [c, 3, 3], 1))
            .padding(Padding::all(1))
            .activation(Activation::Relu6)
    };
    Network::new(vec![
        PointwiseConv2d::new(ConvDesc::new(filter([7, 3, 1, 1])).bias(&[0.5; 7]))?.into(),
        SeparableConv2d::new(depthwise(7).stride(2), ConvDesc::new(filter([20, 7, 1, 1])))?.into(),
        InvertedResidual::new(
            InvertedResidualDesc::new(depthwise(7), ConvDesc::new(filter([20, 7, 1, 1])))
                .expand(ConvDesc::new(filter([7, 20, 1, 1])))
                .shortcut(Shortcut::Required),
        )?
        .into(),
        DepthwiseConv2d::new(depthwise(20))?.into(),
        PointwiseConv2d::new(ConvDesc::new(filter([3, 20, 1, 1])))?.into(),
    ])
}

fn shape_len([o, i, h, w]: [usize; 4]) -> usize {
    o * i * h * w
}

/// Miri sees a read of a byte that nothing was written to (`.ci/miri.sh`); the arena and the scratch of workers have lanes that no channel
/// has.
#[test]
fn a_run_reads_no_byte_of_its_memory_before_it_writes_it() {
    let network = network().unwrap();
    for (layout, fusion) in [
        (Layout::Nhwc, Fusion::Auto),
        (Layout::Nhwc, Fusion::Never),
        (Layout::Nchw, Fusion::Auto),
        (Layout::Nchw, Fusion::Never),
    ] {
        let shape = Shape::new(1, 6, 5, 3);
        let plan = network.plan(shape, &PlanOptions::new().layout(layout).fusion(fusion)).unwrap();
        let (input, output) = (values(shape.len().unwrap()), plan.output_shape());
        let from = View::with_strides(&input, shape, Strides::dense(layout, shape)).unwrap();
        let mut expected = vec![0.0; output.len().unwrap()];
        let to = ViewMut::with_strides(&mut expected, output, Strides::dense(layout, output)).unwrap();
        plan.run(from, to, &mut plan.scratch().unwrap()).unwrap();

        let mut got = vec![0.0; expected.len()];
        let to = ViewMut::with_strides(&mut got, output, Strides::dense(layout, output)).unwrap();
        let mut memory: Vec<MaybeUninit<u8>> = Vec::new();
        memory.resize(plan.scratch_bytes() + Plan::SCRATCH_ALIGNMENT - 1, MaybeUninit::uninit());
        plan.run_in_any(None, from, to, &mut memory).unwrap();
        assert_eq!(got, expected);
    }
}
