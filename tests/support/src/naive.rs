//! The layers of graphs by plain loops over dense tensors, as the reference of the kernels defines them.

use sepconv::{Activation, Arithmetic, Shape};
pub use sepconv_kernels::reference::Window;
use sepconv_kernels::reference::{self, Conv, Tensor, TensorMut};
use sepconv_kernels::{Epilogue, Join, Nonlinearity, PoolOf};

use crate::DenseTensor;

/// A convolution with its weights.
#[derive(Clone, Copy, Debug)]
pub struct NaiveConv<'a> {
    window: Window,
    filter: &'a [f32],
    bias: &'a [f32],
    end: NaiveEnd<'a>,
}

/// What becomes of a sum: an activation, with its parameters for each channel where it has some.
#[derive(Clone, Copy, Debug)]
pub struct NaiveEnd<'a> {
    epilogue: Epilogue,
    params: &'a [[f32; 2]],
}

impl From<Activation> for NaiveEnd<'_> {
    fn from(activation: Activation) -> Self {
        NaiveEnd { epilogue: Epilogue::of(activation.into()), params: &[] }
    }
}

impl<'a> NaiveEnd<'a> {
    /// An activation whose parameters are these.
    pub fn by_channel(kind: Nonlinearity, params: &'a [[f32; 2]]) -> Self {
        NaiveEnd { epilogue: Epilogue::of(kind), params }
    }
}

impl<'a> NaiveConv<'a> {
    /// The filter is HWIO, HWCM of a depthwise convolution, HWOI of a transposed one.
    pub fn new(window: Window, filter: &'a [f32], bias: &'a [f32], end: impl Into<NaiveEnd<'a>>) -> Self {
        NaiveConv { window, filter, bias, end: end.into() }
    }

    fn reference(&self) -> Conv<'a, f32> {
        let NaiveConv { window, filter, bias, end: NaiveEnd { epilogue, params } } = *self;
        Conv { window, filter, bias, epilogue, params }
    }
}

/// What a pool takes of a window.
#[derive(Clone, Copy, Debug)]
pub enum PooledAs {
    /// The largest value.
    Maximum,
    /// The mean of the pixels of the plane.
    Mean,
    /// The mean of all pixels.
    MeanOfAll,
}

fn sides(shape: Shape) -> [usize; 4] {
    [shape.n, shape.h, shape.w, shape.c]
}

fn tensor(dense: &DenseTensor) -> Tensor<'_, f32> {
    Tensor { data: &dense.data, shape: sides(dense.shape), pixel_stride: dense.shape.c }
}

