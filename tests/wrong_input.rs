//! Wrong input: an error that says what was expected and what came, no panic, and nothing written.

use sepconv::{
    Activation, BatchNorm, ChannelActivation, Conv2d, ConvDesc, Dense, DepthwiseConv2d, Error, Filter, Fusion,
    GlobalAveragePool, InvertedResidual, InvertedResidualDesc, Layer, Network, Padding, Plan, PlanOptions,
    PointwiseConv2d, Result, Schedule, Scratch, SeparableConv2d, Shape, Shortcut, View, ViewMut,
};
use sepconv_kernels::reference;
use sepconv_test_support::{CANARY, LEVELS, SCHEDULES, is_canary, threads};

/// Asserts the variant and the whole message of an error.
macro_rules! refuses {
    ($result:expr, $pattern:pat, $message:expr) => {{
        let message: &str = $message;
        let result: Result<()> = $result.map(drop);
        let error = result.expect_err(message);
        assert!(matches!(error, $pattern), "{error:?}");
        assert_eq!(error.to_string(), message);
    }};
}

const HUGE: usize = usize::MAX;

fn options() -> PlanOptions {
    PlanOptions::new()
}

/// Weights for any filter here.
static ONES: [f32; 4096] = [1.0; 4096];

fn hwio(sizes: [usize; 4]) -> ConvDesc<'static> {
    ConvDesc::new(Filter::hwio(&ONES[..sizes.iter().product()], sizes))
}

fn dw(sizes: [usize; 3]) -> ConvDesc<'static> {
    ConvDesc::new(Filter::depthwise_hwc(&ONES[..sizes.iter().product()], sizes))
}

fn io(sizes: [usize; 2]) -> ConvDesc<'static> {
    ConvDesc::new(Filter::io(&ONES[..sizes.iter().product()], sizes))
}

/// Every operator that is made from a description, given one that fits its kind of filter.
fn every_operator(change: impl Fn(ConvDesc<'static>) -> ConvDesc<'static>) -> Vec<(&'static str, Result<Layer>)> {
    let (standard, depthwise, point) = (change(hwio([3, 3, 4, 8])), change(dw([3, 3, 8])), change(io([8, 8])));
    let inverted = |expand: Option<ConvDesc<'static>>, depthwise, project| {
        let desc = InvertedResidualDesc::new(depthwise, project);
        InvertedResidual::new(match expand {
            Some(expand) => desc.expand(expand),
            None => desc,
        })
        .map(Layer::from)
    };
    vec![
        ("conv2d", Conv2d::new(standard).map(Layer::from)),
        ("depthwise", DepthwiseConv2d::new(depthwise).map(Layer::from)),
        ("pointwise", PointwiseConv2d::new(point).map(Layer::from)),
        ("dense", Dense::new(point).map(Layer::from)),
        ("separable, depthwise", SeparableConv2d::new(depthwise, io([8, 8])).map(Layer::from)),
        ("separable, pointwise", SeparableConv2d::new(dw([3, 3, 8]), point).map(Layer::from)),
        ("inverted, expand", inverted(Some(standard), dw([3, 3, 8]), io([8, 8]))),
        ("inverted, depthwise", inverted(None, depthwise, io([8, 8]))),
        ("inverted, project", inverted(None, dw([3, 3, 8]), point)),
    ]
}

/// The stage that errors about an operator of [`every_operator`] name.
fn stage_of(operator: &str) -> &str {
    match operator {
        "conv2d" => "convolution",
        _ => operator.rsplit(", ").next().unwrap(),
    }
}

#[test]
fn operators_of_these_tests_are_sound_where_nothing_is_changed() {
    for (operator, result) in every_operator(|desc| desc) {
        assert!(result.is_ok(), "{operator}: {:?}", result.unwrap_err());
    }
}

#[test]
fn shapes_of_zero_or_beyond_the_address_space() {
    let message = "shape 1×0×4×4: rows, columns and channels must be at least 1";
    refuses!(Shape::new(1, 0, 4, 4).len(), Error::ZeroSize { .. }, message);
    for shape in [Shape::new(1, 0, 1, 1), Shape::new(1, 1, 0, 1), Shape::new(1, 1, 1, 0), Shape::new(0, 0, 1, 1)] {
        let message = format!("shape {shape}: rows, columns and channels must be at least 1");
        refuses!(View::new(&[0.0; 0], shape), Error::ZeroSize { .. }, &message);
        refuses!(ViewMut::new(&mut [0.0; 0], shape), Error::ZeroSize { .. }, &message);
    }
    for shape in [
        Shape::new(HUGE, 1, 1, 1),
        Shape::new(1, HUGE, HUGE, 1),
        // a batch of none of what no memory holds
        Shape::new(0, HUGE, HUGE, 1),
        Shape::new(1, 1, HUGE, HUGE),
        Shape::new(HUGE, HUGE, HUGE, HUGE),
        // wraps to nothing
        Shape::new(1 << 32, 1 << 32, 1, 1),
        Shape::new(1, 1, 2, HUGE),
        // fits usize, but not in bytes
        Shape::new(1, 1, 1, HUGE / 8 + 1),
    ] {
        let message = format!("tensor of {shape}: its size overflows");
        refuses!(shape.len(), Error::TooLarge { .. }, &message);
        refuses!(View::new(&[0.0; 4], shape), Error::TooLarge { .. }, &message);
        refuses!(ViewMut::new(&mut [0.0; 4], shape), Error::TooLarge { .. }, &message);
    }
}

#[test]
fn views_that_are_too_short_or_whose_pixels_overlap() {
    let shape = Shape::new(1, 2, 3, 4);
    let mut data = [0.0; 23];
    refuses!(
        View::new(&data, shape),
        Error::Buffer { what: "input", .. },
        "input of 1×2×3×4 by strides of 24 (image), 12 (row), 4 (pixel) and 1 (channel): needs 24 values, the slice has 23"
    );
    refuses!(
        ViewMut::new(&mut data, shape),
        Error::Buffer { what: "output", .. },
        "output of 1×2×3×4 by strides of 24 (image), 12 (row), 4 (pixel) and 1 (channel): needs 24 values, the slice has 23"
    );
    // 5 pixels of 6, and 4 channels of the last one
    let mut data = [0.0; 33];
    refuses!(
        View::with_pixel_stride(&data, shape, 6),
        Error::Buffer { .. },
        "input of 1×2×3×4 by strides of 36 (image), 18 (row), 6 (pixel) and 1 (channel): needs 34 values, the slice has 33"
    );
    for stride in [0, 1, 3] {
        let message = format!("pixel stride: must be at least the 4 channels, got {stride}");
        refuses!(View::with_pixel_stride(&data, shape, stride), Error::PixelStride { .. }, &message);
        refuses!(ViewMut::with_pixel_stride(&mut data, shape, stride), Error::PixelStride { .. }, &message);
    }
    refuses!(
        View::with_pixel_stride(&data, shape, HUGE),
        Error::TooLarge { .. },
        "by its pixel stride, a tensor of 1×2×3×4: its size overflows"
    );
    assert!(View::with_pixel_stride(&[0.0; 34], shape, 6).is_ok());
}

