//! A graph of operators, built value by value.

use core::sync::atomic::{AtomicU32, Ordering};

use super::describe::{is_by_channel, read_activation};
use super::network::sepconv_network;
use super::operator::sepconv_operator;
use super::pointer::{Out, exclusive, free, shared, slice};
use super::status::{CallFailure, Name, Result, boundary, sepconv_status};
use super::window_pool::{describe_window_pool, sepconv_window_pool_desc};
use crate::{Activation, ChannelActivation, Error, GraphBuilder, Network, Value, memory};

/// A tensor of a graph that is being built: an input, or what a layer computes. It is a number that stands for nothing outside of its
/// graph. 0 is never a value.
pub type sepconv_value = u64;

// What C passes is an integer, which the header calls by the name of its enum (see cbindgen.toml).
type ActivationCode = i32;

/// A network while it is built, value by value: each layer reads values that are there. It may be used by one call at a time.
///
/// Functions named `sepconv_graph_…` write the value of what they add to `value`. One that fails adds nothing.
pub struct sepconv_graph {
    /// None when the graph is used up.
    builder: Option<GraphBuilder>,
    /// What the values of this graph have in their upper half.
    number: u32,
    /// Each value of the builder; the lower half of the one of C is its place, counted from 1.
    values: Vec<Value>,
}

impl sepconv_graph {
    /// Changes the builder. One whose change panics is used up.
    fn change<T>(&mut self, change: impl FnOnce(&mut GraphBuilder) -> crate::Result<T>) -> Result<T> {
        let mut builder = self.builder.take().ok_or(CallFailure::GraphUsedUp)?;
        let changed = change(&mut builder);
        self.builder = Some(builder);
        Ok(changed?)
    }

    /// Adds a value.
    fn add(&mut self, make: impl FnOnce(&mut GraphBuilder) -> crate::Result<Value>) -> Result<sepconv_value> {
        // room before anything changes
        memory::reserve("graph", &mut self.values, 1)?;
        let full = Error::Allocation { what: "graph", bytes: usize::MAX };
        let place = u32::try_from(self.values.len() + 1).map_err(|_| full)?;
        let value = self.change(make)?;
        self.values.push(value);
        Ok(u64::from(self.number) << 32 | u64::from(place))
    }

    /// The value that C calls so.
    fn value(&self, name: impl Into<Name>, value: sepconv_value) -> Result<Value> {
        let [number, place] = [(value >> 32) as u32, value as u32];
        let known = self.values.get((place as usize).wrapping_sub(1)).filter(|_| number == self.number);
        known.copied().ok_or(CallFailure::GraphValue { name: name.into(), got: value })
    }
}

/// A graph without layers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_new(graph: *mut *mut sepconv_graph) -> sepconv_status {
    // values of one graph are none of another, unless 2^32 graphs lie between them
    static NEXT: AtomicU32 = AtomicU32::new(1);
    boundary(|| {
        // SAFETY: the contract of all functions.
        let out = unsafe { Out::new("graph", graph) }?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        out.hand_over("graph", sepconv_graph { builder: Some(Network::builder()), number, values: Vec::new() })
    })
}

/// Adds a value, of what `make` reads from the graph.
///
/// # Safety
/// The contract of all functions.
unsafe fn add_value<T>(
    graph: *mut sepconv_graph,
    value: *mut sepconv_value,
    read: impl FnOnce(&sepconv_graph) -> Result<T>,
    make: impl FnOnce(&mut GraphBuilder, T) -> crate::Result<Value>,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the caller's.
        let (out, graph) = unsafe { (Out::new("value", value)?, exclusive("graph", graph)?) };
        let read = read(graph)?;
        out.write(graph.add(|builder| make(builder, read))?);
        Ok(())
    })
}

/// A tensor of the caller's, of so many channels. Inputs have the order of these calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_input(
    graph: *mut sepconv_graph,
    channels: usize,
    value: *mut sepconv_value,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { add_value(graph, value, |_| Ok(()), |builder, ()| Ok(builder.input(channels))) }
}

