use std::path::Path;

use super::{WeightsError, torch_pickle::Pickle};
use crate::graph::{Graph, Op};

/// Writes the float parameters of `graph` under torchvision's keys, as a `.pt` that `torch.load` reads, also with
/// `weights_only=True`. Batch norm's `num_batches_tracked` is there, 0, so that `load_state_dict` is strict. Returns the
/// bytes of the file; the same graph gives the same bytes.
///
/// # Errors
/// [`WeightsError::Write`]; [`WeightsError::NotFinite`] for a value that is no number.
pub fn write_torch(path: &Path, graph: &Graph) -> Result<u64, WeightsError> {
    let mut pickle = Pickle::new();
    for param in graph.params() {
        let (key, data) = (graph.key(&param), &param.tensor.data);
        if let Some((position, value)) = data.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(WeightsError::NotFinite { path: path.display().to_string(), key, value: *value, position });
        }
        pickle.text(&key);
        pickle.floats(&param.tensor.shape, data);
        let node = graph.node(param.node);
        if matches!(node.op, Op::BatchNorm2d(_)) && param.part == "running_var" {
            pickle.text(&format!("{}.num_batches_tracked", node.name));
            pickle.longs(&[], &[0]);
        }
    }
    pickle.write(path, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, ConvSpec, Shape, Tensor};
    use crate::weights::{load, read};

    #[test]
    fn what_is_written_is_read_back_and_is_the_same_each_time() {
        let (mut b, x) = Builder::new("tiny", Shape::new(3, 8, 8));
        let x = b.conv("conv1", x, ConvSpec::new(4, 3));
        let x = b.bn("bn1", x, 1e-5, 0.1);
        let x = b.push("mean", Op::MeanHw, &[x]);
        b.linear("fc", x, 5);
        let blank = b.finish();
        let values =
            |t: &Tensor| Tensor::new(t.shape.clone(), (0..t.len()).map(|i| i as f32 * 0.1 - 1.0).collect::<Vec<_>>());
        let filled = blank.params().iter().map(|p| (blank.key(p), values(p.tensor))).collect();
        let graph = blank.with_params(&filled);
        let dir = tempfile::tempdir().expect("a folder");
        let (one, two) = (dir.path().join("one.pt"), dir.path().join("two.pt"));
        write_torch(&one, &graph).expect("finite weights");
        write_torch(&two, &graph).expect("finite weights");
        let dict = read(&one).expect("our own file");
        assert_eq!(dict.len(), 8, "the counter too");
        assert_eq!(load(&blank, &dict).expect("our own keys"), graph);
        assert_eq!(std::fs::read(one).expect("it is there"), std::fs::read(two).expect("it is there"));
    }

    #[test]
    fn a_weight_that_is_no_number_is_refused_by_its_key() {
        let (mut b, x) = Builder::new("tiny", Shape::new(1, 1, 1));
        b.linear("fc", x, 1);
        let graph = b.finish().with_params(&[("fc.weight".to_owned(), Tensor::full([1, 1], f32::NAN))].into());
        let path = std::env::temp_dir().join("never-written.pt");
        let error = write_torch(&path, &graph).expect_err("not a number").to_string();
        assert!(error.contains("fc.weight") && !path.exists(), "{error}");
    }
}
