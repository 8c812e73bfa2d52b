use eframe::egui::{Label, RichText, ScrollArea, Ui};

use crate::app::choices::Choices;
use crate::app::theme::{self, Type};
use crate::app::workbench::Workbench;
use crate::session::{
    ActivationSpec, BITS, ModelId, ObserverKind, Override, QConfig, Scheme, Source, Step, View, WeightSpec,
};

/// The PyTorch code that does the same, with the user's choices in it.
pub(super) fn code_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(recipe) = &view.recipe else { return };
    let classes = view.stage().map_or(1000, |s| s.graph().classes());
    let own =
        bench.choices.by_qat.then(|| super::qat_code::qat_code(bench.step, recipe.model, &bench.choices)).flatten();
    let code = own.unwrap_or_else(|| code(bench.step, recipe.model, classes, &recipe.data, &bench.choices));
    let p = theme::palette(ui);
    ui.horizontal(|ui| {
        ui.label(RichText::new("The same in PyTorch, with your choices").color(p.weak));
        if ui.button("Copy code").clicked() {
            ui.ctx().copy_text(code.clone());
        }
    });
    ScrollArea::both().auto_shrink(false).show(ui, |ui| {
        theme::card_frame(ui).show(ui, |ui| {
            ui.add(Label::new(RichText::new(&code).font(Type::Body.mono()).color(p.text)).selectable(true).extend());
        });
    });
}

fn code(step: Step, model: ModelId, classes: usize, data: &Source, choices: &Choices) -> String {
    match step {
        Step::Stubs => format!(
            "import torch\nfrom torchvision.models import quantization as models\n\n\
             # torchvision's quantizable twin has its QuantStub and DeQuantStub inside.\n\
             model = models.{model}(weights=None, quantize=False, num_classes={classes})\nmodel.eval()\n"
        ),
        Step::Weights => {
            let file = choices.weights().map_or(format!("{model}.pth"), |p| p.display().to_string());
            format!(
                "state = torch.load({file:?}, map_location=\"cpu\", weights_only=True)\nmodel.load_state_dict(state)\n"
            )
        }
        Step::Fuse => "# Conv+BN, Conv+BN+ReLU and Linear+ReLU, as the model's author listed them.\n\
                       model.fuse_model(is_qat=False)\n"
            .to_owned(),
        Step::Prepare => prepare(choices),
        Step::Calibrate => {
            let from = match data {
                Source::Sample => "FashionMNIST(root, train=True, transform=transform)".to_owned(),
                Source::Path(path) => format!("ImageFolder({:?}, transform=transform)", path.display().to_string()),
            };
            let c = choices.calibration;
            format!(
                "images = torch.utils.data.DataLoader(\n    {from},\n    batch_size={}, shuffle=True)\n\n\
                 with torch.inference_mode():\n    for i, (x, _) in enumerate(images):\n        if i == {}:\n            break\n        model(x)\n",
                c.batch, c.batches
            )
        }
        Step::Convert => format!(
            "model = torch.ao.quantization.convert(model)\ntorch.save(model.state_dict(), \"{model}_int8.pth\")\n"
        ),
    }
}

fn prepare(choices: &Choices) -> String {
    let config = &choices.qconfig;
    let engine = config.name.name();
    let mut code = format!(
        "from torch.ao.quantization import QConfig, get_default_qconfig, prepare\n\n\
         torch.backends.quantized.engine = \"{engine}\"\nqconfig = get_default_qconfig(\"{engine}\")\n"
    );
    let plain = QConfig::new(config.name);
    if (config.activation, config.weight) != (plain.activation, plain.weight) {
        let (activation, weight) = (activation(config.activation), weight(config.weight));
        let mut imports = vec![activation.0, weight.0];
        imports.sort_unstable();
        imports.dedup();
        code += &format!(
            "from torch.ao.quantization import {}\nqconfig = QConfig(\n    activation={}\n    weight={},\n)\n",
            imports.join(", "),
            activation.1,
            weight.1
        );
    }
    code += "model.qconfig = qconfig\n";
    for (name, other) in &config.overrides {
        code += &match other {
            // What PyTorch's user adds by hand, Octet puts there itself.
            Override::Float => {
                format!(
                    "model.get_submodule(\"{name}\").qconfig = None  # with DeQuantStub before and QuantStub behind it\n"
                )
            }
            Override::Int8 { activation: own, weight: own_weight } => format!(
                "model.get_submodule(\"{name}\").qconfig = QConfig(\n    activation={}\n    weight={},\n)\n",
                activation(own.unwrap_or(config.activation)).1,
                weight(own_weight.unwrap_or(config.weight)).1
            ),
        };
    }
    code + "prepare(model, inplace=True)\n"
}

