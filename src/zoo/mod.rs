//! The models: one file per family, each building the float [`Graph`] of torchvision's architecture to the letter.
//!
//! Node names are torchvision's module paths, those of its *quantizable* twins where a residual sum or a concatenation
//! needs a name of its own (`layer1.0.add_relu`, `stage2.0.cat`). This room knows the graph and nothing else.

mod efficientnet;
mod init;
mod mobilenet;
mod resnet;
mod shufflenet;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Shape};

pub use init::init;

/// A model of the zoo; its name is torchvision's builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ModelId {
    /// Ma 2018, <https://arxiv.org/abs/1807.11164>.
    ShuffleNetV2X05,
    /// The same, wider.
    ShuffleNetV2X10,
    /// The same, wider.
    ShuffleNetV2X15,
    /// The same, wider.
    ShuffleNetV2X20,
    /// Howard 2019, <https://arxiv.org/abs/1905.02244>.
    MobileNetV3Small,
    /// The same paper.
    MobileNetV3Large,
    /// Tan 2021, <https://arxiv.org/abs/2104.00298>.
    EfficientNetV2S,
    /// He 2015, <https://arxiv.org/abs/1512.03385>.
    ResNet18,
    /// The same paper.
    ResNet34,
    /// The same paper, stride in the 3x3 convolution as torchvision has it.
    ResNet50,
}

/// How to build a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Length of the logits, 1 or more.
    pub classes: usize,
    /// Height and width of the image, 32 or more.
    pub size: usize,
}

/// The smallest image that every model of the zoo takes.
pub const MIN_SIZE: usize = 32;

/// The largest image, in pixels a side.
pub const MAX_SIZE: usize = 4096;

/// The most classes: three times those of ImageNet-21k. A head of them has half a gigabyte.
pub const MAX_CLASSES: usize = 1 << 16;

/// A configuration no model can be built with, or a name that no model bears.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZooError {
    /// Not in the zoo.
    #[error("unknown model `{found}`; expected one of {}", names())]
    UnknownModel {
        /// As typed.
        found: String,
    },
    /// Too small an image.
    #[error("image size {found}: expected {MIN_SIZE} or more")]
    Size {
        /// As asked.
        found: usize,
    },
    /// More than any data has.
    #[error("{classes} classes of images of {size} px: expected at most {MAX_CLASSES}, of {MAX_SIZE} px")]
    TooLarge {
        /// As asked.
        classes: usize,
        /// As asked.
        size: usize,
    },
    /// No classes.
    #[error("a classifier needs at least one class")]
    Classes,
}

impl ModelId {
    /// Every model, the smallest first.
    pub const ALL: [Self; 10] = [
        Self::ShuffleNetV2X05,
        Self::ShuffleNetV2X10,
        Self::ShuffleNetV2X15,
        Self::ShuffleNetV2X20,
        Self::MobileNetV3Small,
        Self::MobileNetV3Large,
        Self::EfficientNetV2S,
        Self::ResNet18,
        Self::ResNet34,
        Self::ResNet50,
    ];

    /// torchvision's builder.
    pub fn name(self) -> &'static str {
        match self {
            Self::ShuffleNetV2X05 => "shufflenet_v2_x0_5",
            Self::ShuffleNetV2X10 => "shufflenet_v2_x1_0",
            Self::ShuffleNetV2X15 => "shufflenet_v2_x1_5",
            Self::ShuffleNetV2X20 => "shufflenet_v2_x2_0",
            Self::MobileNetV3Small => "mobilenet_v3_small",
            Self::MobileNetV3Large => "mobilenet_v3_large",
            Self::EfficientNetV2S => "efficientnet_v2_s",
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::ResNet50 => "resnet50",
        }
    }

    /// As papers write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::ShuffleNetV2X05 => "ShuffleNetV2 x0.5",
            Self::ShuffleNetV2X10 => "ShuffleNetV2 x1.0",
            Self::ShuffleNetV2X15 => "ShuffleNetV2 x1.5",
            Self::ShuffleNetV2X20 => "ShuffleNetV2 x2.0",
            Self::MobileNetV3Small => "MobileNetV3 small",
            Self::MobileNetV3Large => "MobileNetV3 large",
            Self::EfficientNetV2S => "EfficientNetV2-S",
            Self::ResNet18 => "ResNet18",
            Self::ResNet34 => "ResNet34",
            Self::ResNet50 => "ResNet50",
        }
    }
}

