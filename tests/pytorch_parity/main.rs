//! Octet against PyTorch 2.9: `tests/golden` holds what PyTorch computed for six models with synthetic weights, which
//! are made again here from their names. `OCTET_GOLDEN` names another folder of the same form: other seeds, class counts
//! and image sizes. Each comparison is a function from a golden pair to the first difference; `tampered` proves that none
//! of them overlooks a changed number.

mod calibrated;
mod float;
mod golden;
mod int8;
mod observers;
mod saturation;
mod synth;
mod tampered;
mod weights;

/// One test a model, each comparing both of its golden pairs.
macro_rules! for_each_model {
    ($compare:path) => {
        #[test]
        fn resnet18() {
            $crate::golden::compare_pairs(octet::zoo::ModelId::ResNet18, $compare);
        }

        #[test]
        fn resnet50() {
            $crate::golden::compare_pairs(octet::zoo::ModelId::ResNet50, $compare);
        }

        #[test]
        fn shufflenet_v2_x0_5() {
            $crate::golden::compare_pairs(octet::zoo::ModelId::ShuffleNetV2X05, $compare);
        }

        #[test]
        fn mobilenet_v3_small() {
            $crate::golden::compare_pairs(octet::zoo::ModelId::MobileNetV3Small, $compare);
        }

        #[test]
        fn mobilenet_v3_large() {
            $crate::golden::compare_pairs(octet::zoo::ModelId::MobileNetV3Large, $compare);
        }

        #[test]
        fn efficientnet_v2_s() {
            $crate::golden::compare_pairs(octet::zoo::ModelId::EfficientNetV2S, $compare);
        }
    };
}
use for_each_model;
