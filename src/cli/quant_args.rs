use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

use crate::session::{
    ActivationSpec, BITS, Backend, Biases, FEWEST_BITS, ObserverKind, Override, PERCENTILE, QConfig, Scheme, WeightSpec,
};

/// How activations and weights become int8.
#[derive(Debug, Args)]
#[command(next_help_heading = "Quantization")]
pub struct QuantArgs {
    /// Observers and ranges as PyTorch's default qconfig of this name has them
    #[arg(long, default_value_t = Backend::X86)]
    qconfig: Backend,
    /// Observer of activations [default: the qconfig's]
    #[arg(long, value_enum)]
    observer: Option<ObserverArg>,
    /// Percent of the values that the percentile observer keeps
    #[arg(long, default_value_t = PERCENTILE, value_name = "P", value_parser = percentile)]
    percentile: f32,
    /// Levels of activations: spanning what was seen, or as many on each side of zero
    #[arg(long, value_enum, default_value_t = SchemeArg::Affine)]
    scheme: SchemeArg,
    /// Scales of a weight [default: the qconfig's]
    #[arg(long, value_enum)]
    weights_per: Option<GranularityArg>,
    /// Levels of weights; affine ones are for study: measured in fake quantization, without an int8 file
    #[arg(long, value_enum, default_value_t = SchemeArg::Symmetric)]
    weight_scheme: SchemeArg,
    /// Bits of activations and weights; 4 to 7 are for study: also measured in fake quantization, stored as int8
    #[arg(long, default_value_t = BITS, value_name = "N", value_parser = bits)]
    bits: u8,
    /// Bits of weights alone [default: --bits]
    #[arg(long, value_name = "N", value_parser = bits)]
    weight_bits: Option<u8>,
    /// Biases of int8 layers: float32 as PyTorch has them, or on int32's levels, so that ONNX computes the same
    #[arg(long, value_enum, default_value_t = BiasesArg::Float)]
    biases: BiasesArg,
    /// Layers that are left in float, by name: layer1.0.conv1,fc
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    float_layers: Vec<String>,
    /// What one layer has of its own, repeatable: fc=float, conv1=observer=mse,bits=6. Keys: observer, percentile,
    /// scheme, bits, range (of its output, as range=-1.5..2); weights-per, weight-scheme, weight-bits
    #[arg(long = "override", value_name = "NAME=CHOICES", value_parser = parse_override)]
    overrides: Vec<OverrideArg>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ObserverArg {
    /// The clip that loses least of a histogram, as PyTorch searches it
    Histogram,
    /// The smallest and the largest value
    Minmax,
    /// Each batch's extremes, averaged
    MovingAverage,
    /// The range that holds --percentile percent of the values
    Percentile,
    /// The range whose levels have the smallest mean squared error
    Mse,
    /// The range with the smallest Kullback-Leibler divergence, as TensorRT's
    Entropy,
}

impl ObserverArg {
    fn kind(self) -> ObserverKind {
        match self {
            Self::Minmax => ObserverKind::MinMax,
            Self::MovingAverage => ObserverKind::MovingAverageMinMax,
            Self::Histogram => ObserverKind::Histogram,
            Self::Percentile => ObserverKind::Percentile,
            Self::Mse => ObserverKind::Mse,
            Self::Entropy => ObserverKind::Entropy,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SchemeArg {
    /// As many levels on each side of zero
    Symmetric,
    /// Levels that span what there is, zero among them
    Affine,
}

impl SchemeArg {
    fn scheme(self) -> Scheme {
        match self {
            Self::Symmetric => Scheme::Symmetric,
            Self::Affine => Scheme::Affine,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GranularityArg {
    /// One for each output channel
    Channel,
    /// One for the whole weight
    Tensor,
}

impl GranularityArg {
    fn observer(self) -> ObserverKind {
        match self {
            Self::Channel => ObserverKind::PerChannelMinMax,
            Self::Tensor => ObserverKind::MinMax,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BiasesArg {
    /// float32
    Float,
    /// Rounded to the scale of the sums
    Int32,
}

impl BiasesArg {
    fn biases(self) -> Biases {
        match self {
            Self::Float => Biases::Float,
            Self::Int32 => Biases::Int32,
        }
    }
}

/// `NAME=CHOICES`, before it is known what the rest of the model has.
#[derive(Clone, Debug, PartialEq)]
struct OverrideArg {
    node: String,
    choices: Choices,
}

#[derive(Clone, Debug, PartialEq)]
enum Choices {
    Float,
    Int8(Box<Own>),
}

/// What is said of one layer; the rest is the model's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Own {
    observer: Option<ObserverArg>,
    percentile: Option<f32>,
    scheme: Option<SchemeArg>,
    bits: Option<u8>,
    range: Option<[f32; 2]>,
    weights_per: Option<GranularityArg>,
    weight_scheme: Option<SchemeArg>,
    weight_bits: Option<u8>,
}

impl Own {
    fn activation(&self, of: ActivationSpec) -> Option<ActivationSpec> {
        let Self { observer, percentile, scheme, bits, range, .. } = *self;
        let any = observer.is_some() || percentile.is_some() || scheme.is_some() || bits.is_some() || range.is_some();
        any.then(|| ActivationSpec {
            observer: observer.map_or(of.observer, ObserverArg::kind),
            percentile: percentile.unwrap_or(of.percentile),
            scheme: scheme.map_or(of.scheme, SchemeArg::scheme),
            fixed: range.or(of.fixed),
            ..of.with_bits(bits.unwrap_or(of.bits))
        })
    }

    fn weight(&self, of: WeightSpec) -> Option<WeightSpec> {
        let Self { weights_per, weight_scheme, weight_bits, .. } = *self;
        (weights_per.is_some() || weight_scheme.is_some() || weight_bits.is_some()).then(|| WeightSpec {
            observer: weights_per.map_or(of.observer, GranularityArg::observer),
            scheme: weight_scheme.map_or(of.scheme, SchemeArg::scheme),
            bits: weight_bits.unwrap_or(of.bits),
        })
    }
}

impl QuantArgs {
    /// Every choice, the rest as the qconfig has it.
    pub fn qconfig(&self) -> QConfig {
        let plain = QConfig::new(self.qconfig);
        let activation = ActivationSpec {
            observer: self.observer.map_or(plain.activation.observer, ObserverArg::kind),
            percentile: self.percentile,
            scheme: self.scheme.scheme(),
            ..plain.activation.with_bits(self.bits)
        };
        let weight = WeightSpec {
            observer: self.weights_per.map_or(plain.weight.observer, GranularityArg::observer),
            scheme: self.weight_scheme.scheme(),
            bits: self.weight_bits.unwrap_or(self.bits),
        };
        let mut overrides: BTreeMap<String, Override> =
            self.float_layers.iter().map(|name| (name.trim().to_owned(), Override::Float)).collect();
        for OverrideArg { node, choices } in &self.overrides {
            let other = match choices {
                Choices::Float => Override::Float,
                Choices::Int8(own) => {
                    Override::Int8 { activation: own.activation(activation), weight: own.weight(weight) }
                }
            };
            overrides.insert(node.clone(), other);
        }
        QConfig { activation, weight, biases: self.biases.biases(), overrides, ..plain }
    }

    /// The same for training with fake quantization, whose ranges are moving averages.
    pub fn for_qat(&self) -> QConfig {
        let mut config = self.qconfig();
        config.activation.observer = ObserverKind::MovingAverageMinMax;
        config
    }

    /// That training with fake quantization can do what was chosen.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check_qat(&self) -> Result<(), String> {
        if self.observer.is_some_and(|o| o != ObserverArg::MovingAverage) {
            return Err("--observer: training with fake quantization follows moving averages: leave it out".to_owned());
        }
        if self.weight_scheme == SchemeArg::Affine {
            return Err("--weight-scheme affine: no int8 kernel computes affine weights: leave it out".to_owned());
        }
        Ok(())
    }

    /// That no layer is chosen for twice.
    ///
    /// # Errors
    /// A sentence that names the layer.
    pub fn check(&self) -> Result<(), String> {
        let mut names: Vec<&str> = self.float_layers.iter().map(|n| n.trim()).collect();
        names.extend(self.overrides.iter().map(|o| o.node.as_str()));
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("`{}` is chosen for twice (--override, --float-layers): say it once", pair[0])),
            None => Ok(()),
        }
    }
}

fn percentile(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(percent) if percent > 50.0 && percent <= 100.0 => Ok(percent),
        Ok(_) | Err(_) => Err("expected a percentage above 50 and 100 at most".to_owned()),
    }
}

fn bits(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(bits) if (FEWEST_BITS..=BITS).contains(&bits) => Ok(bits),
        Ok(_) | Err(_) => Err(format!("expected {BITS}, or {FEWEST_BITS} to {} for study", BITS - 1)),
    }
}

fn range(text: &str) -> Result<[f32; 2], String> {
    let ends = text.split_once("..").and_then(|(low, high)| Some([low.parse().ok()?, high.parse().ok()?]));
    ends.filter(|[low, high]: &[f32; 2]| low.is_finite() && high.is_finite() && low < high)
        .ok_or_else(|| "expected two numbers, as -1.5..2".to_owned())
}

fn parse_override(text: &str) -> Result<OverrideArg, String> {
    let (node, choices) = text.split_once('=').ok_or("expected NAME=float or NAME=KEY=VALUE,…")?;
    let node = node.trim();
    if node.is_empty() {
        return Err("expected the name of a layer before `=`".to_owned());
    }
    if choices.trim() == "float" {
        return Ok(OverrideArg { node: node.to_owned(), choices: Choices::Float });
    }
    let mut own = Own::default();
    for choice in choices.split(',') {
        let (key, value) = choice.split_once('=').ok_or_else(|| format!("`{choice}`: expected float, or KEY=VALUE"))?;
        let value = value.trim();
        match key.trim() {
            "observer" => own.observer = Some(ObserverArg::from_str(value, true)?),
            "percentile" => {
                own.percentile = Some(percentile(value).map_err(|e| format!("`{value}`: {e}"))?);
            }
            "scheme" => own.scheme = Some(SchemeArg::from_str(value, true)?),
            "bits" => own.bits = Some(bits(value).map_err(|e| format!("`{value}`: {e}"))?),
            "range" => own.range = Some(range(value).map_err(|e| format!("`{value}`: {e}"))?),
            "weights-per" => own.weights_per = Some(GranularityArg::from_str(value, true)?),
            "weight-scheme" => own.weight_scheme = Some(SchemeArg::from_str(value, true)?),
            "weight-bits" => own.weight_bits = Some(bits(value).map_err(|e| format!("`{value}`: {e}"))?),
            other => {
                return Err(format!(
                    "unknown key `{other}`: expected observer, percentile, scheme, bits, range, weights-per, weight-scheme \
                     or weight-bits"
                ));
            }
        }
    }
    Ok(OverrideArg { node: node.to_owned(), choices: Choices::Int8(Box::new(own)) })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        quant: QuantArgs,
    }

    fn parse(flags: &[&str]) -> Result<QConfig, String> {
        let line = Line::try_parse_from([&["octet"], flags].concat()).map_err(|e| e.to_string())?;
        line.quant.check()?;
        Ok(line.quant.qconfig())
    }

    #[test]
    fn without_flags_it_is_pytorchs_qconfig() {
        assert_eq!(parse(&[]), Ok(QConfig::default()));
        assert_eq!(parse(&["--qconfig", "qnnpack"]), Ok(QConfig::new(Backend::Qnnpack)));
    }

    #[test]
    fn every_choice_arrives() {
        let config = parse(&[
            "--observer",
            "entropy",
            "--scheme",
            "symmetric",
            "--weights-per",
            "tensor",
            "--weight-scheme",
            "affine",
            "--bits",
            "6",
            "--weight-bits",
            "4",
            "--float-layers",
            "fc, conv1",
            "--override",
            "layer1.0.conv1=observer=percentile,percentile=99.5,bits=8",
            "--override",
            "layer1.0.conv2=weights-per=channel",
            "--override",
            "layer2.0.conv1=range=-0.5..2",
        ])
        .expect("all are flags");
        assert_eq!(config.activation.observer, ObserverKind::Entropy);
        assert_eq!(
            (config.activation.scheme, config.activation.bits, config.activation.quant_max),
            (Scheme::Symmetric, 6, 63)
        );
        let weight = WeightSpec { observer: ObserverKind::MinMax, scheme: Scheme::Affine, bits: 4 };
        assert_eq!(config.weight, weight);
        assert_eq!((config.weight_of("fc"), config.activation_of("conv1")), (None, None));
        let own = config.activation_of("layer1.0.conv1").expect("it is int8");
        assert_eq!((own.observer, own.percentile, own.bits, own.quant_max), (ObserverKind::Percentile, 99.5, 8, 255));
        assert_eq!(config.weight_of("layer1.0.conv1"), Some(weight), "what is not said is the model's");
        let own = config.activation_of("layer2.0.conv1").expect("it is int8");
        assert_eq!((own.fixed, own.observer), (Some([-0.5, 2.0]), config.activation.observer));
        let per_channel = WeightSpec { observer: ObserverKind::PerChannelMinMax, ..weight };
        assert_eq!(config.weight_of("layer1.0.conv2"), Some(per_channel));
    }

    #[test]
    fn what_is_not_a_choice_is_said() {
        for (flags, named) in [
            (&["--bits", "3"][..], "4 to 7"),
            (&["--percentile", "30"], "above 50"),
            (&["--override", "fc"], "NAME=float"),
            (&["--override", "=float"], "name of a layer"),
            (&["--override", "fc=int4"], "KEY=VALUE"),
            (&["--override", "fc=observer=best"], "best"),
            (&["--override", "fc=weights=tensor"], "weights-per"),
            (&["--override", "fc=range=2..1"], "-1.5..2"),
            (&["--float-layers", "fc,conv1", "--override", "fc=bits=6"], "`fc` is chosen for twice"),
        ] {
            let error = parse(flags).expect_err("no such choice");
            assert!(error.contains(named), "{flags:?}: {error}");
        }
    }
}
