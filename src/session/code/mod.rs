//! The PyTorch code that does the same as a recipe, step by step: shown in the window, run by `tests/interop`.

mod images;
mod qat;
mod qconfig;
mod script;
mod training;

pub use self::script::torch_script;

use self::images::{dataset, transform};
use super::{CommandKind, Preprocess, Recipe, Stage, Step, View, WeightsChoice, WeightsOrigin};
use crate::quant::{Biases, QConfig};
use crate::zoo::ModelId;

/// What the code is for.
#[derive(Clone, Debug)]
pub struct CodeJob<'a> {
    /// Every choice.
    pub recipe: &'a Recipe,
    /// Length of the logits.
    pub classes: usize,
    /// How images become numbers, where that is known.
    pub preprocess: Option<Preprocess>,
    /// Whether the weights come from training: then the code trains too.
    pub trained: bool,
    /// The nodes of each site that fused, where that is known.
    pub sites: Vec<Vec<String>>,
}

impl<'a> CodeJob<'a> {
    /// As far as the steps are done.
    pub fn new(recipe: &'a Recipe, view: &View) -> Self {
        let done = view.stage_of(Step::Weights).map(AsRef::as_ref);
        Self {
            recipe,
            classes: view.stage().map_or(1000, |s| s.graph().classes()),
            preprocess: view.stage().map(|s| s.opened().preprocess),
            trained: matches!(done, Some(Stage::Weighted { origin: WeightsOrigin::Trained { .. }, .. }))
                || view.running == Some(CommandKind::Train),
            sites: match view.stage_of(Step::Fuse).map(AsRef::as_ref) {
                Some(Stage::Fused { report, .. }) => report.sites.iter().map(|s| s.nodes.clone()).collect(),
                Some(_) | None => Vec::new(),
            },
        }
    }
}

/// The code of one step.
pub fn torch_code(step: Step, job: &CodeJob<'_>) -> String {
    if let Some(own) = qat::code(step, job) {
        return own;
    }
    let model = job.recipe.model;
    match step {
        Step::Stubs => twin(model, job.classes),
        Step::Weights if job.trained => training::code(job, &job.recipe.train, ""),
        Step::Weights => {
            let file = match &job.recipe.weights {
                WeightsChoice::File(path) => path.display().to_string(),
                WeightsChoice::Automatic | WeightsChoice::Train => format!("{model}.pth"),
            };
            format!(
                "state = torch.load({file:?}, map_location=\"cpu\", weights_only=True)\nmodel.load_state_dict(state)\n"
            )
        }
        Step::Fuse => fuse(job),
        Step::Prepare => qconfig::prepare(&job.recipe.qconfig),
        Step::Calibrate => {
            let c = job.recipe.calibration;
            format!(
                "{}images = torch.utils.data.DataLoader(\n    {},\n    batch_size={}, shuffle=True)\n\n\
                 with torch.inference_mode():\n    for i, (x, _) in enumerate(images):\n        if i == {}:\n            break\n        model(x)\n",
                transform(job.preprocess, &job.recipe.data),
                dataset(&job.recipe.data),
                c.batch,
                c.batches
            )
        }
        Step::Convert => format!(
            "{}model = torch.ao.quantization.convert(model)\ntorch.save(model.state_dict(), \"{model}_int8.pth\")\n",
            biases(&job.recipe.qconfig)
        ),
    }
}

/// What PyTorch cannot do as Octet was asked to.
fn biases(config: &QConfig) -> &'static str {
    match config.biases {
        Biases::Float => "",
        Biases::Int32 => "# Biases stay float32: PyTorch does not round them to int32.\n",
    }
}

/// torchvision's quantizable twin, float.
fn twin(model: ModelId, classes: usize) -> String {
    let stubs = "# torchvision's quantizable twin has its QuantStub and DeQuantStub inside.\n";
    let made = match model {
        ModelId::ShuffleNetV2X05
        | ModelId::ShuffleNetV2X10
        | ModelId::ShuffleNetV2X15
        | ModelId::ShuffleNetV2X20
        | ModelId::MobileNetV3Large
        | ModelId::ResNet18
        | ModelId::ResNet50 => format!(
            "from torchvision.models import quantization as models\n\n\
             {stubs}model = models.{model}(weights=None, quantize=False, num_classes={classes})\n"
        ),
        ModelId::ResNet34 => format!(
            "from torchvision.models.quantization.resnet import QuantizableBasicBlock, QuantizableResNet\n\n\
             {stubs}model = QuantizableResNet(QuantizableBasicBlock, [3, 4, 6, 3], num_classes={classes})\n"
        ),
        ModelId::MobileNetV3Small => format!(
            "from torchvision.models.mobilenetv3 import _mobilenet_v3_conf\n\
             from torchvision.models.quantization.mobilenetv3 import QuantizableInvertedResidual, QuantizableMobileNetV3\n\n\
             {stubs}model = QuantizableMobileNetV3(\n    *_mobilenet_v3_conf(\"{model}\"), block=QuantizableInvertedResidual, \
             num_classes={classes})\n"
        ),
        ModelId::EfficientNetV2S => format!(
            "from torchvision import models\n\n# torchvision has no quantizable twin of this model: in PyTorch its stubs, sums and \
             products\n# would be put in by hand, and each SiLU would stand between DeQuantStub and QuantStub.\n\
             model = models.{model}(weights=None, num_classes={classes})\n"
        ),
    };
    format!("import torch\n{made}model.eval()\n")
}