fn names() -> String {
    ModelId::ALL.map(ModelId::name).join(", ")
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ModelId {
    type Err = ZooError;

    fn from_str(s: &str) -> Result<Self, ZooError> {
        Self::ALL.into_iter().find(|m| m.name() == s).ok_or_else(|| ZooError::UnknownModel { found: s.to_owned() })
    }
}

impl TryFrom<String> for ModelId {
    type Error = ZooError;

    fn try_from(s: String) -> Result<Self, ZooError> {
        s.parse()
    }
}

impl From<ModelId> for String {
    fn from(m: ModelId) -> Self {
        m.name().to_owned()
    }
}

/// Builds the float graph, parameters at zero (batch norm at the identity): [`init`] or a state dict fills them.
///
/// # Errors
/// [`ZooError::Size`] under [`MIN_SIZE`] pixels, [`ZooError::Classes`] for none, [`ZooError::TooLarge`].
pub fn build(model: ModelId, config: ModelConfig) -> Result<Graph, ZooError> {
    let ModelConfig { classes, size } = config;
    if size < MIN_SIZE {
        return Err(ZooError::Size { found: size });
    }
    if classes == 0 {
        return Err(ZooError::Classes);
    }
    if classes > MAX_CLASSES || size > MAX_SIZE {
        return Err(ZooError::TooLarge { classes, size });
    }
    let input = Shape::new(3, size, size);
    let name = model.name();
    Ok(match model {
        ModelId::ShuffleNetV2X05 => shufflenet::build(name, input, classes, [24, 48, 96, 192, 1024]),
        ModelId::ShuffleNetV2X10 => shufflenet::build(name, input, classes, [24, 116, 232, 464, 1024]),
        ModelId::ShuffleNetV2X15 => shufflenet::build(name, input, classes, [24, 176, 352, 704, 1024]),
        ModelId::ShuffleNetV2X20 => shufflenet::build(name, input, classes, [24, 244, 488, 976, 2048]),
        ModelId::MobileNetV3Small => mobilenet::build(name, input, classes, &mobilenet::SMALL),
        ModelId::MobileNetV3Large => mobilenet::build(name, input, classes, &mobilenet::LARGE),
        ModelId::EfficientNetV2S => efficientnet::build_v2_s(name, input, classes),
        ModelId::ResNet18 => resnet::build(name, input, classes, resnet::Block::Basic, [2, 2, 2, 2]),
        ModelId::ResNet34 => resnet::build(name, input, classes, resnet::Block::Basic, [3, 4, 6, 3]),
        ModelId::ResNet50 => resnet::build(name, input, classes, resnet::Block::Bottleneck, [3, 4, 6, 3]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::check;

    /// Parameters and MACs of torchvision's models at 33 classes and 224x224.
    #[test]
    fn sizes_are_torchvisions() {
        let expected = [
            (ModelId::ShuffleNetV2X05, 375_617, 39_486_240),
            (ModelId::MobileNetV3Small, 1_551_681, 55_520_192),
            (ModelId::MobileNetV3Large, 4_244_305, 215_352_000),
            (ModelId::EfficientNetV2S, 20_219_761, 2_848_658_112),
            (ModelId::ResNet18, 11_193_441, 1_813_578_240),
            (ModelId::ResNet50, 23_575_649, 4_087_203_840),
        ];
        for (model, params, macs) in expected {
            let graph = build(model, ModelConfig { classes: 33, size: 224 }).expect("a valid configuration");
            assert_eq!((graph.param_count(), graph.macs()), (params, macs), "{model}");
        }
    }

    #[test]
    fn every_model_builds_at_odd_sizes_and_class_counts() {
        for model in ModelId::ALL {
            for (classes, size) in [(1, 32), (10, 33), (1000, 97)] {
                let graph = build(model, ModelConfig { classes, size }).expect("a valid configuration");
                check(&graph).unwrap_or_else(|e| panic!("{model}: {e}"));
                assert_eq!(graph.classes(), classes);
            }
        }
    }

    #[test]
    fn names_come_back() {
        for model in ModelId::ALL {
            assert_eq!(model.name().parse(), Ok(model));
        }
        let error = "resnet19".parse::<ModelId>().expect_err("no such model").to_string();
        assert!(error.contains("resnet19") && error.contains("resnet18"), "{error}");
    }

    #[test]
    fn too_small_an_image_is_refused() {
        let config = ModelConfig { classes: 10, size: 31 };
        assert_eq!(build(ModelId::ResNet18, config), Err(ZooError::Size { found: 31 }));
    }
}
