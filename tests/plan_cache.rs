//! Plans of several shapes in a cache, and what is equal to what.

use std::sync::atomic::{AtomicUsize, Ordering};

use sepconv::{
    ConvDesc, DepthwiseConv2d, Error, Filter, GlobalAveragePool, Layer, Layout, Network, PlanCache, PlanOptions,
    PointwiseConv2d, Shape, View, ViewMut,
};
use sepconv_test_support::{DenseTensor, Frame, Rng, ValueKind};

fn network(seed: u64, channels: usize) -> Network {
    let rng = &mut Rng(seed);
    let (depthwise, pointwise) =
        (rng.values(9 * channels, ValueKind::Plain), rng.values(channels * 24, ValueKind::Plain));
    let depthwise = DepthwiseConv2d::new(ConvDesc::new(Filter::depthwise_hwc(&depthwise, [3, 3, channels]))).unwrap();
    let pointwise = PointwiseConv2d::new(ConvDesc::new(Filter::io(&pointwise, [channels, 24]))).unwrap();
    Network::new(vec![depthwise.into(), pointwise.into()]).unwrap()
}

/// The output of a plan that no cache made, dense and NHWC.
fn expected(network: &Network, input: &DenseTensor) -> Vec<f32> {
    let plan = network.plan(input.shape, &PlanOptions::new()).unwrap();
    let mut output = vec![0.0; plan.output_shape().len().unwrap()];
    let to = ViewMut::new(&mut output, plan.output_shape()).unwrap();
    plan.run(input.view(), to, &mut plan.scratch().unwrap()).unwrap();
    output
}

fn run(cache: &PlanCache, network: &Network, input: &DenseTensor) {
    let shape = network.output_shape(input.shape).unwrap();
    let mut output = vec![0.0; shape.len().unwrap()];
    cache.run(network, input.view(), ViewMut::new(&mut output, shape).unwrap()).unwrap();
    assert!(output == expected(network, input), "{}", input.shape);
}

#[test]
fn a_cache_holds_as_many_plans_as_it_may() {
    let networks = [network(1, 16), network(2, 16)];
    let cache = PlanCache::new(PlanOptions::new(), 3);
    assert!(cache.is_empty());
    let rng = &mut Rng(3);
    for round in 0..3 {
        for (at, network) in networks.iter().enumerate() {
            for side in [3, 5, 8] {
                run(
                    &cache,
                    network,
                    &DenseTensor::random(rng, Shape::new(1, side, side + round, 16), ValueKind::Plain),
                );
                assert!((1..=3).contains(&cache.len()), "{at}: {}", cache.len());
            }
        }
    }
    assert_eq!(cache.len(), 3);
    cache.clear();
    assert!(cache.is_empty());
    // no plan at all is not possible
    let cache = PlanCache::new(PlanOptions::new(), 0);
    run(&cache, &networks[0], &DenseTensor::random(rng, Shape::new(1, 4, 4, 16), ValueKind::Plain));
    assert_eq!(cache.len(), 1);
}

#[test]
fn views_give_the_layouts() {
    let network = network(1, 16);
    let shape = Shape::new(2, 6, 7, 16);
    let input = DenseTensor::random(&mut Rng(5), shape, ValueKind::Plain);
    let expected = expected(&network, &input);
    let cache = PlanCache::new(PlanOptions::new(), 8);
    let nchw = Frame::of(Layout::Nchw);
    let to_nchw = |dense: &[f32], shape| nchw.write(dense, shape);
    let planes = to_nchw(&input.data, shape);
    let out_shape = network.output_shape(shape).unwrap();
    for from_planes in [false, true] {
        for to_planes in [false, true] {
            let mut output = vec![0.0; expected.len()];
            let from = if from_planes { View::nchw(&planes, shape) } else { View::new(&input.data, shape) };
            let to =
                if to_planes { ViewMut::nchw(&mut output, out_shape) } else { ViewMut::new(&mut output, out_shape) };
            cache.run(&network, from.unwrap(), to.unwrap()).unwrap();
            assert!(output == if to_planes { to_nchw(&expected, out_shape) } else { expected.clone() });
        }
    }
    assert_eq!(cache.len(), 4);
}

