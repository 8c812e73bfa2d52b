//! What `torch.load` reads: a zip archive of one pickle (protocol 2) and one file per storage, as `torch.save` writes it.

use std::{
    io::{Cursor, Write},
    path::Path,
};

use zip::{CompressionMethod, ZipWriter, result::ZipError, write::SimpleFileOptions};

use super::{WeightsError, file::write_atomic, torch::format_error};
use crate::graph::QTensor;

/// `torch.save` starts each storage at a multiple of so many bytes.
const ALIGNMENT: u16 = 64;

/// An `OrderedDict` being written, instruction by instruction: keys ([`Pickle::text`]) and values in turns.
pub(super) struct Pickle {
    code: Vec<u8>,
    storages: Vec<Vec<u8>>,
}

impl Pickle {
    /// Opens the dictionary.
    pub fn new() -> Self {
        let mut this = Self { code: vec![0x80, 2], storages: Vec::new() };
        this.ordered_dict();
        this.code.push(b'(');
        this
    }

    /// Ends the dictionary and writes the file; `versions` become its `_metadata`: modules' paths with their versions.
    pub fn write(mut self, path: &Path, versions: &[(String, u8)]) -> Result<u64, WeightsError> {
        self.code.push(b'u');
        if !versions.is_empty() {
            // `BUILD` with {"_metadata": OrderedDict(path -> {"version": n})}.
            self.code.push(b'}');
            self.text("_metadata");
            self.ordered_dict();
            self.code.push(b'(');
            for (module, version) in versions {
                self.text(module);
                self.code.push(b'}');
                self.text("version");
                self.code.extend([b'K', *version, b's']);
            }
            self.code.extend(b"usb");
        }
        self.code.push(b'.');
        let bytes = self.archive().map_err(|e| format_error(path, e.to_string()))?;
        write_atomic(path, &[&bytes])
    }

    fn archive(&self) -> Result<Vec<u8>, ZipError> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
        let mut entry = |name: &str, content: &[u8]| -> Result<(), ZipError> {
            zip.start_file(format!("archive/{name}"), options)?;
            zip.write_all(content)?;
            Ok(())
        };
        entry("data.pkl", &self.code)?;
        entry("byteorder", b"little")?;
        for (key, bytes) in self.storages.iter().enumerate() {
            entry(&format!("data/{key}"), bytes)?;
        }
        entry("version", b"3\n")?;
        Ok(zip.finish()?.into_inner())
    }

    pub fn text(&mut self, text: &str) {
        self.code.push(b'X');
        self.code.extend((text.len() as u32).to_le_bytes());
        self.code.extend(text.as_bytes());
    }

    /// A float32 tensor.
    pub fn floats(&mut self, shape: &[usize], data: &[f32]) {
        let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor("FloatStorage", shape, data.len(), bytes);
    }

    /// An int64 tensor.
    pub fn longs(&mut self, shape: &[usize], data: &[i64]) {
        let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor("LongStorage", shape, data.len(), bytes);
    }

    /// A weight as qint8: `torch._utils._rebuild_qtensor(storage, offset, size, stride, grid, requires_grad, hooks)`.
    pub fn quantized(&mut self, weight: &QTensor) {
        self.global("torch._utils", "_rebuild_qtensor");
        self.code.push(b'(');
        let bytes = weight.data.iter().map(|q| *q as u8).collect();
        self.view("QInt8Storage", &weight.shape, weight.data.len(), bytes);
        self.code.push(b'(');
        let scales: Vec<f64> = weight.scales.iter().map(|s| f64::from(*s)).collect();
        if let ([scale], true) = (&scales[..], weight.shape[0] != 1) {
            self.global("torch", "per_tensor_affine");
            self.code.push(b'G');
            self.code.extend(scale.to_be_bytes());
            self.int(0);
        } else {
            self.global("torch", "per_channel_affine");
            let bytes = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
            self.tensor("DoubleStorage", &[scales.len()], scales.len(), bytes);
            self.longs(&[scales.len()], &vec![0; scales.len()]);
            self.int(0);
        }
        self.code.push(b't');
        self.unhooked();
    }

    /// `torch.qint8`.
    pub fn qint8(&mut self) {
        self.global("torch", "qint8");
    }

    pub fn none(&mut self) {
        self.code.push(b'N');
    }

    /// The last two values as one.
    pub fn pair(&mut self) {
        self.code.push(0x86);
    }

    fn global(&mut self, module: &str, name: &str) {
        self.code.extend(format!("c{module}\n{name}\n").into_bytes());
    }

    /// An empty one.
    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.code.extend(b")R");
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

    /// `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`.
    fn tensor(&mut self, storage: &str, shape: &[usize], len: usize, bytes: Vec<u8>) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.code.push(b'(');
        self.view(storage, shape, len, bytes);
        self.unhooked();
    }

    /// A contiguous view of a storage of its own of `len` elements: storage, offset, size, stride.
    fn view(&mut self, storage: &str, shape: &[usize], len: usize, bytes: Vec<u8>) {
        self.code.push(b'(');
        self.text("storage");
        self.global("torch", storage);
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.int(len);
        self.code.extend(b"tQ");
        self.int(0);
        self.tuple(shape);
        self.tuple(&strides(shape));
        self.storages.push(bytes);
    }

    /// Ends a call: no gradient, no hooks.
    fn unhooked(&mut self) {
        self.code.push(0x89);
        self.ordered_dict();
        self.code.extend(b"tR");
    }
}

/// Of a row-major tensor.
fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}
