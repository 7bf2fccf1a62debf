//! Every kernel of the list, in every table that this CPU can run (under the cap of `SEPCONV_MAX_ISA`), called directly
//! against the reference.
//!
//! The list drives this: a kernel that is added to it fails here until its arm is written. Everything that a
//! kernel is given a pointer to, tables of offsets too, has exactly the length that its contract asks for and lies
//! beside a guard page: every case runs once with its memory flush with the page at the end, and once at the start.
//! What the contract leaves undefined is NaN, so that a sum that takes it shows.
//!
//! Miri (`.ci/miri.sh`) runs a few cases of every kernel, chosen to reach every way through it. It sees reads of memory that
//! nothing was written to, which no page guards.

#[cfg(feature = "int8")]
#[path = "every_kernel/int8.rs"]
mod int8;

use std::ops::Range;

use sepconv_kernels::pack::RowLayout;
use sepconv_kernels::reference::{self, Conv, Number, Tensor, TensorMut, Window};
use sepconv_kernels::simd::PixelOffsets;
use sepconv_kernels::{
    ActivateArgs, Arithmetic, BLOCK, BlockRowArgs, CHANNEL_PARAMS, DepthwiseArgs, DwPlanesArgs, EDGE_TAPS, Epilogue,
    FromPlanesArgs, Isa, Join, JoinRowArgs, KernelKind, Kernels, Nonlinearity, PointwiseArgs, PoolArgs, PoolOf,
    PoolRowArgs, Residual, RowPixels, Store, ToPlanesArgs, pack,
};
use sepconv_kernels_test_support::isa::{assert_required_isa_ran, isas};
use sepconv_kernels_test_support::{CANARY, Guarded, Placement, Rng, ValueKind, guard, is_canary, row, same_bits};

/// Every activation, clamps more than once. Kernels draw from all of them.
const ACTIVATIONS: [Nonlinearity; 17] = [
    Nonlinearity::NONE,
    Nonlinearity::HardSwish,
    Nonlinearity::Clamp([0.0, 6.0]),
    Nonlinearity::Sigmoid,
    Nonlinearity::Clamp([0.0, f32::INFINITY]),
    Nonlinearity::Silu,
    Nonlinearity::Clamp([-0.25, 0.5]),
    Nonlinearity::Tanh,
    Nonlinearity::Clamp([f32::NEG_INFINITY, -0.0]),
    Nonlinearity::Gelu,
    Nonlinearity::LeakyRelu(0.01),
    Nonlinearity::PRelu,
    Nonlinearity::HardSigmoid,
    Nonlinearity::NONE,
    Nonlinearity::Clamp([0.0, 6.0]),
    Nonlinearity::LeakyRelu(-1.5),
    Nonlinearity::ClampByChannel,
];

/// The parameters of an activation by channel. There are none of another activation.
struct ChannelParams {
    pairs: Vec<[f32; 2]>,
    /// In blocks of 16 channels. Lanes beyond the last channel are NaN.
    packed: Guarded,
}

impl ChannelParams {
    fn new(rng: &mut Rng, activation: Nonlinearity, channels: usize) -> ChannelParams {
        if !activation.is_by_channel() {
            return ChannelParams { pairs: vec![], packed: Guarded::new(0) };
        }
        const SLOPES: [f32; 8] = [0.25, 0.0, -0.0, 1.0, -1.5, 0.01, 7.0, -3e38];
        const BOUNDS: [[f32; 2]; 7] = [
            [-0.25, 0.5],
            [0.0, 6.0],
            [f32::NEG_INFINITY, f32::INFINITY],
            [-0.0, 0.0],
            [0.25, 0.25],
            [f32::NEG_INFINITY, -0.0],
            [0.0, f32::INFINITY],
        ];
        let mut draw =
            || if activation == Nonlinearity::PRelu { [rng.pick(&SLOPES), f32::NAN] } else { rng.pick(&BOUNDS) };
        let pairs: Vec<[f32; 2]> = (0..channels).map(|_| draw()).collect();
        let mut packed = Guarded::new(channels.div_ceil(BLOCK) * CHANNEL_PARAMS);
        for (c, pair) in pairs.iter().enumerate() {
            for (of, &value) in pair.iter().enumerate() {
                packed.slice_mut()[c / BLOCK * CHANNEL_PARAMS + of * BLOCK + c % BLOCK] = value;
            }
        }
        ChannelParams { pairs, packed }
    }
}

/// Any activation. Behind a residual may come a clamp alone.
fn any_epilogue(rng: &mut Rng, residual: Addend) -> Epilogue {
    let activation = rng.pick(&ACTIVATIONS);
    let is_clamp = matches!(activation, Nonlinearity::Clamp(_));
    Epilogue::of(activation).residual_last(is_clamp && residual != Addend::None && rng.chance(2))
}

const VALUES: [ValueKind; 5] =
    [ValueKind::Plain, ValueKind::Plain, ValueKind::Plain, ValueKind::Tiny, ValueKind::Special];

#[test]
fn every_kernel_equals_the_reference_in_every_table() {
    let mut ran = Vec::new();
    let isas = isas();
    for table in Kernels::available().filter(|table| isas.contains(&table.isa())) {
        for &kind in KernelKind::ALL {
            let made = guard::made();
            // an allocation under Miri has two guarded ends
            for &placement in few(&Placement::ALL, &[Placement::End]) {
                placement.with(|| match kind {
                    KernelKind::Pointwise => pointwise(table),
                    #[cfg(feature = "int8")]
                    KernelKind::Int8Pointwise => int8::pointwise(table),
                    #[cfg(feature = "int8")]
                    KernelKind::Int8DwConv3x3S1 => int8::dwconv3x3(table, 1),
                    #[cfg(feature = "int8")]
                    KernelKind::Int8DwConv3x3S2 => int8::dwconv3x3(table, 2),
                    #[cfg(feature = "int8")]
                    KernelKind::Int8DwConv => int8::dwconv(table),
                    #[cfg(feature = "int8")]
                    KernelKind::Int8Mean => int8::mean(table),
                    #[cfg(feature = "int8")]
                    KernelKind::FromCaller => int8::convert(table, false),
                    #[cfg(feature = "int8")]
                    KernelKind::ToCaller => int8::convert(table, true),
                    #[cfg(feature = "int8")]
                    KernelKind::Int8Sum => int8::sum(table),
                    KernelKind::DwConv3x3S1 => dwconv3x3(table, 1),
                    KernelKind::DwConv3x3S2 => dwconv3x3(table, 2),
                    KernelKind::DwConv3x3S3 => dwconv3x3(table, 3),
                    KernelKind::DwConv => dwconv(table),
                    KernelKind::Activate => activate(table),
                    KernelKind::AveragePool => average_pool(table),
                    KernelKind::JoinRow => join_row(table),
                    KernelKind::PoolRow => pool_row(table),
                    KernelKind::BlockRow => block_row(table),
                    KernelKind::FromPlanes => from_planes(table),
                    KernelKind::ToPlanes => to_planes(table),
                    KernelKind::DwPlanes3x3S1 => dwplanes3x3(table, 1),
                    KernelKind::DwPlanes3x3S2 => dwplanes3x3(table, 2),
                    other => panic!("{} has no arm here", other.name()),
                });
            }
            // input and output of every case, twice
            assert!(
                guard::made() - made >= if cfg!(miri) { 8 } else { 60 },
                "{}: its memory is not guarded",
                kind.name()
            );
        }
        ran.push(table.isa());
    }
    for isa in Isa::ALL {
        assert_eq!(isas.contains(&isa), ran.contains(&isa), "{isa}: available, yet without a table, or the reverse");
    }
    assert_required_isa_ran(&ran);
}

#[test]
fn names_of_kernels_differ() {
    for (i, a) in KernelKind::ALL.iter().enumerate() {
        for b in &KernelKind::ALL[..i] {
            assert_ne!(a.name(), b.name());
        }
    }
}

/// Whether a case is taken: all unless `PROPTEST_CASES` is below proptest's own 256, as it is on emulated CPUs; then
/// that part of them, but an eighth at the least, in which every size of tile and tail still comes many times.
fn is_taken(seed: u64) -> bool {
    cfg!(miri) || seed % 256 < cases().max(32)
}

/// The cases of a property test, at least 1.
fn cases() -> u64 {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256u64);
    cases.max(1)
}

