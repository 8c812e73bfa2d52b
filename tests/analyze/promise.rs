use std::ops::ControlFlow;

use octet::quant::{Backend, QConfig};
use octet::session::{Goal, ModelId, Outcome, Promise, PromiseOf, SessionError};

use super::{converted, recipe};

fn of(model: ModelId, backend: Backend) -> PromiseOf {
    let (session, _, pair) = converted(recipe(model, QConfig::new(backend)));
    let weighted = session.weighted_graph().expect("weights").clone();
    PromiseOf::new(pair.opened, weighted, std::sync::Arc::new(session.recipe().clone()))
}

fn search(of: &PromiseOf, loss: f64, seed: u64) -> Promise {
    of.run(Goal { loss, seed }, &mut |_| ControlFlow::Continue(())).expect("labelled images")
}

/// What is said to be kept is kept where it was verified, on images that the search never saw.
#[test]
fn a_promise_is_kept_where_it_was_not_searched_or_not_made() {
    let of = of(ModelId::MobileNetV3Small, Backend::X86);
    let kept = search(&of, 0.02, 1);
    assert!(
        kept.trials.len() > 1 && kept.trials[0].what == "as it is" && kept.trials[0].loss > 0.02,
        "{:?}",
        kept.trials
    );
    match &kept.outcome {
        Outcome::Kept(i, verified) => {
            assert!(verified.loss <= 0.02 && kept.trials[*i].loss <= 0.02, "{verified:?}");
            assert_eq!(verified.images + kept.searched, 2500);
            assert!((verified.float - verified.int8 - verified.loss).abs() < 1e-9);
            assert!(verified.interval.0 <= verified.loss && verified.loss <= verified.interval.1);
            assert!(kept.in_words().starts_with("Kept"), "{}", kept.in_words());
        }
        Outcome::NotVerified(_, verified) => assert!(verified.loss > 0.02, "{verified:?}"),
        Outcome::NotFound => assert!(kept.trials.iter().all(|t| t.loss > 0.02)),
        Outcome::Searching => panic!("it has ended"),
    }
    for t in &kept.trials {
        let beaten = kept.trials.iter().any(|o| {
            (o.loss <= t.loss && o.bytes <= t.bytes && o.ms <= t.ms)
                && (o.loss, o.bytes, o.ms) != (t.loss, t.bytes, t.ms)
        });
        assert_eq!(t.pareto, !beaten, "{}", t.what);
    }
    let float = kept.trials.iter().filter(|t| t.what.contains("in float"));
    assert!(float.clone().all(|t| t.bytes >= kept.trials[0].bytes), "float layers cost bytes where they have weights");

    // Nobody gains twenty points by rounding.
    let refused = search(&of, -0.2, 1);
    assert_eq!(refused.outcome, Outcome::NotFound);
    assert!(refused.in_words().starts_with("Not kept: of"), "{}", refused.in_words());
    let stopped = of.run(Goal { loss: 0.0, seed: 0 }, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(SessionError::Cancelled)));
}

#[test]
fn observers_are_kept_where_they_help() {
    let of = of(ModelId::ShuffleNetV2X05, Backend::X86);
    let layers = ["conv1.0", "stage2.0.branch2.3", "no.such.layer", "fc"].map(str::to_owned);
    let mut last = None;
    of.observers(&layers, &mut |sweep| {
        last = Some(sweep);
        ControlFlow::Continue(())
    })
    .expect("it runs");
    let found = last.expect("three layers");
    assert_eq!((found.done, found.of), (3, 3));
    assert!(found.logit_mse.1 < found.logit_mse.0 && !found.chosen.is_empty(), "{found:?}");
    for (layer, kind, most) in &found.chosen {
        let spec = found.repair.qconfig.activation_of(layer).expect("int8");
        assert_eq!((spec.observer, spec.quant_max), (*kind, *most));
    }
}

#[test]
fn more_calibration_images_are_tried_in_three_choices() {
    let of = of(ModelId::ShuffleNetV2X05, Backend::X86);
    let mut last = None;
    of.enough(&mut |so_far| {
        last = Some(so_far);
        ControlFlow::Continue(())
    })
    .expect("it runs");
    let found = last.expect("points");
    assert_eq!((found.points.len(), found.of, found.judged), (24, 24, 1024));
    let at = |images: usize| found.points.iter().filter(|p| p.images == images).map(|p| p.accuracy).collect::<Vec<_>>();
    assert_eq!(at(8).len(), 3);
    assert!(at(1024).iter().all(|a| *a > found.float - 0.03), "{:?}", found.points);
    let mean = |images| found.points.iter().filter(|p| p.images == images).map(|p| p.logit_mse).sum::<f64>();
    assert!(mean(1024) < mean(8), "eight images are too few");
    assert!(found.in_words().is_some_and(|s| s.contains("With 1024 images")));
}
