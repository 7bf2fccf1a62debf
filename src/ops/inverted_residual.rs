//! The inverted residual: MobileNetV2's block.

use crate::ops::{operator, pack};
use crate::plan::{Chain, Node, channels};
use crate::{ConvDesc, Error, Result, Shape};

/// Whether an [`InvertedResidual`] adds its input to its output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shortcut {
    /// The input is not added.
    #[default]
    None,
    /// The input is added. A block whose strides are not 1, or that writes other channels than it reads, is an error
    /// when it is made. An input whose plane the block would change is an error when it is planned.
    Required,
    /// The input is added where its shape is that of the output, whatever the strides.
    IfShapesAllow,
}

/// What an [`InvertedResidual`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct InvertedResidualDesc<'a> {
    expand: Option<ConvDesc<'a>>,
    depthwise: ConvDesc<'a>,
    project: ConvDesc<'a>,
    shortcut: Shortcut,
}

impl<'a> InvertedResidualDesc<'a> {
    /// A block without expansion and without shortcut.
    pub const fn new(depthwise: ConvDesc<'a>, project: ConvDesc<'a>) -> Self {
        InvertedResidualDesc { expand: None, depthwise, project, shortcut: Shortcut::None }
    }

    /// What stands before the depthwise convolution: a 1×1 convolution, or any other, such as the stem of a network.
    pub const fn expand(mut self, expand: ConvDesc<'a>) -> Self {
        self.expand = Some(expand);
        self
    }

    /// Whether the input is added to the output.
    pub const fn shortcut(mut self, shortcut: Shortcut) -> Self {
        self.shortcut = shortcut;
        self
    }

    /// An error where a shortcut is required around stages that no input passes unchanged in shape.
    fn check_shortcut(&self) -> Result<()> {
        if self.shortcut != Shortcut::Required {
            return Ok(());
        }
        let expected = self.expand.as_ref().unwrap_or(&self.depthwise).filter.inputs();
        let got = self.project.filter.outputs();
        if expected != got {
            return Err(Error::Channels { what: "shortcut", expected, got });
        }
        for stage in self.expand.iter().chain([&self.depthwise]) {
            let [rows, columns] = stage.stride;
            if [rows, columns] != [1, 1] {
                let (what, got) = ("shortcut".into(), format!("{rows}×{columns}"));
                return Err(Error::Value { what, expected: "stages of stride 1", got });
            }
        }
        Ok(())
    }
}

/// Expand, depthwise, project, and a shortcut around them (arXiv 1801.04381, table 1).
///
/// Fused, the expanded tensor is never in memory as a whole. The activation of `project`, which MobileNetV2 does not
/// have, is applied after the shortcut is added. A channel multiplier above 1 behind an expansion makes the expansion
/// that much dearer.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::{Activation, ConvDesc, Filter, InvertedResidual, InvertedResidualDesc, PlanOptions, Shape, Shortcut};
/// let (expand, depthwise, project) = ([0.1; 8 * 48], [0.1; 9 * 48], [0.1; 48 * 8]);
/// let block = InvertedResidual::new(
///     InvertedResidualDesc::new(
///         ConvDesc::new(Filter::depthwise_hwc(&depthwise, [3, 3, 48])).activation(Activation::Relu6),
///         ConvDesc::new(Filter::io(&project, [48, 8])),
///     )
///     .expand(ConvDesc::new(Filter::io(&expand, [8, 48])).activation(Activation::Relu6))
///     .shortcut(Shortcut::Required),
/// )?;
/// let plan = block.plan(Shape::new(1, 14, 14, 8), &PlanOptions::new())?;
/// assert!(plan.explain().stages[0].fused);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct InvertedResidual {
    node: Node,
    shortcut: Shortcut,
}

impl InvertedResidual {
    /// Checks the descriptions, folds their batch norms and packs their weights.
    #[allow(clippy::needless_pass_by_value, reason = "a description is made to be used up")]
    pub fn new(desc: InvertedResidualDesc<'_>) -> Result<InvertedResidual> {
        let depthwise = match desc.expand {
            None => pack::depthwise(&desc.depthwise, "depthwise")?,
            Some(_) => pack::depthwise_once(&desc.depthwise, "depthwise")?,
        };
        let project = pack::pointwise(&desc.project, "project")?;
        let mut expand = None;
        if let Some(expand_desc) = &desc.expand {
            // With a multiplier, expand computes each channel as often as the depthwise stage reads it: rows of the
            // expanded tensor are then what the kernels read, and never need a second form.
            let filter = desc.depthwise.filter;
            expand = Some(pack::repeated(expand_desc, "expand", filter.outputs() / filter.inputs())?);
            channels("depthwise", filter.inputs(), expand_desc.filter.outputs())?;
        }
        let chain = Chain::new(expand, Some(depthwise), Some(project))
            .map_err(|misfit| misfit.named(["expand", "depthwise", "project"]))?;
        desc.check_shortcut()?;
        let node = Node::Chain { chain, shortcut: desc.shortcut != Shortcut::None };
        Ok(InvertedResidual { node, shortcut: desc.shortcut })
    }

    /// An error where a shortcut is required and the shapes at its ends differ.
    fn check_shapes(&self, input: Shape, output: Shape) -> Result<()> {
        if self.shortcut == Shortcut::Required && input != output {
            return Err(Error::Shortcut { input, output });
        }
        Ok(())
    }
}

operator!(InvertedResidual, check_shapes);
