//! What *Do it for me* presses: the commands that lead from where the session is to the end of a lesson, one by one.

use std::collections::VecDeque;

use super::Progress;
use super::check::{Check, IMAGES};
use super::finale::plant_range;
use crate::app::workbench::Workbench;
use crate::session::{Command, ModelId, ObserverKind, Override, Planted, Step, View, ships_weights};

/// Epochs that show what training does; who has time takes more.
pub(super) const EPOCHS: usize = 2;

/// Commands that wait for those before them.
#[derive(Debug, Default)]
pub(super) struct Todo {
    left: VecDeque<Command>,
    /// How many commands had ended when the newest was sent.
    sent_at: Option<usize>,
}

impl Todo {
    /// Whether something is still to be pressed.
    pub fn is_busy(&self) -> bool {
        !self.left.is_empty() || self.sent_at.is_some()
    }

    /// Takes on what is to be done, in place of what was.
    pub fn take(&mut self, commands: Vec<Command>) {
        *self = Self { left: commands.into(), sent_at: None };
    }

    /// Leaves what is left undone.
    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// The next command, once the one before it has ended well; what fails or is cancelled ends the rest.
    pub fn next(&mut self, view: &View) -> Option<Command> {
        if let Some(ended) = self.sent_at {
            if view.running.is_some() || view.ended <= ended {
                return None;
            }
            self.sent_at = None;
            if view.failure.is_some() {
                self.left.clear();
            }
        }
        if view.running.is_some() {
            return None;
        }
        let next = self.left.pop_front()?;
        self.sent_at = Some(view.ended);
        Some(next)
    }
}

/// What leads to the end of a lesson; choices that stand in the way are changed, others kept.
pub(super) fn commands(check: Check, bench: &mut Workbench, view: &View) -> Vec<Command> {
    let mut all = Vec::new();
    let mut done = view.stage().and_then(|s| s.done());
    if view.stage().is_none() {
        all.push(Command::Open(Box::new(bench.choices.recipe())));
    }
    if let Some(by_qat) = check.by_qat() {
        bench.choices.by_qat = by_qat;
        bench.choices.qat.train.epochs = bench.choices.qat.train.epochs.min(EPOCHS);
        if view.recipe.as_ref().is_none_or(|recipe| recipe.method.is_ptq() == by_qat) {
            all.push(Command::ChooseMethod(bench.choices.method()));
            done = done.min(Some(Step::Weights));
        }
    }
    mend(check, bench);
    // A step that is there and does not do is done again, and so is what follows it.
    let target = check.step();
    let wrong = first_wrong(check, view).filter(|step| done >= Some(*step));
    if let Some(wrong) = wrong {
        if done > Some(wrong) {
            all.push(Command::BackTo(wrong));
        }
        done = wrong.index().checked_sub(1).map(|i| Step::ALL[i]);
    }
    for step in Step::ALL.into_iter().filter(|s| done < Some(*s) && *s <= target) {
        all.extend(step_commands(step, bench, view));
    }
    if target == Step::Convert && done == Some(Step::Convert) {
        all.push(Command::Save(bench.choices.out()));
    }
    if check == Check::TrainingMode && all.is_empty() {
        all.push(Command::ChooseMethod(bench.choices.method()));
    }
    all
}

/// The choices that a finale's model is opened with; what another layer had of its own is dropped.
pub(super) fn finale_choices(bench: &mut Workbench, model: ModelId, weights: String) {
    let choices = &mut bench.choices;
    choices.take_sample();
    (choices.model, choices.weights, choices.by_qat) = (model, weights, false);
    choices.name_the_file();
    choices.forget_other_layers();
    choices.unfused.clear();
    choices.qconfig.overrides.clear();
    choices.qat.train.epochs = choices.qat.train.epochs.clamp(1, EPOCHS);
}

/// The same as the end of a finale's lesson wants them. `planted` is what was spoilt in the model.
pub(super) fn solve(check: Check, bench: &mut Workbench, planted: Option<&Planted>) {
    let choices = &mut bench.choices;
    match check {
        Check::BrokenPerTensor | Check::GivenBack => choices.qconfig.weight.observer = ObserverKind::MinMax,
        Check::RepairedPerChannel | Check::RangePlanted | Check::RangeFound => {
            choices.qconfig.weight.observer = ObserverKind::PerChannelMinMax;
        }
        Check::RepairedByQat => {
            choices.qconfig.weight.observer = ObserverKind::PerChannelMinMax;
            choices.by_qat = true;
        }
        Check::Stubs
        | Check::Weights
        | Check::Fused
        | Check::Prepared
        | Check::Calibrated
        | Check::Saved
        | Check::QatWeights
        | Check::TrainingMode
        | Check::QatFused
        | Check::QatPrepared
        | Check::QatTrained
        | Check::QatSaved => {}
    }
    match (check, planted) {
        (Check::GivenBack, Some(planted)) => {
            choices.qconfig.overrides.insert(planted.layer.clone(), Override::Float);
        }
        (Check::RangePlanted, _) => {
            choices.qconfig = plant_range(&choices.qconfig, &mut bench.memory.tutorial);
        }
        (_, _) => {}
    }
}

/// Opens what is chosen and runs every step.
pub(super) fn open_and_run(bench: &Workbench) -> Vec<Command> {
    vec![Command::Open(Box::new(bench.choices.recipe())), Command::RunAll(bench.choices.out())]
}

/// Changes the choices that no lesson can be done with.
fn mend(check: Check, bench: &mut Workbench) {
    let choices = &mut bench.choices;
    if matches!(check, Check::Fused | Check::QatFused) {
        choices.unfused.clear();
    }
    let calibration = &mut choices.calibration;
    if calibration.batches * calibration.batch < IMAGES {
        calibration.batches = IMAGES.div_ceil(calibration.batch.max(1));
    }
    choices.qat.train.epochs = choices.qat.train.epochs.max(1);
}

/// The first step whose result is there but does not do, on the way to the end of `check`.
fn first_wrong(check: Check, view: &View) -> Option<Step> {
    let way: &[Check] = match check.by_qat() {
        Some(true) => &[Check::QatWeights, Check::QatFused, Check::QatPrepared, Check::QatTrained],
        Some(false) | None => &[Check::Stubs, Check::Weights, Check::Fused, Check::Prepared, Check::Calibrated],
    };
    let on_the_way = way.iter().filter(|c| c.step() <= check.step());
    on_the_way
        .map(|c| (c, c.step()))
        .find(|(c, step)| view.stage_of(*step).is_some() && c.judge(view, &Progress::default()).is_err())
        .map(|f| f.1)
}

fn step_commands(step: Step, bench: &Workbench, view: &View) -> Vec<Command> {
    let choices = &bench.choices;
    match step {
        Step::Stubs => vec![Command::InsertStubs],
        Step::Weights => {
            let chosen = choices.recipe();
            let (model, data) = view.recipe.as_ref().map_or((chosen.model, &chosen.data), |r| (r.model, &r.data));
            vec![match choices.weights() {
                Some(path) => Command::LoadWeights(path),
                None if ships_weights(model, data) => Command::UseShippedWeights,
                None => Command::Train(choices.train),
            }]
        }
        Step::Fuse => vec![Command::Fuse(choices.fuse())],
        Step::Prepare => vec![Command::Prepare(choices.qconfig.clone())],
        Step::Calibrate if choices.by_qat => vec![Command::TrainQat(choices.qat)],
        Step::Calibrate => vec![Command::Calibrate(choices.calibration)],
        Step::Convert => vec![Command::Convert, Command::Save(choices.out())],
    }
}
