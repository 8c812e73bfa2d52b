"""The PyTorch code that the window shows, executed as it stands, against Octet's file of the same choices.

Weights and zero points must be the same integers. Scales come from float sums: Octet's are in the order of PyTorch's kernels
with AVX-512, and on another CPU PyTorch's own differ in the last bits, which random weights make as large as they like in the
logits: those are told, not judged. That equal scales give equal logits is `to_torch.check`'s. Of training with fake
quantization the code is executed, and what it wrote must be the same integers in Octet.
"""

import os
import subprocess
import sys

import numpy as np
import torch

from common import AS_THEY_ARE, SIZE, pictures, plain, twin
from from_torch import same_integers
from to_torch import converted

IMAGES = 32


def start(model, folder):
    """Random weights, and images in two classes."""
    weights, data = folder / "code.pth", folder / "data"
    torch.save(twin(model, classes=2).state_dict(), weights)
    for split, seed in (("train", 31), ("valid", 32)):
        for label in ("a", "b"):
            (data / split / label).mkdir(parents=True, exist_ok=True)
            pictures(data / split / label, IMAGES // 2, SIZE, seed * 10 + (label == "b"))
    return ["--model", model, "--weights", weights, "--data", data, *AS_THEY_ARE, "--batch", IMAGES]


def execute(octet, model, folder, recipe):
    """The script of a recipe, run as it stands; the state dict that it wrote."""
    script = folder / "script.py"
    script.write_text(octet.text("code", recipe))
    run = subprocess.run([sys.executable, "-W", "ignore", script.name], cwd=folder, stderr=subprocess.PIPE, text=True,
                         env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert run.returncode == 0, f"{script.read_text()}\n{run.stderr[-2000:]}"
    return folder / f"{model}_int8.pth"


def check(octet, model, folder):
    file, recipe = folder / "code.octet.safetensors", folder / "code.toml"
    # One batch of all images: whatever order a loader shuffles them into, observers see the same.
    octet.run("ptq", *start(model, folder), "--calibration-batches", "1", "--observer", "minmax", "--out", file,
              "--save-recipe", recipe)
    state = execute(octet, model, folder, recipe)
    paths, _ = pictures(folder, seed=33)
    ours = octet.logits(file, paths)
    theirs = octet.logits(state, paths, "--model", model, *AS_THEY_ARE)
    scales = compare(octet, file, model, folder, state)
    ours, theirs = (np.rint(x / scale).astype(int) for x, scale in zip((ours, theirs), scales, strict=True))
    apart = np.abs(ours - theirs)
    print(f"{model} code, executed: {(apart == 0).mean():.2%} of {ours.size} logits on the same level, worst {apart.max()} apart",
          flush=True)


def check_qat(octet, model, folder):
    recipe = folder / "qat.toml"
    octet.run("qat", *start(model, folder), "--epochs", "1", "--out", folder / "qat.octet.safetensors", "--save-recipe", recipe)
    state = execute(octet, model, folder, recipe)
    net = converted(model, classes=2)
    net.load_state_dict(torch.load(state, weights_only=True), strict=True)
    paths, pixels = pictures(folder, seed=33)
    with torch.no_grad():
        theirs = net(plain(pixels)).numpy()
    # After one step up to a quarter of a layer's levels lie above the 127 that it was trained to, where PyTorch's engines differ
    # among themselves (fbgemm's 16-bit sums saturate): the logits are told, the integers judged.
    same = (octet.logits(state, paths, "--model", model, *AS_THEY_ARE) == theirs).mean()
    print(f"{model} QAT code, executed: {same:.2%} of {theirs.size} logits equal", flush=True)
    same_integers(octet, model, net, state, folder, f"{model} QAT code, executed")


def compare(octet, file, model, folder, state):
    """Weights, zero points and scales; the last layer's scale of both."""
    ours = folder / "code.pt"
    octet.run("export", file, "--format", "torch", "--out", ours)
    ours, theirs = torch.load(ours, weights_only=True), torch.load(state, weights_only=True)
    assert set(ours) == set(theirs), model
    worst = 0.0
    for key, value in theirs.items():
        got = ours[key]
        value, got = (value[0], got[0]) if isinstance(value, tuple) else (value, got)
        if isinstance(value, torch.Tensor) and value.is_quantized:
            assert torch.equal(value.int_repr(), got.int_repr()), key
        elif key.endswith(".scale"):
            worst = max(worst, float(np.abs(value / got - 1).max()))
        elif key.endswith(".zero_point"):
            assert torch.equal(value, got), key
    print(f"{model} code, executed: weights and zero points equal, scales within {worst:.1e}", flush=True)
    assert worst < 2e-6, model
    last = [key for key in theirs if key.endswith(("fc.scale", "classifier.3.scale"))]
    return [float(state[last[0]]) for state in (ours, theirs)]
