//! From a photo to what the networks read.

use std::path::Path;

use anyhow::{Context, Result};
use image::imageops::{FilterType, crop_imm, resize};
use image::{DynamicImage, ImageDecoder, ImageReader, ImageResult};

/// The centre square of a photo, scaled to `size × size` pixels of RGB between −1 and 1.
pub fn read(path: &Path, size: usize) -> Result<Vec<f32>> {
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let reader = reader.with_context(|| format!("cannot read {}", path.display()))?;
    let photo = decode(reader).with_context(|| format!("{} is not an image that can be read", path.display()))?;
    let photo = photo.to_rgb8();
    let side = photo.width().min(photo.height());
    let (x, y) = ((photo.width() - side) / 2, (photo.height() - side) / 2);
    let square = crop_imm(&photo, x, y, side, side).to_image();
    let size = u32::try_from(size)?;
    // bilinear, over all pixels that a smaller one stands for
    let scaled = resize(&square, size, size, FilterType::Triangle);
    Ok(scaled.into_raw().into_iter().map(|v| f32::from(v) / 127.5 - 1.0).collect())
}

/// The image, turned upright where the camera says how it was held.
fn decode(reader: ImageReader<std::io::BufReader<std::fs::File>>) -> ImageResult<DynamicImage> {
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut photo = DynamicImage::from_decoder(decoder)?;
    photo.apply_orientation(orientation);
    Ok(photo)
}
