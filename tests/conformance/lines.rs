// Printed by the test that includes it: SEPCONV_BLESS=1 cargo test --test conformance
lines! { kernel =>
    TapsFlipped: Check::bounded().case(&Case::new(Shape::new(1, 3, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid)), kernel);
    ColumnsFirst: Check::bits(Arithmetic::Fused).case(&Case::new(Shape::new(1, 3, 3, 1)).conv2d(ConvCase::standard([3, 3], 1).padding(Padding::Valid)).values(Values::Tiny).seed(23304), kernel);
    PaddingOffByOne: Check::bounded().case(&Case::new(Shape::new(1, 3, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid)), kernel);
    OddPixelFirst: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).depthwise(ConvCase::depthwise([1, 2])), kernel);
    PaddingSkipped: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).depthwise(ConvCase::depthwise([5, 5]).values(Values::Infinite)), kernel);
    StridesSwapped: Check::bounded().case(&Case::new(Shape::new(1, 3, 5, 1)).conv2d(ConvCase::standard([3, 3], 1).strides([2, 1]).padding(Padding::Valid)), kernel);
    DilationIgnored: Check::bounded().case(&Case::new(Shape::new(1, 5, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).dilations([2, 1]).padding(Padding::Valid)), kernel);
    ClampEatsNan: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).pointwise(ConvCase::pointwise(1).values(Values::Infinite)).values(Values::Zeros).seed(1353), kernel);
    UpperBoundForgotten: Check::bounded().case(&Case::new(Shape::new(1, 4, 4, 1)).conv2d(ConvCase::standard([3, 3], 1).padding(Padding::Valid).activation(Activation::Relu6)).values(Values::Infinite).seed(11), kernel);
    ShortcutAfterClamp: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).inverted_residual(None, ConvCase::depthwise([3, 3]), ConvCase::pointwise(1).activation(Activation::Relu), true).seed(803), kernel);
    ShortcutForgotten: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).inverted_residual(None, ConvCase::depthwise([3, 3]), ConvCase::pointwise(1), true), kernel);
    TailDropped: Check::bounded().case(&Case::new(Shape::new(1, 3, 12, 72)).pointwise(ConvCase::pointwise(9)), kernel);
    StaleScratch: Check::bounded().case(&Case::new(Shape::new(1, 3, 4, 2)).separable(ConvCase::depthwise([3, 3]).padding(Padding::Valid), ConvCase::pointwise(1)), kernel);
    EpsilonForgotten: Check::bounded().case(&Case::new(Shape::new(1, 3, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid).batch_norm(NormCase::new(0.001).gamma(false).beta(false))), kernel);
    FoldedInSingle: Check::bits(Arithmetic::Fused).case(&Case::new(Shape::new(1, 1, 4, 12)).pointwise(ConvCase::pointwise(1).batch_norm(NormCase::new(0.001).gamma(false).beta(false))), kernel);
    BiasForgotten: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).dense(ConvCase::pointwise(1).batch_norm(NormCase::new(0.001).gamma(false).beta(false))), kernel);
    BatchOffset: Check::bounded().case(&Case::new(Shape::new(2, 3, 3, 1)).conv2d(ConvCase::standard([3, 3], 1).padding(Padding::Valid)), kernel);
    MultiplierTransposed: Check::bounded().case(&Case::new(Shape::new(1, 3, 3, 2)).depthwise(ConvCase::depthwise([3, 3]).multiplier(2).padding(Padding::Valid)), kernel);
    RoundedTwice: Check::bits(Arithmetic::Fused).case(&Case::new(Shape::new(1, 3, 3, 2)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid)).seed(21), kernel);
    ShortOperands: Check::bounded().case(&Case::new(Shape::new(1, 1, 1, 1)).pointwise(ConvCase::pointwise(1)), kernel);
    DenormalsFlushed: Check::bounded().case(&Case::new(Shape::new(1, 3, 3, 2)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid).values(Values::Denormal)), kernel);
    InputGapIgnored: Check::bounded().case(&Case::new(Shape::new(1, 1, 2, 1)).pointwise(ConvCase::pointwise(12)).gaps(1, 0), kernel);
    OutputGapWritten: Check::bounded().case(&Case::new(Shape::new(1, 1, 2, 1)).pointwise(ConvCase::pointwise(1)).gaps(0, 1), kernel);
    InputGapIgnored: Check::bounded().layout(Layout::Nchw).case(&Case::new(Shape::new(1, 3, 3, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid)).gaps(1, 0), kernel);
    OutputGapWritten: Check::bounded().layout(Layout::Nchw).case(&Case::new(Shape::new(1, 8, 1, 1)).depthwise(ConvCase::depthwise([3, 3])).gaps(0, 1), kernel);
    LastPixelUnwritten: Check::bounded().case(&Case::new(Shape::new(1, 3, 4, 1)).separable(ConvCase::depthwise([3, 3]).padding(Padding::Valid), ConvCase::pointwise(1)), kernel);
    Reciprocal: Check::bits(Arithmetic::Fused).case(&Case::new(Shape::new(1, 1, 5, 1)).average_pool().values(Values::Huge).seed(24100), kernel);
}
