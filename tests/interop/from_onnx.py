"""ONNX files of Octet's: the checker, ONNX Runtime, names."""

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from safetensors.torch import load_file

from common import SIZE, normalized, sample_pictures

IMAGES = 1000


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
    # Whatever ships no weights is trained for a moment: the file is what is looked at, not its accuracy.
    weights = [] if model == "shufflenet_v2_x0_5" else ["--weights", trained(octet, model, folder)]
    short = ["--calibration-batches", "4"]
    octet.run("ptq", "--model", model, *weights, *short, "--out", file, "--save-recipe", recipe)
    again = folder / "again.octet.safetensors"
    octet.run("run", recipe, "--out", again)
    assert again.read_bytes() == file.read_bytes(), "the recipe gives another file"
    print(f"{model} recipe: the same {file.stat().st_size} bytes again")

    report = octet.run("export", file, "--format", "onnx", "--out", out)
    assert report["self_check"]["top1_agreement"] >= 0.98, report
    loaded = onnx.load(str(out))
    onnx.checker.check_model(loaded, full_check=True)
    assert loaded.opset_import[0].version >= 17
    inside = octet.run("inspect", file)
    count = IMAGES if model in ("shufflenet_v2_x0_5", "mobilenet_v3_small") else IMAGES // 4
    pictures, planes, labels = sample_pictures(folder, count)
    ours = octet.logits(file, pictures)
    images = normalized(planes, inside["preprocess"]).astype(np.float32)
    scale = next(n["scale"] for n in reversed(inside["nodes"]) if n["scale"])
    names = {n.name for n in loaded.graph.node} | {t.name for t in loaded.graph.initializer}
    layers = [n["name"] for n in inside["nodes"] if n["op"].startswith(("Conv", "Linear"))]
    assert layers and all(f"{name}.weight" in names for name in layers), "torchvision's names"
    for optimize in (True, False):
        theirs = logits(out, images, optimize)
        top1 = (ours.argmax(1) == theirs.argmax(1)).mean()
        accuracy = [(x.argmax(1) == labels).mean() * 100 for x in (ours, theirs)]
        levels = np.rint(np.abs(ours - theirs) / scale)
        near = (levels <= 2).mean()
        print(f"{model} onnx, optimizations {'on' if optimize else 'off'}: top 1 agrees on {top1:.2%} of {len(ours)}, accuracy "
              f"{accuracy[0]:.2f} and {accuracy[1]:.2f}, {near:.2%} of logits within 2 levels, worst {levels.max():.0f}", flush=True)
        assert top1 >= 0.995 and near >= 0.99 and abs(accuracy[0] - accuracy[1]) <= 0.1, model
    return file


def trained(octet, model, folder):
    """Weights after a few hundred steps on the sample, so that logits are not all alike."""
    file = folder / "trained.safetensors"
    octet.run("train", "--model", model, "--epochs", "1", "--out", file)
    return file


def check_float(octet, model, folder):
    torch.manual_seed(0)
    network = getattr(torchvision.models, model)(num_classes=10).eval()
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
    worst = np.abs(logits(folder / "float.onnx", images.numpy()) - expected).max()
    assert worst < 1e-3 * max(1, np.abs(expected).max()), model
    loaded = torch.load(folder / "float.pt", weights_only=True)
    network.load_state_dict(loaded, strict=True)
    counters = {k for k in network.state_dict() if k.endswith("num_batches_tracked")}
    flat = load_file(folder / "float.safetensors")
    assert set(flat) == set(network.state_dict()) - counters, model
    for key, value in torch.load(weights).items():
        if key not in counters:
            assert torch.equal(value, loaded[key]) and torch.equal(value, flat[key]), key
    print(f"{model} float: onnx within {worst:.1e} of PyTorch, .pt and safetensors equal, strict", flush=True)