/// Those that Miri takes, or all of them.
fn few<'a, T>(all: &'a [T], few: &'a [T]) -> &'a [T] {
    if cfg!(miri) { few } else { all }
}

/// The name of a case, for failures.
fn describe(table: &Kernels, kind: KernelKind, case: &dyn core::fmt::Debug) -> String {
    let placement = Placement::current();
    format!("{} on {} ({:?}), guarded at its {placement:?}: {case:?}", kind.name(), table.isa(), table.arithmetic())
}

#[test]
#[cfg_attr(miri, ignore = "forks")]
fn guard_pages_are_flush_with_memory() {
    for placement in Placement::ALL {
        placement.with(|| {
            for len in [1, 3, 1000, 1024, 1025] {
                let memory = Guarded::new(len);
                assert!(memory.slice().iter().all(|v| is_canary(*v)));
                let outside = match placement {
                    Placement::Start => memory.as_ptr().cast::<u8>().wrapping_sub(1),
                    Placement::End => memory.as_ptr().wrapping_add(len).cast::<u8>(),
                };
                let what = format!("{len} values at the {placement:?}");
                guard::note(&what);
                guard::assert_touches(&what, || {
                    // SAFETY: not sound, which is the point: it ends the child.
                    let _ = unsafe { outside.read_volatile() };
                });
            }
        });
    }
}

/// How the pixels of a tensor lie in memory of the length that they need and no more.
#[derive(Clone, Debug)]
struct PixelLayout {
    /// Where each pixel begins.
    pixels: Vec<usize>,
    /// From one block of channels to the next.
    block: usize,
    /// Whether the last block is whole.
    whole: bool,
    channels: usize,
    len: usize,
}

impl PixelLayout {
    /// Pixels in any order with gaps between them.
    fn nhwc(rng: &mut Rng, pixels: usize, channels: usize) -> PixelLayout {
        let stride = channels + rng.pick(&[0, 0, 1, 5]);
        let mut order: Vec<usize> = (0..pixels).collect();
        if rng.chance(3) {
            for i in (1..pixels).rev() {
                order.swap(i, rng.below(i + 1));
            }
        }
        PixelLayout {
            pixels: order.into_iter().map(|i| i * stride).collect(),
            block: BLOCK,
            whole: false,
            channels,
            len: (pixels - 1) * stride + channels,
        }
    }

    /// NHWC of whole blocks: what a caller with room behind each pixel may promise.
    fn whole_nhwc(pixels: usize, channels: usize) -> PixelLayout {
        let stride = channels.next_multiple_of(BLOCK);
        PixelLayout {
            pixels: (0..pixels).map(|i| i * stride).collect(),
            block: BLOCK,
            whole: true,
            channels,
            len: pixels * stride,
        }
    }

    /// Channel blocks, each of all pixels.
    fn blocks(rng: &mut Rng, pixels: usize, channels: usize) -> PixelLayout {
        let block = (pixels + rng.below(3)) * BLOCK;
        PixelLayout {
            pixels: (0..pixels).map(|i| i * BLOCK).collect(),
            block,
            whole: true,
            channels,
            len: (channels.div_ceil(BLOCK) - 1) * block + pixels * BLOCK,
        }
    }

    fn any(rng: &mut Rng, pixels: usize, channels: usize) -> PixelLayout {
        match rng.below(3) {
            0 => PixelLayout::nhwc(rng, pixels, channels),
            1 => PixelLayout::whole_nhwc(pixels, channels),
            _ => PixelLayout::blocks(rng, pixels, channels),
        }
    }

    fn at(&self, pixel: usize, channel: usize) -> usize {
        self.pixels[pixel] + channel / BLOCK * self.block + channel % BLOCK
    }

    /// A dense tensor laid out so; whatever lies between is NaN.
    fn lay_out(&self, dense: &[f32]) -> Guarded {
        let mut memory = Guarded::new(self.len);
        for p in 0..self.pixels.len() {
            for c in 0..self.channels {
                memory.slice_mut()[self.at(p, c)] = dense[p * self.channels + c];
            }
        }
        memory
    }

    /// Every value equals the dense tensor's, and nothing else was written: neither around the memory nor in its gaps,
    /// but for the lanes of a whole last block.
    fn assert_holds(&self, memory: &Guarded, expected: &[f32], what: &dyn Fn() -> String) {
        let (len, expected_len) = (memory.slice().len(), self.len);
        assert_eq!(len, expected_len, "{}: the memory has {len} values, its layout has {expected_len}", what());
        let mut free = vec![false; self.len];
        for p in 0..self.pixels.len() {
            for c in 0..self.channels {
                let (got, expected) = (memory.slice()[self.at(p, c)], expected[p * self.channels + c]);
                assert!(
                    same_bits(got, expected),
                    "{}: pixel {p}, channel {c}: expected {expected:e}, got {got:e}",
                    what()
                );
                free[self.at(p, c)] = true;
            }
            if self.whole {
                for c in self.channels..self.channels.next_multiple_of(BLOCK) {
                    free[self.at(p, c)] = true;
                }
            }
        }
        for (i, v) in memory.slice().iter().enumerate() {
            assert!(free[i] || is_canary(*v), "{}: wrote between pixels, at {i}", what());
        }
        memory.assert_zones_untouched(&what());
    }
}

/// Weights as a kernel takes them; the reference takes `filter` and `bias`.
struct KernelWeights {
    filter: Vec<f32>,
    bias: Vec<f32>,
    packed: Guarded,
}

impl KernelWeights {
    /// `k` rows of `n` outputs, or `k` taps of `n` channels.
    fn new(rng: &mut Rng, k: usize, n: usize, values: ValueKind) -> KernelWeights {
        let filter = rng.values(k * n, values);
        let bias = rng.values(n, values);
        let mut packed = Guarded::new(pack::pointwise_len(k, n).unwrap());
        pack::pack(k, n, packed.slice_mut(), |o, row| if row == 0 { bias[o] } else { filter[(row - 1) * n + o] });
        KernelWeights { filter, bias, packed }
    }
}

fn dense(data: &[f32], shape: [usize; 4]) -> Tensor<'_, f32> {
    Tensor { data, shape, pixel_stride: shape[3] }
}

fn dense_mut(data: &mut [f32], shape: [usize; 4]) -> TensorMut<'_, f32> {
    TensorMut { data, shape, pixel_stride: shape[3] }
}

/// Where the values of `k` lie.
#[derive(Clone, Copy, Debug)]
enum Segments {
    /// Together, pixels anywhere.
    Together,
    /// In channel blocks.
    Blocks,
    /// In pieces of so many, with a gap of so many: the rows of a standard convolution's window.
    Pieces(usize, usize),
}

/// What becomes of the sum before and after this call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sums {
    Whole,
    /// In two slabs of `k`, the partial sums being written over in place or read from elsewhere.
    Slabs {
        in_place: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Addend {
    None,
    Apart,
    /// The output is added to in place.
    InPlace,
}

#[derive(Clone, Copy, Debug)]
struct PointwiseCase {
    m: usize,
    k: usize,
    n: usize,
    segments: Segments,
    sums: Sums,
    residual: Addend,
    epilogue: Epilogue,
    values: ValueKind,
    seed: u64,
}

/// Every way that sums begin and end in and that inputs lie in, with every number of pixels of a tile and every part of a
/// panel.
fn pointwise_each_way(table: &Kernels) {
    let mut rng = Rng(0x3a11);
    let sums = [Sums::Whole, Sums::Slabs { in_place: true }, Sums::Slabs { in_place: false }];
    let residuals = [Addend::None, Addend::Apart, Addend::InPlace];
    let mut way = 0;
    // tiles of scalar, which Miri runs, have at most 3 pixels
    for &m in few(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], &[1, 3, 5]) {
        for &n in few(&[1, 3, 7, 8, 9, 13, 16, 17, 23, 31, 40], &[3, 9, 17]) {
            let k = [2, 5, 19][way % 3];
            let segments = [Segments::Together, Segments::Blocks, Segments::Pieces(1 + k / 2, way % 2)][way / 3 % 3];
            let (sums, residual) = (sums[way / 9 % 3], residuals[way / 27 % 3]);
            let epilogue = any_epilogue(&mut rng, residual);
            let seed = rng.next_u64();
            let case = PointwiseCase { m, k, n, segments, sums, residual, epilogue, values: ValueKind::Plain, seed };
            pointwise_case(table, case);
            // a few cases, ten ways apart, have every kind of segments, of sums and of residuals
            way += if cfg!(miri) { 10 } else { 1 };
        }
    }
}

