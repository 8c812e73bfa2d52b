//! Observers and qconfigs, in PyTorch.

use crate::graph::{ActivationSpec, BITS, ObserverKind, Scheme, WeightSpec};
use crate::quant::{Override, QConfig};

/// Observers, with the choices in `config`.
pub(super) fn prepare(config: &QConfig) -> String {
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
