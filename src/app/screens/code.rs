use eframe::egui::{Label, RichText, ScrollArea, Ui};

use super::qat_code::qat_code;
use crate::app::choices::Choices;
use crate::app::theme::{self, Type};
use crate::app::workbench::Workbench;
use crate::session::{
    ActivationSpec, BITS, CommandKind, Fit, ModelId, ObserverKind, Optimizer, Override, Preprocess, QConfig, Scheme,
    Source, Stage, Step, TrainConfig, View, WeightSpec, WeightsOrigin,
};

/// The PyTorch code that does the same, with the user's choices in it.
pub(super) fn code_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(code) = code_of(bench.step, None, bench, view) else { return };
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

/// The code of a step, of the method that is chosen or (`by_qat`) of one of them; `None` before a model is open.
pub(in crate::app) fn code_of(step: Step, by_qat: Option<bool>, bench: &Workbench, view: &View) -> Option<String> {
    let recipe = view.recipe.as_ref()?;
    let classes = view.stage().map_or(1000, |s| s.graph().classes());
    let job = Job {
        model: recipe.model,
        classes,
        data: &recipe.data,
        preprocess: view.stage().map(|s| s.opened().preprocess),
        trained: trained(view),
        sites: match view.stage_of(Step::Fuse).map(AsRef::as_ref) {
            Some(Stage::Fused { report, .. }) => report.sites.iter().map(|s| s.nodes.clone()).collect(),
            Some(_) | None => Vec::new(),
        },
    };
    let by_qat = by_qat.unwrap_or(bench.choices.by_qat);
    let own = by_qat.then(|| qat_code(step, recipe.model, &bench.choices)).flatten();
    let plain = || {
        let code = code(step, &job, &bench.choices);
        match by_qat && step == Step::Weights {
            true => format!(
                "{code}\n# On to QAT in training mode: batch norms go on learning with the rest.\nmodel.train()\n"
            ),
            false => code,
        }
    };
    Some(own.unwrap_or_else(plain))
}

/// What the code is for, beside the choices.
struct Job<'a> {
    model: ModelId,
    classes: usize,
    data: &'a Source,
    preprocess: Option<Preprocess>,
    trained: bool,
    /// The nodes of each site that fused.
    sites: Vec<Vec<String>>,
}

/// Whether the weights come from training: then the code trains too.
fn trained(view: &View) -> bool {
    let done = view.stage_of(Step::Weights).map(AsRef::as_ref);
    matches!(done, Some(Stage::Weighted { origin: WeightsOrigin::Trained { .. }, .. }))
        || view.running == Some(CommandKind::Train)
}

fn code(step: Step, job: &Job<'_>, choices: &Choices) -> String {
    let Job { model, classes, .. } = job;
    match step {
        Step::Stubs => format!(
            "import torch\nfrom torchvision.models import quantization as models\n\n\
             # torchvision's quantizable twin has its QuantStub and DeQuantStub inside.\n\
             model = models.{model}(weights=None, quantize=False, num_classes={classes})\nmodel.eval()\n\n\
             # A model of your own gets them by a wrapper:\n\
             class Quantizable(torch.nn.Module):\n    def __init__(self, model):\n        \
             super().__init__()  # first: without it no module can be an attribute\n        \
             self.quant = torch.ao.quantization.QuantStub()\n        self.model = model\n        \
             self.dequant = torch.ao.quantization.DeQuantStub()\n\n    def forward(self, x):\n        \
             return self.dequant(self.model(self.quant(x)))\n"
        ),
        Step::Weights if job.trained => train(job, choices),
        Step::Weights => {
            let file = choices.weights().map_or(format!("{model}.pth"), |p| p.display().to_string());
            format!(
                "state = torch.load({file:?}, map_location=\"cpu\", weights_only=True)\nmodel.load_state_dict(state)\n"
            )
        }
        Step::Fuse => fuse(job, choices),
        Step::Prepare => prepare(choices),
        Step::Calibrate => {
            let c = choices.calibration;
            format!(
                "{}images = torch.utils.data.DataLoader(\n    {},\n    batch_size={}, shuffle=True)\n\n\
                 with torch.inference_mode():\n    for i, (x, _) in enumerate(images):\n        if i == {}:\n            break\n        model(x)\n",
                transform(job.preprocess, job.data),
                dataset(job.data),
                c.batch,
                c.batches
            )
        }
        Step::Convert => format!(
            "model = torch.ao.quantization.convert(model)\ntorch.save(model.state_dict(), \"{model}_int8.pth\")\n"
        ),
    }
}

fn dataset(data: &Source) -> String {
    match data {
        Source::Sample => "FashionMNIST(root, train=True, transform=transform)".to_owned(),
        Source::Path(path) => format!("ImageFolder({:?}, transform=transform)", path.display().to_string()),
    }
}