#[test]
fn filters_of_a_wrong_length() {
    let v = &ONES;
    refuses!(
        DepthwiseConv2d::new(ConvDesc::new(Filter::depthwise_hwc(&v[..1290], [3, 3, 144]))),
        Error::Length { expected: 1296, got: 1290, .. },
        "depthwise filter 3×3×144 (depthwise HWC): expected 1296 values, got 1290"
    );
    for (filter, sizes, expected, got) in [
        (Filter::hwio(&v[..71], [3, 3, 2, 4]), "3×3×2×4 (HWIO)", 72, 71),
        (Filter::oihw(&v[..73], [4, 2, 3, 3]), "3×3×2×4 (OIHW)", 72, 73),
        (Filter::ohwi(&[], [4, 3, 3, 2]), "3×3×2×4 (OHWI)", 72, 0),
        (Filter::io(&v[..5], [2, 3]), "1×1×2×3 (HWIO)", 6, 5),
        (Filter::oi(&v[..7], [3, 2]), "1×1×2×3 (OIHW)", 6, 7),
        // sizes whose product overflows, or wraps to what was given
        (Filter::hwio(&v[..4], [HUGE, HUGE, HUGE, HUGE]), &*format!("{HUGE}×{HUGE}×{HUGE}×{HUGE} (HWIO)"), HUGE, 4),
        (Filter::hwio(&[], [1 << 32, 1 << 32, 1, 1]), "4294967296×4294967296×1×1 (HWIO)", HUGE, 0),
        (Filter::io(&v[..2], [HUGE, 2]), &*format!("1×1×{HUGE}×2 (HWIO)"), HUGE, 2),
    ] {
        let error = Conv2d::new(ConvDesc::new(filter)).unwrap_err();
        assert!(matches!(error, Error::Length { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.ends_with(&format!("filter {sizes}: expected {expected} values, got {got}")), "{message}");
    }
    for (filter, sizes, expected, got) in [
        (Filter::depthwise_hwcm(&v[..35], [3, 3, 2, 2]), "3×3×2×2 (depthwise HWCM)", 36, 35),
        (Filter::depthwise_c1hw(&v[..37], [2, 3, 3], 2), "3×3×2×2 (depthwise C1HW)", 36, 37),
        (Filter::depthwise_hwcm(&v[..4], [1, 1, HUGE, 4]), &*format!("1×1×{HUGE}×4 (depthwise HWCM)"), HUGE, 4),
    ] {
        let error = DepthwiseConv2d::new(ConvDesc::new(filter)).unwrap_err();
        assert!(matches!(error, Error::Length { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.ends_with(&format!("filter {sizes}: expected {expected} values, got {got}")), "{message}");
    }
    refuses!(
        Conv2d::new(ConvDesc::new(Filter::hwio(&[], [0, 3, 2, 2]))),
        Error::ZeroWindow { stage: "convolution", what: "kernel", .. },
        "convolution kernel: must be at least 1, got 0"
    );
    for filter in [Filter::hwio(&[], [3, 3, 0, 2]), Filter::oihw(&[], [0, 2, 3, 3])] {
        refuses!(
            Conv2d::new(ConvDesc::new(filter)),
            Error::ZeroWindow { .. },
            "convolution filter channels: must be at least 1, got 0"
        );
    }
    refuses!(
        DepthwiseConv2d::new(ConvDesc::new(Filter::depthwise_hwcm(&[], [3, 3, 2, 0]))),
        Error::ZeroWindow { .. },
        "depthwise filter channels: must be at least 1, got 0"
    );
}

#[test]
fn every_operator_refuses_vectors_of_a_wrong_length() {
    let good = &ONES[..8];
    let norm = BatchNorm { gamma: Some(good), beta: Some(good), mean: good, variance: good, epsilon: 1e-3 };
    for wrong in [&ONES[..0], &ONES[..7], &ONES[..9]] {
        let changes: [(&str, &dyn Fn(ConvDesc<'static>) -> ConvDesc<'static>); 5] = [
            ("bias", &|desc| desc.bias(wrong)),
            ("batch norm gamma", &|desc| desc.batch_norm(BatchNorm { gamma: Some(wrong), ..norm })),
            ("batch norm beta", &|desc| desc.batch_norm(BatchNorm { beta: Some(wrong), ..norm })),
            ("batch norm mean", &|desc| desc.batch_norm(BatchNorm { mean: wrong, ..norm })),
            ("batch norm variance", &|desc| desc.batch_norm(BatchNorm { variance: wrong, ..norm })),
        ];
        for (vector, change) in changes {
            for (operator, result) in every_operator(change) {
                let error = result.err().unwrap_or_else(|| panic!("{operator}: took a {vector} of {}", wrong.len()));
                assert!(matches!(error, Error::Length { expected: 8, .. }), "{operator}: {error:?}");
                let message = error.to_string();
                let end = format!("{vector}: expected 8 values, got {}", wrong.len());
                assert!(message.ends_with(&end), "{operator}: {message}");
            }
        }
    }
}

#[test]
fn every_operator_refuses_numbers_that_are_none() {
    let good = &ONES[..8];
    for epsilon in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-3] {
        let norm = BatchNorm { gamma: None, beta: None, mean: good, variance: good, epsilon };
        for (operator, result) in every_operator(|desc| desc.batch_norm(norm)) {
            let error = result.err().unwrap_or_else(|| panic!("{operator}: took an epsilon of {epsilon}"));
            assert!(matches!(error, Error::Value { .. }), "{operator}: {error:?}");
            let message = error.to_string();
            let end = format!("batch norm epsilon: expected a finite number, at least 0, got {epsilon}");
            assert!(message.ends_with(&end), "{operator}: {message}");
        }
    }
    for (min, max) in [(1.0, 0.0), (f32::NAN, 1.0), (0.0, f32::NAN), (f32::INFINITY, f32::NEG_INFINITY)] {
        for (operator, result) in every_operator(|desc| desc.activation(Activation::Clamp { min, max })) {
            let error = result.err().unwrap_or_else(|| panic!("{operator}: took a clamp to {min}…{max}"));
            assert!(matches!(error, Error::Value { .. }), "{operator}: {error:?}");
            let message = error.to_string();
            let stage = stage_of(operator);
            let expected = "expected bounds that are numbers, the lower not above the upper";
            assert_eq!(message, format!("{stage} activation: {expected}, got {min}…{max}"));
        }
    }
}

#[test]
fn every_operator_refuses_windows_of_zero_or_beyond_reason() {
    let zero: [(&str, &dyn Fn(ConvDesc<'static>) -> ConvDesc<'static>); 4] = [
        ("stride", &|desc| desc.stride(0)),
        ("stride", &|desc| desc.strides([1, 0])),
        ("dilation", &|desc| desc.dilation(0)),
        ("dilation", &|desc| desc.dilations([0, 1])),
    ];
    for (what, change) in zero {
        for (operator, result) in every_operator(change) {
            let error = result.err().unwrap_or_else(|| panic!("{operator}: took a {what} of 0"));
            // what must be a 1×1 convolution of stride 1 may say that in place of this
            if let Error::Value { .. } = &error {
                let message = error.to_string();
                assert!(
                    what == "stride" && message.contains("stride 1") && message.contains('0'),
                    "{operator}: {message}"
                );
                continue;
            }
            assert!(matches!(error, Error::ZeroWindow { what: w, .. } if w == what), "{operator}: {error:?}");
            let stage = stage_of(operator);
            assert_eq!(error.to_string(), format!("{stage} {what}: must be at least 1, got 0"));
        }
    }
    let side = |top, bottom, left, right| Padding::Explicit { top, bottom, left, right };
    let least = (1 << 30) + 1;
    for (what, got, desc) in [
        ("stride", HUGE, hwio([3, 3, 4, 8]).stride(HUGE)),
        ("stride", least, hwio([3, 3, 4, 8]).strides([1, least])),
        ("kernel reach", HUGE, hwio([3, 3, 4, 8]).dilation(HUGE)),
        ("kernel reach", (1 << 31) + 1, hwio([3, 3, 4, 8]).dilations([1, 1 << 30])),
        ("padding", HUGE, hwio([3, 3, 4, 8]).padding(Padding::all(HUGE))),
        ("padding", HUGE, hwio([3, 3, 4, 8]).padding(side(0, 0, 0, HUGE))),
    ] {
        let message = format!("convolution {what}: must be at most {}, got {got}", 1u64 << 30);
        refuses!(Conv2d::new(desc), Error::Window { .. }, &message);
    }
    // whatever the operator says of it, it neither panics nor takes it
    for padding in [Padding::all(HUGE), side(HUGE, 1, 0, 0), side(0, 0, HUGE, HUGE), side(0, HUGE, 0, 0)] {
        for (operator, result) in every_operator(|desc| desc.padding(padding)) {
            let error = result.err().unwrap_or_else(|| panic!("{operator}: took {padding:?}"));
            assert!(matches!(error, Error::Window { .. } | Error::Value { .. }), "{operator}: {error:?}");
        }
    }
}

#[test]
fn filters_of_another_kind() {
    let kind = |what: &str, result: Result<Layer>, expected: &str| {
        let error = result.err().unwrap_or_else(|| panic!("{what} was taken"));
        assert!(matches!(error, Error::FilterOrder { .. }), "{what}: {error:?}");
        let message = error.to_string();
        assert!(message.contains(": takes a filter of ") && message.contains(expected), "{what}: {message}");
    };
    let (standard, depthwise, point) = (hwio([3, 3, 8, 8]), dw([3, 3, 8]), io([8, 8]));
    let inverted = |expand, depthwise, project| {
        InvertedResidual::new(InvertedResidualDesc::new(depthwise, project).expand(expand)).map(Layer::from)
    };
    kind("conv2d of a depthwise filter", Conv2d::new(depthwise).map(Layer::from), "got depthwise HWC");
    let c1hw = ConvDesc::new(Filter::depthwise_c1hw(&ONES[..72], [8, 3, 3], 1));
    let hwcm = ConvDesc::new(Filter::depthwise_hwcm(&ONES[..144], [3, 3, 8, 2]));
    kind("conv2d of a depthwise filter", Conv2d::new(hwcm).map(Layer::from), "got depthwise HWCM");
    kind("conv2d of a depthwise filter", Conv2d::new(c1hw).map(Layer::from), "got depthwise C1HW");
    kind("depthwise of HWIO", DepthwiseConv2d::new(standard).map(Layer::from), "got HWIO");
    kind("pointwise of a depthwise filter", PointwiseConv2d::new(dw([1, 1, 8])).map(Layer::from), "got depthwise HWC");
    kind("dense of a depthwise filter", Dense::new(dw([1, 1, 8])).map(Layer::from), "got depthwise HWC");
    kind("separable of two depthwise", SeparableConv2d::new(depthwise, dw([1, 1, 8])).map(Layer::from), "HWC");
    kind("separable of two pointwise", SeparableConv2d::new(point, point).map(Layer::from), "HWIO");
    kind("separable the wrong way round", SeparableConv2d::new(point, depthwise).map(Layer::from), "got");
    kind("inverted, depthwise expand", inverted(depthwise, depthwise, point), "got depthwise HWC");
    kind("inverted, standard depthwise", inverted(point, standard, point), "got HWIO");
    kind("inverted, depthwise project", inverted(point, depthwise, dw([1, 1, 8])), "got depthwise HWC");
}

#[test]
fn windows_that_are_not_pointwise() {
    let padded = io([8, 8]).padding(Padding::all(1));
    for desc in [hwio([3, 3, 8, 8]), hwio([1, 2, 8, 8]), io([8, 8]).stride(2), io([8, 8]).strides([1, 2]), padded] {
        let results = [
            ("pointwise", PointwiseConv2d::new(desc).map(Layer::from)),
            ("dense", Dense::new(desc).map(Layer::from)),
            ("separable", SeparableConv2d::new(dw([3, 3, 8]), desc).map(Layer::from)),
            ("inverted", InvertedResidual::new(InvertedResidualDesc::new(dw([3, 3, 8]), desc)).map(Layer::from)),
        ];
        for (operator, result) in results {
            let error = result.err().unwrap_or_else(|| panic!("{operator} took {desc:?}"));
            assert!(matches!(error, Error::FilterOrder { .. } | Error::Value { .. }), "{operator}: {error:?}");
            let message = error.to_string();
            assert!(message.contains("1×1") && message.contains("got"), "{operator}: {message}");
        }
    }
    // what differs, and no more
    let expected = "expected a 1×1 kernel of stride 1 without padding";
    for (desc, got) in [
        (hwio([3, 3, 8, 8]), "a 3×3 kernel"),
        (io([8, 8]).strides([1, 2]), "stride 1×2"),
        (padded, "padding of 1 above, 1 below, 1 left and 1 right"),
        (hwio([1, 2, 8, 8]).stride(2), "a 1×2 kernel, stride 2×2"),
    ] {
        refuses!(PointwiseConv2d::new(desc), Error::Value { .. }, &format!("pointwise: {expected}, got {got}"));
    }
}

/// An error about channels, of these numbers.
fn assert_channels(what: &str, error: &Error, expected: usize, got: usize) {
    match error {
        Error::Channels { expected: e, got: g, .. } => assert_eq!((*e, *g), (expected, got), "{what}: {error}"),
        _ => panic!("{what}: {error:?}"),
    }
    let end = format!(": expected {expected} channels, got {got}");
    assert!(error.to_string().ends_with(&end), "{what}: {error}");
}

#[test]
fn stages_whose_channels_do_not_follow() {
    // expected is what the stage reads, got what the stage before it writes
    refuses!(
        SeparableConv2d::new(dw([3, 3, 8]), io([9, 4])),
        Error::Channels { what: "pointwise", expected: 9, got: 8, .. },
        "pointwise: expected 9 channels, got 8"
    );
    let inverted = |expand: [usize; 2], channels, project| {
        let desc = InvertedResidualDesc::new(dw([3, 3, channels]), io(project)).expand(io(expand));
        InvertedResidual::new(desc)
    };
    assert!(inverted([4, 8], 8, [8, 4]).is_ok());
    refuses!(
        inverted([4, 8], 9, [9, 4]),
        Error::Channels { what: "depthwise", expected: 9, got: 8, .. },
        "depthwise: expected 9 channels, got 8"
    );
    refuses!(
        inverted([4, 8], 8, [9, 4]),
        Error::Channels { what: "project", expected: 9, got: 8, .. },
        "project: expected 9 channels, got 8"
    );
    // a plan names the stage that the caller described
    refuses!(
        inverted([4, 8], 8, [8, 4]).unwrap().plan(Shape::new(1, 6, 6, 5), &options()),
        Error::Channels { what: "expand", expected: 4, got: 5, .. },
        "expand: expected 4 channels, got 5"
    );
    // a multiplier counts
    let many = ConvDesc::new(Filter::depthwise_hwcm(&ONES[..9 * 16], [3, 3, 8, 2]));
    assert!(SeparableConv2d::new(many, io([16, 4])).is_ok());
    assert!(matches!(SeparableConv2d::new(many, io([8, 4])), Err(Error::Channels { .. })));
}

#[test]
fn a_shortcut_is_added_where_it_was_asked_for_or_is_an_error() {
    let shape = Shape::new(1, 6, 7, 8);
    let run = |desc: InvertedResidualDesc<'_>, shape: Shape| {
        let plan = InvertedResidual::new(desc)?.plan(shape, &options())?;
        let mut output = vec![CANARY; plan.output_shape().len()?];
        let input = vec![1.0; shape.len()?];
        let to = ViewMut::new(&mut output, plan.output_shape())?;
        plan.run(View::new(&input, shape)?, to, &mut plan.scratch()?)?;
        Result::Ok(output[0])
    };
    let (taps, zeros) = ([1.0; 8], [0.0; 128]);
    let point = |stride| ConvDesc::new(Filter::depthwise_hwc(&taps, [1, 1, 8])).stride(stride);
    let to = |channels: usize| ConvDesc::new(Filter::io(&zeros[..8 * channels], [8, channels]));
    // what comes through the stages is 0, so the shortcut is all that there is
    let plain = InvertedResidualDesc::new(point(1), to(8));
    assert_eq!(run(plain, shape), Ok(0.0), "none unless it is asked for");
    assert_eq!(run(plain.shortcut(Shortcut::None), shape), Ok(0.0));
    assert_eq!(run(plain.shortcut(Shortcut::Required), shape), Ok(1.0));
    assert_eq!(run(plain.shortcut(Shortcut::IfShapesAllow), shape), Ok(1.0));

    let narrower = InvertedResidualDesc::new(point(1), to(7));
    refuses!(
        run(narrower.shortcut(Shortcut::Required), shape),
        Error::Channels { what: "shortcut", expected: 8, got: 7, .. },
        "shortcut: expected 8 channels, got 7"
    );
    assert_eq!(run(narrower.shortcut(Shortcut::IfShapesAllow), shape), Ok(0.0));
    // the channels that enter are those of the expansion
    let expanded = InvertedResidualDesc::new(point(1), to(8)).expand(io([4, 8])).shortcut(Shortcut::Required);
    refuses!(
        run(expanded, Shape { c: 4, ..shape }),
        Error::Channels { what: "shortcut", expected: 4, got: 8, .. },
        "shortcut: expected 4 channels, got 8"
    );

    // strides are refused whatever the plane, and also where they are the expansion's
    let strided = InvertedResidualDesc::new(point(2), to(8));
    let pixel = Shape { h: 1, w: 1, ..shape };
    let message = "shortcut: expected stages of stride 1, got 2×2";
    refuses!(run(strided.shortcut(Shortcut::Required), pixel), Error::Value { .. }, message);
    refuses!(
        run(plain.expand(hwio([3, 3, 8, 8]).stride(2)).shortcut(Shortcut::Required), pixel),
        Error::Value { .. },
        message
    );
    assert_eq!(run(strided.shortcut(Shortcut::IfShapesAllow), shape), Ok(0.0));
    assert_eq!(run(strided.shortcut(Shortcut::IfShapesAllow), pixel), Ok(1.0));

    // a window without padding leaves a smaller plane, which the plan finds, and a network as well
    let shrinking = InvertedResidualDesc::new(dw([3, 3, 8]).padding(Padding::Valid), to(8));
    let required = InvertedResidual::new(shrinking.shortcut(Shortcut::Required)).unwrap();
    let message = "shortcut: needs one shape at both ends, got 1×6×7×8 in and 1×4×5×8 out";
    refuses!(required.output_shape(shape), Error::Shortcut { .. }, message);
    for fusion in SCHEDULES {
        refuses!(required.plan(shape, &options().fusion(fusion)), Error::Shortcut { .. }, message);
    }
    assert_eq!(run(shrinking.shortcut(Shortcut::IfShapesAllow), shape), Ok(0.0));
}

type Planner = Box<dyn Fn(Shape, &PlanOptions) -> Result<Plan>>;

/// Plans of everything, with the channels that they take.
fn planners() -> Vec<(&'static str, usize, Planner)> {
    let conv = Conv2d::new(hwio([3, 3, 4, 8])).unwrap();
    let depthwise = DepthwiseConv2d::new(dw([3, 3, 8])).unwrap();
    let pointwise = PointwiseConv2d::new(io([8, 8])).unwrap();
    let separable = SeparableConv2d::new(dw([3, 3, 8]), io([8, 8])).unwrap();
    let block = InvertedResidualDesc::new(dw([3, 3, 8]), io([8, 8]));
    let bare = InvertedResidual::new(block.shortcut(Shortcut::Required)).unwrap();
    let expanded = InvertedResidual::new(block.expand(hwio([3, 3, 4, 8]))).unwrap();
    let average = GlobalAveragePool::new(8).unwrap();
    let network = Network::new(vec![conv.clone().into(), expanded_after().into(), average.clone().into()]).unwrap();
    vec![
        ("conv2d", 4, Box::new(move |shape, options| conv.plan(shape, options))),
        ("depthwise", 8, Box::new(move |shape, options| depthwise.plan(shape, options))),
        ("pointwise", 8, Box::new(move |shape, options| pointwise.plan(shape, options))),
        ("separable", 8, Box::new(move |shape, options| separable.plan(shape, options))),
        ("inverted", 8, Box::new(move |shape, options| bare.plan(shape, options))),
        ("inverted, expanded", 4, Box::new(move |shape, options| expanded.plan(shape, options))),
        ("average pool", 8, Box::new(move |shape, options| average.plan(shape, options))),
        ("network", 4, Box::new(move |shape, options| network.plan(shape, options))),
    ]
}

fn expanded_after() -> InvertedResidual {
    let desc = InvertedResidualDesc::new(dw([3, 3, 16]), io([16, 8])).expand(io([8, 16]));
    InvertedResidual::new(desc.shortcut(Shortcut::Required)).unwrap()
}

#[test]
fn no_plan_for_shapes_of_zero_overflow_or_other_channels() {
    for (operator, c, plan) in planners() {
        let plan = |shape, options: &PlanOptions| plan(shape, options).map_err(|error| error.without_layers().clone());
        for shape in [Shape::new(1, 0, 4, c), Shape::new(1, 4, 0, c), Shape::new(1, 4, 4, 0), Shape::new(0, 4, 0, c)] {
            let error = plan(shape, &options()).err().unwrap_or_else(|| panic!("{operator}: planned {shape}"));
            // no channel at all is also the wrong number of channels
            if shape.c == 0 && matches!(error, Error::Channels { .. }) {
                assert_channels(operator, &error, c, 0);
            } else {
                assert!(matches!(error, Error::ZeroSize { shape: s, .. } if s == shape), "{operator}: {error:?}");
            }
        }
        for shape in [
            Shape::new(HUGE, 4, 4, c),
            Shape::new(1, HUGE, 4, c),
            Shape::new(1, 4, HUGE, c),
            Shape::new(HUGE, HUGE, HUGE, c),
            Shape::new(1 << 32, 1 << 32, 4, c),
            Shape::new(1, HUGE - 1, 1, c),
            Shape::new(1, 1, HUGE / 2, c),
        ] {
            let error = plan(shape, &options()).err().unwrap_or_else(|| panic!("{operator}: planned {shape}"));
            assert!(matches!(error, Error::TooLarge { .. } | Error::Allocation { .. }), "{operator}: {error:?}");
        }
        for wrong in [1, c - 1, c + 1, 1000] {
            let error = plan(Shape::new(1, 4, 4, wrong), &options()).unwrap_err();
            assert_channels(operator, &error, c, wrong);
        }
        assert!(plan(Shape::new(1, 4, 4, c), &options()).is_ok(), "{operator}");
    }
    assert!(matches!(GlobalAveragePool::new(0), Err(Error::ZeroWindow { .. } | Error::ZeroSize { .. })));
}

#[test]
fn outputs_and_scratch_beyond_memory_are_errors_and_no_aborts() {
    // a tiny input whose padding makes a plane of 2³¹ × 2³¹
    let wide = hwio([1, 1, 1, 1]).padding(Padding::all(1 << 30));
    let error = Conv2d::new(wide).unwrap().plan(Shape::new(1, 1, 1, 1), &options()).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. } | Error::Allocation { .. }), "{error:?}");
    // an input that fits and an output that does not
    let many = Conv2d::new(hwio([1, 1, 1, 16])).unwrap();
    let error = many.plan(Shape::new(1, 1 << 30, 1 << 29, 1), &options()).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. } | Error::Allocation { .. }), "{error:?}");
    // tensors that fit the address space and no machine: whoever must hold a plane, or a row, of them says so
    for (operator, c, plan) in planners() {
        for shape in [Shape::new(1, 1 << 54, 4, c), Shape::new(1, 4, 1 << 54, c), Shape::new(1 << 27, 1 << 27, 1, c)] {
            for fusion in SCHEDULES {
                for count in [1, 3] {
                    let options = options().fusion(fusion).threads(threads(count)).max_threads(sepconv::MAX_THREADS);
                    let result = plan(shape, &options).and_then(|plan| plan.scratch());
                    let blocks = operator.starts_with("separable") || operator.starts_with("inverted");
                    match result.map_err(|error| error.without_layers().clone()) {
                        Err(
                            Error::TooLarge { .. }
                            | Error::Allocation { .. }
                            | Error::Scratch { .. }
                            | Error::Fusion(_),
                        ) => {}
                        Err(error) => panic!("{operator}, {shape}, {fusion:?}: {error:?}"),
                        Ok(_) if blocks && fusion == Fusion::Never => {
                            panic!("{operator}, {shape}: scratch for a tensor that no memory holds")
                        }
                        Ok(_) => {}
                    }
                }
            }
        }
    }
}

