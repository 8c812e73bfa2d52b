"""A training step of Octet beside one of PyTorch's eager float, in turn: batch 64 at 32x32, 33 classes, SGD with momentum.

Each round takes one step of Octet and one of PyTorch in each memory layout, in a shuffled order, so that whatever else the
machine does falls on all of them. Medians; the ratio is the median of the rounds' ratios, with the better layout.

On a machine that others keep busy a clock says little: PyTorch's threads wait for each other spinning, and one that is
pushed aside holds up all. There `--threads 1 --cpu` counts processor time instead, the same way for both.

Usage: train.py TRAIN_SPEED [--threads N] [--cpu] [--seconds S] [MODEL...]
"""

import argparse
import os
import random
import statistics
import subprocess
import time

MODELS = [
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "mobilenet_v3_small",
    "mobilenet_v3_large", "efficientnet_v2_s", "resnet18", "resnet34", "resnet50",
]
BATCH, SIZE, CLASSES, WARM_UP, LEAST = 64, 32, 33, 2, 7


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("train_speed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="processor time instead of the clock's")
    parser.add_argument("--seconds", type=float, default=20, help="for each model")
    parser.add_argument("model", nargs="*", default=MODELS)
    return parser.parse_intermixed_args()


def cpu_ms(pid):
    """Processor time of all threads of a process, in milliseconds (Linux)."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e6


class Octet:
    """A process that takes a step for each line that it is sent."""

    def __init__(self, program, model, threads):
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [program, "--serve", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    @property
    def pid(self):
        return self.process.pid

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Torch:
    def __init__(self, model, layout):
        import torch
        import torchvision

        torch.manual_seed(0)
        self.model = getattr(torchvision.models, model)(weights=None, num_classes=CLASSES).train()
        self.model = self.model.to(memory_format=layout)
        self.images = torch.randn(BATCH, 3, SIZE, SIZE).to(memory_format=layout)
        self.labels = torch.arange(BATCH) % CLASSES
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
        self.loss = torch.nn.CrossEntropyLoss()
        self.pid = os.getpid()

    def step(self):
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.model(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        loss.item()
        return (time.perf_counter() - start) * 1e3


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
    import torch

    torch.set_num_threads(given.threads)
    torch.set_num_interop_threads(1)
    clock = "processor time" if given.cpu else "wall time"
    print(f"PyTorch {torch.__version__}, {given.threads} threads, {clock}, batch {BATCH} at {SIZE}x{SIZE}, {CLASSES} classes")
    print("| model | Octet, ms | images/s | PyTorch, ms | images/s | layout | PyTorch's time over Octet's | rounds |")
    print("|---|---:|---:|---:|---:|---|---:|---:|")
    for model in given.model:
        octet = Octet(given.train_speed, model, given.threads)
        sides = {
            "octet": octet,
            "contiguous": Torch(model, torch.contiguous_format),
            "channels-last": Torch(model, torch.channels_last),
        }
        times = rounds(sides, given.seconds, given.cpu)
        octet.end()
        ours = statistics.median(times["octet"])
        layout = min(["contiguous", "channels-last"], key=lambda name: statistics.median(times[name]))
        theirs = statistics.median(times[layout])
        ratio = statistics.median(b / a for a, b in zip(times["octet"], times[layout]))
        rate = BATCH * 1e3
        print(
            f"| {model} | {ours:.1f} | {rate / ours:.0f} | {theirs:.1f} | {rate / theirs:.0f} | {layout} | {ratio:.2f} "
            f"| {len(times['octet'])} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
