//! Standard convolution as most libraries do it: every window is copied to a row of a matrix, and the matrix multiplied
//! by the weights, here by the `gemm` crate.

use rayon::prelude::*;
use sepconv::{Activation, Filter, Result, Shape, Threads, View, ViewMut, pointwise_gemm};

use crate::shapes::BenchStage;

/// A standard convolution, and the matrix that its windows are copied to.
#[derive(Debug)]
pub struct Im2col {
    stage: BenchStage,
    input: Shape,
    output: Shape,
    weights: Vec<f32>,
    biases: Vec<f32>,
    columns: Vec<f32>,
    threads: Threads,
}

impl Im2col {
    /// A standard convolution on an input of one shape.
    pub fn new(stage: BenchStage, input: Shape, threads: Threads) -> Im2col {
        let (weights, biases) = stage.values();
        let output = stage.output(input);
        let columns = vec![0.0; output.pixels() * stage.kernel * stage.kernel * stage.inputs];
        Im2col { stage, input, output, weights, biases, columns, threads }
    }

    /// Bytes of the matrix.
    pub fn scratch_bytes(&self) -> usize {
        size_of_val(self.columns.as_slice())
    }

    /// Values of input and output.
    pub fn values(&self) -> [usize; 2] {
        [self.input, self.output].map(|shape| shape.pixels() * shape.c)
    }

    /// Computes it once.
    pub fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<()> {
        let Im2col { stage, input: shape, output: out, columns, threads, .. } = self;
        let row = out.w * stage.kernel * stage.kernel * stage.inputs;
        let copy = |(y, row): (usize, &mut [f32])| copy_row(stage, *shape, *out, input, y, row);
        match threads {
            Threads::Pool(pool) => pool.install(|| columns.par_chunks_mut(row).enumerate().for_each(copy)),
            _ => columns.chunks_mut(row).enumerate().for_each(copy),
        }
        let k = stage.kernel * stage.kernel * stage.inputs;
        pointwise_gemm(
            View::new(columns, Shape { c: k, ..*out })?,
            Filter::io(&self.weights, [k, stage.outputs]),
            Some(&self.biases),
            if stage.relu6 { Activation::Relu6 } else { Activation::Linear },
            ViewMut::new(output, *out)?,
            threads.clone(),
        )
    }
}

/// Copies the windows of row `y` of the output, batch and rows counted together.
fn copy_row(stage: &BenchStage, shape: Shape, out: Shape, input: &[f32], y: usize, row: &mut [f32]) {
    let (n, y) = (y / out.h, y % out.h);
    // TensorFlow's SAME: what is odd goes to the end
    let before = |out: usize, stride: usize, size: usize| {
        ((out - 1) * stride + stage.dilation * (stage.kernel - 1) + 1).saturating_sub(size) / 2
    };
    let (top, left) = (before(out.h, stage.stride[0], shape.h), before(out.w, stage.stride[1], shape.w));
    let mut taps = row.chunks_exact_mut(shape.c);
    for x in 0..out.w {
        for ky in 0..stage.kernel {
            for kx in 0..stage.kernel {
                let Some(tap) = taps.next() else { return };
                let from = (y * stage.stride[0] + ky * stage.dilation).checked_sub(top).filter(|&y| y < shape.h);
                let from = from.and_then(|y| {
                    let x = (x * stage.stride[1] + kx * stage.dilation).checked_sub(left).filter(|&x| x < shape.w)?;
                    Some(((n * shape.h + y) * shape.w + x) * shape.c)
                });
                match from {
                    Some(from) => tap.copy_from_slice(&input[from..from + shape.c]),
                    None => tap.fill(0.0),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::Operator;
    use crate::subject::{Buffers, CacheState, Subject, plan_options};

    #[test]
    fn it_computes_what_the_operator_computes() {
        for (kernel, stride, dilation, threads) in [(3, 1, 1, 1), (3, 2, 1, 2), (5, 1, 2, 1), (7, 3, 1, 2)] {
            let stage = BenchStage { dilation, ..BenchStage::standard(kernel, stride, 5, 19) };
            let operator = Operator { stages: vec![stage], shortcut: false, input: Shape::new(2, 10, 11, 5) };
            let options = plan_options(None, threads).unwrap();
            let mut subject = Subject::new(&operator.network().unwrap(), operator.input, &options).unwrap();
            let mut buffers = Buffers::for_all([&subject], CacheState::Warm);
            subject.run(&mut buffers).unwrap();
            let mut im2col = Im2col::new(stage, operator.input, crate::subject::pool(threads).unwrap());
            let (input, expected) = buffers.take(im2col.values());
            let mut got = vec![f32::NAN; expected.len()];
            im2col.run(input, &mut got).unwrap();
            assert!(expected.iter().any(|&v| v > 0.0 && v < 6.0));
            for (got, expected) in got.iter().zip(expected.iter()) {
                assert!((got - expected).abs() < 1e-4, "{got} is not {expected}: {stage:?}");
            }
        }
    }
}