#[test]
fn scratch_is_in_proportion_to_the_tensors() {
    const MIB: usize = 1 << 20;
    let alone = DepthwiseConv2d::new(dw([3, 3, 1])).unwrap();
    // rows of one channel go by columns, and blocks of channels do not make them sixteen times as long
    let plan = alone.plan(Shape::new(1, 4, 1 << 27, 1), &options()).unwrap();
    assert!(plan.scratch_bytes() < MIB, "{}", plan.explain());
    // one pixel in, one pixel out, and a window that reaches over a plane of padding between its taps
    // more taps than are read in place on any instruction set
    let apart = dw([5, 5, 1]).dilation(1 << 24).padding(Padding::all(1 << 25));
    let error = DepthwiseConv2d::new(apart).unwrap().plan(Shape::new(1, 1, 1, 1), &options()).unwrap_err();
    assert!(matches!(error, Error::Scratch { bytes, limit, .. } if bytes > limit && limit < 65 * MIB), "{error:?}");
    assert!(error.to_string().starts_with("depthwise: would take "), "{error}");
    let apart = hwio([3, 3, 1, 1]).dilations([1 << 25, 1]).padding(Padding::all(1 << 25)).strides([1, 1 << 25]);
    // a standard convolution gathers such taps
    let plan = Conv2d::new(apart).unwrap().plan(Shape::new(1, 1, 1, 1), &options()).unwrap();
    assert!(plan.scratch_bytes() < MIB, "{}", plan.explain());

    // found by fuzzing: the rows that two groups share, times their length, overflowed
    let tall = dw([2, 1, 1]).dilations([(1 << 30) - 1, 1]).padding(Padding::Valid);
    let block = SeparableConv2d::new(tall, io([1, 1])).unwrap();
    match block.plan(Shape::new(1, 1 << 30, (1 << 31) - 1, 1), &options()) {
        Err(Error::Scratch { .. } | Error::TooLarge { .. } | Error::Allocation { .. }) => {}
        // where a channel fills a vector, rows are read in place
        Ok(plan) => assert!(plan.scratch_bytes() < 1024 * MIB, "{}", plan.explain()),
        Err(error) => panic!("{error:?}"),
    }

    // long rows of many channels go by some columns at a time, fused too
    let long = Shape::new(1, 1, 1 << 20, 512);
    let (taps, matrix) = (vec![1.0; 9 * 512], vec![1.0; 512 * 512]);
    let depthwise = ConvDesc::new(Filter::depthwise_hwc(&taps, [3, 3, 512]));
    let plan = DepthwiseConv2d::new(depthwise).unwrap().plan(long, &options()).unwrap();
    assert!(plan.scratch_bytes() < 129 * MIB, "{}", plan.explain());
    let block = SeparableConv2d::new(depthwise, ConvDesc::new(Filter::io(&matrix, [512, 512]))).unwrap();
    let plan = block.plan(long, &options()).unwrap();
    let explained = plan.explain();
    assert!(explained.stages.iter().all(|s| s.fused) && plan.scratch_bytes() < 129 * MIB, "{explained}");
    // slabs of channels go over all rows, and their sums rest in memory
    let error = block.plan(long, &options().fusion(Fusion::Require(Schedule::ChannelSlabs))).unwrap_err();
    assert!(matches!(error, Error::Scratch { .. }), "{error:?}");
}

