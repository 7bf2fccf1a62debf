//! What the example needs beside the library: files from the packages that ship them, and readers of their formats.

pub mod assets;
pub mod graph_def;
pub mod keras;
pub mod photo;

/// What TensorFlow calls the vectors of a batch norm, and what `sepconv::models` does.
const BATCH_NORM: [(&str, &str); 4] =
    [("gamma", "gamma"), ("beta", "beta"), ("moving_mean", "mean"), ("moving_variance", "variance")];
