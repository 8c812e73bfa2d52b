"""Writes golden pairs as `tests/pytorch_parity` reads them, qconfig x86, for torchvision's quantizable models.

    python make_golden.py FOLDER SEED CLASSES SIZE [MODEL ...]

PyTorch 2.9 and torchvision 0.24. The int8 logits are fbgemm's: at 0..127 its kernels do not saturate. EfficientNetV2 has
no quantizable twin in torchvision, and qconfig onednn saturates in fbgemm: neither is written.

Make them on a CPU with AVX-512: on others oneDNN sums in another order, and PyTorch's own observers differ.
"""

import hashlib
import json
import math
import os
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from torch.ao import quantization as tq
from torchvision.models import quantization as zoo
from torchvision.models.mobilenetv3 import _mobilenet_v3_conf
from torchvision.models.quantization.mobilenetv3 import QuantizableInvertedResidual, QuantizableMobileNetV3

MODELS = ["resnet18", "resnet50", "shufflenet_v2_x0_5", "mobilenet_v3_small", "mobilenet_v3_large"]
BATCHES, BATCH, PROBE = 4, 8, 4


def uniform(name, seed, count):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    with np.errstate(over="ignore"):
        z = np.uint64(h ^ seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


def fill(model, seed):
    for key, value in model.state_dict().items():
        part, u = key.rsplit(".", 1)[-1], uniform(key, seed, value.numel())
        if part == "num_batches_tracked":
            continue
        elif part == "running_mean":
            w = (2 * u - 1) * 0.2
        elif part == "running_var":
            w = 0.5 + u
        elif part == "weight" and value.dim() == 1:
            w = 0.5 + 0.5 * u
        elif part == "weight":
            w = (2 * u - 1) * math.sqrt(6 / (value.numel() // value.shape[0]))
        elif part == "bias":
            w = (2 * u - 1) * 0.1
        else:
            raise ValueError(key)
        value.copy_(torch.from_numpy(w.astype(np.float32)).reshape(value.shape))


def images(number, seed, count, size):
    u = uniform(f"images/{number}", seed, count * 3 * size * size)
    return torch.from_numpy(((2 * u - 1) * 2).astype(np.float32)).reshape(count, 3, size, size)


def build(name, seed, classes):
    if name.startswith("mobilenet_v3"):
        settings, last = _mobilenet_v3_conf(name)
        model = QuantizableMobileNetV3(settings, last, block=QuantizableInvertedResidual, num_classes=classes)
    else:
        model = getattr(zoo, name)(weights=None, num_classes=classes)
    fill(model, seed)
    return model.eval()


def quantized(name, seed, classes, size, qconfig):
    model = build(name, seed, classes)
    model.fuse_model()
    model.qconfig = qconfig
    tq.prepare(model, inplace=True)
    for number in range(BATCHES):
        model(images(number, seed, BATCH, size))
    observers = {}
    for path, module in model.named_modules():
        if not path.endswith("activation_post_process"):
            continue
        ran = module.min_val.numel() > 0 and bool(torch.isfinite(module.min_val))
        scale, zero_point = module.calculate_qparams() if ran else (torch.ones(1), torch.zeros(1))
        observers[path.removesuffix(".activation_post_process")] = {
            "observer": type(module).__name__,
            "scale": scale.tolist(),
            "zero_point": [int(z) for z in zero_point],
            "quant_min": module.quant_min,
            "quant_max": module.quant_max,
            "min": module.min_val.item() if ran else None,
            "max": module.max_val.item() if ran else None,
        }
    tq.convert(model, inplace=True)
    return model, observers


def layers(model):
    found = {}
    for path, module in model.named_modules():
        if not (hasattr(module, "weight") and callable(module.weight)):
            continue
        weight, bias = module.weight(), module.bias()
        integers, scales = weight.int_repr().numpy(), weight.q_per_channel_scales().numpy()
        found[path] = {
            "shape": list(weight.shape),
            "int8_sha256": hashlib.sha256(integers.tobytes()).hexdigest(),
            "first_int8": integers.flatten()[:8].tolist(),
            "scales_sum": float(scales.sum()),
            "scales_first": scales[:4].tolist(),
            "bias_sum": 0.0 if bias is None else float(bias.detach().double().sum()),
            "scale": float(module.scale),
            "zero_point": int(module.zero_point),
        }
    return found


@torch.no_grad()
def write(folder, name, seed, classes, size):
    probe = images(1000, seed, PROBE, size)
    model = build(name, seed, classes)
    logits = {"float_logits": model(probe)}
    model.fuse_model()
    logits["fused_logits"] = model(probe)
    record = {"model": name, "engine": "x86", "seed": seed, "classes": classes, "size": size}
    record |= {"torch": torch.__version__, "calibration_batches": BATCHES, "calibration_batch": BATCH}
    minmax = tq.QConfig(
        activation=tq.MinMaxObserver.with_args(dtype=torch.quint8, reduce_range=True),
        weight=tq.default_per_channel_weight_observer,
    )
    for kind, qconfig in [("default", tq.get_default_qconfig("x86")), ("minmax", minmax)]:
        int8, record[f"{kind}_qparams"] = quantized(name, seed, classes, size, qconfig)
        record[f"{kind}_weights"] = layers(int8)
        logits[f"{kind}_int8_logits"] = int8(probe)
    with open(os.path.join(folder, f"{name}.x86.json"), "w") as file:
        json.dump(record, file)
    arrays = {key: value.contiguous().numpy() for key, value in logits.items()}
    save_file(arrays, os.path.join(folder, f"{name}.x86.safetensors"))


if __name__ == "__main__":
    torch.backends.quantized.engine = "fbgemm"
    folder, seed, classes, size = sys.argv[1], *map(int, sys.argv[2:5])
    os.makedirs(folder, exist_ok=True)
    for name in sys.argv[5:] or MODELS:
        write(folder, name, seed, classes, size)
        print(name)