#[test]
fn the_dilation_of_a_kernel_of_one_tap_does_not_matter() {
    // found by fuzzing: offsets of taps that are not there overflowed
    let shape = Shape::new(1, 3, 3, 8);
    let x = [1.5; 72];
    for dilations in [[usize::MAX, usize::MAX], [1, usize::MAX / 2], [1 << 62, 1]] {
        let far = |desc: ConvDesc<'static>| desc.dilations(dilations);
        let rows = dilations[1] == 1;
        let plans = [
            DepthwiseConv2d::new(far(dw([1, 1, 8]))).unwrap().plan(shape, &options()).unwrap(),
            DepthwiseConv2d::new(far(dw(if rows { [1, 3, 8] } else { [1, 1, 8] })))
                .unwrap()
                .plan(shape, &options())
                .unwrap(),
            Conv2d::new(far(hwio([1, 1, 8, 4]))).unwrap().plan(shape, &options()).unwrap(),
            PointwiseConv2d::new(far(io([8, 4]))).unwrap().plan(shape, &options()).unwrap(),
        ];
        for plan in plans {
            let mut output = vec![CANARY; plan.output_shape().len().unwrap()];
            let to = ViewMut::new(&mut output, plan.output_shape()).unwrap();
            plan.run(View::new(&x, shape).unwrap(), to, &mut plan.scratch().unwrap()).unwrap();
            assert!(output.iter().all(|v| *v >= 1.5), "{}", plan.explain());
        }
    }
    for desc in [dw([1, 1, 8]).dilation(0), dw([1, 3, 8]).dilations([0, 1])] {
        refuses!(
            DepthwiseConv2d::new(desc),
            Error::ZeroWindow { what: "dilation", .. },
            "depthwise dilation: must be at least 1, got 0"
        );
    }
}

