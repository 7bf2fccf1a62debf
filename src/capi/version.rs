//! Which library this is.

use core::ffi::{CStr, c_char};

/// The version of the ABI that this header describes. It changes when a program that was compiled with an older header no
/// longer runs as it did.
pub const SEPCONV_ABI_VERSION: u32 = 1;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version holds no NUL"),
};

/// The version of the ABI of the library that is linked: `SEPCONV_ABI_VERSION`, where header and library belong together.
#[unsafe(no_mangle)]
pub extern "C" fn sepconv_abi_version() -> u32 {
    SEPCONV_ABI_VERSION
}

/// The version of the library that is linked, such as `0.1.0`. The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn sepconv_version() -> *const c_char {
    VERSION.as_ptr()
}
