//! Operators planned together.

use super::describe::sepconv_shape;
use super::operator::sepconv_operator;
use super::options::{read_options, sepconv_plan_options};
use super::plan::sepconv_plan;
use super::pointer::{Out, free, shared, slice};
use super::status::{Name, boundary, sepconv_status};
use crate::{Network, memory};

/// Operators, one after the other, planned together: one scratch, and between two of them the layout that the second one needs. Any number
/// of threads may use one at once.
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

/// The shape that a network makes of `input`, or why it cannot take it.
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
        out.hand_over("plan", sepconv_plan { plan: network.network.plan(input.into(), &options)? })
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