#[test]
fn rows_too_long_for_a_cache_have_the_same_bits() {
    // 3 rows of 88 channels are 36 MiB
    let (shape, c) = (Shape::new(1, 3, 1 << 15, 88), 88);
    let value = |i: usize| (i as u32).wrapping_mul(0x9e37_79b9) as f32 / (1u64 << 31) as f32 - 1.0;
    let x: Vec<f32> = (0..shape.len().unwrap()).map(value).collect();
    let [taps, bias]: [Vec<f32>; 2] = [9 * c, c].map(|len| (0..len).map(|i| value(7 * i)).collect());
    let desc = ConvDesc::new(Filter::depthwise_hwc(&taps, [3, 3, c])).bias(&bias);
    let plan = DepthwiseConv2d::new(desc).unwrap().plan(shape, &options()).unwrap();
    let schedule = plan.explain().stages[0].schedule.clone().unwrap();
    assert!(schedule.contains(" columns at a time"), "{schedule}");
    let mut output = vec![0.0; x.len()];
    let to = ViewMut::new(&mut output, shape).unwrap();
    plan.run(View::new(&x, shape).unwrap(), to, &mut plan.scratch().unwrap()).unwrap();
    let mut expected = vec![0.0; x.len()];
    let conv = reference::Conv {
        window: reference::Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], before: [1, 1] },
        filter: &taps,
        bias: &bias,
        epilogue: sepconv_kernels::Epilogue::NONE,
        params: &[],
    };
    let dims = [1, 3, 1 << 15, c];
    let of = reference::Tensor { data: &x, shape: dims, pixel_stride: c };
    let to = reference::TensorMut { data: &mut expected, shape: dims, pixel_stride: c };
    reference::depthwise(&conv, of, to, plan.arithmetic());
    let same = output.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
    assert!(same, "{}", plan.explain());
}