/// How an image becomes numbers, with the size, the fit and the normalization in force.
fn transform(preprocess: Option<Preprocess>, data: &Source) -> String {
    let Some(p) = preprocess else { return String::new() };
    let mut steps = Vec::new();
    if *data == Source::Sample {
        steps.push("v2.Grayscale(3)".to_owned());
    }
    match p.fit {
        Fit::Crop => {
            let resize = p.resize.unwrap_or(p.size * 256 / 224);
            steps.push(format!("v2.Resize({resize})"));
            steps.push(format!("v2.CenterCrop({})", p.size));
        }
        Fit::Pad => {
            steps.push(format!("v2.CenterCrop({})  # pads with black; larger images: v2.Resize before it", p.size))
        }
        Fit::Squash => steps.push(format!("v2.Resize(({0}, {0}))", p.size)),
    }
    steps.push("v2.ToImage()".to_owned());
    steps.push("v2.ToDtype(torch.float32, scale=True)".to_owned());
    steps.push(format!("v2.Normalize({:?}, {:?})", p.mean, p.std));
    let lines: String = steps
        .iter()
        .map(|step| match step.split_once("  #") {
            Some((code, comment)) => format!("    {code},  #{comment}\n"),
            None => format!("    {step},\n"),
        })
        .collect();
    let from = match data {
        Source::Sample => "from torchvision.datasets import FashionMNIST\n",
        Source::Path(_) => "from torchvision.datasets import ImageFolder\n",
    };
    format!("{from}from torchvision.transforms import v2\n\ntransform = v2.Compose([\n{lines}])\n")
}

/// The loop of this training, with its choices.
fn train(job: &Job<'_>, choices: &Choices) -> String {
    let c = choices.train;
    let optimizer = match c.optimizer {
        Optimizer::AdamW { weight_decay } => {
            format!("torch.optim.AdamW(model.parameters(), lr={}, weight_decay={weight_decay})", c.learning_rate)
        }
        Optimizer::Sgd { momentum, weight_decay, nesterov } => format!(
            "torch.optim.SGD(\n    model.parameters(), lr={}, momentum={momentum}, weight_decay={weight_decay}, nesterov={})",
            c.learning_rate,
            if nesterov { "True" } else { "False" }
        ),
    };
    let augment = if c.augment { "# Octet also flips and shifts the images at random.\n" } else { "" };
    let (transform, dataset) = (transform(job.preprocess, job.data), dataset(job.data));
    let TrainConfig { batch, warmup, epochs, label_smoothing, .. } = c;
    format!(
        "{transform}images = torch.utils.data.DataLoader(\n    {dataset},\n    batch_size={batch}, shuffle=True, drop_last=True)\n{augment}\
         optimizer = {optimizer}\n\nsteps = len(images)\nwarmup = int({warmup} * steps)\n\
         schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [\n\
         \x20   torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=warmup),\n\
         \x20   torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, {epochs} * steps - warmup),\n], [warmup])\n\n\
         model.train()\nfor epoch in range({epochs}):\n    for x, y in images:\n        optimizer.zero_grad()\n        \
         loss = torch.nn.functional.cross_entropy(model(x), y, label_smoothing={label_smoothing})\n        loss.backward()\n        \
         optimizer.step()\n        schedule.step()\nmodel.eval()\n"
    )
}

/// The author's own list; with sites switched off, the list of those that are left.
fn fuse(job: &Job<'_>, choices: &Choices) -> String {
    if choices.unfused.is_empty() || job.sites.is_empty() {
        return "# Conv+BN, Conv+BN+ReLU and Linear+ReLU, as the model's author listed them.\n\
                model.fuse_model(is_qat=False)\n"
            .to_owned();
    }
    let apart: Vec<&str> = choices.unfused.iter().map(String::as_str).collect();
    let sites = job.sites.iter().filter(|nodes| nodes.first().is_none_or(|n| !choices.unfused.contains(n)));
    let lines: String = sites.map(|nodes| format!("    {nodes:?},\n")).collect();
    format!(
        "from torch.ao.quantization import fuse_modules\n\n# Left apart, as you chose: {}\n\
         fuse_modules(model, [\n{lines}], inplace=True)\n",
        apart.join(", ")
    )
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
            Override::Int8 { activation: Some(ActivationSpec { fixed: Some([low, high]), .. }), .. } => format!(
                "# `{name}`: its range is set by hand. After calibrating:\n\
                 # observer = model.get_submodule(\"{name}\").activation_post_process\n\
                 # observer.min_val.fill_({low}); observer.max_val.fill_({high})  # with a MinMaxObserver\n"
            ),
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
        let mut job = Job {
            model: ModelId::ResNet18,
            classes: 33,
            data: &Source::Sample,
            preprocess: Some(Preprocess::new(32, Fit::Pad)),
            trained: false,
            sites: vec![vec!["conv1".to_owned(), "bn1".to_owned()], vec!["fc".to_owned(), "relu".to_owned()]],
        };
        let fuse = |job: &Job<'_>, choices: &Choices| super::code(Step::Fuse, job, choices);
        assert!(fuse(&job, &choices).contains("fuse_model"));
        choices.unfused.insert("fc".to_owned());
        let apart = fuse(&job, &choices);
        assert!(apart.contains("[\"conv1\", \"bn1\"]") && !apart.contains("[\"fc\""), "{apart}");
        job.trained = true;
        let train = super::code(Step::Weights, &job, &choices);
        assert!(train.contains("AdamW(model.parameters(), lr=0.003, weight_decay=0.05)"), "{train}");
        assert!(train.contains("range(10)") && train.contains("batch_size=128"), "{train}");
        job.trained = false;
        let code = |step| code(step, &job, &choices);
        assert!(code(Step::Calibrate).contains("v2.Normalize"), "{}", code(Step::Calibrate));
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