/// Last panels of few outputs, whose tile has pixels for lanes: parts of its 64 pixels, of its eights and of its chunks of `k`.
fn pointwise_few_outputs(table: &Kernels) {
    let mut rng = Rng(0xfe3);
    for m in [9, 16, 17, 27, 31, 32, 33, 36, 45, 63, 64, 65, 72, 95, 127, 128, 129, 150, 200] {
        for n in [1, 2, 3, 4, 5, 17, 18, 19, 20, 33, 36] {
            for _ in 0..6 {
                let k =
                    rng.pick(&[8, 9, 12, 15, 16, 17, 23, 24, 25, 31, 32, 33, 39, 40, 41, 47, 48, 63, 64, 65, 72, 97]);
                let segments = match rng.below(4) {
                    0 => Segments::Together,
                    1 => Segments::Blocks,
                    2 => Segments::Pieces(8 + rng.below(k - 7), rng.below(4)),
                    // a shorter one may follow, of fewer than eight
                    _ => Segments::Pieces(k.min(8 + rng.below(3)), rng.below(4)),
                };
                let sums = match rng.below(3) {
                    0 => Sums::Slabs { in_place: rng.chance(2) },
                    _ => Sums::Whole,
                };
                let residual = rng.pick(&[Addend::None, Addend::Apart, Addend::InPlace]);
                let epilogue = any_epilogue(&mut rng, residual);
                let (values, seed) = (rng.pick(&VALUES), rng.next_u64());
                pointwise_case(table, PointwiseCase { m, k, n, segments, sums, residual, epilogue, values, seed });
            }
        }
    }
}

fn pointwise(table: &Kernels) {
    pointwise_each_way(table);
    if cfg!(miri) {
        return;
    }
    pointwise_few_outputs(table);
    let mut rng = Rng(0x5eed);
    let mut case = |m: usize, k: usize, n: usize| {
        let piece = 1 + rng.below(k);
        let residual = rng.pick(&[Addend::None, Addend::None, Addend::Apart, Addend::InPlace]);
        let case = PointwiseCase {
            m,
            k,
            n,
            segments: match rng.below(3) {
                0 => Segments::Together,
                1 => Segments::Blocks,
                _ => Segments::Pieces(piece, rng.below(4)),
            },
            sums: match rng.below(4) {
                0 if k > 1 => Sums::Slabs { in_place: rng.chance(2) },
                _ => Sums::Whole,
            },
            residual,
            epilogue: any_epilogue(&mut rng, residual),
            values: rng.pick(&VALUES),
            seed: rng.next_u64(),
        };
        pointwise_case(table, case);
    };
    for m in 1..=40 {
        for n in 1..=40 {
            for k in [1 + (m * 7 + n) % 5, 15 + (m + n) % 3, 31 + (m * 3 + n) % 20] {
                case(m, k, n);
            }
        }
    }
    // more panels than one group of them, for a dense layer's one pixel and two
    for m in 1..=3 {
        for n in 41..=150 {
            case(m, 1 + (n * 5 + m) % 37, n);
        }
    }
    // tiles of three panels, and what follows pairs, of few weights
    for m in 3..=26 {
        for n in [41, 47, 48, 49, 56, 80, 88] {
            case(m, 1 + (n * 5 + m) % 37, n);
        }
    }
    // more results than one part of a call has, where the activation is no clamp
    for _ in 0..8 {
        case(350, 3, 60);
        case(19, 4, 1001);
    }
    // more weights than may stay in L1: panels outside, pixels inside
    for m in 1..=25 {
        for n in [33, 40, 41, 48, 56, 57, 100] {
            case(m, 160 + m, n);
        }
    }
}

fn pointwise_case(table: &Kernels, case: PointwiseCase) {
    if !is_taken(case.seed) {
        return;
    }
    let PointwiseCase { m, k, n, epilogue, values, .. } = case;
    let what = || describe(table, KernelKind::Pointwise, &case);
    guard::note(&what());
    let rng = &mut Rng(case.seed);
    let weights = KernelWeights::new(rng, k, n, values);
    let x = rng.values(m * k, values);
    let residual = rng.values(m * n, values);
    let params = ChannelParams::new(rng, epilogue.activation(), n);

    let mut expected = vec![0.0; m * n];
    reference::conv(
        &Conv { window: Window::POINT, filter: &weights.filter, bias: &weights.bias, epilogue, params: &params.pairs },
        dense(&x, [1, 1, m, k]),
        (case.residual != Addend::None).then(|| dense(&residual, [1, 1, m, n])),
        dense_mut(&mut expected, [1, 1, m, n]),
        table.arithmetic(),
    );

    let SegmentedInput { pixels: x_pixels, segment, x_segment, memory: x_memory } = SegmentedInput::new(rng, case, &x);

    let in_place = case.sums == Sums::Slabs { in_place: true };
    let layout = if in_place { PixelLayout::blocks(rng, m, n) } else { PixelLayout::any(rng, m, n) };
    let residual_layout =
        if case.residual == Addend::InPlace && !in_place { layout.clone() } else { PixelLayout::any(rng, m, n) };
    let residual_memory = residual_layout.lay_out(&residual);
    let shared = case.residual == Addend::InPlace && !in_place;
    let mut out = if shared { residual_layout.lay_out(&residual) } else { Guarded::new(layout.len) };
    let out_ptr = out.as_mut_ptr();

    let panel_len = (k + 1) * BLOCK;
    let w = weights.packed.as_ptr();
    let [x_pixels, residual_pixels, out_pixels] =
        [&x_pixels, &residual_layout.pixels, &layout.pixels].map(|offsets| Guarded::from(offsets));
    let args = PointwiseArgs {
        m,
        k,
        n,
        x: x_memory.as_ptr(),
        x_pixels: x_pixels.as_ptr(),
        segment,
        x_segment,
        w: w.wrapping_add(BLOCK),
        w_panel: panel_len,
        bias: w,
        partial: core::ptr::null(),
        partial_panel: 0,
        residual: (case.residual != Addend::None).then(|| Residual {
            ptr: if shared { out_ptr.cast_const() } else { residual_memory.as_ptr() },
            pixels: residual_pixels.as_ptr(),
            panel: residual_layout.block,
            whole: residual_layout.whole,
        }),
        epilogue,
        params: params.packed.as_ptr(),
        store: Store { ptr: out_ptr, pixels: out_pixels.as_ptr(), panel: layout.block, whole: layout.whole },
    };
    match case.sums {
        // SAFETY: the layouts and the packed weights are those of `m`, `k` and `n`; only a residual may be the output.
        Sums::Whole => unsafe { (table.pointwise)(&args) },
        Sums::Slabs { .. } => {
            // a slab ends where a segment does
            let segments = k.div_ceil(segment);
            let split = if segments > 1 { (1 + rng.below(segments - 1)) * segment } else { 1 + rng.below(k - 1) };
            let skipped = if segments > 1 { split / segment * x_segment } else { split };
            // SAFETY: as above; `split` ends a segment, and input `split` is `skipped` values behind the first.
            unsafe { pointwise_in_slabs(table, &args, in_place, split, skipped, &what) }
        }
    }
    layout.assert_holds(&out, &expected, &what);
}

/// The input of a pointwise case in memory.
struct SegmentedInput {
    /// Where each pixel begins.
    pixels: Vec<usize>,
    /// Inputs of a segment, and values from one segment to the next.
    segment: usize,
    x_segment: usize,
    memory: Guarded,
}

impl SegmentedInput {
    fn new(rng: &mut Rng, PointwiseCase { m, k, segments, .. }: PointwiseCase, x: &[f32]) -> SegmentedInput {
        match segments {
            Segments::Together => {
                let layout = PixelLayout::nhwc(rng, m, k);
                let memory = layout.lay_out(x);
                SegmentedInput { pixels: layout.pixels, segment: k, x_segment: 0, memory }
            }
            Segments::Blocks => {
                let layout = PixelLayout::blocks(rng, m, k);
                let memory = layout.lay_out(x);
                SegmentedInput { pixels: layout.pixels, segment: BLOCK, x_segment: layout.block, memory }
            }
            Segments::Pieces(piece, gap) => {
                // windows that overlap need no test of their own: an offset is an offset
                let pieces = k.div_ceil(piece);
                let pixel = pieces * (piece + gap);
                let last = (pieces - 1) * (piece + gap) + k - (pieces - 1) * piece;
                let mut memory = Guarded::new((m - 1) * pixel + last);
                for p in 0..m {
                    for i in 0..k {
                        memory.slice_mut()[p * pixel + i / piece * (piece + gap) + i % piece] = x[p * k + i];
                    }
                }
                let pixels = (0..m).map(|p| p * pixel).collect();
                SegmentedInput { pixels, segment: piece, x_segment: piece + gap, memory }
            }
        }
    }
}