#[test]
fn no_plan_for_an_input_smaller_than_the_kernel() {
    let valid = |desc: ConvDesc<'static>| desc.padding(Padding::Valid);
    let conv = Conv2d::new(valid(hwio([3, 5, 4, 8]))).unwrap();
    refuses!(
        conv.plan(Shape::new(1, 2, 9, 4), &options()),
        Error::InputTooSmall { axis: "rows", expected: 3, got: 2, .. },
        "convolution: the kernel reaches over 3 rows, the padded input has 2"
    );
    refuses!(
        conv.plan(Shape::new(1, 9, 4, 4), &options()),
        Error::InputTooSmall { axis: "columns", expected: 5, got: 4, .. },
        "convolution: the kernel reaches over 5 columns, the padded input has 4"
    );
    assert_eq!(conv.output_shape(Shape::new(1, 3, 5, 4)).unwrap(), Shape::new(1, 1, 1, 8));
    refuses!(
        conv.output_shape(Shape::new(1, 2, 9, 4)),
        Error::InputTooSmall { .. },
        "convolution: the kernel reaches over 3 rows, the padded input has 2"
    );
    let dilated = DepthwiseConv2d::new(valid(dw([3, 3, 8])).dilation(3)).unwrap();
    refuses!(
        dilated.plan(Shape::new(1, 7, 6, 8), &options()),
        Error::InputTooSmall { axis: "columns", expected: 7, got: 6, .. },
        "depthwise: the kernel reaches over 7 columns, the padded input has 6"
    );
    let padded = DepthwiseConv2d::new(dw([7, 7, 8]).padding(Padding::all(1))).unwrap();
    refuses!(
        padded.plan(Shape::new(1, 4, 5, 8), &options()),
        Error::InputTooSmall { axis: "rows", expected: 7, got: 6, .. },
        "depthwise: the kernel reaches over 7 rows, the padded input has 6"
    );
    // inside a block the plane of the stage before counts: 5 pixels, of which the stem leaves 2
    let stem = valid(hwio([3, 3, 4, 8])).stride(2);
    let block =
        InvertedResidual::new(InvertedResidualDesc::new(valid(dw([3, 3, 8])), io([8, 4])).expand(stem)).unwrap();
    for fusion in SCHEDULES {
        refuses!(
            block.plan(Shape::new(1, 5, 5, 4), &options().fusion(fusion)),
            Error::InputTooSmall { stage: "depthwise", expected: 3, got: 2, .. },
            "depthwise: the kernel reaches over 3 rows, the padded input has 2"
        );
    }
    let separable = SeparableConv2d::new(valid(dw([3, 3, 8])), io([8, 4])).unwrap();
    refuses!(
        separable.plan(Shape::new(1, 1, 5, 8), &options()),
        Error::InputTooSmall { .. },
        "depthwise: the kernel reaches over 3 rows, the padded input has 1"
    );
}

#[test]
fn a_dense_layer_takes_planes_of_its_channels() {
    let dense = Dense::new(io([8, 5])).unwrap();
    assert_eq!(dense.output_shape(Shape::new(3, 1, 1, 8)).unwrap(), Shape::new(3, 1, 1, 5));
    assert_eq!(dense.output_shape(Shape::new(3, 2, 7, 8)).unwrap(), Shape::new(3, 2, 7, 5));
    assert_channels("dense", &dense.plan(Shape::new(1, 1, 1, 9), &options()).unwrap_err(), 8, 9);
}

/// An error about a tensor of another shape than the one that was planned for.
fn assert_shapes(operator: &str, error: &Error, tensor: &str, shapes: [Shape; 2]) {
    match error {
        Error::ShapeMismatch { what, expected, got, .. } => {
            assert_eq!((*what, [*expected, *got]), (tensor, shapes), "{operator}");
        }
        other => panic!("{operator}: {other:?}"),
    }
}

