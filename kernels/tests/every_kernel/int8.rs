//! The int8 kernels against the reference.

use sepconv_kernels::pack::RowLayout;
use sepconv_kernels::reference::{self, Int8Conv, Tensor, TensorMut, Window};
use sepconv_kernels::{
    BLOCK, CallerValue, ConvertArgs, DepthwiseArgs, DepthwisePacking, Int8Layout, Int8MeanArgs, Int8SumArgs,
    KernelKind, Kernels, PointwiseArgs, QuantizedSum, Requantize, Residual, RowPixels, Store, StoredType, ValuePlaces,
};
use sepconv_kernels_test_support::{Guarded, Rng, guard};

use super::{describe, is_taken};

/// What memory holds of a tensor that is not written.
const UNWRITTEN: u8 = 0xa5;

/// Quantized values in memory as an instruction set stores them, of exactly the length that they need.
pub(super) struct Int8Tensor {
    layout: Int8Layout,
    memory: Guarded<u8>,
}

impl Int8Tensor {
    fn new(table: &Kernels, len: usize) -> Int8Tensor {
        let layout = table.int8_layout();
        Int8Tensor { memory: Guarded::filled(len * layout.stored.bytes(), UNWRITTEN), layout }
    }

    /// A row of pixels in channel blocks that lie so far apart. Lanes beyond the last channel are any values.
    fn blocks(
        table: &Kernels,
        rng: &mut Rng,
        values: &[u8],
        [width, channels]: [usize; 2],
        block: usize,
    ) -> Int8Tensor {
        let blocks = channels.div_ceil(BLOCK);
        let mut row = Int8Tensor::new(table, (blocks - 1) * block + width * BLOCK);
        for p in 0..width {
            for c in 0..blocks * BLOCK {
                let value = if c < channels { values[p * channels + c] } else { rng.next_u64() as u8 };
                row.set(c / BLOCK * block + p * BLOCK + c % BLOCK, value);
            }
        }
        row
    }

    fn set(&mut self, at: usize, value: u8) {
        let stored = i32::from(value) - self.layout.offset;
        match self.layout.stored {
            StoredType::U8 => self.memory.slice_mut()[at] = stored as u8,
            StoredType::I16 => {
                self.memory.slice_mut()[2 * at..][..2].copy_from_slice(&(stored as i16).to_ne_bytes());
            }
            other => panic!("{other:?}"),
        }
    }

    fn get(&self, at: usize) -> i32 {
        let stored = match self.layout.stored {
            StoredType::U8 => i32::from(self.memory.slice()[at]),
            StoredType::I16 => {
                i32::from(i16::from_ne_bytes([self.memory.slice()[2 * at], self.memory.slice()[2 * at + 1]]))
            }
            other => panic!("{other:?}"),
        };
        stored + self.layout.offset
    }
}

/// Values: in a third of the cases extreme ones, with which a step that saturates would give other sums.
fn quantized(rng: &mut Rng, len: usize) -> Vec<u8> {
    let extreme = rng.chance(3);
    (0..len).map(|_| if extreme || rng.chance(8) { rng.pick(&[0, 255]) } else { rng.below(256) as u8 }).collect()
}

fn weights(rng: &mut Rng, len: usize) -> Vec<i8> {
    let extreme = rng.chance(3);
    (0..len).map(|_| if extreme || rng.chance(8) { rng.pick(&[-128, 127]) } else { rng.next_u64() as i8 }).collect()
}

fn bounds(rng: &mut Rng) -> [i32; 2] {
    let (a, b) = (rng.below(256) as i32, rng.below(256) as i32);
    rng.pick(&[[0, 255], [0, 255], [a.min(b), a.max(b)]])
}

fn requantize(rng: &mut Rng, residual: bool) -> Requantize {
    let zero = rng.below(256) as i32;
    let sum = residual.then(|| QuantizedSum {
        multipliers: [1 << 20 | rng.below(1 << 20) as i32, rng.pick(&[1, 1, -1]) * rng.below(1 << 21) as i32],
        shift: 20 + rng.below(10) as u32 - 6,
        zeros: [rng.below(256) as i32, rng.below(256) as i32],
        bounds: bounds(rng),
    });
    Requantize { zero, bounds: bounds(rng), sum }
}

