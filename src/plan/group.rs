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
//! A group is any stages that [`may_be_one_step`] allows. Among all ways to set borders the one is taken whose borders
//! cost least, as described where nothing is won.

use super::cost::Thresholds;
use super::stage::{Chain, PackedStage, STAGES, may_be_one_step};
use super::{Node, lower::shapes_of};
use crate::memory::push;
use crate::{Result, Shape};

/// A border before each stage of a run and one after the last, and the best way to reach it.
#[derive(Clone, Copy)]
struct Border {
    /// Values that a tensor here costs.
    values: usize,
    /// Whether layers meet here as described.
    described: bool,
    /// Of the best way: values at its borders, and how many borders are not as described. No sum of sizes comes near the
    /// largest, which stands for a border that no way has reached.
    cost: (u128, usize),
    /// Stages of the group that ends here.
    group: usize,
}

impl Border {
    fn new(values: usize, described: bool) -> Border {
        Border { values, described, cost: (u128::MAX, 0), group: 0 }
    }
}

/// Nodes with borders where they cost least.
pub(super) fn regroup(nodes: &[Node], input: Shape, thresholds: &Thresholds) -> Result<Vec<Node>> {
    let mut out = Vec::new();
    let (mut stages, mut borders) = (Vec::new(), Vec::new());
    let mut shape = input;
    for node in nodes {
        let shapes = shapes_of(node, shape)?;
        let before = shape;
        shape = shapes[2];
        match node {
            Node::Chain { chain, shortcut } if !(*shortcut && before == shape) => {
                let mut described = true;
                let mut from = before;
                for (stage, to) in chain.stages().iter().zip(shapes) {
                    if let Some(stage) = stage {
                        let values = from.len()?;
                        let values = if values > thresholds.near_border { values } else { 0 };
                        push("plan", &mut borders, Border::new(values, described))?;
                        push("plan", &mut stages, stage.clone())?;
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
fn group(stages: &mut Vec<PackedStage>, borders: &mut Vec<Border>, out: &mut Vec<Node>) -> Result<()> {
    push("plan", borders, Border::new(0, true))?;
    borders[0].cost = (0, 0);
    for end in 1..borders.len() {
        for len in 1..=end.min(Chain::MOST) {
            let start = end - len;
            let (values, moved) = borders[start].cost;
            let Border { values: here, described, cost, .. } = borders[end];
            let new = (values + here as u128, moved + usize::from(!described));
            // a stage alone is always a step, so that every border is reached
            if new < cost && (len == 1 || may_be_one_step(&stages[start..end])) {
                (borders[end].cost, borders[end].group) = (new, len);
            }
        }
    }
    // the groups, from the last to the first
    let first = out.len();
    let mut end = stages.len();
    while end > 0 {
        let start = end - borders[end].group;
        // unreached: a group was only chosen where it may be one step
        let chain = Chain::of(&stages[start..end]).map_err(|misfit| misfit.named(STAGES))?;
        push("plan", out, Node::Chain { chain, shortcut: false })?;
        end = start;
    }
    out[first..].reverse();
    stages.clear();
    borders.clear();
    Ok(())
}