/// The tensor that `write` fills.
fn made(shape: Shape, write: impl FnOnce(TensorMut<'_, f32>)) -> DenseTensor {
    let mut data = vec![0.0; shape.len().unwrap()];
    write(TensorMut { data: &mut data, shape: sides(shape), pixel_stride: shape.c });
    DenseTensor { shape, data }
}

/// A convolution whose output has this shape.
pub fn conv(conv: &NaiveConv<'_>, x: &DenseTensor, shape: Shape, arithmetic: Arithmetic) -> DenseTensor {
    made(shape, |to| reference::conv(&conv.reference(), tensor(x), None, to, arithmetic))
}

/// A depthwise convolution whose output has this shape.
pub fn depthwise(conv: &NaiveConv<'_>, x: &DenseTensor, shape: Shape, arithmetic: Arithmetic) -> DenseTensor {
    made(shape, |to| reference::depthwise(&conv.reference(), tensor(x), to, arithmetic))
}

/// A convolution in groups whose output has this shape.
pub fn grouped(
    of: &NaiveConv<'_>,
    groups: usize,
    x: &DenseTensor,
    shape: Shape,
    arithmetic: Arithmetic,
) -> DenseTensor {
    let (inputs, outputs) = (x.shape.c / groups, shape.c / groups);
    let channels = |values: &[f32], each: usize, first: usize, count: usize| -> Vec<f32> {
        values.chunks(each).flat_map(|pixel| &pixel[first..][..count]).copied().collect()
    };
    made(shape, |to| {
        for group in 0..groups {
            let data = channels(&x.data, x.shape.c, group * inputs, inputs);
            let part = DenseTensor { shape: Shape { c: inputs, ..x.shape }, data };
            let filter = channels(of.filter, shape.c, group * outputs, outputs);
            let params = if of.end.params.is_empty() { &[] } else { &of.end.params[group * outputs..][..outputs] };
            let end = NaiveEnd { params, ..of.end };
            let of_group = NaiveConv { filter: &filter, bias: &of.bias[group * outputs..][..outputs], end, ..*of };
            let made = conv(&of_group, &part, Shape { c: outputs, ..shape }, arithmetic);
            for (pixel, made) in to.data.chunks_mut(shape.c).zip(made.data.chunks(outputs)) {
                pixel[group * outputs..][..outputs].copy_from_slice(made);
            }
        }
    })
}

/// A transposed convolution whose stride is its window: a 1×1 convolution for each place of the window.
pub fn transposed(of: &NaiveConv<'_>, x: &DenseTensor, shape: Shape, arithmetic: Arithmetic) -> DenseTensor {
    let ([kh, kw], inputs, outputs) = (of.window.kernel, x.shape.c, shape.c);
    made(shape, |to| {
        for place in 0..kh * kw {
            let filter = &of.filter[place * outputs * inputs..][..outputs * inputs];
            let turned: Vec<f32> = (0..outputs * inputs).map(|i| filter[i % outputs * inputs + i / outputs]).collect();
            let of_place = NaiveConv { window: Window::POINT, filter: &turned, ..*of };
            let made = conv(&of_place, x, Shape { c: outputs, ..x.shape }, arithmetic);
            for (p, made) in made.data.chunks(outputs).enumerate() {
                let (line, column) = (p / x.shape.w, p % x.shape.w);
                let at = ((kh * line + place / kw) * shape.w + kw * column + place % kw) * outputs;
                to.data[at..at + outputs].copy_from_slice(made);
            }
        }
    })
}

fn join(how: Join, x: &DenseTensor, y: &DenseTensor, end: NaiveEnd<'_>, arithmetic: Arithmetic) -> DenseTensor {
    let how = (how, end.epilogue, end.params);
    made(x.shape, |to| reference::join(how, tensor(x), tensor(y), to, arithmetic))
}

/// The sum, then an activation.
pub fn add<'a>(x: &DenseTensor, y: &DenseTensor, end: impl Into<NaiveEnd<'a>>, arithmetic: Arithmetic) -> DenseTensor {
    join(Join::Sum, x, y, end.into(), arithmetic)
}

/// The product.
pub fn scale(x: &DenseTensor, y: &DenseTensor, arithmetic: Arithmetic) -> DenseTensor {
    join(Join::Product, x, y, Activation::Linear.into(), arithmetic)
}

/// The channels of all these tensors, one after the other.
pub fn concat(parts: &[&DenseTensor]) -> DenseTensor {
    let shape = Shape { c: parts.iter().map(|part| part.shape.c).sum(), ..parts[0].shape };
    let pixel = |p: usize| parts.iter().flat_map(move |part| &part.data[p * part.shape.c..][..part.shape.c]);
    DenseTensor { shape, data: (0..shape.pixels()).flat_map(pixel).copied().collect() }
}

/// The mean over the plane.
pub fn mean(x: &DenseTensor) -> DenseTensor {
    made(Shape { h: 1, w: 1, ..x.shape }, |to| reference::average_pool(tensor(x), to))
}

/// The maximum or the mean over a window; the output has this shape.
pub fn pool(of: PooledAs, window: Window, x: &DenseTensor, shape: Shape) -> DenseTensor {
    let of = match of {
        PooledAs::Maximum => PoolOf::Maximum,
        PooledAs::Mean => PoolOf::MeanInside,
        PooledAs::MeanOfAll => PoolOf::MeanOfAll { taps: window.kernel[0] * window.kernel[1] },
    };
    made(shape, |to| reference::pool(of, &window, tensor(x), to))
}

/// Each pixel several times along rows and columns.
pub fn resize(x: &DenseTensor, [rows, columns]: [usize; 2]) -> DenseTensor {
    let shape = Shape { h: x.shape.h * rows, w: x.shape.w * columns, ..x.shape };
    made(shape, |to| {
        for (p, pixel) in to.data.chunks_mut(shape.c).enumerate() {
            let (line, column) = (p / shape.w, p % shape.w);
            let (n, y) = (line / shape.h, line % shape.h);
            let from = ((n * x.shape.h + y / rows) * x.shape.w + column / columns) * shape.c;
            pixel.copy_from_slice(&x.data[from..][..shape.c]);
        }
    })
}