/// The kernel in two slabs of `k`: `split` inputs, then the rest, which begins `skipped` values behind the first input.
///
/// # Safety
/// As the kernel's, of whole sums. `split` is less than `k`. Partial sums that are kept in place need an output of channel blocks.
unsafe fn pointwise_in_slabs(
    table: &Kernels,
    args: &PointwiseArgs,
    in_place: bool,
    split: usize,
    skipped: usize,
    what: &dyn Fn() -> String,
) {
    let (m, panels) = (args.m, args.n.div_ceil(BLOCK));
    let mut partial = Guarded::new(if in_place { 0 } else { panels * m * BLOCK });
    let partial_pixels = Guarded::from(&(0..m).map(|i| i * BLOCK).collect::<Vec<usize>>());
    let (sums, sums_panel) =
        if in_place { (args.store.ptr, args.store.panel) } else { (partial.as_mut_ptr(), m * BLOCK) };
    // SAFETY: the caller's; partial sums are `m` × 16 values a panel, apart from the output or at its offsets.
    unsafe {
        (table.pointwise)(&PointwiseArgs {
            k: split,
            residual: None,
            epilogue: Epilogue::NONE,
            // read by no kernel that stores sums as they are
            params: core::ptr::null(),
            store: Store { ptr: sums, pixels: partial_pixels.as_ptr(), panel: sums_panel, whole: true },
            ..*args
        });
        (table.pointwise)(&PointwiseArgs {
            k: args.k - split,
            x: args.x.add(skipped),
            w: args.w.add(split * BLOCK),
            // a bias that is read where there are partial sums would be NaN here
            bias: Guarded::new(panels * args.w_panel).as_ptr(),
            partial: sums.cast_const(),
            partial_panel: sums_panel,
            ..*args
        });
    }
    partial.assert_zones_untouched(what().as_str());
}

#[derive(Clone, Copy, Debug)]
struct DepthwiseCase {
    channels: usize,
    width: usize,
    rows_out: usize,
    kernel: [usize; 2],
    stride: usize,
    dilation: usize,
    epilogue: Epilogue,
    values: ValueKind,
    seed: u64,
}

/// Channels around the ends of vectors and blocks.
const CHANNELS: [usize; 19] = [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 15, 16, 17, 24, 31, 32, 33, 40, 48];

/// Every width up to a few tiles.
const WIDTHS: [usize; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];

/// Of both, those that reach every tile and every tail of scalar, which Miri runs.
const FEW_CHANNELS: [usize; 2] = [3, 17];
const FEW_WIDTHS: [usize; 3] = [1, 4, 7];

fn dwconv3x3(table: &Kernels, stride: usize) {
    let mut rng = Rng(stride as u64);
    let (kind, enter) = match stride {
        1 => (KernelKind::DwConv3x3S1, table.dwconv3x3s1),
        2 => (KernelKind::DwConv3x3S2, table.dwconv3x3s2),
        _ => (KernelKind::DwConv3x3S3, table.dwconv3x3s3),
    };
    dwconv3x3_in_parts(table, kind, enter, stride);
    for &width in few(&WIDTHS, &FEW_WIDTHS) {
        for &channels in few(&CHANNELS, &FEW_CHANNELS) {
            for &rows_out in few(&[1, 2, 3, 5], &[1 + width % 3]) {
                for _ in 0..if cfg!(miri) { 1 } else { 5 } {
                    let case = DepthwiseCase {
                        channels,
                        width,
                        rows_out,
                        kernel: [3, 3],
                        stride,
                        dilation: 1,
                        epilogue: any_epilogue(&mut rng, Addend::None),
                        values: rng.pick(&VALUES),
                        seed: rng.next_u64(),
                    };
                    depthwise_case(table, kind, enter, case);
                }
            }
        }
    }
}

/// More results than one part of a call has, where the activation is no clamp.
fn dwconv3x3_in_parts(table: &Kernels, kind: KernelKind, enter: unsafe fn(&DepthwiseArgs), stride: usize) {
    if cfg!(miri) {
        return;
    }
    let mut rng = Rng(40 + stride as u64);
    for _ in 0..6 {
        let epilogue = any_epilogue(&mut rng, Addend::None);
        let (channels, width, rows_out) = (rng.pick(&[65, 96, 112]), 80 + rng.below(9), 9 + rng.below(9));
        let (values, seed) = (ValueKind::Plain, rng.next_u64());
        let kernel = [3, 3];
        let case = DepthwiseCase { channels, width, rows_out, kernel, stride, dilation: 1, epilogue, values, seed };
        depthwise_case(table, kind, enter, case);
    }
}

fn dwconv(table: &Kernels) {
    let mut rng = Rng(3);
    let mut case = |width, channels, kernel, stride, dilation| {
        let case = DepthwiseCase {
            channels,
            width,
            rows_out: 1,
            kernel,
            stride,
            dilation,
            epilogue: any_epilogue(&mut rng, Addend::None),
            values: rng.pick(&VALUES),
            seed: rng.next_u64(),
        };
        depthwise_case(table, KernelKind::DwConv, table.dwconv, case);
    };
    for &width in few(&WIDTHS, &FEW_WIDTHS) {
        for &channels in few(&CHANNELS, &FEW_CHANNELS) {
            for &stride in few(&[1, 2, 3], &[1 + width % 3]) {
                case(width, channels, [1 + (width + channels) % 7, 1 + (channels + stride) % 7], stride, 1);
                case(width, channels, [3, 3], stride, 1 + (width + channels) % 3);
            }
        }
    }
    for kh in 1..=if cfg!(miri) { 2 } else { 7 } {
        for kw in 1..=if cfg!(miri) { 2 } else { 7 } {
            for dilation in 1..=3 {
                case(1 + (kh * 3 + kw) % 13, 1 + (kh + 5 * kw) % 20, [kh, kw], 1 + (kh + kw) % 3, dilation);
            }
        }
    }
}

/// The columns of a dense row that are `there`, `pixel` values apart.
fn row_of_pixels(row: &[f32], there: Range<usize>, channels: usize, pixel: usize) -> Guarded {
    let mut memory = Guarded::new(if there.is_empty() { 0 } else { (there.len() - 1) * pixel + channels });
    for (p, column) in there.enumerate() {
        memory.slice_mut()[p * pixel..][..channels].copy_from_slice(&row[column * channels..][..channels]);
    }
    memory
}

/// How an output row of a depthwise convolution lies, and the values from one of its pixels to the next.
fn depthwise_output(rng: &mut Rng, width: usize, channels: usize) -> (PixelLayout, usize) {
    let whole = rng.chance(2);
    let (block, pixel) = if whole && rng.chance(2) {
        ((width + rng.below(3)) * BLOCK, BLOCK)
    } else if whole {
        (BLOCK, channels.next_multiple_of(BLOCK))
    } else {
        (BLOCK, channels + rng.below(4))
    };
    let room = if whole { channels.next_multiple_of(BLOCK) } else { channels };
    let len = (room - 1) / BLOCK * block + (width - 1) * pixel + (room - 1) % BLOCK + 1;
    (PixelLayout { pixels: (0..width).map(|p| p * pixel).collect(), block, whole, channels, len }, pixel)
}

/// The input rows of a depthwise kernel, each in memory of its own, as in a ring.
struct DepthwiseRows {
    memory: Vec<Guarded>,
    layout: RowLayout,
    /// Where each tap of a row is, and pixels from one window to the next, as the layout has them.
    places: Guarded<usize>,
    stride: usize,
}

