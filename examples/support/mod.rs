//! What the example needs beside the library: files from the packages that ship them, and readers of their formats.

pub(crate) mod assets;
pub(crate) mod graph_def;
pub(crate) mod keras;
pub(crate) mod photo;

/// What TensorFlow calls the vectors of a batch norm, and what `sepconv::models` does.
const BATCH_NORM: [(&str, &str); 4] =
    [("gamma", "gamma"), ("beta", "beta"), ("moving_mean", "mean"), ("moving_variance", "variance")];
