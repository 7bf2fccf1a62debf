//! What the example needs beside the library: files from the packages that ship them, and readers of their formats.

pub(crate) mod assets;
pub(crate) mod graph_def;
pub(crate) mod keras;
pub(crate) mod photo;