impl DepthwiseRows {
    /// Of dense rows `x` of `columns` columns. `lacking` are columns that rows of pixels have not, where they are such.
    fn new(
        rng: &mut Rng,
        kind: KernelKind,
        case: DepthwiseCase,
        x: &[f32],
        columns: usize,
        lacking: Option<[usize; 2]>,
    ) -> DepthwiseRows {
        let DepthwiseCase { channels, kernel, stride, dilation, .. } = case;
        let rows = x.chunks_exact(columns * channels);
        let places = |place: &dyn Fn(usize) -> usize| {
            Guarded::from(&(0..kernel[1]).map(|kx| place(kx * dilation)).collect::<Vec<_>>())
        };
        if let Some([before, after]) = lacking {
            // a multiple of 1 KiB too, which has tiles of its own
            let pixel = rng.pick(&[channels, channels + 4, channels + 9, 256]);
            let memory = rows.map(|row| row_of_pixels(row, before..columns - after, channels, pixel)).collect();
            let layout = RowLayout { block: BLOCK, pixel };
            return DepthwiseRows { memory, layout, places: places(&|column| column * pixel), stride };
        }
        if kind == KernelKind::DwConv && rng.chance(2) {
            // columns that are a stride apart lie together, as in flat rows
            let (len, pixel) = (columns.div_ceil(stride), channels.next_multiple_of(BLOCK) + rng.below(2) * 5);
            let place = move |column: usize| (column % stride * len + column / stride) * pixel;
            let pixels: Vec<usize> = (0..columns).map(place).collect();
            let len = pixels.iter().max().unwrap() + channels.next_multiple_of(BLOCK);
            let laid = PixelLayout { pixels, block: BLOCK, whole: true, channels, len };
            let memory = rows.map(|row| laid.lay_out(row)).collect();
            return DepthwiseRows {
                memory,
                layout: RowLayout { block: BLOCK, pixel },
                places: places(&place),
                stride: 1,
            };
        }
        let laid = PixelLayout::blocks(rng, columns, channels);
        let memory = rows.map(|row| laid.lay_out(row)).collect();
        let layout = RowLayout { block: laid.block, pixel: BLOCK };
        DepthwiseRows { memory, layout, places: places(&|column| column * BLOCK), stride }
    }
}

fn depthwise_case(table: &Kernels, kind: KernelKind, enter: unsafe fn(&DepthwiseArgs), case: DepthwiseCase) {
    if !is_taken(case.seed) {
        return;
    }
    let DepthwiseCase { channels, width, rows_out, kernel, stride, dilation, epilogue, values, .. } = case;
    let what = || describe(table, kind, &case);
    guard::note(&what());
    let rng = &mut Rng(case.seed);
    let taps = kernel[0] * kernel[1];
    let weights = KernelWeights::new(rng, taps, channels, values);
    // the rows that the taps meet: [`DwConv`] is given no others, so that its dilation of rows is its caller's
    let rows = (rows_out - 1) * stride + kernel[0];
    let columns = (width - 1) * stride + (kernel[1] - 1) * dilation + 1;
    let mut x = rng.values(rows * columns * channels, values);
    let zero_row = rng.below(rows + 1);
    if zero_row < rows {
        x[zero_row * columns * channels..][..columns * channels].fill(0.0);
    }
    // a window reaches over the border by all of its columns but one
    let most = if kind == KernelKind::DwConv { (kernel[1] - 1) * dilation + 1 } else { 2 };
    let lacking = [rng.below(most), rng.below(most)];
    let by_pixels = channels.is_multiple_of(table.edge_channels(kind)) && taps <= EDGE_TAPS && rng.chance(2);
    if by_pixels {
        // the columns that a row lacks are zeros for the reference
        for row in x.chunks_exact_mut(columns * channels) {
            row[..lacking[0] * channels].fill(0.0);
            row[(columns - lacking[1]) * channels..].fill(0.0);
        }
    }

    let params = ChannelParams::new(rng, epilogue.activation(), channels);
    let shape = [1, rows_out, width, channels];
    let mut expected = vec![0.0; rows_out * width * channels];
    let window = Window { kernel, stride: [stride, stride], dilation: [1, dilation], before: [0, 0] };
    reference::depthwise(
        &Conv { window, filter: &weights.filter, bias: &weights.bias, epilogue, params: &params.pairs },
        dense(&x, [1, rows, columns, channels]),
        dense_mut(&mut expected, shape),
        table.arithmetic(),
    );

    let zeros = Guarded::from(&vec![0.0; channels.next_multiple_of(BLOCK)]);
    let input = DepthwiseRows::new(rng, kind, case, &x, columns, by_pixels.then_some(lacking));
    // a row of pixels that is all zeros may be any
    let row =
        |(y, memory): (usize, &Guarded)| if by_pixels && y == zero_row { zeros.as_ptr() } else { memory.as_ptr() };
    let pointers = Guarded::from(&input.memory.iter().enumerate().map(row).collect::<Vec<_>>());

    let (out_layout, out_pixel) = depthwise_output(rng, width, channels);
    let mut out: Vec<Guarded> = (0..rows_out).map(|_| Guarded::new(out_layout.len)).collect();
    let out_pointers = Guarded::from(&out.iter_mut().map(Guarded::as_mut_ptr).collect::<Vec<_>>());
    // SAFETY: rows hold whole blocks of `columns` pixels, the output rows what their layout says.
    unsafe {
        enter(&DepthwiseArgs {
            channels,
            width,
            rows_out,
            rows: pointers.as_ptr(),
            x: input.layout,
            edges: by_pixels.then_some(lacking),
            zeros: zeros.as_ptr(),
            w: weights.packed.as_ptr(),
            out: out_pointers.as_ptr(),
            out_block: out_layout.block,
            out_pixel,
            whole_blocks: out_layout.whole,
            kernel,
            stride: input.stride,
            taps: input.places.as_ptr(),
            dilation,
            epilogue,
            params: params.packed.as_ptr(),
        });
    }
    for (row, expected) in out.iter().zip(expected.chunks_exact(width * channels)) {
        out_layout.assert_holds(row, expected, &what);
    }
}

#[derive(Clone, Copy, Debug)]
struct PoolCase {
    channels: usize,
    plane: [usize; 2],
    blocks: bool,
    values: ValueKind,
    seed: u64,
}

fn average_pool(table: &Kernels) {
    // leaves of one pixel, of less than a group, of a few groups, of 256 pixels and more; trees of all of these
    const PLANES: [[usize; 2]; 11] =
        [[1, 1], [1, 7], [2, 2], [3, 5], [7, 7], [8, 1], [1, 8], [5, 17], [37, 1], [2, 256], [3, 300]];
    let mut rng = Rng(4);
    for channels in few(&(1..=50).chain([63, 64, 65, 100, 130, 530]).collect::<Vec<_>>(), &[1, 3, 19]).iter().copied() {
        for &plane in few(&PLANES, &[[2, 3], [3, 9]]) {
            let case =
                PoolCase { channels, plane, blocks: rng.chance(2), values: rng.pick(&VALUES), seed: rng.next_u64() };
            pool_case(table, case);
        }
    }
}

fn pool_case(table: &Kernels, case: PoolCase) {
    if !is_taken(case.seed) {
        return;
    }
    let PoolCase { channels, plane: [h, w], blocks, values, .. } = case;
    let what = || describe(table, KernelKind::AveragePool, &case);
    guard::note(&what());
    let rng = &mut Rng(case.seed);
    let x = rng.values(h * w * channels, values);
    let mut expected = vec![0.0; channels];
    reference::average_pool(dense(&x, [1, h, w, channels]), dense_mut(&mut expected, [1, 1, 1, channels]));

    let (x_row, x_block, x_pixel, row_room) = if blocks {
        let block = (w + rng.below(3)) * BLOCK;
        let row = channels.div_ceil(BLOCK) * block;
        (row, block, BLOCK, row)
    } else {
        let pixel = channels + rng.below(4);
        let row = w * pixel + rng.below(9);
        (row, BLOCK, pixel, row)
    };
    let at = |y: usize, x: usize, c: usize| y * x_row + c / BLOCK * x_block + x * x_pixel + c % BLOCK;
    let mut memory = Guarded::new(at(h - 1, w - 1, channels - 1).max(at(h - 1, w - 1, 0)) + 1);
    // the last block of a blocked row is not the one whose last pixel ends last, unless it is whole
    if blocks {
        memory = Guarded::new((h - 1) * x_row + row_room);
    }
    for y in 0..h {
        for p in 0..w {
            for c in 0..channels {
                memory.slice_mut()[at(y, p, c)] = x[(y * w + p) * channels + c];
            }
        }
    }
    let mut scratch = Guarded::new(PoolArgs::scratch_len(channels, h * w));
    let out_block = BLOCK + rng.below(3);
    let layout = PixelLayout {
        pixels: vec![0],
        block: out_block,
        whole: false,
        channels,
        len: (channels - 1) / BLOCK * out_block + (channels - 1) % BLOCK + 1,
    };
    let mut out = Guarded::new(layout.len);
    // SAFETY: the memory holds `channels` of every pixel, the output one pixel of them.
    unsafe {
        (table.average_pool)(&PoolArgs {
            channels,
            plane: [h, w],
            x: memory.as_ptr(),
            x_row,
            x_block,
            x_pixel,
            out: out.as_mut_ptr(),
            out_block,
            divisor: (h * w) as f32,
            scratch: scratch.as_mut_ptr(),
        });
    }
    layout.assert_holds(&out, &expected, &what);
}

