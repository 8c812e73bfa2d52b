//! The hot loops, on slices. This room knows nothing of graphs, files or tensors, and is the only one with `unsafe`.

pub mod float;
