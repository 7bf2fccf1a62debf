//! Groups of rows of a caller's planes, as channel blocks in scratch: no kernel knows of planes.

use sepconv_kernels::BLOCK;

use super::layout::{Order, PlannedTensor};
use super::offsets::PixelTable;
use super::stage::Ends;
use crate::Result;
use crate::memory::{Carver, product};

/// Rows of a caller's NCHW tensor in channel blocks, each block of all pixels of a group: what a step reads of it is transposed to there,
/// and what a step writes is transposed from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staging {
    /// Its place in a worker's scratch, in bytes.
    pub(crate) place: usize,
    /// Pixels of a row.
    pub(crate) width: usize,
}

impl Staging {
    /// Of groups of at most `rows` rows of `blocks` blocks, or `None` for a tensor that is not in planes.
    pub(super) fn new(
        tensor: &PlannedTensor,
        rows: usize,
        blocks: usize,
        carver: &mut Carver,
    ) -> Result<Option<Staging>> {
        if tensor.layout.order != Order::Planes {
            return Ok(None);
        }
        let width = tensor.shape.w;
        let place = carver.values::<f32>(product(&[rows, width, blocks, BLOCK])?)?;
        Ok(Some(Staging { place, width }))
    }
}

/// The stagings of the output and of the residual of a step, for groups of at most `rows` rows of `blocks` blocks.
pub(super) fn of_ends(
    tensors: &[PlannedTensor],
    ends: &Ends,
    rows: usize,
    blocks: usize,
    carver: &mut Carver,
) -> Result<[Option<Staging>; 2]> {
    let of_output = Staging::new(&tensors[ends.output], rows, blocks, carver)?;
    let of_residual = match ends.residual {
        Some(residual) => Staging::new(&tensors[residual], rows, blocks, carver)?,
        None => None,
    };
    Ok([of_output, of_residual])
}

/// The table of `[images, rows, width]` pixels of `tensor`, or of the staging of rows of one image.
pub(super) fn pixels_of(
    tensor: &PlannedTensor,
    [images, rows, width]: [usize; 3],
    most: usize,
    carver: &mut Carver,
) -> Result<PixelTable> {
    debug_assert!(images == 1 || tensor.layout.order != Order::Planes);
    match tensor.layout.order {
        Order::Planes => PixelTable::dense(rows, width, most, carver),
        Order::Pixels | Order::Blocks => PixelTable::of(tensor, [images, rows, width], [1, 1], most, carver),
    }
}