#[test]
fn a_run_on_wrong_buffers_writes_nothing() {
    for (operator, c, planner) in planners() {
        for &level in LEVELS.iter() {
            let shape = Shape::new(2, 6, 5, c);
            let plan = planner(shape, &level.options()).unwrap();
            let mut scratch = plan.scratch().unwrap();
            let out_shape = plan.output_shape();
            // room for every shape below
            let x = vec![1.0; 4096];
            let mut out = vec![CANARY; 4096];

            for wrong in [
                Shape { n: 1, ..shape },
                Shape { h: 5, w: 6, ..shape },
                Shape { c: c + 1, ..shape },
                Shape { n: 3, ..shape },
                Shape { n: 1, h: 2 * shape.h, ..shape },
            ] {
                let to = ViewMut::new(&mut out, out_shape).unwrap();
                let error = plan.run(View::new(&x, wrong).unwrap(), to, &mut scratch).unwrap_err();
                assert_shapes(operator, &error, "input", [shape, wrong]);
                assert_eq!(error.to_string(), format!("input: the plan is for {shape}, got {wrong}"));
            }
            for wrong in [
                Shape { n: 1, ..out_shape },
                Shape { n: 3, ..out_shape },
                Shape { h: out_shape.h + 1, ..out_shape },
                Shape { w: out_shape.w + 1, ..out_shape },
                Shape { c: out_shape.c - 1, ..out_shape },
                Shape { c: out_shape.c + 1, ..out_shape },
            ] {
                let to = ViewMut::new(&mut out, wrong).unwrap();
                let error = plan.run(View::new(&x, shape).unwrap(), to, &mut scratch).unwrap_err();
                assert_shapes(operator, &error, "output", [out_shape, wrong]);
                assert_eq!(error.to_string(), format!("output: the plan is for {out_shape}, got {wrong}"));
            }
            // scratch of no plan, and memory that has all bytes but one
            let expected = plan.scratch_bytes();
            let mut memory = vec![0; expected + Plan::SCRATCH_ALIGNMENT - 1];
            let first = memory.as_ptr().align_offset(Plan::SCRATCH_ALIGNMENT);
            let mut refused = Vec::new();
            if expected > 0 {
                let to = ViewMut::new(&mut out, out_shape).unwrap();
                refused.push((0, plan.run(View::new(&x, shape).unwrap(), to, &mut Scratch::new())));
                let (to, short) = (ViewMut::new(&mut out, out_shape).unwrap(), &mut memory[..first + expected - 1]);
                refused.push((expected - 1, plan.run_in(View::new(&x, shape).unwrap(), to, short)));
            }
            for (bytes, result) in refused {
                let error = result.unwrap_err();
                let Error::SmallScratch { expected: e, got, .. } = error else { panic!("{operator}: {error:?}") };
                assert_eq!((e, got), (expected, bytes), "{operator}");
            }
            assert!(out.iter().all(|&v| is_canary(v)), "{operator}: something was written");

            // and after all that the plan runs, in memory of either kind
            let to = ViewMut::new(&mut out, out_shape).unwrap();
            plan.run_in(View::new(&x, shape).unwrap(), to, &mut memory).unwrap();
            let to = ViewMut::new(&mut out, out_shape).unwrap();
            plan.run(View::new(&x, shape).unwrap(), to, &mut scratch).unwrap();
            let len = out_shape.len().unwrap();
            assert!(
                out[..len].iter().all(|&v| !is_canary(v)) && out[len..].iter().all(|&v| is_canary(v)),
                "{operator}"
            );
        }
    }
}

#[test]
fn networks_that_do_not_hold_together() {
    let empty = Network::new(vec![]).unwrap_err();
    assert!(matches!(empty, Error::Network(_)), "{empty:?}");
    assert!(empty.to_string().starts_with("network: "), "{empty}");

    // every kind of layer behind one that gives it a channel too few
    let many = ConvDesc::new(Filter::depthwise_hwcm(&ONES[..9 * 12], [3, 3, 6, 2]));
    let inverted = InvertedResidualDesc::new(dw([3, 3, 12]), io([12, 5]));
    let layers: Vec<(&str, usize, Layer)> = vec![
        ("convolution", 6, Conv2d::new(hwio([3, 3, 6, 5])).unwrap().into()),
        ("depthwise convolution", 6, DepthwiseConv2d::new(many).unwrap().into()),
        ("pointwise convolution", 6, PointwiseConv2d::new(io([6, 5])).unwrap().into()),
        ("separable convolution", 6, SeparableConv2d::new(many, io([12, 5])).unwrap().into()),
        ("inverted residual", 12, InvertedResidual::new(inverted).unwrap().into()),
        ("inverted residual", 6, InvertedResidual::new(inverted.expand(io([6, 12]))).unwrap().into()),
        ("global average pool", 6, GlobalAveragePool::new(6).unwrap().into()),
        ("dense layer", 6, Dense::new(io([6, 5])).unwrap().into()),
    ];
    let point = |channels: [usize; 2]| Layer::from(PointwiseConv2d::new(io(channels)).unwrap());
    for (kind, inputs, layer) in layers {
        assert!(Network::new(vec![point([4, 4]), point([4, inputs]), layer.clone()]).is_ok(), "{kind}");
        let outputs = layer_outputs(&layer, inputs);
        assert!(Network::new(vec![layer.clone(), point([outputs, 1])]).is_ok(), "{kind}");
        let few = inputs - 1;
        refuses!(
            Network::new(vec![point([4, 4]), point([4, few]), layer.clone(), point([outputs, 1])]),
            Error::Layer { index: 2, .. },
            &format!("layer 2 ({kind}): input: expected {inputs} channels, got {few}")
        );
        refuses!(
            Network::new(vec![layer, point([outputs + 1, 1])]),
            Error::Layer { index: 1, kind: "pointwise convolution", .. },
            &format!("layer 1 (pointwise convolution): input: expected {} channels, got {outputs}", outputs + 1)
        );
    }
}

/// The channels that a layer writes.
fn layer_outputs(layer: &Layer, inputs: usize) -> usize {
    Network::new(vec![layer.clone()]).unwrap().output_shape(Shape::new(1, 4, 4, inputs)).unwrap().c
}

#[test]
fn errors_of_a_network_name_the_layer() {
    let options = &options();
    // the third layer finds nothing left of the plane
    let shrinking = || Layer::from(DepthwiseConv2d::new(dw([3, 3, 8]).padding(Padding::Valid)).unwrap());
    let network = Network::new(vec![shrinking(), shrinking(), shrinking()]).unwrap();
    let message = "layer 2 (depthwise convolution): depthwise: the kernel reaches over 3 rows, the padded input has 2";
    let error = network.plan(Shape::new(1, 6, 7, 8), options).unwrap_err();
    assert!(matches!(error.without_layers(), Error::InputTooSmall { axis: "rows", expected: 3, got: 2, .. }));
    refuses!(network.plan(Shape::new(1, 6, 7, 8), options), Error::Layer { index: 2, .. }, message);
    refuses!(network.output_shape(Shape::new(1, 6, 7, 8)), Error::Layer { index: 2, .. }, message);
    assert!(network.plan(Shape::new(1, 7, 7, 8), options).is_ok());
    // what comes in from outside is the first layer's
    refuses!(
        network.plan(Shape::new(1, 7, 7, 9), options),
        Error::Layer { index: 0, .. },
        "layer 0 (depthwise convolution): depthwise: expected 8 channels, got 9"
    );
    refuses!(
        network.plan(Shape::new(1, 7, 0, 8), options),
        Error::Layer { index: 0, .. },
        "layer 0 (depthwise convolution): shape 1×7×0×8: rows, columns and channels must be at least 1"
    );

    // a shortcut that is required, and that the plane forbids
    let identity = Layer::from(PointwiseConv2d::new(io([8, 8])).unwrap());
    let block = InvertedResidualDesc::new(dw([3, 3, 8]).padding(Padding::Valid), io([8, 8]));
    let block = InvertedResidual::new(block.shortcut(Shortcut::Required)).unwrap();
    refuses!(
        Network::new(vec![identity.clone(), block.into()]).unwrap().plan(Shape::new(1, 5, 5, 8), options),
        Error::Layer { index: 1, kind: "inverted residual", .. },
        "layer 1 (inverted residual): shortcut: needs one shape at both ends, got 1×5×5×8 in and 1×3×3×8 out"
    );

    // scratch that only the plan knows of
    let far = dw([3, 3, 8]).dilation(1 << 24).padding(Padding::all(1 << 24));
    let far = Layer::from(DepthwiseConv2d::new(far).unwrap());
    let network = Network::new(vec![identity.clone(), far, identity]).unwrap();
    for fusion in [Fusion::Auto, Fusion::Never] {
        let error = network.plan(Shape::new(1, 1, 1, 8), &options.clone().fusion(fusion)).unwrap_err();
        assert!(matches!(error, Error::Layer { index: 1, kind: "depthwise convolution", .. }), "{error:?}");
        assert!(matches!(error.without_layers(), Error::Scratch { stage: "depthwise", .. }), "{error:?}");
        let message = "layer 1 (depthwise convolution): depthwise: would take ";
        assert!(error.to_string().starts_with(message), "{error}");
    }
    // what is no layer's comes as it is
    let network = Network::new(vec![shrinking()]).unwrap();
    let required = options.clone().fusion(Fusion::Require(Schedule::RowRing));
    let error = network.plan(Shape::new(1, 7, 7, 8), &required).unwrap_err();
    assert!(matches!(error, Error::Fusion(_)), "{error:?}");
}

