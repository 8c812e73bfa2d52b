//! PyTorch's code of the second method, with the user's choices in it.

use super::super::{Method, QatTraining, Step};
use super::{CodeJob, biases, training};
use crate::graph::ObserverKind;
use crate::quant::{Override, QConfig};

/// The code of a step, where the second method has its own.
pub(super) fn code(step: Step, job: &CodeJob<'_>) -> Option<String> {
    let recipe = job.recipe;
    let Method::Qat(training) = &recipe.method else { return None };
    let model = recipe.model;
    match step {
        Step::Stubs | Step::Weights => None,
        Step::Fuse => Some(
            "# In training mode: in eval mode fuse_modules would fold the batch norms away,\n\
             # and training needs them.\n\
             model.train()\nmodel.fuse_model(is_qat=True)  # torch.ao.quantization.fuse_modules_qat\n"
                .to_owned(),
        ),
        Step::Prepare => Some(prepare(&recipe.qconfig)),
        Step::Calibrate => Some(train(job, training)),
        Step::Convert => Some(format!(
            "{}# Weights become int8, activations uint8. PyTorch's int8 kernels clamp at 255 even where\n\
             # training clamped at 127; Octet's file keeps the clamp of training.\n\
             model.cpu().eval()\nmodel = torch.ao.quantization.convert(model)\n\
             torch.save(model.state_dict(), \"{model}_int8.pth\")\n",
            biases(&recipe.qconfig)
        )),
    }
}

fn prepare(config: &QConfig) -> String {
    let engine = config.name.name();
    let mut text = format!(
        "from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver\n\
         from torch.ao.quantization import QConfig, get_default_qat_qconfig, prepare_qat\n\n\
         torch.backends.quantized.engine = \"{engine}\"\nqconfig = get_default_qat_qconfig(\"{engine}\")\n"
    );
    if config.weight.observer == ObserverKind::MinMax
        && QConfig::new(config.name).weight.observer != ObserverKind::MinMax
    {
        text += "qconfig = QConfig(\n    activation=qconfig.activation,\n    weight=FakeQuantize.with_args(\n        \
                 observer=MovingAverageMinMaxObserver, quant_min=-128, quant_max=127,\n        \
                 dtype=torch.qint8, qscheme=torch.per_tensor_symmetric),\n)\n";
    }
    text += "model.qconfig = qconfig\n";
    for name in config.overrides.iter().filter(|(_, other)| **other == Override::Float).map(|(name, _)| name) {
        text += &format!(
            "model.get_submodule(\"{name}\").qconfig = None  # with DeQuantStub before and QuantStub behind it\n"
        );
    }
    text + "model.train()\nprepare_qat(model, inplace=True)\n"
}

fn train(job: &CodeJob<'_>, qat: &QatTraining) -> String {
    let config = qat.config();
    let freeze = format!(
        "    if epoch >= {}:\n        model.apply(torch.ao.quantization.disable_observer)\n    \
         if epoch >= {}:\n        model.apply(torch.ao.nn.intrinsic.qat.freeze_bn_stats)\n",
        config.freeze_observers, config.freeze_bn
    );
    training::code(job, &qat.train, &freeze)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Recipe;
    use crate::zoo::ModelId;

    #[test]
    fn the_second_method_fuses_and_prepares_in_training_mode() {
        let mut training = QatTraining::default();
        training.train.epochs = 20;
        let mut choices = Recipe { method: Method::Qat(training), ..Recipe::new(ModelId::ResNet18) };
        choices.qconfig.overrides.insert("fc".to_owned(), Override::Float);
        let of = |step, recipe: &Recipe| {
            let job = CodeJob { recipe, classes: 10, preprocess: None, trained: false, sites: Vec::new() };
            code(step, &job).unwrap_or_default()
        };
        assert!(of(Step::Fuse, &choices).contains("model.train()\nmodel.fuse_model(is_qat=True)"));
        let prepare = of(Step::Prepare, &choices);
        assert!(
            prepare.contains("get_default_qat_qconfig(\"x86\")") && prepare.contains("prepare_qat(model"),
            "{prepare}"
        );
        assert!(prepare.contains("model.get_submodule(\"fc\").qconfig = None"), "{prepare}");
        assert!(!prepare.contains("per_tensor"), "{prepare}");
        let train = of(Step::Calibrate, &choices);
        assert!(train.contains("range(20)") && train.contains("epoch >= 8") && train.contains("epoch >= 6"), "{train}");
        assert!(train.contains("images = ") && train.contains("lr=0.0003,"), "{train}");
        choices.qconfig.weight.observer = ObserverKind::MinMax;
        assert!(of(Step::Prepare, &choices).contains("torch.per_tensor_symmetric"));
    }
}
