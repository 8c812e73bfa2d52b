//! Octet takes a vision model from float32 to int8, one visible step at a time. `ARCHITECTURE.md` has the map.

pub mod analysis;
pub mod app;
pub mod buffers;
pub mod chart;
pub mod cli;
pub mod data;
pub mod download;
pub mod exec;
pub mod export;
pub mod graph;
pub mod int8_model;
pub mod kernels;
pub mod quant;
pub mod session;
pub mod train;
pub mod weights;
pub mod zoo;

pub use int8_model::Int8Model;