/// PyTorch's observer, and how it is made.
fn activation(spec: ActivationSpec) -> (&'static str, String) {
    let (observer, note) = match spec.observer {
        ObserverKind::MinMax | ObserverKind::PerChannelMinMax => ("MinMaxObserver", ""),
        ObserverKind::MovingAverageMinMax => ("MovingAverageMinMaxObserver", ""),
        ObserverKind::Histogram => ("HistogramObserver", ""),
        ObserverKind::Percentile => ("HistogramObserver", "  # the nearest: PyTorch has no percentile observer"),
        ObserverKind::Mse => ("HistogramObserver", "  # the nearest: PyTorch has no MSE observer"),
        ObserverKind::Entropy => ("HistogramObserver", "  # the nearest: PyTorch has no entropy observer"),
    };
    let scheme = match spec.scheme {
        Scheme::Affine => "",
        Scheme::Symmetric => ", qscheme=torch.per_tensor_symmetric",
    };
    let levels = match (spec.bits < BITS, spec.quant_max) {
        (true, most) => format!("quant_min=0, quant_max={most}"),
        (false, 127) => "reduce_range=True".to_owned(),
        (false, _) => "reduce_range=False".to_owned(),
    };
    (observer, format!("{observer}.with_args({levels}{scheme}),{note}"))
}

/// The same of a weight.
fn weight(spec: WeightSpec) -> (&'static str, String) {
    let per_tensor = spec.observer == ObserverKind::MinMax;
    let (observer, per) =
        if per_tensor { ("MinMaxObserver", "tensor") } else { ("PerChannelMinMaxObserver", "channel") };
    let scheme = match spec.scheme {
        Scheme::Symmetric => "symmetric",
        Scheme::Affine => "affine",
    };
    let levels = if spec.bits < BITS {
        let half = 1_i32 << (spec.bits - 1);
        format!(", quant_min={}, quant_max={}", -half, half - 1)
    } else {
        String::new()
    };
    (observer, format!("{observer}.with_args(dtype=torch.qint8, qscheme=torch.per_{per}_{scheme}{levels})"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::session::Backend;

    #[test]
    fn the_code_holds_the_users_choices() {
        let mut choices = Choices::new(PathBuf::new());
        choices.take_backend(Backend::Qnnpack);
        choices.qconfig.activation.observer = ObserverKind::MinMax;
        choices.calibration.batches = 7;
        let code = |step| code(step, ModelId::ResNet18, 33, &Source::Sample, &choices);
        assert!(code(Step::Stubs).contains("models.resnet18(weights=None, quantize=False, num_classes=33)"));
        assert!(code(Step::Prepare).contains("get_default_qconfig(\"qnnpack\")"));
        assert!(code(Step::Prepare).contains("MinMaxObserver.with_args(reduce_range=False)"));
        assert!(code(Step::Calibrate).contains("if i == 7:"));
        choices.qconfig.activation.scheme = Scheme::Symmetric;
        choices.take_bits(6);
        choices.qconfig.overrides.insert("fc".to_owned(), Override::Float);
        let prepare = super::prepare(&choices);
        assert!(prepare.contains("quant_min=0, quant_max=63, qscheme=torch.per_tensor_symmetric),\n"), "{prepare}");
        assert!(prepare.contains("per_tensor_symmetric, quant_min=-32, quant_max=31)"), "{prepare}");
        assert!(prepare.contains("model.get_submodule(\"fc\").qconfig = None"), "{prepare}");
        choices.qconfig.activation.observer = ObserverKind::Mse;
        assert!(super::prepare(&choices).contains("no MSE observer\n"), "a comment ends its line");
    }
}
