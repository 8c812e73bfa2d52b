use eframe::egui::{Label, RichText, ScrollArea, Ui};

use crate::app::choices::Choices;
use crate::app::theme::{self, Type};
use crate::app::workbench::Workbench;
use crate::session::{Backend, ModelId, ObserverKind, Source, Step, View};

/// The PyTorch code that does the same, with the user's choices in it.
pub(super) fn code_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(recipe) = &view.recipe else { return };
    let classes = view.stage().map_or(1000, |s| s.graph().classes());
    let code = code(bench.step, recipe.model, classes, &recipe.data, &bench.choices);
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
    let backend = choices.backend;
    let engine = match backend {
        Backend::X86 | Backend::Fbgemm | Backend::Onednn | Backend::Qnnpack => backend.name(),
    };
    let mut code = format!(
        "from torch.ao.quantization import QConfig, get_default_qconfig, prepare\n\n\
         torch.backends.quantized.engine = \"{engine}\"\nqconfig = get_default_qconfig(\"{engine}\")\n"
    );
    let observer = match choices.observer {
        ObserverKind::Histogram
        | ObserverKind::Percentile
        | ObserverKind::Mse
        | ObserverKind::Entropy
        | ObserverKind::PerChannelMinMax => None,
        ObserverKind::MinMax => Some("MinMaxObserver"),
        ObserverKind::MovingAverageMinMax => Some("MovingAverageMinMaxObserver"),
    };
    if let Some(observer) = observer {
        let reduced = match backend {
            Backend::X86 | Backend::Fbgemm => "True",
            Backend::Onednn | Backend::Qnnpack => "False",
        };
        code += &format!(
            "from torch.ao.quantization import {observer}\n\
             qconfig = QConfig(activation={observer}.with_args(reduce_range={reduced}), weight=qconfig.weight)\n"
        );
    }
    code + "model.qconfig = qconfig\nprepare(model, inplace=True)\n"
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_code_holds_the_users_choices() {
        let mut choices = Choices::new(PathBuf::new());
        choices.backend = Backend::Qnnpack;
        choices.observer = ObserverKind::MinMax;
        choices.calibration.batches = 7;
        let code = |step| code(step, ModelId::ResNet18, 33, &Source::Sample, &choices);
        assert!(code(Step::Stubs).contains("models.resnet18(weights=None, quantize=False, num_classes=33)"));
        assert!(code(Step::Prepare).contains("get_default_qconfig(\"qnnpack\")"));
        assert!(code(Step::Prepare).contains("MinMaxObserver.with_args(reduce_range=False)"));
        assert!(code(Step::Calibrate).contains("if i == 7:"));
    }
}