#[test]
fn threads_share_a_cache() {
    let networks = [network(1, 16), network(2, 24)];
    let cache = PlanCache::new(PlanOptions::new(), 2);
    let runs = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (networks, cache, runs) = (&networks, &cache, &runs);
            scope.spawn(move || {
                let rng = &mut Rng(thread);
                for i in 0..50 {
                    let network = &networks[i % 2];
                    let channels = [16, 24][i % 2];
                    run(
                        cache,
                        network,
                        &DenseTensor::random(rng, Shape::new(1, 2 + i % 3, 5, channels), ValueKind::Plain),
                    );
                    runs.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(runs.into_inner(), 200);
    assert_eq!(cache.len(), 2);
}

/// Runs one after the other have one scratch, as large as the largest plan that is kept.
#[test]
fn plans_share_scratch() {
    let network = network(1, 16);
    let cache = PlanCache::new(PlanOptions::new(), 2);
    let needs = |side: usize| network.plan(Shape::new(1, side, side, 16), &PlanOptions::new()).unwrap().scratch_bytes();
    let runs = |side: usize| {
        run(&cache, &network, &DenseTensor::random(&mut Rng(3), Shape::new(1, side, side, 16), ValueKind::Plain));
        cache.scratch_bytes()
    };
    assert!(needs(3) < needs(20));
    assert_eq!([3, 20, 3].map(runs), [3, 20, 20].map(needs));
    // the plan of 20 by 20 leaves, and with it the scratch that no other plan needs
    assert_eq!([4, 3].map(runs), [0, needs(3)]);
    let wrong = DenseTensor::random(&mut Rng(1), Shape::new(1, 4, 4, 8), ValueKind::Plain);
    let mut output = [0.0; 384];
    let to = ViewMut::new(&mut output, Shape::new(1, 4, 4, 24)).unwrap();
    assert!(cache.run(&network, wrong.view(), to).is_err());
    assert_eq!(cache.scratch_bytes(), needs(3), "an error keeps the scratch");
    cache.clear();
    assert_eq!(cache.scratch_bytes(), 0);
}

#[test]
fn a_wrong_output_is_an_error_and_the_cache_goes_on() {
    let network = network(1, 16);
    let cache = PlanCache::new(PlanOptions::new(), 2);
    let input = DenseTensor::random(&mut Rng(1), Shape::new(1, 4, 4, 16), ValueKind::Plain);
    let wrong = Shape::new(1, 4, 3, 24);
    let mut output = vec![0.0; wrong.len().unwrap()];
    let result = cache.run(&network, input.view(), ViewMut::new(&mut output, wrong).unwrap());
    assert!(matches!(result, Err(Error::ShapeMismatch { what: "output", .. })), "{result:?}");
    let channels = DenseTensor::random(&mut Rng(1), Shape::new(1, 4, 4, 8), ValueKind::Plain);
    let shape = Shape::new(1, 4, 4, 24);
    let mut output = vec![0.0; shape.len().unwrap()];
    let result = cache.run(&network, channels.view(), ViewMut::new(&mut output, shape).unwrap());
    assert!(matches!(result, Err(Error::Layer { .. })), "{result:?}");
    run(&cache, &network, &input);
}

#[test]
fn what_shares_weights_is_equal() {
    let weights = [1.0; 16 * 24];
    let op = || PointwiseConv2d::new(ConvDesc::new(Filter::io(&weights, [16, 24]))).unwrap();
    let (a, b) = (op(), op());
    assert_eq!(a, a.clone());
    assert_ne!(a, b);
    assert_eq!(GlobalAveragePool::new(8).unwrap(), GlobalAveragePool::new(8).unwrap());
    let networks = [(); 2].map(|()| Network::new(vec![Layer::from(a.clone())]).unwrap());
    assert_eq!(networks[0], networks[0].clone());
    assert_ne!(networks[0], networks[1]);
    let plan = || a.plan(Shape::new(1, 2, 2, 16), &PlanOptions::new()).unwrap();
    let plans = [plan(), plan()];
    assert_eq!(plans[0], plans[0].clone());
    assert_ne!(plans[0], plans[1]);
    // text of them is for people
    let scratch = plans[0].scratch().unwrap();
    for text in [format!("{a:?}"), format!("{:?}", plans[0]), format!("{scratch:?}")] {
        assert!(text.len() < 400, "{text}");
    }
}
