"""A training step of Octet beside one of PyTorch's eager mode, in turn, in float and with fake quantization: batch 64 at
32x32 (or what --batch and --size say), 33 classes, SGD with momentum.

Each side is a process of its own, so that its peak memory is its own too. Each round takes one step of Octet and one of
PyTorch in each memory layout, in a shuffled order, so that whatever else the machine does falls on all of them. Medians;
the ratio is the median of the rounds' ratios, with the better layout.

With --qat both train with fake quantization: PyTorch's `prepare_qat` with the default qconfig of x86, and models of
torchvision's `models.quantization`; where that has no such model, PyTorch's `prepare_qat_fx` on the plain one.

On a machine that others keep busy a clock says little: PyTorch's threads wait for each other spinning, and one that is
pushed aside holds up all. There `--threads 1 --cpu` counts processor time instead, the same way for both.

Usage: train.py TRAIN_SPEED [--qat] [--batch N] [--size N] [--threads N] [--cpu] [--seconds S] [MODEL...]
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time

MODELS = [
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "mobilenet_v3_small",
    "mobilenet_v3_large", "efficientnet_v2_s", "resnet18", "resnet34", "resnet50",
]
WITHOUT_TWIN = ["efficientnet_v2_s", "resnet34"]
CLASSES, WARM_UP, LEAST = 33, 2, 7


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("train_speed", help="Octet's program, or `serve-torch` for the side that this script starts")
    parser.add_argument("--qat", action="store_true", help="train with fake quantization")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="processor time instead of the clock's")
    parser.add_argument("--seconds", type=float, default=20, help="for each model")
    parser.add_argument("--layout", default="contiguous", choices=["contiguous", "channels-last"])
    parser.add_argument("model", nargs="*", default=MODELS)
    return parser.parse_intermixed_args()


def cpu_ms(pid):
    """Processor time of all threads of a process, in milliseconds (Linux)."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e6


def peak_mb(pid):
    """The most memory that a process has held (Linux)."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1e3


class Side:
    """A process that takes a step for each line that it is sent."""

    def __init__(self, command, threads):
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    @property
    def pid(self):
        return self.process.pid

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self):
        peak = peak_mb(self.pid)
        self.process.stdin.close()
        self.process.wait()
        return peak


def octet(given, model):
    flags = ["--serve", f"--batch={given.batch}", f"--size={given.size}"] + (["--qat"] if given.qat else [])
    return Side([given.train_speed, *flags, model], given.threads)


def torch_side(given, model, layout):
    flags = ["--batch", given.batch, "--size", given.size, "--threads", given.threads, "--layout", layout]
    flags += ["--qat"] if given.qat else []
    return Side([sys.executable, __file__, "serve-torch", *map(str, flags), model], given.threads)


def quantizable(name):
    """torchvision's quantizable twin; it has none of MobileNetV3 small by name, but all of its parts."""
    from torchvision.models import mobilenetv3, quantization
    from torchvision.models.quantization import mobilenetv3 as quantizable_mobilenet

    if name == "mobilenet_v3_small":
        settings, last = mobilenetv3._mobilenet_v3_conf(name)
        return quantizable_mobilenet._mobilenet_v3_model(settings, last, None, False, False, num_classes=CLASSES)
    return getattr(quantization, name)(weights=None, quantize=False, num_classes=CLASSES)


def fake_quantized(name, size):
    """In training mode: fused, and with fake quantization as qconfig x86 has it."""
    import torch
    import torchvision
    from torch.ao import quantization
    from torch.ao.quantization import quantize_fx

    if name in WITHOUT_TWIN:
        plain = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES).train()
        mapping = quantization.get_default_qat_qconfig_mapping("x86")
        return quantize_fx.prepare_qat_fx(plain, mapping, (torch.randn(2, 3, size, size),))
    model = quantizable(name).train()
    model.fuse_model(is_qat=True)
    model.qconfig = quantization.get_default_qat_qconfig("x86")
    return quantization.prepare_qat(model)


def serve_torch(given):
    import torch
    import torchvision

    torch.set_num_threads(given.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    layout = torch.channels_last if given.layout == "channels-last" else torch.contiguous_format
    name = given.model[0]
    if given.qat:
        model = fake_quantized(name, given.size)
    else:
        model = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES).train()
    model = model.to(memory_format=layout)
    images = torch.randn(given.batch, 3, given.size, given.size).to(memory_format=layout)
    labels = torch.arange(given.batch) % CLASSES
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    criterion = torch.nn.CrossEntropyLoss()
    for _ in sys.stdin:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        print((time.perf_counter() - start) * 1e3, flush=True)


def timed(side, cpu):
    if not cpu:
        return side.step()
    before = cpu_ms(side.pid)
    side.step()
    return cpu_ms(side.pid) - before


def rounds(sides, seconds, cpu):
    times = {name: [] for name in sides}
    for side in sides.values():
        for _ in range(WARM_UP):
            side.step()
    begin, order = time.perf_counter(), random.Random(0)
    while len(times["octet"]) < LEAST or time.perf_counter() - begin < seconds:
        for name in order.sample(list(sides), len(sides)):
            # The threads of the one before go to sleep.
            time.sleep(0.02)
            times[name].append(timed(sides[name], cpu))
    return times


def main():
    given = arguments()
    if given.train_speed == "serve-torch":
        return serve_torch(given)
    import torch

    clock = "processor time" if given.cpu else "wall time"
    what = "with fake quantization" if given.qat else "float"
    print(
        f"PyTorch {torch.__version__}, {given.threads} threads, {clock}, {what}, batch {given.batch} at "
        f"{given.size}x{given.size}, {CLASSES} classes"
    )
    print(
        "| model | Octet, ms | images/s | peak, MB | PyTorch, ms | images/s | peak, MB | layout | PyTorch's time over "
        "Octet's | rounds |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---|---:|---:|")
    for model in given.model:
        sides = {"octet": octet(given, model)}
        sides |= {layout: torch_side(given, model, layout) for layout in ["contiguous", "channels-last"]}
        times = rounds(sides, given.seconds, given.cpu)
        peaks = {name: side.end() for name, side in sides.items()}
        ours = statistics.median(times["octet"])
        layout = min(["contiguous", "channels-last"], key=lambda name: statistics.median(times[name]))
        theirs = statistics.median(times[layout])
        ratio = statistics.median(b / a for a, b in zip(times["octet"], times[layout]))
        rate = given.batch * 1e3
        print(
            f"| {model} | {ours:.1f} | {rate / ours:.0f} | {peaks['octet']:.0f} | {theirs:.1f} | {rate / theirs:.0f} "
            f"| {peaks[layout]:.0f} | {layout} | {ratio:.2f} | {len(times['octet'])} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
