//! Resizing by whole factors.

use crate::ops::operator;
use crate::plan::{Node, RowsOp};
use crate::{Error, Result};

/// Each pixel several times along rows and columns: nearest neighbours, by whole factors.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::{Resize, Shape};
/// let twice = Resize::new([2, 2])?;
/// assert_eq!(twice.output_shape(Shape::new(1, 7, 7, 96))?, Shape::new(1, 14, 14, 96));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Resize {
    node: Node,
}

impl Resize {
    /// By factors of rows and columns, at least 1 each.
    pub fn new(factors: [usize; 2]) -> Result<Resize> {
        if factors.contains(&0) {
            return Err(Error::ZeroWindow { stage: "resize", what: "factor" });
        }
        Ok(Resize { node: Node::Rows(RowsOp::Copy { factors }) })
    }
}

operator!(Resize);