/// Everything of an int8 convolution but its window.
struct QuantizedNumbers {
    filter: Vec<i8>,
    bias: Vec<i32>,
    multipliers: Vec<f32>,
    zero: i32,
    requantize: Requantize,
}

impl QuantizedNumbers {
    fn new(rng: &mut Rng, taps: usize, outputs: usize, residual: bool) -> QuantizedNumbers {
        // so that most results are between the bounds
        let scale = 1.0 / (taps as f32).sqrt() / 64.0;
        QuantizedNumbers {
            filter: weights(rng, taps * outputs),
            bias: (0..outputs).map(|_| rng.below(4001) as i32 - 2000).collect(),
            multipliers: (0..outputs)
                .map(|_| scale * (1.5 + rng.float()) * rng.pick(&[1.0, 1.0, 1.0, 1e-3, 1e5]))
                .collect(),
            zero: rng.below(256) as i32,
            requantize: requantize(rng, residual),
        }
    }

    fn conv(&self, window: Window) -> Int8Conv<'_> {
        Int8Conv {
            window,
            filter: &self.filter,
            bias: &self.bias,
            zero: self.zero,
            multipliers: &self.multipliers,
            requantize: self.requantize,
        }
    }

    /// Packed for values of which output `o` multiplies value `i` by `filter[at(i)][o]`, where there is one.
    fn packed(&self, layout: &Int8Layout, k: usize, at: impl Fn(usize) -> Option<usize>) -> Guarded<u8> {
        let outputs = self.bias.len();
        let weight = |o: usize, i: usize| at(i).map_or(0, |tap| self.filter[tap * outputs + o]);
        let mut packed = vec![0; layout.panel_len(k).unwrap() * outputs.div_ceil(BLOCK)];
        let of_output = |o: usize| {
            let taps: i32 = self.filter.iter().skip(o).step_by(outputs).map(|&w| i32::from(w)).sum();
            (self.bias[o] - (self.zero - layout.offset) * taps, self.multipliers[o])
        };
        layout.pack(k, outputs, &mut packed, of_output, weight);
        Guarded::from(&packed)
    }
}

#[derive(Clone, Copy, Debug)]
struct Int8PointwiseCase {
    m: usize,
    k: usize,
    n: usize,
    residual: bool,
    /// Values of `k` of the first of two slabs.
    split: Option<usize>,
    seed: u64,
}

pub(super) fn pointwise(table: &Kernels) {
    let mut rng = Rng(0x1278);
    let mut case = |m: usize, k: usize, n: usize| {
        let split = (k > BLOCK && rng.chance(3)).then(|| (1 + rng.below((k - 1) / BLOCK)) * BLOCK);
        pointwise_case(table, Int8PointwiseCase { m, k, n, residual: rng.chance(3), split, seed: rng.next_u64() });
    };
    if cfg!(miri) {
        for (m, k, n) in [(1, 5, 17), (2, 20, 16), (7, 33, 33)] {
            case(m, k, n);
        }
        return;
    }
    for m in 1..=40 {
        for n in [1, 7, 8, 15, 16, 17, 24, 31, 32, 33, 40, 47, 48, 64, 65, 130] {
            for k in [1 + (m * 7 + n) % 5, 15 + (m + n) % 3, 31 + (m * 3 + n) % 20] {
                case(m, k, n);
            }
        }
    }
    // more weights than may stay in L1
    for m in 1..=25 {
        for n in [33, 64, 100] {
            case(m, 640 + m, n);
        }
    }
}

