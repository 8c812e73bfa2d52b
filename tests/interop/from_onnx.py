"""ONNX files of Octet's: the checker, ONNX Runtime, names."""

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from safetensors.torch import load_file

from common import SIZE, lively, normalized, sample_pictures

# Of the sample's 2,500 test images.
IMAGES = {"shufflenet_v2_x0_5": 2500, "mobilenet_v3_small": 1000}
OTHERS = 500
# Share of logits within two levels where biases are float32: a level that rounding moves in one layer moves others in the
# next hundred, most of all in a model that was trained for a moment. With int32 biases it is as of the others.
NEAR, DEEP = 0.99, {"efficientnet_v2_s": 0.6}
SHIPPED = {"shufflenet_v2_x0_5", "mobilenet_v3_small", "resnet18"}


def logits(path, images, optimize=True):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    step = 100
    parts = [session.run(["logits"], {"input": images[i : i + step]})[0] for i in range(0, len(images), step)]
    return np.concatenate(parts)


def check_int8(octet, model, folder):
    """Quantizes on the sample, replays the recipe, exports, runs; the int8 file."""
    file, out, recipe = folder / "sample.octet.safetensors", folder / "sample.onnx", folder / "sample.toml"
    weights = [] if model in SHIPPED else ["--weights", trained(octet, model, folder)]
    short = ["--calibration-batches", "4"]
    page = folder / "report.html"
    octet.run("ptq", "--model", model, *weights, *short, "--out", file, "--save-recipe", recipe, "--report", page)
    check_report(page, model)
    again = folder / "again.octet.safetensors"
    octet.run("run", recipe, "--out", again)
    assert again.read_bytes() == file.read_bytes(), "the recipe gives another file"
    print(f"{model} recipe: the same {file.stat().st_size} bytes again")

    report = octet.run("export", file, "--format", "onnx", "--out", out)
    near = DEEP.get(model, NEAR)
    assert report["self_check"]["within_two_levels"] >= near, report
    loaded = onnx.load(str(out))
    onnx.checker.check_model(loaded, full_check=True)
    assert loaded.opset_import[0].version >= 17
    inside = octet.run("inspect", file)
    pictures, planes, labels = sample_pictures(folder, IMAGES.get(model, OTHERS))
    ours = octet.logits(file, pictures)
    images = normalized(planes, inside["preprocess"]).astype(np.float32)
    scale = last_scale(inside)
    names = {n.name for n in loaded.graph.node} | {t.name for t in loaded.graph.initializer}
    layers = [n["name"] for n in inside["nodes"] if n["op"].startswith(("Conv", "Linear"))]
    assert layers and all(f"{name}.weight" in names for name in layers), "torchvision's names"
    # Biases are float32 in the int8 file, as PyTorch has them, and int32 in QDQ form: that rounding moves some logits by a
    # level and is all that is lost. A model that was quantized for int32 biases loses nothing. Of a model
    # that was trained for a moment the two largest logits are often on one level: there logits are judged, and classes told.
    least, most = (0.98, 0.995) if model in SHIPPED else (0.0, 0.97)
    agree(model, "onnx", ours, logits(out, images), labels, scale, least, near, 1.0 if near == NEAR else 3.0)
    exact = folder / "float_biases.onnx"
    onnx.save(with_float_biases(loaded, file), exact)
    plain = logits(exact, images, optimize=False)
    if model in DEEP:
        agree(model, "onnx with float biases", ours, plain, labels, scale, least, near, 3.0)
    else:
        agree(model, "onnx with float biases", ours, plain, labels, scale, most, 0.999)
    rounded = folder / "int32_biases.octet.safetensors"
    octet.run("ptq", "--model", model, *weights, *short, "--biases", "int32", "--out", rounded)
    report = octet.run("export", rounded, "--format", "onnx", "--out", exact)
    assert report["self_check"]["worst_difference"] == 0, report
    ours, scale = octet.logits(rounded, pictures), last_scale(octet.run("inspect", rounded))
    agree(model, "onnx, --biases int32", ours, logits(exact, images), labels, scale, most, 0.99, 0.1 if model in SHIPPED else 0.5)
    return file


def last_scale(inside):
    return next(n["scale"] for n in reversed(inside["nodes"]) if n["scale"])


