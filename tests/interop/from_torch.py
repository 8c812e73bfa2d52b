"""What PyTorch quantized or trained with fake quantization, in Octet's engine."""

import torch
from torch.ao.quantization import (
    convert, disable_observer, get_default_qat_qconfig, get_default_qconfig, prepare, prepare_qat,
)

from common import AS_THEY_ARE, equal, pictures, plain, saturated, twin


def compare(octet, model, net, state, folder, what):
    """`net`, converted, against Octet with the file `state`."""
    paths, pixels = pictures(folder)
    with torch.no_grad():
        theirs = net(plain(pixels)).numpy()
    equal(octet.logits(state, paths, "--model", model, *AS_THEY_ARE), theirs, what)
    out = folder / "imported.octet.safetensors"
    report = octet.run("export", state, "--model", model, *AS_THEY_ARE, "--format", "octet", "--out", out)
    assert report["self_check"]["equal"], report
    equal(octet.logits(out, paths), theirs, f"{what}, as an int8 file")


def calibrated(model, folder, fuse):
    net = twin(model)
    if fuse:
        net.fuse_model(is_qat=False)
    net.qconfig = get_default_qconfig("x86")
    prepare(net, inplace=True)
    with torch.no_grad():
        for seed in (11, 12):
            net(plain(pictures(folder, 8, seed=seed)[1]))
    return convert(net)


def check_quantized(octet, model, folder):
    net, state = calibrated(model, folder, True), folder / "quantized.pth"
    torch.save(net.state_dict(), state)
    compare(octet, model, net, state, folder, f"{model} quantized state dict")
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, state)
    paths, pixels = pictures(folder)
    with torch.no_grad():
        equal(octet.logits(state, paths, "--model", model, *AS_THEY_ARE), net(plain(pixels)).numpy(),
              f"{model} quantized, in a checkpoint, wrapped")
    message = octet.error("ptq", "--model", model, "--weights", state, *AS_THEY_ARE, "--out", folder / "no.safetensors")
    assert "quantized model" in message and "--format octet" in message, message


def check_apart(octet, model, folder):
    """Batch norm and ReLU on their own, as where `fuse_model` was forgotten."""
    net, state = calibrated(model, folder, False), folder / "apart.pth"
    torch.save(net.state_dict(), state)
    compare(octet, model, net, state, folder, f"{model} quantized, unfused")


def check_qat(octet, model, folder):
    for engine in ("x86", "qnnpack"):
        for frozen in (True, False):
            net, state = trained(model, folder, engine), folder / "qat.pth"
            if frozen:
                net.apply(disable_observer)
            net.eval()
            torch.save(net.state_dict(), state)
            done = convert(net)
            what = f"{model} QAT checkpoint, {engine}, observers {'off' if frozen else 'on'}"
            same_integers(octet, model, done, state, folder, what)
            if engine == "x86":
                wrong = saturated(done, plain(pictures(folder)[1]))
                if wrong == 0:
                    compare(octet, model, done, state, folder, what)
                else:
                    print(f"{what}: logits not compared: {wrong} of PyTorch's own sums overflow 16 bits on this CPU", flush=True)


def trained(model, folder, engine):
    net = twin(model)
    net.train()
    net.fuse_model(is_qat=True)
    net.qconfig = get_default_qat_qconfig(engine)
    prepare_qat(net, inplace=True)
    rule = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for step in range(3):
        images, labels = plain(pictures(folder, 8, seed=20 + step)[1]), torch.arange(8) % 10
        rule.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        rule.step()
    return net


def same_integers(octet, model, net, state, folder, what):
    """Every integer of the state dicts."""
    ours, theirs = folder / "ours.pt", net.state_dict()
    between = folder / "between.octet.safetensors"
    octet.run("export", state, "--model", model, *AS_THEY_ARE, "--format", "octet", "--out", between)
    octet.run("export", between, "--format", "torch", "--out", ours)
    found = torch.load(ours, weights_only=True)
    weights = apart = 0
    for key, value in theirs.items():
        got = found[key]
        value, got = (value[0], got[0]) if isinstance(value, tuple) else (value, got)
        if isinstance(value, torch.Tensor) and value.is_quantized:
            weights += value.numel()
            apart += int((value.int_repr() != got.int_repr()).sum())
        elif key.endswith((".scale", ".zero_point")):
            assert torch.equal(value, got), (key, value, got)
    print(f"{what}: {weights - apart} of {weights} weights equal, scales and zero points too", flush=True)
    assert weights and apart == 0, what