fn pointwise_case(table: &Kernels, case: Int8PointwiseCase) {
    if !is_taken(case.seed) {
        return;
    }
    let Int8PointwiseCase { m, k, n, .. } = case;
    let what = || describe(table, KernelKind::Int8Pointwise, &case);
    guard::note(&what());
    let rng = &mut Rng(case.seed);
    let numbers = QuantizedNumbers::new(rng, k, n, case.residual);
    let (x, residual) = (quantized(rng, m * k), quantized(rng, m * n));
    let mut expected = vec![0; m * n];
    let tensor = |data, c| Tensor { data, shape: [1, 1, m, c], pixel_stride: c };
    reference::int8_conv(
        &numbers.conv(Window::POINT),
        tensor(&x, k),
        case.residual.then(|| tensor(&residual, n)),
        TensorMut { data: &mut expected, shape: [1, 1, m, n], pixel_stride: n },
    );

    let layout = table.int8_layout();
    let lay_out = |rng: &mut Rng, values: &[u8], channels: usize| {
        let block = (m + rng.below(3)) * BLOCK;
        (Int8Tensor::blocks(table, rng, values, [m, channels], block), block)
    };
    let (x_memory, x_block) = lay_out(rng, &x, k);
    let (residual_memory, residual_block) = lay_out(rng, &residual, n);
    let (mut out, out_block) = lay_out(rng, &vec![UNWRITTEN; m * n], n);
    let packed_k = k.next_multiple_of(4);
    let weights = numbers.packed(&layout, packed_k, |i| (i < k).then_some(i));
    let pixels = Guarded::from(&(0..m).map(|p| p * BLOCK).collect::<Vec<usize>>());
    let w_panel = layout.panel_len(packed_k).unwrap();
    let args = PointwiseArgs {
        m,
        k: packed_k,
        n,
        x: x_memory.memory.as_ptr(),
        x_pixels: pixels.as_ptr(),
        segment: BLOCK,
        x_segment: x_block,
        w: weights.as_ptr().wrapping_add(Int8Layout::WEIGHTS),
        w_panel,
        bias: weights.as_ptr(),
        partial: core::ptr::null(),
        partial_panel: 0,
        residual: case.residual.then(|| Residual {
            ptr: residual_memory.memory.as_ptr(),
            pixels: pixels.as_ptr(),
            panel: residual_block,
            whole: true,
        }),
        epilogue: Some(numbers.requantize),
        params: core::ptr::null(),
        store: Store { ptr: out.memory.as_mut_ptr(), pixels: pixels.as_ptr(), panel: out_block, whole: true },
    };
    // SAFETY: layouts and packed weights are those of `m`, `k` and `n`.
    unsafe {
        match case.split {
            None => (table.int8_pointwise)(&args),
            Some(split) => {
                let mut partial = Guarded::filled(n.div_ceil(BLOCK) * m * BLOCK, i32::MIN);
                let (ptr, panel) = (partial.as_mut_ptr().cast::<u8>(), m * BLOCK);
                (table.int8_pointwise)(&PointwiseArgs {
                    k: split,
                    residual: None,
                    epilogue: None,
                    store: Store { ptr, pixels: pixels.as_ptr(), panel, whole: true },
                    ..args
                });
                (table.int8_pointwise)(&PointwiseArgs {
                    k: packed_k - split,
                    x: args.x.wrapping_add(split / BLOCK * x_block * layout.stored.bytes()),
                    w: args.w.wrapping_add(split * BLOCK * layout.weight),
                    partial: ptr.cast_const(),
                    partial_panel: panel,
                    ..args
                });
            }
        }
    }
    for p in 0..m {
        for o in 0..n {
            let got = out.get(o / BLOCK * out_block + p * BLOCK + o % BLOCK);
            assert_eq!(got, i32::from(expected[p * n + o]), "pixel {p}, channel {o}: {}", what());
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Int8DepthwiseCase {
    channels: usize,
    width: usize,
    rows_out: usize,
    kernel: [usize; 2],
    stride: usize,
    dilation: usize,
    seed: u64,
}

pub(super) fn dwconv3x3(table: &Kernels, stride: usize) {
    let mut rng = Rng(stride as u64);
    let (kind, enter) = match stride {
        1 => (KernelKind::Int8DwConv3x3S1, table.int8_dwconv3x3s1),
        _ => (KernelKind::Int8DwConv3x3S2, table.int8_dwconv3x3s2),
    };
    for &width in super::few(&super::WIDTHS, &super::FEW_WIDTHS) {
        for &channels in super::few(&[1, 15, 16, 17, 32, 40], &[17]) {
            for rows_out in 1..=4 {
                let case = Int8DepthwiseCase {
                    channels,
                    width,
                    rows_out,
                    kernel: [3, 3],
                    stride,
                    dilation: 1,
                    seed: rng.next_u64(),
                };
                depthwise_case(table, kind, enter, case);
            }
        }
    }
}

pub(super) fn dwconv(table: &Kernels) {
    let mut rng = Rng(7);
    for &width in super::few(&super::WIDTHS, &super::FEW_WIDTHS) {
        for &channels in super::few(&[1, 16, 17, 40], &[17]) {
            for kernel in [[1, 1], [1, 3], [3, 1], [2, 2], [3, 3], [5, 5], [1, 6], [7, 7]] {
                let case = Int8DepthwiseCase {
                    channels,
                    width,
                    rows_out: 1,
                    kernel,
                    stride: 1 + rng.below(3),
                    dilation: 1 + rng.below(3),
                    seed: rng.next_u64(),
                };
                depthwise_case(table, KernelKind::Int8DwConv, table.int8_dwconv, case);
            }
        }
    }
}

fn depthwise_case(table: &Kernels, kind: KernelKind, enter: unsafe fn(&DepthwiseArgs<u8>), case: Int8DepthwiseCase) {
    if !is_taken(case.seed) {
        return;
    }
    let Int8DepthwiseCase { channels, width, rows_out, kernel: [kh, kw], stride, dilation, .. } = case;
    let what = || describe(table, kind, &case);
    guard::note(&what());
    let rng = &mut Rng(case.seed);
    let numbers = QuantizedNumbers::new(rng, kh * kw, channels, false);
    let any = kind == KernelKind::Int8DwConv;
    let (rows_in, columns_in) =
        ((rows_out - 1) * stride + (kh - 1) * dilation + 1, (width - 1) * stride + (kw - 1) * dilation + 1);
    let x = quantized(rng, rows_in * columns_in * channels);
    let mut expected = vec![0; rows_out * width * channels];
    let window = Window { kernel: case.kernel, stride: [stride; 2], dilation: [dilation; 2], before: [0, 0] };
    reference::int8_depthwise(
        &numbers.conv(window),
        Tensor { data: &x, shape: [1, rows_in, columns_in, channels], pixel_stride: channels },
        TensorMut { data: &mut expected, shape: [1, rows_out, width, channels], pixel_stride: channels },
    );

    let layout = table.int8_layout();
    let blocks = channels.div_ceil(BLOCK);
    let (block, out_block) = ((columns_in + rng.below(3)) * BLOCK, (width + rng.below(3)) * BLOCK);
    let rows: Vec<Int8Tensor> = x
        .chunks(columns_in * channels)
        .map(|row| Int8Tensor::blocks(table, rng, row, [columns_in, channels], block))
        .collect();
    let mut outs: Vec<Int8Tensor> =
        (0..rows_out).map(|_| Int8Tensor::new(table, (blocks - 1) * out_block + width * BLOCK)).collect();
    let rows_read = if any { (0..kh).map(|ky| ky * dilation).collect() } else { (0..rows_in).collect::<Vec<_>>() };
    let row_pointers: Vec<*const u8> = rows_read.iter().map(|&y| rows[y].memory.as_ptr()).collect();
    let row_pointers = Guarded::from(&row_pointers);
    let out_pointers: Vec<*mut u8> = outs.iter_mut().map(|out| out.memory.as_mut_ptr()).collect();
    let out_pointers = Guarded::from(&out_pointers);
    let taps = Guarded::from(&(0..kw).map(|kx| kx * dilation * BLOCK).collect::<Vec<usize>>());
    let packing = match kind {
        KernelKind::Int8DwConv3x3S1 => DepthwisePacking::TwoRows3x3,
        KernelKind::Int8DwConv3x3S2 => DepthwisePacking::Columns3x3,
        _ => DepthwisePacking::AnyWindow(case.kernel),
    };
    let weights = numbers.packed(&layout, packing.values(), |i| packing.tap(i));
    // SAFETY: rows, outputs and weights are those of the case.
    unsafe {
        enter(&DepthwiseArgs {
            channels,
            width,
            rows_out,
            rows: row_pointers.as_ptr(),
            x: RowLayout { block, pixel: BLOCK },
            edges: None,
            zeros: core::ptr::null(),
            w: weights.as_ptr(),
            out: out_pointers.as_ptr(),
            out_block,
            out_pixel: BLOCK,
            whole_blocks: true,
            kernel: case.kernel,
            stride,
            taps: taps.as_ptr(),
            dilation,
            epilogue: numbers.requantize,
            params: core::ptr::null(),
        });
    }
    for y in 0..rows_out {
        for p in 0..width {
            for c in 0..channels {
                let got = outs[y].get(c / BLOCK * out_block + p * BLOCK + c % BLOCK);
                let expected = expected[(y * width + p) * channels + c];
                assert_eq!(got, i32::from(expected), "row {y}, pixel {p}, channel {c}: {}", what());
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Int8MeanCase {
    channels: usize,
    plane: [usize; 2],
    seed: u64,
}

pub(super) fn mean(table: &Kernels) {
    let mut rng = Rng(3);
    for &columns in super::few(&super::WIDTHS, &super::FEW_WIDTHS) {
        for &channels in super::few(&[1, 16, 17, 40], &[17]) {
            for rows in [1, 3, 7] {
                mean_case(table, Int8MeanCase { channels, plane: [rows, columns], seed: rng.next_u64() });
            }
        }
    }
}

fn mean_case(table: &Kernels, case: Int8MeanCase) {
    if !is_taken(case.seed) {
        return;
    }
    let Int8MeanCase { channels, plane: [rows, columns], .. } = case;
    let what = || describe(table, KernelKind::Int8Mean, &case);
    guard::note(&what());
    let rng = &mut Rng(case.seed);
    let layout = table.int8_layout();
    let x = quantized(rng, rows * columns * channels);
    let (zero, requantize) = (rng.below(256) as i32, requantize(rng, false));
    let multiplier = (0.5 + rng.float().abs()) / (rows * columns) as f32;
    let blocks = channels.div_ceil(BLOCK);
    let block = (columns + rng.below(3)) * BLOCK;
    let row = blocks * block;
    let len = (rows - 1) * row + (blocks - 1) * block + columns * BLOCK;
    let mut memory = Int8Tensor::new(table, len);
    for (y, p) in (0..rows).flat_map(|y| (0..columns).map(move |p| (y, p))) {
        for c in 0..blocks * BLOCK {
            let value = if c < channels { x[(y * columns + p) * channels + c] } else { rng.next_u64() as u8 };
            memory.set(y * row + c / BLOCK * block + p * BLOCK + c % BLOCK, value);
        }
    }
    let mut out = Int8Tensor::new(table, blocks * BLOCK);
    // SAFETY: the plane and the output are those of the case.
    unsafe {
        (table.int8_mean)(&Int8MeanArgs {
            channels,
            plane: case.plane,
            x: memory.memory.as_ptr(),
            x_row: row,
            x_block: block,
            x_pixel: BLOCK,
            out: out.memory.as_mut_ptr(),
            out_block: BLOCK,
            bias: -(zero - layout.offset) * (rows * columns) as i32,
            multiplier,
            requantize,
        });
    }
    for c in 0..channels {
        let pixels = x.iter().skip(c).step_by(channels);
        let sum = pixels.map(|&q| i64::from(q) - i64::from(zero)).sum();
        let expected = reference::requantized(sum, multiplier, &requantize, None);
        assert_eq!(out.get(c), i32::from(expected), "channel {c}: {}", what());
    }
}

#[derive(Clone, Copy, Debug)]
struct Int8SumCase {
    channels: usize,
    width: usize,
    /// One pixel of the second operand for the whole row.
    one: bool,
    in_place: bool,
    seed: u64,
}

pub(super) fn sum(table: &Kernels) {
    let mut rng = Rng(4);
    for &width in super::few(&super::WIDTHS, &super::FEW_WIDTHS) {
        for &channels in super::few(&[1, 16, 17, 40], &[17]) {
            for one in [false, true] {
                let in_place = rng.chance(3);
                sum_case(table, Int8SumCase { channels, width, one, in_place, seed: rng.next_u64() });
            }
        }
    }
}

fn sum_case(table: &Kernels, case: Int8SumCase) {
    if !is_taken(case.seed) {
        return;
    }
    let Int8SumCase { channels, width, one, in_place, .. } = case;
    let what = || describe(table, KernelKind::Int8Sum, &case);
    guard::note(&what());
    let rng = &mut Rng(case.seed);
    let y_width = if one { 1 } else { width };
    let (x, y) = (quantized(rng, width * channels), quantized(rng, y_width * channels));
    let zero = rng.below(256) as i32;
    let sum = requantize(rng, true).sum.unwrap();
    let lay_out = |rng: &mut Rng, values: &[u8], width: usize| {
        let block = (width + rng.below(3)) * BLOCK;
        (Int8Tensor::blocks(table, rng, values, [width, channels], block), block)
    };
    let (mut x_memory, x_block) = lay_out(rng, &x, width);
    let (y_memory, y_block) = lay_out(rng, &y, y_width);
    let (mut out, out_block) = lay_out(rng, &vec![UNWRITTEN; width * channels], width);
    let row = |ptr, block, pixel| RowPixels { ptr, pixel, block, whole: true };
    let (x_ptr, to, to_block) = if in_place {
        let ptr = x_memory.memory.as_mut_ptr();
        (ptr.cast_const(), ptr, x_block)
    } else {
        (x_memory.memory.as_ptr(), out.memory.as_mut_ptr(), out_block)
    };
    // SAFETY: rows are those of the case; the output is the first operand, or apart.
    unsafe {
        (table.int8_sum)(&Int8SumArgs {
            channels,
            width,
            x: row(x_ptr, x_block, BLOCK),
            y: row(y_memory.memory.as_ptr(), y_block, if one { 0 } else { BLOCK }),
            out: RowPixels { ptr: to, pixel: BLOCK, block: to_block, whole: true },
            zero,
            sum,
        });
    }
    let out = if in_place { &x_memory } else { &out };
    for (p, c) in (0..width).flat_map(|p| (0..channels).map(move |c| (p, c))) {
        let at = |p: usize| p * channels + c;
        let values = [i32::from(x[at(p)]) - zero, i32::from(y[at(if one { 0 } else { p })]) - sum.zeros[0]];
        let got = out.get(c / BLOCK * to_block + p * BLOCK + c % BLOCK);
        assert_eq!(got, i32::from(reference::added(&sum, values)), "pixel {p}, channel {c}: {}", what());
    }
}

#[derive(Clone, Copy, Debug)]
struct ConvertCase {
    channels: usize,
    width: usize,
    value: CallerValue,
    /// Of the caller's values: planes, or pixels with gaps.
    planes: bool,
    /// Of the stored values: channel blocks, or dense pixels.
    blocks: bool,
    seed: u64,
}

/// Both directions: `to_caller` says which.
pub(super) fn convert(table: &Kernels, to_caller: bool) {
    let mut rng = Rng(5);
    for &width in super::few(&super::WIDTHS, &super::FEW_WIDTHS) {
        for &channels in super::few(&[1, 3, 15, 16, 17, 40], &[17]) {
            let scale = rng.pick(&[1.0, 0.02, 3e-3, 1e30]);
            let zero = rng.pick(&[0, 128, 255, 7]);
            let value = rng.pick(&[CallerValue::U8, CallerValue::I8, CallerValue::F32 { scale, zero }]);
            let [planes, blocks] = [rng.chance(2), rng.chance(2)];
            let case = ConvertCase { channels, width, value, planes, blocks, seed: rng.next_u64() };
            convert_case(table, case, to_caller);
        }
    }
}

fn convert_case(table: &Kernels, case: ConvertCase, to_caller: bool) {
    if !is_taken(case.seed) {
        return;
    }
    let ConvertCase { channels, width, value, .. } = case;
    let kind = if to_caller { KernelKind::ToCaller } else { KernelKind::FromCaller };
    let what = || describe(table, kind, &case);
    guard::note(&what());
    let rng = &mut Rng(case.seed);
    let pixel = channels + rng.below(3);
    let caller_places = if case.planes {
        let plane = width + rng.below(3);
        ValuePlaces { pixel: 1, block: BLOCK * plane, channel: plane }
    } else {
        ValuePlaces { pixel, block: BLOCK, channel: 1 }
    };
    let stored_places = if case.blocks {
        ValuePlaces { pixel: BLOCK, block: (width + rng.below(3)) * BLOCK, channel: 1 }
    } else {
        ValuePlaces { pixel: channels, block: BLOCK, channel: 1 }
    };
    let at = |places: ValuePlaces, p: usize, c: usize| {
        p * places.pixel + c / BLOCK * places.block + c % BLOCK * places.channel
    };
    let all = || (0..width).flat_map(|p| (0..channels).map(move |c| (p, c)));
    let len = |places| all().map(|(p, c)| at(places, p, c) + 1).max().unwrap();
    let size = if matches!(value, CallerValue::F32 { .. }) { 4 } else { 1 };
    let mut caller = Guarded::filled(len(caller_places) * size, UNWRITTEN);
    let mut stored = Int8Tensor::new(table, len(stored_places));
    let quantized = quantized(rng, width * channels);
    let mut real = vec![0.0; width * channels];
    for (i, (p, c)) in all().enumerate() {
        let q = quantized[i];
        let to = &mut caller.slice_mut()[at(caller_places, p, c) * size..][..size];
        if to_caller {
            stored.set(at(stored_places, p, c), q);
            continue;
        }
        match value {
            CallerValue::U8 => to[0] = q,
            CallerValue::I8 => to[0] = q.wrapping_sub(128),
            CallerValue::F32 { scale, zero } => {
                let between = reference::dequantized(q, scale, zero) + rng.float() * scale;
                let special = rng.pick(&sepconv_kernels_test_support::SPECIAL);
                real[i] = if rng.chance(9) { special } else { between };
                to.copy_from_slice(&real[i].to_ne_bytes());
            }
            other => panic!("{other:?}"),
        }
    }
    let args = ConvertArgs {
        caller: caller.as_mut_ptr(),
        caller_places,
        value,
        stored: stored.memory.as_mut_ptr(),
        stored_places,
        width,
        channels,
    };
    // SAFETY: both sides have these places.
    unsafe { if to_caller { (table.int8_to_caller)(&args) } else { (table.int8_from_caller)(&args) } };
    for (i, (p, c)) in all().enumerate() {
        let q = quantized[i];
        if to_caller {
            let got = &caller.slice()[at(caller_places, p, c) * size..][..size];
            match value {
                CallerValue::U8 => assert_eq!(got[0], q, "pixel {p}, channel {c}: {}", what()),
                CallerValue::I8 => assert_eq!(got[0], q.wrapping_sub(128), "pixel {p}, channel {c}: {}", what()),
                CallerValue::F32 { scale, zero } => {
                    let expected = reference::dequantized(q, scale, zero).to_ne_bytes();
                    assert_eq!(got, expected, "pixel {p}, channel {c}: {}", what());
                }
                other => panic!("{other:?}"),
            }
        } else {
            let expected = match value {
                CallerValue::F32 { scale, zero } => reference::quantized(real[i], scale, zero),
                _ => q,
            };
            let got = stored.get(at(stored_places, p, c));
            assert_eq!(got, i32::from(expected), "pixel {p}, channel {c}: {}", what());
        }
    }
}
