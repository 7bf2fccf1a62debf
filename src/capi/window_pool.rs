//! How a pool over a window is described in C.

use core::mem::offset_of;

use super::describe::{read_code, read_padding, sepconv_padding};
use super::status::{CallFailure, Name, Result, boundary, sepconv_status};
use super::versioned::{self, Versioned};
use crate::{Error, WindowPoolDesc};

/// What a pool takes of a window. There is no default.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_window_pool_kind {
    /// The largest value. Padding takes no part. NaN is larger than any number.
    Maximum = 1,
    /// The mean: pixels are added row by row, and their sum is divided by their number.
    Average = 2,
}

// What C passes is an integer, which the header calls by the name of its enum (see cbindgen.toml).
type WindowPoolKindCode = i32;
type PaddingCode = i32;

/// A pool over a window. Call `sepconv_window_pool_desc_init` first, then set what differs; kind and kernel always do.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sepconv_window_pool_desc {
    /// `sizeof(sepconv_window_pool_desc)`, as the init function sets it.
    pub struct_size: usize,
    /// What it takes of a window. Init leaves 0, which is none.
    pub kind: WindowPoolKindCode,
    /// The padding. A window has to meet a pixel of the plane. Init: `SEPCONV_PADDING_VALID`.
    pub padding: PaddingCode,
    /// Rows of the window.
    pub kernel_h: usize,
    /// Columns of the window.
    pub kernel_w: usize,
    /// Rows that the window moves at each step. Init: 0, the rows of the window.
    pub stride_h: usize,
    /// Columns that the window moves at each step. Init: 0, the columns of the window.
    pub stride_w: usize,
    /// Rows added above. The four sides are 0 unless the padding is `SEPCONV_PADDING_EXPLICIT`.
    pub pad_top: usize,
    /// Rows added below.
    pub pad_bottom: usize,
    /// Columns added before.
    pub pad_left: usize,
    /// Columns added after.
    pub pad_right: usize,
    /// Not 0: a mean is over all pixels of the window, those of padding too, which are 0. It is PyTorch's `count_include_pad`. 0 with
    /// `SEPCONV_WINDOW_POOL_KIND_MAXIMUM`. Init: 0.
    pub count_padding: i32,
}

// SAFETY: `repr(C)`, the size first; integers.
unsafe impl Versioned for sepconv_window_pool_desc {
    const INIT: Self = sepconv_window_pool_desc {
        struct_size: 0,
        kind: 0,
        padding: sepconv_padding::Valid as i32,
        kernel_h: 0,
        kernel_w: 0,
        stride_h: 0,
        stride_w: 0,
        pad_top: 0,
        pad_bottom: 0,
        pad_left: 0,
        pad_right: 0,
        count_padding: 0,
    };
    const LEAST: usize = offset_of!(sepconv_window_pool_desc, count_padding) + size_of::<i32>();
}

/// Writes the defaults to `desc`; `size` is `sizeof(sepconv_window_pool_desc)`, which tells this library how long the caller's
/// struct is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_window_pool_desc_init(
    desc: *mut sepconv_window_pool_desc,
    size: usize,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    boundary(|| unsafe { versioned::init("desc", desc, size) })
}

/// Reads the description of a pool.
///
/// # Safety
/// The contract of all functions.
pub(super) unsafe fn describe_window_pool(desc: *const sepconv_window_pool_desc) -> Result<WindowPoolDesc> {
    let name = "desc";
    // SAFETY: the caller's.
    let desc = unsafe { versioned::read(name, desc) }?;
    let kernel = [desc.kernel_h, desc.kernel_w];
    let pool = read_code!(Name::field(name, "kind"), desc.kind, sepconv_window_pool_kind {
        Maximum => WindowPoolDesc::max(kernel),
        Average => WindowPoolDesc::average(kernel),
    })?;
    let or = |stride: usize, kernel: usize| if stride == 0 { kernel } else { stride };
    let sides = [desc.pad_top, desc.pad_bottom, desc.pad_left, desc.pad_right];
    let pool = pool
        .strides([or(desc.stride_h, desc.kernel_h), or(desc.stride_w, desc.kernel_w)])
        .padding(read_padding(name, desc.padding, sides)?);
    if desc.count_padding == 0 {
        return Ok(pool);
    }
    if desc.kind != sepconv_window_pool_kind::Average as i32 {
        return Err(CallFailure::Library(Error::Value {
            what: format!("{name}.count_padding"),
            expected: "0 unless the kind is SEPCONV_WINDOW_POOL_KIND_AVERAGE",
            got: desc.count_padding.to_string(),
        }));
    }
    Ok(pool.count_padding())
}