def check_report(page, model):
    """One page that asks for nothing else."""
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert text.count("<svg") >= 4 and "Layer by layer" in text and "Environment" in text and "[qconfig" in text
    for asks in ("<script", "<link", "<img", "src=", "href=", "url(", "@import"):
        assert asks not in text, asks
    print(f"{model} report: {len(text) / 1e3:.0f} kB, {text.count('<svg')} charts, nothing fetched", flush=True)


def agree(model, what, ours, theirs, labels, scale, top1_least, near_least, accuracy_most=1.0):
    same = ours.argmax(1) == theirs.argmax(1)
    largest = ours.max(1, keepdims=True)
    # Two largest logits on one level: which class is first is nobody's to say.
    tied = np.take_along_axis(ours, theirs.argmax(1)[:, None], 1)[:, 0] == largest[:, 0]
    accuracy = [(x.argmax(1) == labels).mean() * 100 for x in (ours, theirs)]
    levels = np.rint(np.abs(ours - theirs) / scale)
    near = (levels <= 2).mean()
    print(f"{model} {what}: top 1 agrees on {same.mean():.2%} of {len(ours)} images ({(same | tied).mean():.2%} but for ties), "
          f"accuracy {accuracy[0]:.2f} and {accuracy[1]:.2f}, {near:.2%} of logits within 2 levels, "
          f"{(levels == 0).mean():.2%} equal, worst {levels.max():.0f}", flush=True)
    assert same.mean() >= top1_least and near >= near_least, f"{model} {what}"
    assert abs(accuracy[0] - accuracy[1]) <= accuracy_most, f"{model} {what}"


def with_float_biases(model, file):
    """The same model with each bias as the int8 file has it."""
    # They lie one after the other, in the order of the layers.
    flat, at, biases = load_file(file)["biases"].numpy(), 0, {}
    sizes = {t.name: t.dims[0] for t in model.graph.initializer if t.name.endswith(".bias")}
    for name in [n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0].endswith(".bias")]:
        biases[name], at = flat[at : at + sizes[name]], at + sizes[name]
    assert at == len(flat), "biases left over"
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = [n for n in copy.graph.node if n.op_type == "DequantizeLinear" and n.input[0].endswith(".bias")]
    unused = {name for n in nodes for name in n.input}
    for node in nodes:
        values = biases[node.input[0]].astype(np.float32)
        copy.graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
        copy.graph.node.remove(node)
    kept = [t for t in copy.graph.initializer if t.name not in unused]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    return copy


def trained(octet, model, folder):
    """Weights after a pass over the sample, so that logits are not all alike."""
    file = folder / "trained.safetensors"
    octet.run("train", "--model", model, "--epochs", "1", "--out", file)
    return file


def check_float(octet, model, folder):
    torch.manual_seed(0)
    network = lively(getattr(torchvision.models, model)(num_classes=10)).eval()
    if model == "efficientnet_v2_s":
        # Forty residual blocks of such weights are chaos: PyTorch's float32 is a quarter away from its own float64.
        norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.weight.data.mul_(0.3)
    weights = folder / "float.pth"
    torch.save(network.state_dict(), weights)
    images = torch.randn(8, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = network(images).numpy()
    common = [weights, "--model", model, "--size", SIZE]
    outs = {"onnx-float": "float.onnx", "torch-float": "float.pt", "safetensors": "float.safetensors"}
    for form, name in outs.items():
        octet.run("export", *common, "--format", form, "--out", folder / name)
    onnx.checker.check_model(str(folder / "float.onnx"), full_check=True)
    worst = np.abs(logits(folder / "float.onnx", images.numpy()) - expected).max() / np.abs(expected).max()
    assert worst < 1e-4, (model, worst)
    loaded = torch.load(folder / "float.pt", weights_only=True)
    network.load_state_dict(loaded, strict=True)
    counters = {k for k in network.state_dict() if k.endswith("num_batches_tracked")}
    flat = load_file(folder / "float.safetensors")
    assert set(flat) == set(network.state_dict()) - counters, model
    for key, value in torch.load(weights).items():
        if key not in counters:
            assert torch.equal(value, loaded[key]) and torch.equal(value, flat[key]), key
    print(f"{model} float: onnx within {worst:.1e} of PyTorch's largest logit, .pt and safetensors equal, strict", flush=True)
