//! No comparison overlooks a changed number: one golden pair, one value changed, must be refused.

use std::{fs, path::Path};

use octet::{kernels::Isa, zoo::ModelId};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::{
    calibrated, float,
    golden::{Golden, ORIGINAL},
    int8, weights,
};

const MODEL: ModelId = ModelId::ShuffleNetV2X05;
const ENGINES: [&str; 2] = ["x86", "onednn"];

/// Every comparison, the int8 engine on one instruction set.
fn compare(folder: &Path, engine: &str) -> Result<(), String> {
    let golden = Golden::read(folder, MODEL, engine)?;
    float::compare(&golden)?;
    weights::compare(&golden)?;
    let fastest = Isa::ALL.iter().rev().copied().find(|i| i.is_available()).expect("scalar is always there");
    int8::compare_on(&golden, &golden.fused()?, fastest)?;
    calibrated::compare(&golden)
}

/// A folder with a copy of the pair.
fn copy(engine: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for extension in ["json", "safetensors"] {
        let name = format!("{MODEL}.{engine}.{extension}");
        fs::copy(Path::new(ORIGINAL).join(&name), copy.path().join(&name)).expect("the golden pair");
    }
    copy
}

/// Changes the number, text or list at `pointer` (RFC 6901).
fn change_json(folder: &Path, engine: &str, pointer: &str) {
    let path = folder.join(format!("{MODEL}.{engine}.json"));
    let mut json: Value = serde_json::from_slice(&fs::read(&path).expect("copied")).expect("JSON");
    let value = json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}: not there"));
    *value = match value {
        Value::String(digest) => json!(digest.chars().rev().collect::<String>()),
        Value::Number(n) if n.is_i64() => json!(n.as_i64().expect("whole") + 1),
        // One part in a thousand: less than a bin of most histograms.
        Value::Number(n) => json!(n.as_f64().expect("a number") * 1.001),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => panic!("{pointer}: not a leaf"),
    };
    fs::write(&path, json.to_string()).expect("a temporary file");
}

/// Moves logit 7 of `tensor` by a thousandth of the largest.
fn change_logit(folder: &Path, engine: &str, tensor: &str) {
    let path = folder.join(format!("{MODEL}.{engine}.safetensors"));
    let mut bytes = fs::read(&path).expect("copied");
    let at = {
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let data = file.tensor(tensor).expect("in every golden file").data();
        data.as_ptr() as usize - bytes.as_ptr() as usize
    };
    let (values, _) = bytes[at..].as_chunks_mut::<4>();
    let count = 4 * Golden::read(folder, MODEL, engine).expect("not changed yet").classes;
    let largest = values[..count].iter().fold(0.0_f32, |m, b| m.max(f32::from_le_bytes(*b).abs()));
    values[7] = (f32::from_le_bytes(values[7]) + 1e-3 * largest).to_le_bytes();
    fs::write(&path, bytes).expect("a temporary file");
}

#[test]
fn a_copy_is_as_good() {
    for engine in ENGINES {
        assert_eq!(compare(copy(engine).path(), engine), Ok(()));
    }
}

#[test]
fn a_changed_logit_is_refused() {
    for (i, tensor) in
        ["float_logits", "fused_logits", "default_int8_logits", "minmax_int8_logits"].into_iter().enumerate()
    {
        let engine = ENGINES[i % 2];
        let copy = copy(engine);
        change_logit(copy.path(), engine, tensor);
        let error = compare(copy.path(), engine).expect_err(tensor);
        assert!(error.contains(tensor), "{error}");
    }
}

#[test]
fn a_changed_number_or_digest_is_refused() {
    let pointers = [
        ("/default_weights/conv1.0/int8_sha256", "conv1.0"),
        ("/minmax_weights/fc/int8_sha256", "fc"),
        ("/default_weights/fc/scales_first/1", "fc"),
        ("/default_weights/fc/scales_sum", "fc"),
        ("/minmax_weights/stage3.1.branch2.3/scale", "stage3.1.branch2.3"),
        ("/minmax_weights/stage3.1.branch2.3/bias_sum", "stage3.1.branch2.3"),
        ("/default_weights/conv1.0/first_int8/3", "conv1.0"),
        ("/minmax_qparams/stage2.0.cat/scale/0", "stage2.0.cat"),
        ("/default_qparams/stage2.0.cat/scale/0", "stage2.0.cat"),
        ("/default_qparams/stage4.3.cat/scale/0", "stage4.3.cat"),
        ("/default_qparams/quant/scale/0", "quant"),
        ("/default_qparams/quant/zero_point/0", "quant"),
        ("/minmax_qparams/stage3.2.cat/max", "stage3.2.cat"),
        ("/seed", ""),
    ];
    for (i, (pointer, name)) in pointers.into_iter().enumerate() {
        let engine = ENGINES[i % 2];
        let copy = copy(engine);
        change_json(copy.path(), engine, pointer);
        let error = compare(copy.path(), engine).expect_err(pointer);
        assert!(error.contains(name) || error.contains("logits"), "{pointer}: {error}");
    }
}
