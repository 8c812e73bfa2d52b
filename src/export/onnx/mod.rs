//! ONNX, opset 17: the float network, or the int8 one in QDQ form.
//!
//! In QDQ form every uint8 activation is a `QuantizeLinear` followed by a `DequantizeLinear`, weights are int8 a channel,
//! and biases int32 with scale `si * sw`: what ONNX Runtime, OpenVINO and TensorRT fuse into integer kernels. Nodes and
//! parameters bear torchvision's names. A largest level below 255 is a `Clip` before the `QuantizeLinear`.
//!
//! Biases are the one place where numbers change: PyTorch's stay float32, here they are rounded to int32.

mod attribute;
mod fields;
mod proto;
mod read;
mod tensor;
mod write;

pub use read::decode;
pub use write::encode;

/// Version of the operator set.
pub const OPSET: i64 = 17;

#[cfg(test)]
mod tests;
