//! Which stages of a network run as one, across the borders of its layers.
//!
//! A layer is a group as it was described: depthwise → pointwise in V1, expand → depthwise → project in V2. Where what
//! passes from one layer to the next does not fit the cache, other borders move fewer bytes. V1 at 224×224 begins with
//!
//! ```text
//!   described    conv │ dw   pw │ dw   pw │ dw   pw │ dw …        values at the borders: 400 k, 800 k, 400 k, 400 k
//!   regrouped    conv   dw │ pw   dw │ pw   dw   pw │ dw …                               400 k, 200 k, 400 k
//! ```
//!
//! A group is any of `[conv] dw [pw]` or a convolution alone: what [`super::ChainStep`] and [`super::ConvStep`] run.
//! Among all ways to set borders the one is taken whose borders cost least, as described where nothing is won.

use super::{Conv, Depthwise, Node, lower::shapes_of};
use crate::memory::{Arc, push};
use crate::{Result, Shape};

/// A tensor of at most this many values costs nothing at a border: its reader finds it in L2, or L3 is quick enough.
const NEAR_VALUES: usize = 256 << 10;

#[derive(Clone)]
enum Stage {
    Conv(Arc<Conv>),
    Depthwise(Arc<Depthwise>),
}

/// A border before each stage of a run and one after the last, and the best way to reach it.
#[derive(Clone, Copy)]
struct Border {
    /// Values that a tensor here costs.
    values: u64,
    /// Whether layers meet here as described.
    described: bool,
    /// Of the best way: values at its borders, and how many borders are not as described.
    cost: (u64, usize),
    /// Stages of the group that ends here.
    group: usize,
}

/// Nodes with borders where they cost least.
pub(super) fn regroup(nodes: &[Node], input: Shape) -> Result<Vec<Node>> {
    let mut out = Vec::new();
    let (mut stages, mut borders) = (Vec::new(), Vec::new());
    let mut shape = input;
    for node in nodes {
        let shapes = shapes_of(node, shape)?;
        let before = shape;
        shape = shapes[2];
        match node {
            Node::Chain { head, depthwise, tail, shortcut } if !(*shortcut && before == shape) => {
                let stages_of = [
                    head.clone().map(Stage::Conv),
                    depthwise.clone().map(Stage::Depthwise),
                    tail.clone().map(Stage::Conv),
                ];
                let mut described = true;
                let mut from = before;
                for (stage, to) in stages_of.into_iter().zip(shapes) {
                    if let Some(stage) = stage {
                        let values = (from.pixels() * from.c) as u64;
                        let values = if values > NEAR_VALUES as u64 { values } else { 0 };
                        push("plan", &mut borders, Border { values, described, cost: (u64::MAX, 0), group: 0 })?;
                        push("plan", &mut stages, stage)?;
                        (described, from) = (false, to);
                    }
                }
            }
            // what a shortcut reads is a border, and so is what it is added to
            _ => {
                group(&mut stages, &mut borders, &mut out)?;
                push("plan", &mut out, node.clone())?;
            }
        }
    }
    group(&mut stages, &mut borders, &mut out)?;
    Ok(out)
}

/// Appends a run of stages in its best groups, and empties it.
fn group(stages: &mut Vec<Stage>, borders: &mut Vec<Border>, out: &mut Vec<Node>) -> Result<()> {
    push("plan", borders, Border { values: 0, described: true, cost: (u64::MAX, 0), group: 0 })?;
    borders[0].cost = (0, 0);
    for end in 1..borders.len() {
        for len in 1..=end.min(3) {
            let start = end - len;
            let allowed = match &stages[start..end] {
                [_] | [Stage::Conv(_), Stage::Depthwise(_)] => true,
                [Stage::Depthwise(_), Stage::Conv(tail)] => tail.is_pointwise(),
                [Stage::Conv(_), Stage::Depthwise(_), Stage::Conv(tail)] => tail.is_pointwise(),
                _ => false,
            };
            let (values, moved) = borders[start].cost;
            let Border { values: here, described, cost, .. } = borders[end];
            let new = (values.saturating_add(here), moved + usize::from(!described));
            if allowed && values != u64::MAX && new < cost {
                (borders[end].cost, borders[end].group) = (new, len);
            }
        }
    }
    // the groups, from the last to the first
    let first = out.len();
    let mut end = stages.len();
    while end > 0 {
        let start = end - borders[end].group;
        let (mut head, mut depthwise, mut tail) = (None, None, None);
        for stage in &stages[start..end] {
            match stage.clone() {
                Stage::Depthwise(stage) => depthwise = Some(stage),
                Stage::Conv(stage) if depthwise.is_none() => head = Some(stage),
                Stage::Conv(stage) => tail = Some(stage),
            }
        }
        push("plan", out, Node::Chain { head, depthwise, tail, shortcut: false })?;
        end = start;
    }
    out[first..].reverse();
    stages.clear();
    borders.clear();
    Ok(())
}
