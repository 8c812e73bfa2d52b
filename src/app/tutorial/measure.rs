//! What a learner guesses before it is measured, and the measurement.

use serde::Deserialize;

use crate::app::number;
use crate::session::{Stage, Step, View};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Of the float model, on held-out images.
    FloatAccuracy,
    /// By the step *Fuse*.
    SitesFused,
    /// By the step *Prepare*.
    Observers,
    /// After calibration, on a sample.
    IfConverted,
    /// Of the fake-quantized model after training.
    FakeAccuracy,
    /// Of the int8 model.
    Int8Accuracy,
    /// The float file over the int8 file.
    Shrink,
    /// Float accuracy less int8's, in points.
    PointsLost,
    /// The layer whose weights lose most by rounding.
    WorstLayer,
}

/// A guess or a measurement.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// In the measure's unit.
    Number(f64),
    /// By name.
    Layer(String),
}

impl Measure {
    /// The word that guesses are kept under.
    pub fn key(self) -> &'static str {
        match self {
            Self::FloatAccuracy => "float-accuracy",
            Self::SitesFused => "sites-fused",
            Self::Observers => "observers",
            Self::IfConverted => "if-converted",
            Self::FakeAccuracy => "fake-accuracy",
            Self::Int8Accuracy => "int8-accuracy",
            Self::Shrink => "shrink",
            Self::PointsLost => "points-lost",
            Self::WorstLayer => "worst-layer",
        }
    }

    /// Between what a guess lies, where it begins, and how fast it is dragged; `None` where it is a layer.
    pub fn scale(self) -> Option<(std::ops::RangeInclusive<f64>, f64, f64)> {
        match self {
            Self::FloatAccuracy | Self::IfConverted | Self::FakeAccuracy | Self::Int8Accuracy => {
                Some((0.0..=100.0, 50.0, 0.5))
            }
            Self::SitesFused | Self::Observers => Some((0.0..=1000.0, 10.0, 0.5)),
            Self::Shrink => Some((0.1..=32.0, 1.0, 0.05)),
            Self::PointsLost => Some((-100.0..=100.0, 0.0, 0.1)),
            Self::WorstLayer => None,
        }
    }

    /// Digits that a guess has behind its point.
    pub fn decimals(self) -> usize {
        match self {
            Self::SitesFused | Self::Observers | Self::WorstLayer => 0,
            Self::FloatAccuracy | Self::IfConverted | Self::FakeAccuracy | Self::Int8Accuracy => 1,
            Self::Shrink | Self::PointsLost => 2,
        }
    }

    /// Behind the number.
    pub fn unit(self) -> &'static str {
        match self {
            Self::FloatAccuracy | Self::IfConverted | Self::FakeAccuracy | Self::Int8Accuracy => "\u{2009}%",
            Self::SitesFused => " sites",
            Self::Observers => " observers",
            Self::Shrink => "\u{d7}",
            Self::PointsLost => " points",
            Self::WorstLayer => "",
        }
    }

    /// In words.
    pub fn say(self, found: &Found) -> String {
        match found {
            Found::Layer(name) => name.clone(),
            Found::Number(v) => match self {
                Self::SitesFused | Self::Observers => format!("{v:.0}{}", self.unit()),
                Self::FloatAccuracy | Self::IfConverted | Self::FakeAccuracy | Self::Int8Accuracy => {
                    number::percent(v / 100.0)
                }
                Self::Shrink | Self::PointsLost | Self::WorstLayer => {
                    format!("{}{}", number::number((v * 100.0).round() / 100.0), self.unit())
                }
            },
        }
    }

    /// The measurement, once it was made.
    pub fn found(self, view: &View) -> Option<Found> {
        let percent = |a: f64| Some(Found::Number(a * 100.0));
        match self {
            Self::FloatAccuracy => match view.stage_of(Step::Weights)?.as_ref() {
                Stage::Weighted { accuracy, .. } => percent((*accuracy)?),
                _ => None,
            },
            Self::SitesFused => match view.stage_of(Step::Fuse)?.as_ref() {
                Stage::Fused { report, .. } => Some(Found::Number(report.sites.len() as f64)),
                _ => None,
            },
            Self::Observers => match view.stage_of(Step::Prepare)?.as_ref() {
                Stage::Prepared { report, .. } => Some(Found::Number(report.observed.len() as f64)),
                _ => None,
            },
            Self::IfConverted => {
                view.stage_of(Step::Calibrate)?;
                percent(view.if_converted.last()?.accuracy)
            }
            Self::FakeAccuracy => match view.stage_of(Step::Calibrate)?.as_ref() {
                Stage::Trained { accuracy, .. } => percent((*accuracy)?),
                _ => None,
            },
            Self::Int8Accuracy => match view.stage_of(Step::Convert)?.as_ref() {
                Stage::Saved { measured, .. } => percent(measured.int8.accuracy?),
                _ => None,
            },
            Self::Shrink => match view.stage_of(Step::Convert)?.as_ref() {
                Stage::Saved { measured, .. } => Some(Found::Number(measured.shrink)),
                _ => None,
            },
            Self::PointsLost => match view.stage_of(Step::Convert)?.as_ref() {
                Stage::Saved { measured, .. } => {
                    Some(Found::Number((measured.float.accuracy? - measured.int8.accuracy?) * 100.0))
                }
                _ => None,
            },
            Self::WorstLayer => match view.stage_of(Step::Convert)?.as_ref() {
                Stage::Converted { report, .. } | Stage::Saved { report, .. } => {
                    let worst = report.layers.iter().min_by(|a, b| a.weight_sqnr_db.total_cmp(&b.weight_sqnr_db))?;
                    Some(Found::Layer(worst.name.clone()))
                }
                _ => None,
            },
        }
    }

    /// How a guess compares with the measurement.
    pub fn compare(self, guess: &Found, found: &Found) -> String {
        match (guess, found) {
            (Found::Number(a), Found::Number(b)) => {
                let off = (a - b).abs();
                if self.say(guess) == self.say(found) {
                    "Exactly.".to_owned()
                } else {
                    let off = match self {
                        Self::FloatAccuracy | Self::IfConverted | Self::FakeAccuracy | Self::Int8Accuracy => {
                            format!("{off:.1} points")
                        }
                        Self::SitesFused | Self::Observers | Self::Shrink | Self::PointsLost | Self::WorstLayer => {
                            self.say(&Found::Number(off)).replace('\u{d7}', "")
                        }
                    };
                    format!("{off} off.")
                }
            }
            (Found::Layer(a), Found::Layer(b)) if a == b => "Exactly.".to_owned(),
            (_, _) => "Another one.".to_owned(),
        }
    }

    /// A guess as it is kept.
    pub fn parse(self, text: &str) -> Option<Found> {
        match self.scale() {
            Some((range, ..)) => text.parse().ok().filter(|v| range.contains(v)).map(Found::Number),
            None => (!text.is_empty()).then(|| Found::Layer(text.to_owned())),
        }
    }
}

impl Found {
    /// As it is kept.
    pub fn text(&self) -> String {
        match self {
            Self::Number(v) => v.to_string(),
            Self::Layer(name) => name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_kept_and_compared() {
        for (measure, text) in [(Measure::Shrink, "3.5"), (Measure::PointsLost, "-0.25"), (Measure::WorstLayer, "fc")] {
            let guess = measure.parse(text).expect("a guess");
            assert_eq!(measure.parse(&guess.text()), Some(guess));
        }
        assert_eq!(Measure::Shrink.parse("1000"), None);
        assert_eq!(Measure::FloatAccuracy.parse("NaN"), None);
        let n = Found::Number;
        assert_eq!(Measure::Shrink.compare(&n(4.0), &n(3.75)), "0.250 off.");
        assert_eq!(Measure::Int8Accuracy.compare(&n(90.0), &n(87.6)), "2.4 points off.");
        assert_eq!(Measure::SitesFused.compare(&n(20.0), &n(20.0)), "Exactly.");
        assert_eq!(Measure::WorstLayer.compare(&Found::Layer("a".into()), &Found::Layer("b".into())), "Another one.");
    }
}
