"""What all checks need: the program, images, torchvision's twins."""

import gzip
import json
import pathlib
import subprocess

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.models.mobilenetv3 import _mobilenet_v3_conf
from torchvision.models.quantization.mobilenetv3 import QuantizableInvertedResidual, QuantizableMobileNetV3

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZE = 64
CLASSES = 10


class Octet:
    """The program, as a script calls it."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder

    def run(self, *args):
        """What it prints as JSON."""
        return json.loads(self.text(*args, "--json"))

    def text(self, *args):
        done = subprocess.run([self.binary, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, f"octet {' '.join(map(str, args))}: {done.stderr[-2000:]}"
        return done.stdout

    def error(self, *args):
        """The one sentence with which it refuses."""
        done = subprocess.run([self.binary, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1, f"octet {' '.join(map(str, args))} did not fail"
        lines = [line for line in done.stderr.splitlines() if line.startswith("octet: ")]
        assert len(lines) == 1, done.stderr
        return lines[0]

    def logits(self, file, pictures, *args):
        rows = self.run("classify", file, *pictures, "--logits", *args)
        return np.array([row["logits"] for row in rows], np.float32)


def twin(model, classes=CLASSES, seed=0):
    """torchvision's quantizable twin, float, with random weights and batch norms that are not the identity."""
    torch.manual_seed(seed)
    if model == "mobilenet_v3_small":
        settings, last = _mobilenet_v3_conf(model)
        net = QuantizableMobileNetV3(settings, last, num_classes=classes, block=QuantizableInvertedResidual)
    else:
        net = getattr(torchvision.models.quantization, model)(weights=None, quantize=False, num_classes=classes)
    return lively(net).eval()


def lively(net):
    """Random weights under which logits differ: torchvision's own start lets them fade."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.6, 1.2)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(module.weight)
    return net


def pictures(folder, count=24, size=SIZE, seed=1):
    """Pictures of random blobs as PNG files, and the pixels as [count, size, size, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, size // 8, size // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    pixels = (coarse.astype(np.int32) + rng.integers(-20, 21, coarse.shape)).clip(0, 255).astype(np.uint8)
    paths = []
    for i, image in enumerate(pixels):
        paths.append(folder / f"{seed}-{i}.png")
        Image.fromarray(image).save(paths[-1])
    return paths, pixels


def plain(pixels):
    """Pixels as a network takes them under `AS_THEY_ARE`: 0..1, channels first."""
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)).contiguous()


# Flags under which Octet's input is `plain`.
AS_THEY_ARE = ["--size", SIZE, "--preprocess", "squash", "--mean", "0,0,0", "--std", "1,1,1"]


def sample_pictures(folder, count):
    """The first held-out images of the sample, as PNG files and as float before normalization, 28x28 on black."""
    raw = gzip.decompress((ROOT / "sample_data/t10k-images-idx3-ubyte.gz").read_bytes())
    grey = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)[:count]
    grey = np.pad(grey, ((0, 0), (2, 2), (2, 2)))
    paths = []
    for i, image in enumerate(grey):
        paths.append(folder / f"sample-{i}.png")
        Image.fromarray(image).convert("RGB").save(paths[-1])
    labels = gzip.decompress((ROOT / "sample_data/t10k-labels-idx1-ubyte.gz").read_bytes())
    labels = np.frombuffer(labels, np.uint8, offset=8)[:count]
    return paths, np.repeat(grey[:, None], 3, axis=1), labels


def normalized(planes, preprocess):
    mean, std = (np.array(preprocess[k], np.float32).reshape(1, 3, 1, 1) for k in ("mean", "std"))
    return (planes.astype(np.float32) / np.float32(255) - mean) / std


def saturated(net, images):
    """Outputs of a converted network's layers that are not what their integers sum to. On CPUs without VNNI fbgemm adds pairs
    of products in 16 bits, which levels above 127 overflow: training under x86 keeps below, PyTorch's conversion does not."""
    found = []

    def compare(layer, given, out):
        x, w = given[0], layer.weight()
        inputs, weights = x.int_repr().double() - x.q_zero_point(), w.int_repr().double()
        if inputs.dim() == 4:
            sums = torch.nn.functional.conv2d(inputs, weights, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        else:
            sums = inputs @ weights.T
        shape = (1, -1) + (1,) * (sums.dim() - 2)
        per_channel = w.qscheme() == torch.per_channel_affine
        scale = torch.tensor(x.q_scale()).float() * (w.q_per_channel_scales().float() if per_channel else w.q_scale())
        bias = (layer.bias().detach().float() / scale).reshape(shape)
        levels = torch.round((sums.float() + bias) * (scale / torch.tensor(layer.scale).float()).reshape(shape)) + layer.zero_point
        least = layer.zero_point if "ReLU" in type(layer).__name__ else 0
        found.append(int((levels.clamp(least, 255) != out.int_repr().double()).sum()))

    layers = [m for m in net.modules() if type(m).__module__.startswith("torch.ao.nn") and hasattr(m, "weight") and callable(m.weight)]
    hooks = [m.register_forward_hook(compare) for m in layers]
    with torch.no_grad():
        net(images)
    for hook in hooks:
        hook.remove()
    assert found, "no layer was looked at"
    return sum(found)


def equal(ours, theirs, what):
    """Logits are levels times one scale: equal levels are equal numbers."""
    apart = int((np.asarray(ours, np.float32) != np.asarray(theirs, np.float32)).sum())
    print(f"{what}: {ours.size - apart} of {ours.size} logits equal", flush=True)
    assert ours.shape == tuple(theirs.shape) and ours.size > 0, (ours.shape, theirs.shape)
    # Logits that are all alike would prove nothing.
    assert len(np.unique(theirs)) >= 10, np.unique(theirs)
    assert apart == 0, what
