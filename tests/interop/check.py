"""What Octet exports, opened by the tools it is for: ONNX's checker, ONNX Runtime, torch.load. `tests/interop/run` calls it."""

import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ["shufflenet_v2_x0_5", "mobilenet_v3_small", "resnet18"]
SIZE = 32


def octet(binary, *args):
    done = subprocess.run([binary, *args, "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def test_images(preprocess):
    """The held-out images of the sample: 28x28 on black, grey to RGB, normalized as the file says."""
    raw = gzip.decompress((ROOT / "sample_data/t10k-images-idx3-ubyte.gz").read_bytes())
    grey = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28).astype(np.float32) / 255
    grey = np.pad(grey, ((0, 0), (2, 2), (2, 2)))
    mean, std = (np.array(preprocess[k], np.float32).reshape(1, 3, 1, 1) for k in ("mean", "std"))
    return (np.repeat(grey[:, None], 3, axis=1) - mean) / std


def onnx_logits(path, images, optimize=True):
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"input": images})[0]


def octet_logits(binary, file, images, preprocess, folder, count):
    """Octet's own logits of the first `count` images, given to it as pictures."""
    from PIL import Image

    mean, std = (np.array(preprocess[k], np.float32).reshape(3, 1, 1) for k in ("mean", "std"))
    paths = []
    for i in range(count):
        pixels = np.rint((images[i] * std + mean) * 255).astype(np.uint8).transpose(1, 2, 0)
        paths.append(str(folder / f"{i}.png"))
        Image.fromarray(pixels).save(paths[-1])
    rows = octet(binary, "classify", str(file), *paths, "--logits")
    return np.array([row["logits"] for row in rows], np.float32)


def check_int8(binary, model, folder):
    file, out, recipe = folder / f"{model}.octet.safetensors", folder / f"{model}.onnx", folder / f"{model}.toml"
    octet(binary, "ptq", "--model", model, "--out", str(file), "--save-recipe", str(recipe))
    again = folder / "again.octet.safetensors"
    octet(binary, "run", str(recipe), "--out", str(again))
    assert again.read_bytes() == file.read_bytes(), "the recipe gives another file"
    report = octet(binary, "export", str(file), "--format", "onnx", "--out", str(out))
    inside = octet(binary, "inspect", str(file))
    images = test_images(inside["preprocess"])
    ours = octet_logits(binary, file, images, inside["preprocess"], folder, min(1000, len(images)))
    scale = next(n["scale"] for n in reversed(inside["nodes"]) if n["scale"])
    for optimize in (True, False):
        theirs = onnx_logits(out, images[: len(ours)], optimize)
        top1 = (ours.argmax(1) == theirs.argmax(1)).mean()
        levels = np.rint(np.abs(ours - theirs) / scale)
        near = (levels <= 2).mean()
        print(f"{model} onnx optimize={optimize}: top 1 {top1:.4f}, within 2 levels {near:.4f}, worst {levels.max():.0f}; "
              f"self-check {report['self_check']}")
        if not optimize:
            assert top1 >= 0.995 and near >= 0.99, model


def check_float(binary, model, folder):
    torch.manual_seed(0)
    network = getattr(torchvision.models, model)(num_classes=10).eval()
    weights = folder / f"{model}.pth"
    torch.save(network.state_dict(), weights)
    images = torch.randn(8, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = network(images).numpy()
    common = [str(weights), "--model", model, "--size", str(SIZE)]
    outs = {"onnx-float": "float.onnx", "torch-float": "float.pt", "safetensors": "float.safetensors"}
    for form, name in outs.items():
        octet(binary, "export", *common, "--format", form, "--out", str(folder / name))
    found = onnx_logits(folder / "float.onnx", images.numpy())
    worst = np.abs(found - expected).max()
    print(f"{model} onnx-float: worst difference {worst:.2e}")
    assert worst < 1e-3 * max(1, np.abs(expected).max()), model
    loaded = torch.load(folder / "float.pt", weights_only=True)
    network.load_state_dict(loaded, strict=True)
    counters = {k for k in network.state_dict() if k.endswith("num_batches_tracked")}
    flat = load_file(folder / "float.safetensors")
    assert set(flat) == set(network.state_dict()) - counters, model
    for key, value in torch.load(weights).items():
        if key not in counters:
            assert torch.equal(value, loaded[key]) and torch.equal(value, flat[key]), key
    print(f"{model} torch-float, safetensors: every tensor equal, strict")


def main():
    binary, models = sys.argv[1], sys.argv[2:] or MODELS
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            check_float(binary, model, pathlib.Path(folder))
            check_int8(binary, model, pathlib.Path(folder))


main()