/// Rows of pixels beside guard pages, each in channel blocks or pixel after pixel.
struct GuardedRows {
    memory: Guarded,
    rows: usize,
    /// From row to row, from pixel to pixel, and from block to block.
    steps: [usize; 3],
    width: usize,
    channels: usize,
    whole: bool,
}

impl GuardedRows {
    fn new(rng: &mut Rng, rows: usize, width: usize, channels: usize, whole: bool) -> GuardedRows {
        let blocks = channels.div_ceil(BLOCK);
        let (pixel, block) = if whole { (BLOCK, width * BLOCK) } else { (channels + rng.below(3), BLOCK) };
        let (row, len) =
            if whole { (blocks * block, blocks * block) } else { (width * pixel, (width - 1) * pixel + channels) };
        let memory = Guarded::new((rows - 1) * row + len);
        GuardedRows { memory, rows, steps: [row, pixel, block], width, channels, whole }
    }

    /// Of these values, the channels of a pixel together.
    fn of(rng: &mut Rng, rows: usize, width: usize, channels: usize, whole: bool, values: &[f32]) -> GuardedRows {
        let mut made = GuardedRows::new(rng, rows, width, channels, whole);
        for (i, &value) in values.iter().enumerate() {
            let at = made.at(i);
            made.memory.slice_mut()[at] = value;
        }
        made
    }

    /// Where the `i`th value lies, the channels of a pixel together.
    fn at(&self, i: usize) -> usize {
        let [row, pixel, block] = self.steps;
        let (c, p) = (i % self.channels, i / self.channels);
        p / self.width * row + p % self.width * pixel + c / BLOCK * block + c % BLOCK
    }

    fn pixels(&self) -> RowPixels<*const f32> {
        let [_, pixel, block] = self.steps;
        RowPixels { ptr: self.memory.as_ptr(), pixel, block, whole: self.whole }
    }

    fn pixels_mut(&mut self) -> RowPixels<*mut f32> {
        let [_, pixel, block] = self.steps;
        RowPixels { ptr: self.memory.as_mut_ptr(), pixel, block, whole: self.whole }
    }

    /// The values are these, and what lies between pixels was not touched.
    fn assert_holds(&self, expected: &[f32], what: &dyn Fn() -> String) {
        assert_eq!(expected.len(), self.rows * self.width * self.channels);
        let mut untouched = self.memory.slice().to_vec();
        for (i, &value) in expected.iter().enumerate() {
            let at = self.at(i);
            assert!(same_bits(untouched[at], value), "{}: value {i}: {} in place of {value}", what(), untouched[at]);
            untouched[at] = CANARY;
        }
        assert!(self.whole || untouched.iter().all(|&v| is_canary(v)), "{}: written between pixels", what());
    }
}

fn join_row(table: &Kernels) {
    let rng = &mut Rng(11);
    for &channels in few(&[1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 35, 48], &[3, 16, 19]) {
        for &width in few(&[1, 2, 5, 9], &[2]) {
            for (join, one) in [(Join::Sum, false), (Join::Sum, true), (Join::Product, false), (Join::Product, true)] {
                let whole = [0; 3].map(|_| rng.chance(2));
                if !is_taken(rng.next_u64()) {
                    continue;
                }
                let (epilogue, kind) = (any_epilogue(rng, Addend::None), rng.pick(&VALUES));
                let what = || {
                    let case = (channels, width, join, one, whole, epilogue, kind);
                    describe(table, KernelKind::JoinRow, &case)
                };
                guard::note(&what());
                let others = if one { 1 } else { width };
                let (x, y) = (rng.values(width * channels, kind), rng.values(others * channels, kind));
                let mut expected = vec![0.0; width * channels];
                let shape = [1, 1, width, channels];
                let (from, with) = (dense(&x, shape), dense(&y, [1, 1, others, channels]));
                let to = dense_mut(&mut expected, shape);
                let params = ChannelParams::new(rng, epilogue.activation(), channels);
                reference::join((join, epilogue, &params.pairs), from, with, to, table.arithmetic());
                let x = GuardedRows::of(rng, 1, width, channels, whole[0], &x);
                let y = GuardedRows::of(rng, 1, others, channels, whole[1], &y);
                let mut out = GuardedRows::new(rng, 1, width, channels, whole[2]);
                let mut with = y.pixels();
                if one {
                    with.pixel = 0;
                }
                let (x, to) = (x.pixels(), out.pixels_mut());
                let args = JoinRowArgs {
                    channels,
                    width,
                    x,
                    y: with,
                    out: to,
                    join,
                    epilogue,
                    params: params.packed.as_ptr(),
                };
                // SAFETY: the memories have the lengths of their layouts.
                unsafe { (table.join_row)(&args) }
                out.assert_holds(&expected, &what);
            }
        }
    }
}

fn pool_row(table: &Kernels) {
    let rng = &mut Rng(12);
    for &channels in few(&[1, 2, 3, 7, 8, 15, 16, 17, 32, 35], &[3, 16, 19]) {
        for &columns in few(&[1, 2, 5, 9], &[5]) {
            for &kernel in few(&[1, 2, 3, 5], &[3]) {
                let (rows, stride) = (1 + rng.below(3), 1 + rng.below(3));
                let before = rng.below(kernel);
                // each window has a column of the plane
                let after = rng.below(kernel);
                if columns + before + after < kernel {
                    continue;
                }
                let fit = (columns + before + after - kernel) / stride + 1;
                let width = (1..=fit).rev().find(|&width| (width - 1) * stride < columns + before).unwrap_or(1);
                let whole = [0; 2].map(|_| rng.chance(2));
                let taps = rows * kernel + rng.below(4);
                let of = rng.pick(&[PoolOf::Maximum, PoolOf::MeanInside, PoolOf::MeanOfAll { taps }]);
                let kind = rng.pick(&VALUES);
                let what = || {
                    let case = (channels, columns, kernel, rows, stride, before, width, whole, of, kind);
                    describe(table, KernelKind::PoolRow, &format_args!("{case:?}"))
                };
                guard::note(&what());
                let x = rng.values(rows * columns * channels, kind);
                let mut expected = vec![0.0; width * channels];
                let window =
                    Window { kernel: [rows, kernel], stride: [1, stride], dilation: [1, 1], before: [0, before] };
                let to = dense_mut(&mut expected, [1, 1, width, channels]);
                reference::pool(of, &window, dense(&x, [1, rows, columns, channels]), to);
                let x = GuardedRows::of(rng, rows, columns, channels, whole[0], &x);
                let mut out = GuardedRows::new(rng, 1, width, channels, whole[1]);
                let (from, to) = (x.pixels(), out.pixels_mut());
                let x_row = x.steps[0];
                // SAFETY: the memories have the lengths of their layouts; every window has a column of the plane.
                unsafe {
                    (table.pool_row)(&PoolRowArgs {
                        channels,
                        rows,
                        x: from,
                        x_row,
                        columns,
                        kernel,
                        stride,
                        before,
                        width,
                        out: to,
                        of,
                    });
                }
                out.assert_holds(&expected, &what);
            }
        }
    }
}

