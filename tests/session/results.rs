//! What is kept of a saved run, and what is told of it image by image and layer by layer.

use std::ops::ControlFlow;

use octet::session::{Command, Confusion, Device, Pair, Project, QConfig, Session, Stage, Step, View, layer_costs};
use tempfile::TempDir;

use crate::{after, apply, command_of, recipe};

#[test]
fn every_saved_run_is_kept_in_the_project() {
    let dir = TempDir::new().expect("a folder");
    let project = Project::new(dir.path().join("project"));
    let mut session = Session::new(Device::Cpu).in_project(project.clone());
    let mut view = View::default();
    apply(&mut session, &mut view, Command::Open(Box::new(recipe()))).expect("opened");
    let out = dir.path().join("a.octet.safetensors");
    apply(&mut session, &mut view, Command::RunAll(out.clone())).expect("run");
    let Some(Stage::Saved { measured, .. }) = view.stage().map(AsRef::as_ref) else { panic!("not saved") };
    let (runs, wrong) = project.runs().expect("a list");
    assert!(wrong.is_empty() && runs.len() == 1, "{wrong:?}");
    let run = &runs[0].run;
    assert_eq!(&run.recipe, session.recipe());
    for (kept, side) in [(run.float, measured.float), (run.int8, measured.int8)] {
        // JSON's decimals may lose the last bit of a time.
        assert_eq!((kept.accuracy, kept.bytes), (side.accuracy, side.bytes));
        assert!((kept.latency_ms - side.latency_ms).abs() < 1e-9);
    }
    assert_eq!((run.images, run.classes), (measured.images, 10));
    assert!((run.shrink - measured.shrink).abs() < 1e-9);
    assert!(runs[0].has_file && run.file == out && run.weights == "shipped with Octet");
    assert!(view.log.iter().any(|l| l.text.starts_with("Kept as run 1: ")));
    // Where it cannot be kept, the result stands.
    std::fs::remove_dir_all(project.folder()).expect("removed");
    std::fs::write(project.folder(), "no folder").expect("a file");
    apply(&mut session, &mut view, Command::Save(out)).expect("saved");
    assert!(view.log.iter().any(|l| l.text.contains("choose another project folder")));
}

/// The range of a node set by hand decides its levels, without another image; dropped, the file is as before.

#[test]
fn what_int8_changes_is_told_image_by_image_and_layer_by_layer() {
    let dir = TempDir::new().expect("a folder");
    let (mut session, mut view) = after(Some(Step::Convert));
    apply(&mut session, &mut view, Command::Save(dir.path().join("a"))).expect("saved");
    let Some(Stage::Saved { measured, before, graph, .. }) = view.stage().map(AsRef::as_ref) else { panic!("saved") };
    let float = view.stage_of(Step::Fuse).expect("fused").graph().clone();
    let pair = Pair { opened: before.opened.clone(), float, converted: graph.clone() };
    let mut last = None;
    pair.verdicts(usize::MAX, &mut |so_far| {
        last = Some(so_far);
        ControlFlow::Continue(())
    })
    .expect("both run");
    let all = last.expect("labels");
    assert_eq!((all.seen, all.of), (measured.images, measured.images));
    let found = all.found;
    let share = |c: &Confusion| f64::from(c.right()) / f64::from(c.total());
    assert!((share(&found.int8) - measured.int8.accuracy.expect("labels")).abs() < 1e-12);
    // Fusing may turn a tie.
    assert!((share(&found.float) - measured.float.accuracy.expect("labels")).abs() < 1e-3);
    let lost = found.flipped.len() as i64 - found.gained as i64;
    assert_eq!(i64::from(found.float.right()) - i64::from(found.int8.right()), lost);
    for flip in &found.flipped {
        assert_eq!(before.opened.dataset.valid.label(flip.image), Some(flip.label));
        assert!(flip.float.class == flip.label && flip.int8.class != flip.label, "{flip:?}");
    }

    let mut errors = Vec::new();
    pair.layer_errors(48, &mut |so_far| {
        errors.push((so_far.seen, so_far.found));
        ControlFlow::Continue(())
    })
    .expect("both run");
    assert_eq!(errors.iter().map(|(seen, _)| *seen).collect::<Vec<_>>(), [32, 48]);
    let errors = &errors.last().expect("answers").1;
    assert_eq!(errors[0].name, "quant");
    assert!(errors[0].sqnr_db > 30.0, "one rounding: {:?}", errors[0]);
    let fc = errors.iter().find(|e| e.name == "fc").expect("the last layer");
    assert!(fc.sqnr_db > 10.0 && fc.sqnr_db < errors[0].sqnr_db && fc.cosine > 0.95, "{fc:?}");
    assert!(errors.iter().all(|e| e.cosine <= 1.0 + 1e-9 && !e.sqnr_db.is_nan()));
    let costs = layer_costs(graph, 1).expect("it is planned");
    assert!(costs.iter().any(|c| c.time.name == "fc") && costs.iter().all(|c| c.time.micros >= 0.0));
}

/// fbgemm's kernels would clip sums at 0..255 where trained weights meet real images; at 0..127 they hardly can.
#[test]
fn what_is_saved_says_which_layers_overflow_elsewhere() {
    let dir = TempDir::new().expect("a folder");
    let saturated = |qconfig: &str| {
        let (mut session, mut view) = after(Some(Step::Fuse));
        let qconfig: QConfig = qconfig.parse().expect("a qconfig");
        apply(&mut session, &mut view, Command::Prepare(qconfig)).expect("prepared");
        for step in [Step::Calibrate, Step::Convert] {
            apply(&mut session, &mut view, command_of(step)).expect("forward");
        }
        apply(&mut session, &mut view, Command::Save(dir.path().join("a"))).expect("saved");
        let Some(Stage::Saved { measured, .. }) = view.stage_of(Step::Convert).map(AsRef::as_ref) else {
            panic!("not saved")
        };
        let found = &measured.saturation;
        assert_eq!((found.images, found.layers.len()), (32, 57));
        assert!(found.layers.iter().all(|l| l.pairs > 0 && l.saturated <= l.pairs && l.saturated_outputs <= l.outputs));
        assert_eq!(view.log.iter().any(|l| l.text.contains("overflow 16 bits")), found.overflowing().count() > 0);
        found.layers.iter().map(|l| l.saturated).sum::<u64>()
    };
    let (x86, onednn) = (saturated("x86"), saturated("onednn"));
    println!("sums outside 16 bits: x86 {x86}, onednn {onednn}");
    assert!(onednn > 0 && x86 < onednn);
}
