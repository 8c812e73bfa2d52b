//! From images to logits with our own observers: where they sit, what they find, and what comes of it. Calibration sums
//! as PyTorch's kernels do (`kernels::float::SumOrder`), so what is left are the limits of the issue, and no others.

use std::{collections::BTreeMap, ops::ControlFlow};

use octet::{
    exec::{
        float::{Device, Model},
        int8::{Plan, PlanOptions},
    },
    graph::{Graph, NodeId, Numeric, ObserverKind, QParams},
    quant::{self, Observers, QConfig, Range},
};

use crate::{
    golden::{Golden, MODELS, ObserverRecord, engines, ensure, folder, observer_name},
    int8::{head, level},
};

/// Of a scale, relative.
const MIN_MAX_TOLERANCE: f32 = 1e-6;
/// The same where a search moves the clip from bin to bin.
const HISTOGRAM_TOLERANCE: f32 = 1e-5;
/// How many of a hundred histograms may exceed that or have another zero point.
const EXCEPTIONS_PERCENT: usize = 1;
/// How far a logit may be from PyTorch's.
const LOGIT_QUANTA: i32 = 2;

/// Observers compared, those that are no exceptions to the bit, and exceptions.
#[derive(Clone, Copy, Default)]
struct Tally {
    observers: usize,
    equal: usize,
    exceptions: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.observers += other.observers;
        self.equal += other.equal;
        self.exceptions += other.exceptions;
    }

    fn check(self, class: Class) -> Result<(), String> {
        let Self { observers, exceptions, .. } = self;
        ensure(exceptions * 100 <= observers * EXCEPTIONS_PERCENT, || {
            format!("{}: {exceptions} of {observers} differ, {EXCEPTIONS_PERCENT} % may", class.name())
        })
    }
}

#[test]
fn our_observers_agree_with_pytorchs() {
    for class in [Class::MinMax, Class::Default] {
        let (mut all, mut failures) = (Tally::default(), Vec::new());
        for (model, engine) in MODELS.into_iter().flat_map(|m| engines(m).into_iter().map(move |e| (m, e))) {
            match Golden::read(&folder(), model, engine).and_then(|golden| compare_class(&golden, class)) {
                Ok(one) => all.add(one),
                Err(difference) => failures.push(format!("{model} {engine}: {difference}")),
            }
        }
        let Tally { observers, equal, exceptions } = all;
        println!("{}: {equal} of {observers} scales equal to the bit, {exceptions} exceptions", class.name());
        failures.extend(all.check(class).err());
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}

/// Both kinds of observers of one pair, whose exceptions may be no more than of all pairs together.
pub fn compare(golden: &Golden) -> Result<(), String> {
    compare_class(golden, Class::MinMax)?.check(Class::MinMax)?;
    compare_class(golden, Class::Default)?.check(Class::Default)
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    /// MinMaxObserver.
    MinMax,
    /// The qconfig's own: HistogramObserver.
    Default,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::MinMax => "MinMaxObserver",
            Self::Default => "HistogramObserver",
        }
    }
}

fn compare_class(golden: &Golden, class: Class) -> Result<Tally, String> {
    let fused = golden.fused()?;
    let config = golden.config()?;
    let (config, records, logits) = match class {
        Class::MinMax => (config.with_observer(ObserverKind::MinMax), &golden.minmax_qparams, "minmax_int8_logits"),
        Class::Default => (config, &golden.default_qparams, "default_int8_logits"),
    };
    let calibrated = calibrate(golden, &fused, &config)?;
    let tally = compare_records(&calibrated, records, class)?;
    let distance = compare_logits(golden, &calibrated, &config, logits)?;
    println!(
        "{} {} {}: {} of {} scales equal to the bit, {} exceptions, logits {distance} quanta away at most",
        golden.model.0,
        golden.engine,
        class.name(),
        tally.equal,
        tally.observers,
        tally.exceptions,
    );
    Ok(tally)
}

/// A prepared graph whose observers have seen all calibration images.
struct Calibrated {
    graph: Graph,
    observers: Observers,
    qparams: BTreeMap<String, QParams>,
}