fn activate(table: &Kernels) {
    let rng = &mut Rng(5);
    for &activation in &ACTIVATIONS {
        for &m in few(&[1, 2, 5], &[2]) {
            for &n in few(&[1, 3, 7, 8, 12, 16, 17, 20, 31, 32, 41, 64], &[3, 17]) {
                let kind = rng.pick(&VALUES);
                let values = rng.values(m * n, kind);
                let params = ChannelParams::new(rng, activation, n);
                let of = |c: usize| params.pairs.get(c).map_or(activation, |&params| activation.of_channel(params));
                let expected: Vec<f32> =
                    values.iter().enumerate().map(|(i, v)| v.activate(of(i % n), table.arithmetic())).collect();
                let dense_pixels = rng.chance(3);
                let layout = if dense_pixels {
                    let pixels = (0..m).map(|p| p * n).collect();
                    PixelLayout { pixels, block: BLOCK, whole: false, channels: n, len: m * n }
                } else {
                    PixelLayout::any(rng, m, n)
                };
                let what = || describe(table, KernelKind::Activate, &(activation, m, n, &layout.pixels));
                guard::note(&what());
                let mut memory = layout.lay_out(&values);
                let table_of_pixels = Guarded::from(&layout.pixels);
                let pixels =
                    if dense_pixels { PixelOffsets::Every(n) } else { PixelOffsets::Table(table_of_pixels.as_ptr()) };
                // SAFETY: the memory has the length of its layout.
                unsafe {
                    (table.activate)(&ActivateArgs {
                        ptr: memory.as_mut_ptr(),
                        count: m,
                        pixels,
                        channels: n,
                        panel: layout.block,
                        whole: layout.whole,
                        activation,
                        params: params.packed.as_ptr(),
                    });
                }
                layout.assert_holds(&memory, &expected, &what);
            }
        }
    }
}

/// How far `got` is from `exact`, in distances between f32s at `exact`.
fn ulps(got: f32, exact: f64) -> f64 {
    if got.is_nan() || exact.is_nan() || got.is_infinite() || (exact as f32).is_infinite() {
        return if same_bits(got, exact as f32) { 0.0 } else { f64::INFINITY };
    }
    let exponent = (exact.abs().max(f64::from(f32::MIN_POSITIVE)).to_bits() >> 52) as i32 - 1023;
    (f64::from(got) - exact).abs() / 2f64.powi(exponent - 23)
}

/// What [`every_activation_is_within_four_ulps_of_f64`] found: docs/numbers.md has these numbers, rounded up.
fn most_ulps(activation: Nonlinearity) -> f64 {
    match activation {
        Nonlinearity::Clamp(_) => 0.0,
        Nonlinearity::LeakyRelu(_) => 0.5,
        Nonlinearity::HardSigmoid => 1.5,
        Nonlinearity::HardSwish | Nonlinearity::Sigmoid | Nonlinearity::Tanh => 2.5,
        _ => 3.25,
    }
}

#[test]
fn every_activation_is_within_four_ulps_of_f64() {
    // all that is not drawn by a step through all bits
    let odd = [0x0000_0000, 0x0000_0001, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7fc0_0000];
    // where a part of a function ends: its rounding, its overflow, its underflow
    let ends = [
        3.0,
        6.0,
        16.0,
        20.0,
        40.0,
        87.336_55,
        88.722_84,
        103.972_08,
        104.0,
        108.9,
        109.1,
        131.9,
        132.4,
        132.5,
        0.346_573_6,
    ];
    let near = |x: f32| (x.to_bits() - 2..=x.to_bits() + 2).map(f32::from_bits).collect::<Vec<_>>();
    // fewer where a leg asks for fewer cases: an emulated CPU takes minutes for all of them
    let step = if cfg!(miri) { 150_000_007 } else { 1009 * (256 / cases().min(256)) as usize };
    let mut inputs: Vec<f32> = (0..=u32::MAX).step_by(step).map(f32::from_bits).collect();
    inputs.extend(odd.map(f32::from_bits));
    inputs.extend(ends.into_iter().flat_map(near));
    inputs.extend(inputs.clone().into_iter().map(|x| -x));
    let isas = isas();
    for table in Kernels::available().filter(|table| isas.contains(&table.isa())) {
        for &activation in ACTIVATIONS.iter().filter(|a| !a.is_by_channel() && !matches!(a, Nonlinearity::Clamp(_))) {
            let mut got = inputs.clone();
            // SAFETY: one pixel of as many channels as there are values.
            unsafe {
                (table.activate)(&ActivateArgs {
                    ptr: got.as_mut_ptr(),
                    count: 1,
                    pixels: PixelOffsets::Every(got.len()),
                    channels: got.len(),
                    panel: BLOCK,
                    whole: false,
                    activation,
                    params: core::ptr::null(),
                });
            }
            let mut most = (0.0, 0.0);
            for (&x, &got) in inputs.iter().zip(&got) {
                let what = || format!("{} {:?} {activation:?} of {x:e}: {got:e}", table.isa(), table.arithmetic());
                let expected = x.activate(activation, table.arithmetic());
                assert!(same_bits(got, expected), "{}, the reference has {expected:e}", what());
                let exact = f64::from(x).activate(activation, Arithmetic::Fused);
                assert!(got != 0.0 || exact != 0.0 || got.is_sign_negative() == exact.is_sign_negative(), "{}", what());
                let off = ulps(got, exact);
                if off > most.0 {
                    most = (off, x);
                }
            }
            assert!(most.0 <= most_ulps(activation), "{} {activation:?}: {most:?}", table.isa());
        }
    }
}

fn block_row(table: &Kernels) {
    let rng = &mut Rng(7);
    for &width in few(&[1, 2, 9], &[2]) {
        for &channels in few(&[1, 3, 15, 16, 17, 32, 35], &[3, 16, 19]) {
            for multiplier in 1..=4 {
                for blocks in [false, true] {
                    let (layout, memory, values) = row(rng, width, channels, blocks);
                    let outputs = channels * multiplier;
                    for first in 0..outputs.div_ceil(BLOCK) {
                        for last in first..outputs.div_ceil(BLOCK) {
                            let range = first * BLOCK..outputs.min((last + 1) * BLOCK);
                            let what = || {
                                describe(table, KernelKind::BlockRow, &(width, channels, multiplier, blocks, &range))
                            };
                            guard::note(&what());
                            let out_block = (width + rng.below(2)) * BLOCK;
                            let mut out = Guarded::new((last - first) * out_block + width * BLOCK);
                            // SAFETY: both memories have the lengths of their layouts.
                            unsafe {
                                (table.block_row)(&BlockRowArgs {
                                    x: memory.as_ptr(),
                                    layout,
                                    width,
                                    channels: range.clone(),
                                    multiplier,
                                    out: out.as_mut_ptr(),
                                    out_block,
                                });
                            }
                            for p in 0..width {
                                for o in range.clone() {
                                    let block = o / BLOCK - first;
                                    assert_eq!(
                                        out.slice()[block * out_block + p * BLOCK + o % BLOCK],
                                        values[p * channels + o / multiplier],
                                        "{}: pixel {p}, channel {o}",
                                        what()
                                    );
                                }
                            }
                            for (i, &v) in out.slice().iter().enumerate() {
                                assert!(i % out_block < width * BLOCK || is_canary(v), "wrote between blocks");
                            }
                            out.assert_zones_untouched("block_row");
                        }
                    }
                }
            }
        }
    }
}

/// Planes of `channels` channels: value `(p, c)` is at `c × plane + p × step`.
fn planes(rng: &mut Rng, width: usize, channels: usize) -> (usize, usize, Guarded) {
    let step = rng.pick(&[1, 1, 1, 2, 3]);
    let plane = (width - 1) * step + 1 + rng.below(3);
    (plane, step, Guarded::new((channels - 1) * plane + (width - 1) * step + 1))
}