/// The author's own list; with sites switched off, the list of those that are left.
fn fuse(job: &CodeJob<'_>) -> String {
    let unfused = &job.recipe.unfused;
    if unfused.is_empty() || job.sites.is_empty() {
        return "# Conv+BN, Conv+BN+ReLU and Linear+ReLU, as the model's author listed them.\n\
                model.fuse_model(is_qat=False)\n"
            .to_owned();
    }
    let apart: Vec<&str> = unfused.iter().map(String::as_str).collect();
    let sites = job.sites.iter().filter(|nodes| nodes.first().is_none_or(|n| !unfused.contains(n)));
    let lines: String = sites.map(|nodes| format!("    {nodes:?},\n")).collect();
    format!(
        "from torch.ao.quantization import fuse_modules\n\n# Left apart, as you chose: {}\n\
         fuse_modules(model, [\n{lines}], inplace=True)\n",
        apart.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Fit;
    use crate::graph::{ObserverKind, Scheme};
    use crate::quant::{Backend, Override, QConfig};

    #[test]
    fn the_code_holds_the_users_choices() {
        let mut recipe = Recipe::new(ModelId::ResNet18);
        recipe.qconfig = QConfig::new(Backend::Qnnpack).with_observer(ObserverKind::MinMax);
        recipe.calibration.batches = 7;
        let sites = vec![vec!["conv1".to_owned(), "bn1".to_owned()], vec!["fc".to_owned(), "relu".to_owned()]];
        let of = |step, recipe: &Recipe, trained| {
            let preprocess = Some(Preprocess::new(32, Fit::Pad));
            torch_code(step, &CodeJob { recipe, classes: 33, preprocess, trained, sites: sites.clone() })
        };
        assert!(of(Step::Fuse, &recipe, false).contains("fuse_model"));
        recipe.unfused.insert("fc".to_owned());
        let apart = of(Step::Fuse, &recipe, false);
        assert!(apart.contains("[\"conv1\", \"bn1\"]") && !apart.contains("[\"fc\""), "{apart}");
        let train = of(Step::Weights, &recipe, true);
        assert!(train.contains("AdamW(model.parameters(), lr=0.003, weight_decay=0.05)"), "{train}");
        assert!(train.contains("range(10)") && train.contains("batch_size=128"), "{train}");
        let code = |step| of(step, &recipe, false);
        assert!(code(Step::Calibrate).contains("v2.Normalize"), "{}", code(Step::Calibrate));
        assert!(code(Step::Stubs).contains("models.resnet18(weights=None, quantize=False, num_classes=33)"));
        assert!(code(Step::Prepare).contains("get_default_qconfig(\"qnnpack\")"));
        assert!(code(Step::Prepare).contains("MinMaxObserver.with_args(reduce_range=False)"));
        assert!(code(Step::Calibrate).contains("if i == 7:"));
        recipe.qconfig.activation.scheme = Scheme::Symmetric;
        recipe.qconfig = recipe.qconfig.with_bits(6).with_override("fc", Override::Float);
        let prepare = of(Step::Prepare, &recipe, false);
        assert!(prepare.contains("quant_min=0, quant_max=63, qscheme=torch.per_tensor_symmetric),\n"), "{prepare}");
        assert!(prepare.contains("per_tensor_symmetric, quant_min=-32, quant_max=31)"), "{prepare}");
        assert!(prepare.contains("model.get_submodule(\"fc\").qconfig = None"), "{prepare}");
        recipe.qconfig.activation.observer = ObserverKind::Mse;
        assert!(of(Step::Prepare, &recipe, false).contains("no MSE observer\n"), "a comment ends its line");
    }

    #[test]
    fn models_without_a_builder_of_their_own_are_made_by_hand() {
        for (model, expected) in [
            (ModelId::MobileNetV3Small, "QuantizableMobileNetV3("),
            (ModelId::ResNet34, "QuantizableResNet("),
            (ModelId::EfficientNetV2S, "no quantizable twin"),
        ] {
            assert!(twin(model, 7).contains(expected), "{model}");
        }
    }
}
