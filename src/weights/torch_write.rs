//! What `torch.load` reads: a zip archive of one pickle (protocol 2) and one file per storage, as `torch.save` writes it.

use std::{
    io::{Cursor, Write},
    path::Path,
};

use zip::{CompressionMethod, ZipWriter, result::ZipError, write::SimpleFileOptions};

use super::{WeightsError, file::write_atomic, torch::format_error};
use crate::graph::{Graph, Op};

/// `torch.save` starts each storage at a multiple of so many bytes.
const ALIGNMENT: u16 = 64;

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
        let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        pickle.tensor("FloatStorage", &param.tensor.shape, data.len(), bytes);
        let node = graph.node(param.node);
        if matches!(node.op, Op::BatchNorm2d(_)) && param.part == "running_var" {
            pickle.text(&format!("{}.num_batches_tracked", node.name));
            pickle.tensor("LongStorage", &[], 1, vec![0; 8]);
        }
    }
    let (pickle, storages) = pickle.finish();
    let bytes = archive(&pickle, &storages).map_err(|e| format_error(path, e.to_string()))?;
    write_atomic(path, &[&bytes])
}

fn archive(pickle: &[u8], storages: &[Vec<u8>]) -> Result<Vec<u8>, ZipError> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
    let mut entry = |name: &str, content: &[u8]| -> Result<(), ZipError> {
        zip.start_file(format!("archive/{name}"), options)?;
        zip.write_all(content)?;
        Ok(())
    };
    entry("data.pkl", pickle)?;
    entry("byteorder", b"little")?;
    for (key, bytes) in storages.iter().enumerate() {
        entry(&format!("data/{key}"), bytes)?;
    }
    entry("version", b"3\n")?;
    Ok(zip.finish()?.into_inner())
}

/// An `OrderedDict` being written, instruction by instruction.
struct Pickle {
    code: Vec<u8>,
    storages: Vec<Vec<u8>>,
}

impl Pickle {
    /// Opens the dictionary: what follows are keys and values in turns.
    fn new() -> Self {
        let mut this = Self { code: vec![0x80, 2], storages: Vec::new() };
        this.ordered_dict();
        this.code.push(b'(');
        this
    }

    fn finish(mut self) -> (Vec<u8>, Vec<Vec<u8>>) {
        self.code.extend(b"u.");
        (self.code, self.storages)
    }

    fn global(&mut self, module: &str, name: &str) {
        self.code.extend(format!("c{module}\n{name}\n").into_bytes());
    }

    /// An empty one.
    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.code.extend(b")R");
    }

    fn text(&mut self, text: &str) {
        self.code.push(b'X');
        self.code.extend((text.len() as u32).to_le_bytes());
        self.code.extend(text.as_bytes());
    }

    /// No tensor of a network has 2^31 values.
    fn int(&mut self, value: usize) {
        self.code.push(b'J');
        self.code.extend((value as i32).to_le_bytes());
    }

    fn tuple(&mut self, values: &[usize]) {
        self.code.push(b'(');
        values.iter().for_each(|v| self.int(*v));
        self.code.push(b't');
    }

    /// `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`, contiguous, on a storage of
    /// its own of `len` elements.
    fn tensor(&mut self, storage: &str, shape: &[usize], len: usize, bytes: Vec<u8>) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.code.extend(b"((");
        self.text("storage");
        self.global("torch", storage);
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.int(len);
        self.code.extend(b"tQ");
        self.int(0);
        self.tuple(shape);
        self.tuple(&strides(shape));
        self.code.push(0x89);
        self.ordered_dict();
        self.code.extend(b"tR");
        self.storages.push(bytes);
    }
}

/// Of a row-major tensor.
fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
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
