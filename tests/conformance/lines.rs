// Printed by the test that includes it: SEPCONV_BLESS=1 cargo test --test conformance
lines! { kernel =>
    TapsFlipped: Check::bounded().case(&Case::new(Shape::new(1, 3, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid)), kernel);
    ColumnsFirst: Check::bits(Arithmetic::Fused).case(&Case::new(Shape::new(1, 5, 5, 1)).conv2d(ConvCase::standard([5, 5], 1).strides([2, 2]).padding(Padding::Valid)).seed(2711), kernel);
    PaddingOffByOne: Check::bounded().case(&Case::new(Shape::new(1, 3, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid)), kernel);
    OddPixelFirst: Check::bounded().case(&Case::new(Shape::new(1, 1, 32, 1)).depthwise(ConvCase::depthwise([3, 3]).strides([2, 2])), kernel);
    PaddingSkipped: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).depthwise(ConvCase::depthwise([3, 3]).values(Values::Infinite)), kernel);
    StridesSwapped: Check::bounded().case(&Case::new(Shape::new(1, 3, 5, 1)).conv2d(ConvCase::standard([3, 3], 1).strides([1, 2]).padding(Padding::Valid).activation(Activation::HardSwish)), kernel);
    DilationIgnored: Check::bounded().case(&Case::new(Shape::new(1, 3, 5, 1)).depthwise(ConvCase::depthwise([3, 3]).dilations([1, 2]).padding(Padding::Valid)), kernel);
    ClampEatsNan: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).pointwise(ConvCase::pointwise(1)).values(Values::Nan), kernel);
    UpperBoundForgotten: Check::bounded().case(&Case::new(Shape::new(1, 9, 6, 3)).conv2d(ConvCase::standard([2, 6], 1).padding(Padding::all(0)).activation(Activation::Relu6).batch_norm(NormCase::new(0.001).beta(false)).values(Values::Special).seed(43521)), kernel);
    ShortcutAfterClamp: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).inverted_residual(None, ConvCase::depthwise([3, 3]), ConvCase::pointwise(1).activation(Activation::Relu), true).seed(408), kernel);
    ShortcutForgotten: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).inverted_residual(None, ConvCase::depthwise([3, 3]), ConvCase::pointwise(1), true), kernel);
    TailDropped: Check::bounded().case(&Case::new(Shape::new(1, 9, 1, 1)).pointwise(ConvCase::pointwise(15)), kernel);
    StaleScratch: Check::bounded().case(&Case::new(Shape::new(1, 3, 3, 1)).separable(ConvCase::depthwise([3, 3]).padding(Padding::Valid), ConvCase::pointwise(1)), kernel);
    EpsilonForgotten: Check::bounded().case(&Case::new(Shape::new(1, 3, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid).batch_norm(NormCase::new(0.001).gamma(false).beta(false))), kernel);
    FoldedInSingle: Check::bits(Arithmetic::Fused).case(&Case::new(Shape::new(1, 1, 1, 1)).pointwise(ConvCase::pointwise(15).batch_norm(NormCase::new(0.001).gamma(false).beta(false))).values(Values::Huge), kernel);
    BiasForgotten: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).dense(ConvCase::pointwise(3).batch_norm(NormCase::new(0.001).gamma(false).beta(false))), kernel);
    BatchOffset: Check::bounded().case(&Case::new(Shape::new(2, 3, 3, 1)).conv2d(ConvCase::standard([3, 3], 1).padding(Padding::Valid)), kernel);
    MultiplierTransposed: Check::bounded().case(&Case::new(Shape::new(1, 3, 3, 2)).depthwise(ConvCase::depthwise([3, 3]).multiplier(2).strides([2, 2]).padding(Padding::Valid)), kernel);
    RoundedTwice: Check::bits(Arithmetic::Fused).case(&Case::new(Shape::new(1, 3, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid)).seed(3635), kernel);
    ShortOperands: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).pointwise(ConvCase::pointwise(1)), kernel);
    DenormalsFlushed: Check::bounded().case(&Case::new(Shape::new(1, 3, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid).values(Values::Denormal)), kernel);
    InputGapIgnored: Check::bounded().case(&Case::new(Shape::new(1, 1, 2, 1)).pointwise(ConvCase::pointwise(1)).gaps(1, 0), kernel);
    OutputGapWritten: Check::bounded().case(&Case::new(Shape::new(1, 1, 2, 1)).pointwise(ConvCase::pointwise(1)).gaps(0, 1), kernel);
    InputGapIgnored: Check::bounded().layout(Layout::Nchw).case(&Case::new(Shape::new(1, 3, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid)).gaps(1, 0), kernel);
    OutputGapWritten: Check::bounded().layout(Layout::Nchw).case(&Case::new(Shape::new(1, 4, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid)).gaps(0, 1), kernel);
    LastPixelUnwritten: Check::bounded().case(&Case::new(Shape::new(1, 3, 4, 1)).separable(ConvCase::depthwise([3, 3]).padding(Padding::Valid), ConvCase::pointwise(1)), kernel);
    Reciprocal: Check::bits(Arithmetic::Fused).case(&Case::new(Shape::new(1, 1, 5, 1)).average_pool().values(Values::Huge).seed(24100), kernel);
}
