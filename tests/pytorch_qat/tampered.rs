//! No comparison overlooks a changed number: one golden pair, one value changed, must be refused.

use std::{fs, path::Path};

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::{
    golden::{Network, ORIGINAL, Units},
    grids, plain, rounded, still, units,
};

const MODEL: &str = "mobilenet_v3_small";

/// Every comparison of the network.
fn compare(folder: &Path) -> Result<(), String> {
    let golden = Network::read(folder, MODEL)?;
    grids::compare(&golden)?;
    plain::compare(&golden)?;
    still::compare(&golden)?;
    rounded::compare(&golden)
}

/// A folder with a copy of a pair.
fn copy(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for extension in ["json", "safetensors"] {
        let name = format!("{name}.qat.{extension}");
        fs::copy(Path::new(ORIGINAL).join(&name), copy.path().join(&name)).expect("the golden pair");
    }
    copy
}

/// Changes float32 value `index` of `tensor` by the factor `by`.
fn change(folder: &Path, name: &str, tensor: &str, index: usize, by: f64) {
    let path = folder.join(format!("{name}.qat.safetensors"));
    let mut bytes = fs::read(&path).expect("copied");
    let (at, wide) = {
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let view = file.tensor(tensor).unwrap_or_else(|e| panic!("{tensor}: {e}"));
        let wide = view.dtype() == safetensors::Dtype::F64;
        (view.data().as_ptr() as usize - bytes.as_ptr() as usize, wide)
    };
    if wide {
        let (values, _) = bytes[at..].as_chunks_mut::<8>();
        values[index] = (f64::from_le_bytes(values[index]) * by).to_le_bytes();
    } else {
        let (values, _) = bytes[at..].as_chunks_mut::<4>();
        values[index] = ((f64::from(f32::from_le_bytes(values[index])) * by) as f32).to_le_bytes();
    }
    fs::write(&path, bytes).expect("a temporary file");
}

#[test]
fn a_copy_is_as_good() {
    assert_eq!(compare(copy(MODEL).path()), Ok(()));
}

#[test]
fn a_changed_number_of_a_network_is_refused() {
    let largest = |tensor: &str| {
        let golden = Network::read(Path::new(ORIGINAL), MODEL).expect("the golden pair");
        let values = golden.tensors.get(tensor).expect("in the file").to_vec();
        (0..values.len()).max_by(|a, b| values[*a].abs().total_cmp(&values[*b].abs())).expect("not empty")
    };
    for (tensor, by) in [
        ("still_act_scale", 1.000_001),
        ("still_act_convert_scale", 1.000_001),
        ("first_act_convert_scale", 1.000_001),
        ("still_weight_scale", 1.000_001),
        ("first_weight_scale", 1.000_01),
        ("still_weight_min", 1.000_01),
        ("still_int8_logits", 1.001),
        ("still_fake_logits", 1.5),
        ("plain_first_logits", 1.01),
        ("plain_losses", 1.001),
        ("plain_grad_norm", 1.01),
        ("plain_grad_sum", 1.1),
        ("plain_grad_first", 1.1),
        ("plain_param_norm", 1.001),
        ("plain_param_first", 1.01),
        ("plain_bn_norm", 1.001),
        ("plain_act_max", 1.001),
        ("losses", 1.2),
        ("first_act_norm", 1.5),
        ("first_bn_norm", 1.05),
    ] {
        let copy = copy(MODEL);
        change(copy.path(), MODEL, tensor, largest(tensor), by);
        assert!(compare(copy.path()).is_err(), "{tensor} times {by} is overlooked");
    }
}

#[test]
fn a_changed_digest_or_median_is_refused() {
    let copy_of = copy(MODEL);
    let path = copy_of.path().join(format!("{MODEL}.qat.json"));
    let mut json: Value = serde_json::from_slice(&fs::read(&path).expect("copied")).expect("JSON");
    let digest = json.pointer_mut("/still_int8_weights/features.0.0/int8_sha256").expect("a digest");
    *digest = json!(digest.as_str().expect("text").chars().rev().collect::<String>());
    fs::write(&path, json.to_string()).expect("a temporary file");
    let error = compare(copy_of.path()).expect_err("another digest");
    assert!(error.contains("features.0.0"), "{error}");
    for (tensor, by) in [("grad_norm", 2.0), ("param_norm", 1.03), ("bn_norm", 1.05), ("first_act_scale", 1.2)] {
        let copy = copy(MODEL);
        let count = Network::read(Path::new(ORIGINAL), MODEL).expect("the pair").tensors.get(tensor).map(<[f64]>::len);
        (0..count.expect("in the file")).for_each(|i| change(copy.path(), MODEL, tensor, i, by));
        assert!(compare(copy.path()).is_err(), "{tensor} times {by} is overlooked");
    }
}

#[test]
fn a_changed_number_of_a_unit_is_refused() {
    for (unit, what, by) in [
        ("conv_bn", "0.y", 1.000_1),
        ("conv_bn_relu", "1.grad.op.0.bn.weight", 1.000_1),
        ("depthwise_bn_relu", "2.grad.op.0.weight", 1.000_1),
        ("one_signed_bn", "2.state.op.0.bn.running_var", 1.000_1),
        ("one_signed_bn", "1.weight_scale", 1.000_001),
        ("conv_relu", "1.grad.op.0.bias", 1.000_1),
        ("conv_bias", "2.act_max", 1.000_1),
        ("linear", "0.grad.input0", 1.000_1),
        ("linear", "int8.weight_scale", 1.000_001),
        ("hardswish", "2.act_scale", 1.000_1),
        ("hardsigmoid", "0.grad.input0", 1.000_1),
        ("add", "1.y", 1.000_1),
        ("add_relu", "0.grad.input1", 1.000_1),
        ("mul", "2.grad.input0", 1.000_1),
        ("cat", "int8.y", 1.01),
        ("conv_bn", "frozen.y", 1.01),
    ] {
        let copy = copy("units");
        let tensor = format!("{unit}.{what}");
        let golden = Units::read(copy.path()).expect("the golden pair");
        assert_eq!(units::compare(&golden, unit), Ok(()), "{unit} as it is");
        let values = golden.tensors.get(&tensor).expect("in the file").to_vec();
        let largest =
            (0..values.len()).max_by(|a, b| values[*a].abs().total_cmp(&values[*b].abs())).expect("not empty");
        change(copy.path(), "units", &tensor, largest, by);
        let golden = Units::read(copy.path()).expect("the golden pair");
        assert!(units::compare(&golden, unit).is_err(), "{tensor} times {by} is overlooked");
    }
}
