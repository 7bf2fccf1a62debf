//! Operators planned together: a list, or a graph of `graph.rs`.

use super::describe::sepconv_shape;
use super::operator::sepconv_operator;
use super::options::{read_options, sepconv_plan_options};
use super::plan::sepconv_plan;
use super::pointer::{Out, check_slice, free, shared, slice};
use super::status::{CallFailure, Name, boundary, sepconv_status};
use crate::{Error, Network, memory};

/// Operators planned together, one after the other or as a graph: one scratch, and between two of them the layout that the second one
/// needs. Any number of threads may use one at once.
pub struct sepconv_network {
    pub(super) network: Network,
}

/// A network of `count` operators in the order in which they run. It keeps what it needs of them: they may be freed before it,
/// and one may stand in several networks, or several times in one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_new(
    operators: *const *const sepconv_operator,
    count: usize,
    network: *mut *mut sepconv_network,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, operators) = unsafe { (Out::new("network", network)?, slice("operators", operators, count)?) };
        let mut layers = Vec::new();
        for (index, &operator) in operators.iter().enumerate() {
            // SAFETY: the contract of all functions.
            let operator = unsafe { shared(Name::element("operators", index), operator) }?;
            memory::push("network", &mut layers, operator.layer.clone())?;
        }
        out.hand_over("network", sepconv_network { network: Network::new(layers)? })
    })
}

/// How many tensors a network reads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_input_count(
    network: *const sepconv_network,
    count: *mut usize,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { tell_count(network, count, Network::inputs) }
}

/// How many tensors a network computes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_output_count(
    network: *const sepconv_network,
    count: *mut usize,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { tell_count(network, count, Network::outputs) }
}

/// # Safety
/// The contract of all functions.
unsafe fn tell_count(
    network: *const sepconv_network,
    count: *mut usize,
    of: impl FnOnce(&Network) -> usize,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the caller's.
        let (out, network) = unsafe { (Out::new("count", count)?, shared("network", network)?) };
        out.write(of(&network.network));
        Ok(())
    })
}

/// The number of layers of a network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_layer_count(
    network: *const sepconv_network,
    count: *mut usize,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { tell_count(network, count, |network| network.layers().len()) }
}

/// The network of the layers from `first` on and before `end`, in the order in which they were added. Its inputs are the tensors that these
/// layers read and do not compute. Its outputs are the tensors that other layers read, and outputs of `network`. Both have the order in
/// which they are computed. The part shares the weights: either may be freed first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_cut(
    network: *const sepconv_network,
    first: usize,
    end: usize,
    part: *mut *mut sepconv_network,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, network) = unsafe { (Out::new("part", part)?, shared("network", network)?) };
        out.hand_over("network", sepconv_network { network: network.network.cut(first..end)? })
    })
}

/// The shape that a network of one input makes of `input`, or why it cannot take it: of the first output, where there are several.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_output_shape(
    network: *const sepconv_network,
    input: sepconv_shape,
    output: *mut sepconv_shape,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, network) = unsafe { (Out::new("output", output)?, shared("network", network)?) };
        out.write(network.network.output_shape(input.into())?.into());
        Ok(())
    })
}

/// The shapes that a network makes of `count` inputs, or why it cannot take them: to `outputs`, which has room for `output_count` shapes,
/// as many as `sepconv_network_output_count` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_output_shapes(
    network: *const sepconv_network,
    inputs: *const sepconv_shape,
    count: usize,
    outputs: *mut sepconv_shape,
    output_count: usize,
) -> sepconv_status {
    boundary(|| {
        check_slice("outputs", outputs, output_count)?;
        // SAFETY: the contract of all functions.
        let (network, inputs) = unsafe { (shared("network", network)?, slice("inputs", inputs, count)?) };
        let shapes = memory::collect("plan", inputs.iter().map(|&shape| shape.into()))?;
        let (expected, got) = (network.network.outputs(), output_count);
        if expected != got {
            return Err(CallFailure::Library(Error::Count { what: "output", expected, got }));
        }
        for (index, shape) in network.network.output_shapes(&shapes)?.into_iter().enumerate() {
            // SAFETY: so many shapes are writable by the caller's promise.
            unsafe { outputs.add(index).write(shape.into()) };
        }
        Ok(())
    })
}

/// Plans a network for an input shape. `options` may be NULL for the defaults. The plan keeps what it needs of the network,
/// which may be freed before it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_plan(
    network: *const sepconv_network,
    input: sepconv_shape,
    options: *const sepconv_plan_options,
    plan: *mut *mut sepconv_plan,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, network, options) =
            unsafe { (Out::new("plan", plan)?, shared("network", network)?, read_options(options)?) };
        out.hand_over("plan", sepconv_plan::new(network.network.plan(input.into(), &options)?, &options))
    })
}

/// Plans a network of several inputs, for a shape of each: `count` of them at `inputs`, in the order of the network's inputs, and all of
/// one batch. Otherwise as `sepconv_network_plan`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_plan_all(
    network: *const sepconv_network,
    inputs: *const sepconv_shape,
    count: usize,
    options: *const sepconv_plan_options,
    plan: *mut *mut sepconv_plan,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, network, inputs, options) = unsafe {
            (
                Out::new("plan", plan)?,
                shared("network", network)?,
                slice("inputs", inputs, count)?,
                read_options(options)?,
            )
        };
        let shapes = memory::collect("plan", inputs.iter().map(|&shape| shape.into()))?;
        out.hand_over("plan", sepconv_plan::new(network.network.plan_all(&shapes, &options)?, &options))
    })
}

/// Frees a network. NULL is no network, and nothing is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_network_free(network: *mut sepconv_network) {
    let _ = boundary(|| {
        // SAFETY: the contract of all functions.
        unsafe { free(network) };
        Ok(())
    });
}
