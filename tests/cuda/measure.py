"""Training steps of Octet beside PyTorch's eager mode on one GPU, in turn: batch 64 at 32x32 and batch 32 at 224x224, float
and with fake quantization, 33 classes, SGD with momentum; images a second and the tensors' peak memory.

Each side is a process of its own. PyTorch runs as it comes (its convolutions in TF32) and once more in full float32, which
is what Octet computes in; the ratio is with the first, the faster. Medians of steps taken in a shuffled order.

Usage: measure.py TRAIN_SPEED [--seconds S] [MODEL...]
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peers"))
from train import CLASSES, WITHOUT_QAT, quantizable  # noqa: E402

MODELS = ["shufflenet_v2_x0_5", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_v2_s", "resnet18"]
SIZES = [(64, 32), (32, 224)]
WARM_UP, LEAST = 5, 9


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("train_speed", help="Octet's program, or `serve-torch` for the side that this script starts")
    parser.add_argument("--seconds", type=float, default=4, help="for each row")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--qat", action="store_true")
    parser.add_argument("--full", action="store_true", help="PyTorch's convolutions in full float32")
    parser.add_argument("model", nargs="*", default=MODELS)
    return parser.parse_intermixed_args()


def serve_torch(given):
    import torch
    import torchvision

    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = not given.full
    name = given.model[0]
    if given.qat:
        model = quantizable(name).train()
        model.fuse_model(is_qat=True)
        model.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86")
        torch.ao.quantization.prepare_qat(model, inplace=True)
    else:
        model = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES).train()
    model = model.cuda()
    images = torch.randn(given.batch, 3, given.size, given.size)
    labels = torch.arange(given.batch) % CLASSES
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    criterion = torch.nn.CrossEntropyLoss()
    for _ in sys.stdin:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(images.cuda()), labels.cuda())
        loss.backward()
        optimizer.step()
        loss.item()
        torch.cuda.synchronize()
        print((time.perf_counter() - start) * 1e3, torch.cuda.max_memory_allocated() / 1e6, flush=True)


class Side:
    """A process that takes a step for each line that it is sent, and answers with milliseconds and megabytes."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.times, self.peak = [], 0.0

    def step(self, keep=True):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        ms, self.peak = map(float, self.process.stdout.readline().split())
        if keep:
            self.times.append(ms)

    def end(self):
        self.process.stdin.close()
        self.process.wait()

    @property
    def ms(self):
        return statistics.median(self.times)


def row(given, model, batch, size, qat):
    flags = ["--serve", "--device=cuda", f"--batch={batch}", f"--size={size}"] + (["--qat"] if qat else [])
    sides = {"octet": [given.train_speed, *flags, model]}
    if not (qat and model in WITHOUT_QAT):
        torch = [sys.executable, __file__, "serve-torch", "--batch", str(batch), "--size", str(size)]
        torch += (["--qat"] if qat else []) + [model]
        sides |= {"torch": torch, "full": [*torch, "--full"]}
    sides = {name: Side(command) for name, command in sides.items()}
    try:
        for side in sides.values():
            for _ in range(WARM_UP):
                side.step(keep=False)
        begin, order = time.perf_counter(), random.Random(0)
        while len(sides["octet"].times) < LEAST or time.perf_counter() - begin < given.seconds:
            for name in order.sample(list(sides), len(sides)):
                sides[name].step()
    finally:
        for side in sides.values():
            side.end()
    ours, theirs, full = (sides.get(name) for name in ["octet", "torch", "full"])
    rate = lambda side: f"{batch * 1e3 / side.ms:.0f}" if side else "-"  # noqa: E731
    peak = lambda side: f"{side.peak:.0f}" if side else "-"  # noqa: E731
    share = f"{theirs.ms / ours.ms:.2f}" if theirs else "-"
    print(
        f"| {model} | {'QAT' if qat else 'float'} | {batch} at {size}x{size} | {rate(ours)} | {peak(ours)} | {rate(theirs)} "
        f"| {rate(full)} | {peak(theirs)} | {share} |",
        flush=True,
    )


def main():
    given = arguments()
    if given.train_speed == "serve-torch":
        return serve_torch(given)
    import torch

    print(f"{torch.cuda.get_device_name(0)}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}, {time.strftime('%Y-%m-%d')}\n")
    print(
        "| model | | batch | Octet, images/s | peak, MB | PyTorch, images/s | in full float32 | peak, MB "
        "| Octet's rate over PyTorch's |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for batch, size in SIZES:
        for model in given.model:
            for qat in [False, True]:
                try:
                    row(given, model, batch, size, qat)
                except (ValueError, BrokenPipeError, OSError) as error:
                    print(f"| {model} | {'QAT' if qat else 'float'} | {batch} at {size}x{size} | failed: {error} |", flush=True)


if __name__ == "__main__":
    main()
