//! From a photo to what the networks read.

use std::path::Path;

use anyhow::{Context, Result};
use image::imageops::{FilterType, crop_imm, resize};

/// The centre square of a photo, `size × size` pixels of RGB between −1 and 1.
pub(crate) fn read(path: &Path, size: usize) -> Result<Vec<f32>> {
    let photo = image::ImageReader::open(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .with_guessed_format()?
        .decode()
        .with_context(|| format!("{} is not an image that can be read", path.display()))?
        .to_rgb8();
    let side = photo.width().min(photo.height());
    let (x, y) = ((photo.width() - side) / 2, (photo.height() - side) / 2);
    let square = crop_imm(&photo, x, y, side, side).to_image();
    let size = u32::try_from(size)?;
    let scaled = resize(&square, size, size, FilterType::Triangle);
    Ok(scaled.into_raw().into_iter().map(|v| f32::from(v) / 127.5 - 1.0).collect())
}
