"""Quantized state dicts that Octet writes, in PyTorch's engine."""

import copy

import torch
import torchvision
from torch.ao.quantization import convert, get_default_qconfig, prepare

from common import AS_THEY_ARE, CLASSES, SIZE, equal, pictures, plain, twin

BUILDERS = ["shufflenet_v2_x0_5", "resnet18", "resnet50", "mobilenet_v3_large"]


def converted(model, classes=CLASSES):
    """A converted twin with other numbers in it than those that are to be loaded."""
    if model in BUILDERS and not model.startswith("mobilenet"):
        return getattr(torchvision.models.quantization, model)(weights=None, quantize=True, num_classes=classes)
    net = twin(model, classes, seed=5)
    net.fuse_model(is_qat=False)
    net.qconfig = get_default_qconfig("x86")
    prepare(net, inplace=True)
    net(torch.rand(2, 3, SIZE, SIZE))
    return convert(net)


def quantize(octet, model, folder, *more):
    """An int8 file at 64 pixels of random weights, by Octet."""
    weights, data = folder / "random.pth", folder / "images"
    torch.save(twin(model).state_dict(), weights)
    data.mkdir(exist_ok=True)
    pictures(data, 32, seed=7)
    file = folder / "random.octet.safetensors"
    octet.run("ptq", "--model", model, "--weights", weights, "--data", data, *AS_THEY_ARE, "--calibration-batches", "1",
              "--out", file, *more)
    return file


def check(octet, model, sample_file, folder):
    for qconfig in ("x86", "qnnpack"):
        file, out = quantize(octet, model, folder, "--qconfig", qconfig), folder / "octet.pt"
        report = octet.run("export", file, "--format", "torch", "--out", out)
        assert report["self_check"]["equal"], report
        net = converted(model)
        state = torch.load(out, weights_only=True)
        assert state._metadata["quant"]["version"] == 1
        net.load_state_dict(copy.copy(state), strict=True)
        paths, pixels = pictures(folder)
        with torch.no_grad():
            theirs = net(plain(pixels))
        # At 0..255 fbgemm's depthwise kernels saturate in 16 bits: there PyTorch's own sums are wrong.
        if qconfig == "x86":
            equal(octet.logits(file, paths), theirs.numpy(), f"{model} torch, {qconfig}, strict")
        else:
            near = (octet.logits(file, paths) == theirs.numpy()).mean()
            print(f"{model} torch, {qconfig}, strict: {near:.2%} of logits equal (fbgemm saturates at 0..255)")
        # And back again: the same int8 file but for what it remembers.
        back = folder / "back.octet.safetensors"
        octet.run("export", out, "--model", model, *AS_THEY_ARE, "--format", "octet", "--out", back)
        equal(octet.logits(file, paths), octet.logits(back, paths), f"{model} torch, {qconfig}, read back")


def check_refused(octet, file, folder):
    message = octet.error("export", file, "--format", "torch", "--out", folder / "none.pt")
    assert "no twin" in message and not (folder / "none.pt").exists(), message
    print(f"refused: {message}")
