//! Training with fake quantization against PyTorch 2.9: `tests/golden/*.qat.*` hold what its eager mode computed, layer by
//! layer (`units`) and for whole networks. `OCTET_GOLDEN` names another folder of the same form. A network with random
//! weights amplifies one value that rounds the other way to the size of the quantization noise, and PyTorch is not itself
//! again after moving its input by 1e-6; each quantity is therefore held to what PyTorch holds itself to, and those that
//! it does not (gradients' entries and logits after training with rounding) are not compared at all.
//!
//! - `units`: the arithmetic: outputs, gradients, states, ranges, int8, of 13 single layers over three steps.
//! - `plain`: whole networks without rounding: wiring, gradients, optimizer, batch norm, observers.
//! - `rounded`: the same with rounding, as far as it is determined.
//! - `still`: nothing trained: evaluation and conversion; with PyTorch's ranges, int8 integer for integer.
//! - `grids`: scales and zero points from PyTorch's own ranges, and int8 weights by digest.
//!
//! `tampered` proves that none of them overlooks a changed number.

mod compare;
mod golden;
mod grids;
mod network;
mod plain;
mod rounded;
mod still;
#[path = "../pytorch_parity/synth.rs"]
mod synth;
mod tampered;
mod unit_graphs;
mod units;

/// One test a model.
macro_rules! for_each_model {
    ($compare:path) => {
        #[test]
        fn resnet18() {
            $crate::golden::compare_model("resnet18", $compare);
        }

        #[test]
        fn shufflenet_v2_x0_5() {
            $crate::golden::compare_model("shufflenet_v2_x0_5", $compare);
        }

        #[test]
        fn mobilenet_v3_small() {
            $crate::golden::compare_model("mobilenet_v3_small", $compare);
        }
    };
}
use for_each_model;