fn from_planes(table: &Kernels) {
    let rng = &mut Rng(11);
    for &width in few(&[1, 2, 3, 4, 5, 8, 15, 16, 17, 23, 40], &[5, 17]) {
        for &channels in few(&[1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 35], &[3, 19]) {
            for (multiplier, whole) in [(1, false), (1, true), (2, true), (3, false)] {
                let outputs = channels * multiplier;
                let (plane, step, mut memory) = planes(rng, width, channels);
                let values = rng.values(width * channels, ValueKind::Plain);
                for p in 0..width {
                    for c in 0..channels {
                        memory.slice_mut()[c * plane + p * step] = values[p * channels + c];
                    }
                }
                let first = rng.below(outputs.div_ceil(BLOCK));
                let range = first * BLOCK..outputs.min((first + 1 + rng.below(2)) * BLOCK);
                let blocks = range.len().div_ceil(BLOCK);
                // dense pixels have all channels of the range, blocks lie apart
                let (out_pixel, out_block) =
                    if whole { (BLOCK, (width + rng.below(2)) * BLOCK) } else { (range.len(), BLOCK) };
                let len = if whole { (blocks - 1) * out_block + width * BLOCK } else { width * out_pixel };
                let mut out = Guarded::new(len);
                let what =
                    || describe(table, KernelKind::FromPlanes, &(width, channels, multiplier, whole, step, &range));
                guard::note(&what());
                // SAFETY: both memories have the lengths of their layouts.
                unsafe {
                    (table.from_planes)(&FromPlanesArgs {
                        x: memory.as_ptr(),
                        plane,
                        step,
                        width,
                        channels: range.clone(),
                        multiplier,
                        out: out.as_mut_ptr(),
                        out_pixel,
                        out_block,
                        whole,
                    });
                }
                let mut written = vec![false; len];
                for p in 0..width {
                    for o in range.start..if whole { range.start + blocks * BLOCK } else { range.end } {
                        let at = (o / BLOCK - first) * out_block + p * out_pixel + o % BLOCK;
                        let expected = if o < range.end { values[p * channels + o / multiplier] } else { 0.0 };
                        assert!(same_bits(out.slice()[at], expected), "{}: pixel {p}, channel {o}", what());
                        written[at] = true;
                    }
                }
                let free = out.slice().iter().zip(&written).all(|(&v, &written)| written || is_canary(v));
                assert!(free, "{}: wrote between blocks", what());
                out.assert_zones_untouched(&what());
            }
        }
    }
}

fn to_planes(table: &Kernels) {
    let rng = &mut Rng(13);
    for &width in few(&[1, 2, 3, 4, 5, 8, 15, 16, 17, 23, 40], &[5, 17]) {
        for &channels in few(&[1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 35], &[3, 19]) {
            let (plane, step, mut out) = planes(rng, width, channels);
            let values = rng.values(width * channels, ValueKind::Plain);
            let x_block = (width + rng.below(3)) * BLOCK;
            // lanes behind the last channel hold anything
            let mut memory = Guarded::new((channels.div_ceil(BLOCK) - 1) * x_block + width * BLOCK);
            for p in 0..width {
                for c in 0..channels {
                    memory.slice_mut()[c / BLOCK * x_block + p * BLOCK + c % BLOCK] = values[p * channels + c];
                }
            }
            let what = || describe(table, KernelKind::ToPlanes, &(width, channels, plane, step));
            guard::note(&what());
            // SAFETY: both memories have the lengths of their layouts.
            unsafe {
                (table.to_planes)(&ToPlanesArgs {
                    x: memory.as_ptr(),
                    x_block,
                    width,
                    channels,
                    out: out.as_mut_ptr(),
                    plane,
                    step,
                });
            }
            let mut written = vec![false; out.slice().len()];
            for p in 0..width {
                for c in 0..channels {
                    let at = c * plane + p * step;
                    assert!(same_bits(out.slice()[at], values[p * channels + c]), "{}: pixel {p}, channel {c}", what());
                    written[at] = true;
                }
            }
            let free = out.slice().iter().zip(&written).all(|(&v, &written)| written || is_canary(v));
            assert!(free, "{}: wrote between pixels", what());
            out.assert_zones_untouched(&what());
        }
    }
}

fn dwplanes3x3(table: &Kernels, stride: usize) {
    let rng = &mut Rng(17 + stride as u64);
    let kind = if stride == 1 { KernelKind::DwPlanes3x3S1 } else { KernelKind::DwPlanes3x3S2 };
    for &h in few(&[1, 2, 3, 4, 7, 11, 60], &[2, 4]) {
        for &w in few(&[1, 2, 3, 4, 7, 8, 9, 14, 15, 16, 17, 31, 32, 33, 50], &[3, 9]) {
            for before in [[1, 1], [0, 1], [1, 0], [2, 0], [0, 3]] {
                let after = [rng.below(3), rng.below(3)];
                let padded = [h + before[0] + after[0], w + before[1] + after[1]];
                if padded[0] < 3 || padded[1] < 3 {
                    continue;
                }
                let out = padded.map(|side| (side - 3) / stride + 1);
                let (values, epilogue) = (rng.pick(&VALUES), any_epilogue(rng, Addend::None));
                // channels on both sides of the border of a block
                let multiplier = rng.pick(&[1, 1, 2]);
                let inputs = rng.pick(&[1, 9, 18]);
                let outputs = inputs * multiplier;
                let channels = rng.below(outputs)..outputs;
                let dense_x = rng.values(h * w * inputs, values);
                let weights = KernelWeights::new(rng, 9, outputs, values);
                let params = ChannelParams::new(rng, epilogue.activation(), outputs);
                let mut expected = vec![0.0; out[0] * out[1] * outputs];
                reference::depthwise(
                    &Conv {
                        window: Window { kernel: [3, 3], stride: [stride; 2], dilation: [1, 1], before },
                        filter: &weights.filter,
                        bias: &weights.bias,
                        epilogue,
                        params: &params.pairs,
                    },
                    dense(&dense_x, [1, h, w, inputs]),
                    dense_mut(&mut expected, [1, out[0], out[1], outputs]),
                    table.arithmetic(),
                );
                // rows of the plane lie apart, and so may pixels
                let step = rng.pick(&[1, 1, 1, 2]);
                let row = w * step + rng.below(3);
                let plane = (h - 1) * row + (w - 1) * step + 1 + rng.below(3);
                let mut x = Guarded::new((inputs - 1) * plane + (h - 1) * row + (w - 1) * step + 1);
                for (i, &value) in dense_x.iter().enumerate() {
                    let (p, c) = (i / inputs, i % inputs);
                    x.slice_mut()[c * plane + p / w * row + p % w * step] = value;
                }
                let first = rng.below(out[0]);
                let rows = 1 + rng.below(out[0] - first);
                let out_step = rng.pick(&[1, 1, 1, 3]);
                let out_row = out[1] * out_step + rng.pick(&[0, 0, 1, 2]);
                let out_len = (rows - 1) * out_row + (out[1] - 1) * out_step + 1;
                let out_plane = out_len + rng.below(3);
                let mut y = Guarded::new((outputs - 1) * out_plane + out_len);
                let mut scratch = Guarded::new(DwPlanesArgs::scratch_len(stride, out[1]).unwrap());
                scratch.slice_mut().fill(0.0);
                let what =
                    || describe(table, kind, &([h, w], before, out, step, out_row, out_step, first, rows, &channels));
                guard::note(&what());
                let run = if stride == 1 { table.dwplanes3x3s1 } else { table.dwplanes3x3s2 };
                // SAFETY: all memories have the lengths of their layouts.
                unsafe {
                    run(&DwPlanesArgs {
                        x: x.as_ptr(),
                        x_plane: plane,
                        x_steps: [row, step],
                        plane: [h, w],
                        before,
                        rows: [first, rows],
                        width: out[1],
                        channels: channels.clone(),
                        multiplier,
                        w: weights.packed.as_ptr(),
                        scratch: scratch.as_mut_ptr(),
                        out: y.as_mut_ptr(),
                        out_plane,
                        out_steps: [out_row, out_step],
                        epilogue,
                        params: params.packed.as_ptr(),
                    });
                }
                let mut beside = vec![true; y.slice().len()];
                for c in channels.clone() {
                    for i in 0..rows * out[1] {
                        let at = c * out_plane + i / out[1] * out_row + i % out[1] * out_step;
                        let (got, expected) = (y.slice()[at], expected[(first * out[1] + i) * outputs + c]);
                        assert!(same_bits(got, expected), "{}: {c}, {i}: expected {expected:e}, got {got:e}", what());
                        beside[at] = false;
                    }
                }
                let free = y.slice().iter().zip(&beside).all(|(&v, &beside)| !beside || is_canary(v));
                assert!(free, "{}: wrote between pixels", what());
                y.assert_zones_untouched(&what());
                scratch.assert_zones_untouched(&what());
            }
        }
    }
}

#[test]
fn the_canary_is_a_nan_that_no_sum_gives() {
    assert!(CANARY.is_nan());
    assert!(!is_canary(f32::NAN));
    assert!(!is_canary(core::hint::black_box(f32::INFINITY) - f32::INFINITY));
}
