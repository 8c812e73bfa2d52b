//! Octet's kernels and their tests, without the rest of Octet. `./run` says what for.

#[path = "../../src/kernels/mod.rs"]
pub mod kernels;