/// What an operator computes of `x`. The graph keeps what it needs of the operator: it may be freed before the graph, and may stand in
/// several graphs and networks, or several times in one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_operator(
    graph: *mut sepconv_graph,
    x: sepconv_value,
    op: *const sepconv_operator,
    value: *mut sepconv_value,
) -> sepconv_status {
    let read = |graph: &sepconv_graph| {
        // SAFETY: the contract of all functions.
        let operator = unsafe { shared("op", op) }?;
        Ok((graph.value("x", x)?, operator.layer.clone()))
    };
    // SAFETY: as above.
    unsafe { add_value(graph, value, read, |builder, (x, layer)| builder.layer(x, layer)) }
}

/// The sum of two tensors, then an activation. `y` has the shape of `x`, or one pixel an image. `clamp_min` and `clamp_max` are the
/// bounds of `SEPCONV_ACTIVATION_CLAMP`, `leaky_slope` is the slope of `SEPCONV_ACTIVATION_LEAKY_RELU`; they are 0 with any other
/// activation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_add(
    graph: *mut sepconv_graph,
    x: sepconv_value,
    y: sepconv_value,
    activation: ActivationCode,
    clamp_min: f32,
    clamp_max: f32,
    leaky_slope: f32,
    value: *mut sepconv_value,
) -> sepconv_status {
    let read = |graph: &sepconv_graph| {
        let [min, max] = [clamp_min, clamp_max];
        if is_by_channel(activation) {
            let expected = "the same for all channels: sepconv_graph_add_prelu and sepconv_graph_add_channel_clamp have the others";
            let (what, got) = ("activation".into(), activation.to_string());
            return Err(CallFailure::Library(Error::Value { what, expected, got }));
        }
        let activation = read_activation("activation".into(), activation, [min, max], leaky_slope)?;
        // values that were set and do not count are an activation that was forgotten
        let wrong =
            |what: &str, expected, got| Err(CallFailure::Library(Error::Value { what: what.into(), expected, got }));
        if [min, max] != [0.0; 2] && !matches!(activation, Activation::Clamp { .. }) {
            let expected = "0 unless the activation is SEPCONV_ACTIVATION_CLAMP";
            return wrong("clamp_min, clamp_max", expected, format!("{min}, {max}"));
        }
        if leaky_slope != 0.0 && !matches!(activation, Activation::LeakyRelu { .. }) {
            let expected = "0 unless the activation is SEPCONV_ACTIVATION_LEAKY_RELU";
            return wrong("leaky_slope", expected, leaky_slope.to_string());
        }
        Ok((graph.value("x", x)?, graph.value("y", y)?, activation))
    };
    // SAFETY: the contract of all functions.
    unsafe { add_value(graph, value, read, |builder, (x, y, activation)| builder.add(x, y, activation)) }
}

/// The sum of two tensors, where it is negative times the slope of its channel. `channels` is the number of slopes, and of channels of both
/// tensors; `y` has the shape of `x`, or one pixel an image. The slopes may be freed after the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_add_prelu(
    graph: *mut sepconv_graph,
    x: sepconv_value,
    y: sepconv_value,
    slopes: *const f32,
    channels: usize,
    value: *mut sepconv_value,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    let read = || unsafe { Ok(ChannelActivation::PRelu { slopes: slice("slopes", slopes, channels)? }) };
    // SAFETY: as above.
    unsafe { add_by_channel(graph, [x, y], read, value) }
}

/// The sum of two tensors, `min(max(lower, x + y), upper)` of the bounds of its channel. `channels` is the number of lower and of upper
/// bounds, and of channels of both tensors; `y` has the shape of `x`, or one pixel an image. The bounds may be freed after the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_add_channel_clamp(
    graph: *mut sepconv_graph,
    x: sepconv_value,
    y: sepconv_value,
    min: *const f32,
    max: *const f32,
    channels: usize,
    value: *mut sepconv_value,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    let read = || unsafe {
        let (min, max) = (slice("min", min, channels)?, slice("max", max, channels)?);
        Ok(ChannelActivation::Clamp { min, max })
    };
    // SAFETY: as above.
    unsafe { add_by_channel(graph, [x, y], read, value) }
}