#[test]
fn a_batch_norm_that_divides_by_zero() {
    let good = &[0.5f32; 8][..];
    for (variance, epsilon, got) in [(0.0, 0.0, "0 + 0"), (-1.0, 1e-3, "-1 + 0.001")] {
        let variance = &[0.5, 0.5, variance, 0.5, 0.5, 0.5, 0.5, 0.5][..];
        let norm = BatchNorm { gamma: Some(good), beta: Some(good), mean: good, variance, epsilon };
        let error = PointwiseConv2d::new(io([4, 8]).batch_norm(norm)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("pointwise batch norm variance: expected variance + epsilon above 0, got {got}")
        );
    }
}

fn prelu(slopes: &[f32]) -> ChannelActivation<'_> {
    ChannelActivation::PRelu { slopes }
}

#[test]
fn activations_by_channel_that_are_wrong_are_told() {
    fn clamp<'a>(min: &'a [f32], max: &'a [f32]) -> ChannelActivation<'a> {
        ChannelActivation::Clamp { min, max }
    }

    let weights = [0.5; 9 * 4];
    let depthwise = ConvDesc::new(Filter::depthwise_hwc(&weights, [3, 3, 4]));
    // of a convolution, and of a sum, which learns its channels from the parameters
    let told = |activation: ChannelActivation<'_>, expected: &str, of_sum: &str| {
        let error = DepthwiseConv2d::new(depthwise.activation_by_channel(activation)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let mut graph = Network::builder();
        let x = graph.input(4);
        let error = graph.add_by_channel(x, x, activation).unwrap_err().to_string();
        assert!(error.contains(of_sum), "{error}");
    };
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    told(prelu(&[]), "slopes", "at least one channel");
    told(prelu(&[0.5; 3]), "depthwise slopes", "expected 3 channels, got 4");
    told(prelu(&[0.5; 5]), "depthwise slopes", "expected 5 channels, got 4");
    told(
        prelu(&[0.5, 0.5, nan, 0.5]),
        "activation of channel 2: expected a finite slope, got NaN",
        "sum activation of channel 2",
    );
    told(prelu(&[inf; 4]), "activation of channel 0: expected a finite slope, got inf", "sum activation of channel 0");
    told(clamp(&[0.0; 3], &[1.0; 4]), "lower bounds", "sum upper bounds");
    told(clamp(&[0.0; 4], &[1.0; 5]), "upper bounds", "sum upper bounds");
    told(clamp(&[0.0, 0.0, 0.0, 1.0], &[1.0, 1.0, 1.0, 0.5]), "activation of channel 3", "sum activation of channel 3");
    told(clamp(&[0.0, nan, 0.0, 1.0], &[1.0; 4]), "activation of channel 1", "sum activation of channel 1");
    told(clamp(&[-inf; 4], &[1.0, nan, 1.0, 1.0]), "activation of channel 1", "sum activation of channel 1");
    // any finite slope, and any bounds that are in their order
    for slopes in [[f32::MAX, -0.0, 0.0, 1e-45], [f32::MIN, 1.0, 0.0, -1.0]] {
        DepthwiseConv2d::new(depthwise.activation_by_channel(prelu(&slopes))).unwrap();
    }
    DepthwiseConv2d::new(depthwise.activation_by_channel(clamp(&[-inf, inf, -0.0, -inf], &[inf, inf, 0.0, -inf])))
        .unwrap();
    // parameters of all groups
    let grouped = ConvDesc::new(Filter::hwio(&weights[..12], [1, 1, 2, 6])).groups(3);
    Conv2d::new(grouped.activation_by_channel(prelu(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))).unwrap();
    Conv2d::new(grouped.activation_by_channel(prelu(&[0.1, 0.2]))).unwrap_err();
    // the last call counts
    DepthwiseConv2d::new(depthwise.activation_by_channel(prelu(&[nan; 4])).activation(Activation::Relu)).unwrap();
    let replaced = depthwise.activation(Activation::LeakyRelu { slope: nan });
    DepthwiseConv2d::new(replaced.activation_by_channel(prelu(&[0.5; 4]))).unwrap();
    // of tensors of other channels
    for slopes in [vec![0.5; 3], vec![0.1, 0.2, 0.3]] {
        let mut graph = Network::builder();
        let x = graph.input(4);
        let error = graph.add_by_channel(x, x, prelu(&slopes)).unwrap_err().to_string();
        assert!(error.contains("expected 3 channels, got 4"), "{error}");
    }
}

#[test]
fn channels_that_are_alike_end_as_any_activation() {
    let shape = Shape::new(1, 6, 7, 20);
    let (weights, x) = ([0.25; 9 * 20], vec![-1.5; 6 * 7 * 20]);
    let run = |desc: ConvDesc<'_>| {
        let plan = DepthwiseConv2d::new(desc).unwrap().plan(shape, &PlanOptions::new()).unwrap();
        let mut out = vec![0.0; x.len()];
        let to = ViewMut::new(&mut out, shape).unwrap();
        plan.run(View::new(&x, shape).unwrap(), to, &mut plan.scratch().unwrap()).unwrap();
        let explain = plan.explain();
        let activations = explain.stages[0].activations.clone();
        assert!(activations.iter().all(|name| explain.to_string().contains(name)), "{explain}");
        (explain.stages[0].bytes, activations, out)
    };
    let desc = ConvDesc::new(Filter::depthwise_hwc(&weights, [3, 3, 20]));
    let (bytes, leaky, out) = run(desc.activation(Activation::LeakyRelu { slope: 0.5 }));
    let prelu = run(desc.activation_by_channel(ChannelActivation::PRelu { slopes: &[0.5; 20] }));
    assert_eq!(leaky, ["LeakyReLU"]);
    assert_eq!(prelu, (bytes, leaky, out));
    let mut slopes = [0.0; 20];
    slopes[19] = -0.0;
    // zeros of both signs are two slopes, packed for the 80 lanes of flat rows
    let (more, names, out) = run(desc.activation_by_channel(ChannelActivation::PRelu { slopes: &slopes }));
    assert_eq!(more - bytes, 5 * 32 * 4);
    assert_eq!(names, ["PReLU"]);
    assert!(out.chunks(20).all(|pixel| pixel[18].is_sign_negative() && pixel[19].is_sign_positive()));
    let (min, max) = ([-0.25; 20], [f32::INFINITY; 20]);
    let clamp = run(desc.activation_by_channel(ChannelActivation::Clamp { min: &min, max: &max }));
    assert_eq!(clamp, run(desc.activation(Activation::Clamp { min: -0.25, max: f32::INFINITY })));
}
