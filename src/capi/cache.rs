//! Plans of several shapes, kept and bounded.

use super::describe::sepconv_shape;
use super::network::sepconv_network;
use super::options::{read_options, sepconv_plan_options};
use super::pointer::{Out, free, shared};
use super::status::{boundary, sepconv_status};
use super::tensor::{Placed, sepconv_input, sepconv_output};
use crate::PlanCache;

/// Plans of the networks and shapes that ran last, with scratch for each thread that runs. Any number of threads may use one at once: a
/// run holds the lock of the cache only to take a plan and scratch, and to give them back.
pub struct sepconv_plan_cache {
    cache: PlanCache,
}

/// A cache of at most `plans` plans; 0 counts as 1. All plans are made by `options`, which may be NULL for the defaults. The layouts of
/// the options do not count: those of a run do.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_cache_new(
    options: *const sepconv_plan_options,
    plans: usize,
    cache: *mut *mut sepconv_plan_cache,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, options) = unsafe { (Out::new("cache", cache)?, read_options(options)?) };
        out.hand_over("plan cache", sepconv_plan_cache { cache: PlanCache::new(options, plans) })
    })
}

/// Computes `output` from an `input` of this shape. Where the cache has no plan of the network for the shape and the layouts, it makes
/// one: then the plan that was used longest ago may leave. The output is of the shape that `sepconv_network_output_shape` gives.
///
/// Tensors are checked as by `sepconv_plan_run`. A plan keeps what it needs of the network, which may be freed before the cache.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_cache_run(
    cache: *const sepconv_plan_cache,
    network: *const sepconv_network,
    shape: sepconv_shape,
    input: *const sepconv_input,
    output: *const sepconv_output,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (cache, network) = unsafe { (shared("cache", cache)?, shared("network", network)?) };
        let (network, shape) = (&network.network, shape.into());
        // SAFETY: as above. The two tensors have no byte in common.
        let (input, output) = unsafe {
            let [input, output] = Placed::read((input, shape), (output, network.output_shape(shape)?))?;
            (input.view()?, output.view_mut()?)
        };
        Ok(cache.cache.run(network, input, output)?)
    })
}

/// Plans that a cache holds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_cache_len(cache: *const sepconv_plan_cache, len: *mut usize) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, cache) = unsafe { (Out::new("len", len)?, shared("cache", cache)?) };
        out.write(cache.cache.len());
        Ok(())
    })
}

/// Drops all plans and all scratch of a cache. Runs that have begun end as they would.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_cache_clear(cache: *const sepconv_plan_cache) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        unsafe { shared("cache", cache) }?.cache.clear();
        Ok(())
    })
}

/// Frees a cache with all that it holds. NULL is no cache, and nothing is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_cache_free(cache: *mut sepconv_plan_cache) {
    let _ = boundary(|| {
        // SAFETY: the contract of all functions.
        unsafe { free(cache) };
        Ok(())
    });
}