/// A sum with an activation that has values for each channel, which `activation` reads.
///
/// # Safety
/// The contract of all functions.
unsafe fn add_by_channel<'a>(
    graph: *mut sepconv_graph,
    [x, y]: [sepconv_value; 2],
    activation: impl FnOnce() -> Result<ChannelActivation<'a>>,
    value: *mut sepconv_value,
) -> sepconv_status {
    let read = |graph: &sepconv_graph| Ok((graph.value("x", x)?, graph.value("y", y)?, activation()?));
    // SAFETY: the caller's.
    unsafe { add_value(graph, value, read, |builder, (x, y, activation)| builder.add_by_channel(x, y, activation)) }
}

/// `x` times `y`, value by value. `y` has the shape of `x`, or one pixel an image: the scale of each channel, as squeeze-and-excite has
/// it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_scale(
    graph: *mut sepconv_graph,
    x: sepconv_value,
    y: sepconv_value,
    value: *mut sepconv_value,
) -> sepconv_status {
    let read = |graph: &sepconv_graph| Ok((graph.value("x", x)?, graph.value("y", y)?));
    // SAFETY: the contract of all functions.
    unsafe { add_value(graph, value, read, |builder, (x, y)| builder.scale(x, y)) }
}

/// The channels of `count` tensors of one plane, one after the other. A tensor may come several times.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_concat(
    graph: *mut sepconv_graph,
    values: *const sepconv_value,
    count: usize,
    value: *mut sepconv_value,
) -> sepconv_status {
    let read = |graph: &sepconv_graph| {
        // SAFETY: the contract of all functions.
        let values = unsafe { slice("values", values, count) }?;
        let mut read = Vec::new();
        for (index, &value) in values.iter().enumerate() {
            memory::push("graph", &mut read, graph.value(Name::element("values", index), value)?)?;
        }
        Ok(read)
    };
    // SAFETY: as above.
    unsafe { add_value(graph, value, read, |builder, values| builder.concat(&values)) }
}

/// The maximum or the mean over a window, as an operator of `sepconv_window_pool_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_window_pool(
    graph: *mut sepconv_graph,
    x: sepconv_value,
    desc: *const sepconv_window_pool_desc,
    value: *mut sepconv_value,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    let read = |graph: &sepconv_graph| Ok((graph.value("x", x)?, unsafe { describe_window_pool(desc) }?));
    // SAFETY: as above.
    unsafe { add_value(graph, value, read, |builder, (x, desc)| builder.window_pool(x, desc)) }
}

/// Each pixel several times along rows and columns, as an operator of `sepconv_resize_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_resize(
    graph: *mut sepconv_graph,
    x: sepconv_value,
    factor_h: usize,
    factor_w: usize,
    value: *mut sepconv_value,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe {
        add_value(graph, value, |graph| graph.value("x", x), |builder, x| builder.resize(x, [factor_h, factor_w]))
    }
}

/// Makes a tensor an output. Outputs have the order of these calls. Layers may read an output too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_output(graph: *mut sepconv_graph, value: sepconv_value) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let graph = unsafe { exclusive("graph", graph) }?;
        let value = graph.value("value", value)?;
        graph.change(|builder| {
            builder.output(value);
            Ok(())
        })
    })
}

/// The network of all layers. It uses the graph up, also where it fails: all that is left is `sepconv_graph_free`.
///
/// There is an input and an output, and each tensor is read by a layer or is an output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_build(
    graph: *mut sepconv_graph,
    network: *mut *mut sepconv_network,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, graph) = unsafe { (Out::new("network", network)?, exclusive("graph", graph)?) };
        let builder = graph.builder.take().ok_or(CallFailure::GraphUsedUp)?;
        out.hand_over("network", sepconv_network { network: builder.build()? })
    })
}

/// Frees a graph. NULL is no graph, and nothing is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_graph_free(graph: *mut sepconv_graph) {
    let _ = boundary(|| {
        // SAFETY: the contract of all functions.
        unsafe { free(graph) };
        Ok(())
    });
}