fn calibrate(golden: &Golden, fused: &Graph, config: &QConfig) -> Result<Calibrated, String> {
    let (graph, _) = quant::prepare(fused, config).map_err(|e| e.to_string())?;
    let mut observers = Observers::new(&graph).map_err(|e| e.to_string())?;
    let model = Model::new(&graph, &Device::Cpu).map_err(|e| e.to_string())?;
    let batch = golden.calibration_batch;
    for number in 0..golden.calibration_batches {
        let mut seen = Ok(());
        model
            .run_observed(&golden.images(number, batch), batch, &mut |node, values| {
                seen = observers.observe(node, values);
                if seen.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .map_err(|e| e.to_string())?;
        seen.map_err(|e| e.to_string())?;
    }
    let qparams = observers.qparams().map_err(|e| e.to_string())?;
    Ok(Calibrated { graph, observers, qparams })
}

/// Observers sit where PyTorch's do, saw what those saw, and made the same of it.
fn compare_records(
    ours: &Calibrated,
    records: &BTreeMap<String, ObserverRecord>,
    class: Class,
) -> Result<Tally, String> {
    let names: BTreeMap<String, NodeId> =
        ours.observers.nodes().map(|id| (observer_name(ours.graph.node(id)), id)).collect();
    let mut tally = Tally::default();
    for (name, record) in records {
        let wrong = |detail: String| format!("observer `{name}`: {detail}");
        match (record.min, names.get(name)) {
            (Some(_), Some(id)) => {
                tally.observers += 1;
                match compare_record(ours, *id, record, class).map_err(wrong)? {
                    Outcome::Equal => tally.equal += 1,
                    Outcome::Near => {}
                    Outcome::Exception => tally.exceptions += 1,
                }
            }
            (Some(_), None) => return Err(wrong("Octet has no such observer".to_owned())),
            (None, Some(_)) => return Err(wrong("PyTorch's never ran".to_owned())),
            (None, None) => {
                let untouched = record.scale == [1.0] && record.zero_point == [0];
                ensure(untouched, || wrong("it never ran, yet its scale is not 1".to_owned()))?;
            }
        }
    }
    let compared = tally.observers;
    ensure(compared == names.len(), || format!("{} observers, PyTorch has {compared}", names.len()))?;
    Ok(tally)
}

enum Outcome {
    /// To the bit.
    Equal,
    Near,
    Exception,
}

fn compare_record(ours: &Calibrated, id: NodeId, record: &ObserverRecord, class: Class) -> Result<Outcome, String> {
    let node = ours.graph.node(id);
    let Numeric::Observed(spec) = node.numeric else { return Err("it is not observed".to_owned()) };
    ensure(
        (record.quant_min, record.quant_max, record.observer.as_str()) == (0, spec.quant_max, class.name()),
        || {
            format!(
                "a {} at {}..{}, expected 0..{}",
                record.observer, record.quant_min, record.quant_max, spec.quant_max
            )
        },
    )?;
    let seen = ours.observers.range(id).ok_or("it saw nothing")?;
    let recorded = Range { min: record.min.ok_or("no minimum")?, max: record.max.ok_or("no maximum")? };
    let far = (seen.min - recorded.min).abs().max((seen.max - recorded.max).abs());
    ensure(far <= HISTOGRAM_TOLERANCE * (recorded.max - recorded.min), || {
        format!("it saw {seen:?}, PyTorch's saw {recorded:?}")
    })?;
    let (found, expected) = (ours.qparams[&node.name], record.qparams(&node.name)?);
    let off = (found.scale / expected.scale - 1.0).abs();
    let tolerance = match class {
        Class::MinMax => MIN_MAX_TOLERANCE,
        Class::Default => HISTOGRAM_TOLERANCE,
    };
    let near = off <= tolerance && found.zero_point == expected.zero_point;
    match class {
        _ if found == expected => Ok(Outcome::Equal),
        _ if near => Ok(Outcome::Near),
        Class::Default => Ok(Outcome::Exception),
        Class::MinMax => Err(format!("found {found:?}, expected {expected:?}: the scale is off by {off:e}")),
    }
}

/// Images to logits without a number of PyTorch's: the same first class, and logits a few levels away at most. Returns
/// how many.
fn compare_logits(golden: &Golden, ours: &Calibrated, config: &QConfig, name: &str) -> Result<i32, String> {
    let expected = golden.logits(name)?;
    let (graph, _) = quant::convert(&ours.graph, &ours.qparams, config).map_err(|e| e.to_string())?;
    let (images, count) = golden.probe(expected);
    let mut plan = Plan::new(&graph, &PlanOptions { isa: None, threads: 2 }).map_err(|e| e.to_string())?;
    let found = plan.run(&images, count);
    let head = head(&graph)?;
    let distance = found.iter().zip(expected).map(|(a, b)| (level(head, *a) - level(head, *b)).abs()).max();
    let distance = distance.unwrap_or(0);
    ensure(distance <= LOGIT_QUANTA, || format!("`{name}` end to end: {distance} quanta from PyTorch's"))?;
    let (found, expected) = (classes(golden, &found), classes(golden, expected));
    ensure(found == expected, || format!("`{name}` end to end: classes {found:?}, expected {expected:?}"))?;
    Ok(distance)
}

/// The first class of each image.
fn classes(golden: &Golden, logits: &[f32]) -> Vec<usize> {
    logits.chunks_exact(golden.classes).map(top).collect()
}

/// The first of the largest, as `argmax` has it.
fn top(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best
}
