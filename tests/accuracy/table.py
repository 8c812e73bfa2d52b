"""Runs `octet train`, `ptq` and `qat` for each model and seed and prints what each measured on the held-out images of the sample.

Usage: table.py OCTET PLANT FOLDER [--seeds 0,1,2] [--epochs N] [--qat-epochs N] [--threads N] [MODEL...|spoiled|promise [MODEL...]|repairs [MODEL...]]
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import time

SHIPPED = ["shufflenet_v2_x0_5", "mobilenet_v3_small", "resnet18"]
MODELS = ["shufflenet_v2_x0_5", "mobilenet_v3_small", "resnet18", "efficientnet_v2_s", "resnet50"]


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("octet")
    parser.add_argument("plant")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seeds", type=lambda text: [int(n) for n in text.split(",")], default=[0])
    parser.add_argument("--epochs", type=int, default=10, help="of float training")
    parser.add_argument("--qat-epochs", type=int, default=4)
    parser.add_argument("--threads", default="2")
    parser.add_argument("model", nargs="*", default=MODELS)
    return parser.parse_intermixed_args()


class Octet:
    def __init__(self, arg):
        self.arg = arg

    def __call__(self, command, model, out, *flags):
        return self.run(command, "--model", model, "--threads", self.arg.threads, "--out", out, *flags)

    def run(self, *words):
        line = [str(word) for word in (self.arg.octet, *words, "--json")]
        return json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def percent(found):
    return f"{100 * found['accuracy']:.2f}"


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def table(arg, octet):
    row("model", "seed", "epochs, float + QAT", "float", "float, trained on", "PTQ", "QAT, fake-quantized", "QAT, int8", "QAT - float")
    row("---", *["---:"] * 8)
    for model in arg.model:
        for seed in arg.seeds:
            weights = arg.folder / f"{model}.{seed}.safetensors"
            int8, longer = arg.folder / "int8.octet.safetensors", arg.folder / "longer.safetensors"
            start, on = ["--weights", weights, "--seed", seed], ["--epochs", arg.qat_epochs]
            float_ = octet("train", model, weights, "--seed", seed, "--epochs", arg.epochs)
            longer = octet("train", model, longer, *start, *on, "--lr", "0.0003")
            ptq = octet("ptq", model, int8, *start)
            qat = octet("qat", model, int8, *start, *on)
            gained = 100 * (qat["int8"]["accuracy"] - float_["accuracy"])
            row(model, seed, f"{arg.epochs} + {arg.qat_epochs}", percent(float_), percent(longer), percent(ptq["int8"]),
                percent(qat["fake"]), percent(qat["int8"]), f"{gained:+.2f}")


def spoiled(arg, octet):
    """From the shipped weights: channels scaled from 1/32 to 32 between two pairs of layers, which changes nothing in float."""
    model, planted, int8 = "mobilenet_v3_small", arg.folder / "planted.safetensors", arg.folder / "int8.octet.safetensors"
    shipped = pathlib.Path("assets/weights") / f"{model}.safetensors"
    subprocess.run([arg.plant, shipped, "10", planted], check=True, stdout=sys.stderr)
    tensor = ["--qconfig", "qnnpack"]
    row("MobileNetV3 small", "float", "int8")
    row("---", "---:", "---:")
    cases = [
        ("PTQ, one scale a tensor, before it was spoiled", "ptq", shipped, tensor),
        ("PTQ, one scale a tensor, spoiled", "ptq", planted, tensor),
        ("the same, equalized", "ptq", planted, [*tensor, "--equalize"]),
        ("PTQ, weights per channel, spoiled", "ptq", planted, ["--qconfig", "onednn"]),
        (f"QAT, one scale a tensor, spoiled, {arg.qat_epochs} epochs", "qat", planted, [*tensor, "--epochs", arg.qat_epochs]),
        (f"QAT, weights per channel, spoiled, {arg.qat_epochs} epochs", "qat", planted, ["--qconfig", "onednn", "--epochs", arg.qat_epochs]),
    ]
    for name, command, weights, flags in cases:
        found = octet(command, model, int8, "--weights", weights, *flags)
        row(name, percent(found["float"]), percent(found["int8"]))


REPAIRS = {
    "as calibrated": [],
    "biases corrected": ["--correct-bias"],
    "equalized": ["--equalize"],
    "equalized, biases corrected": ["--equalize", "--correct-bias"],
    "AdaRound, every layer": ["--adaround", "all"],
    "observer mse": ["--observer", "mse"],
    "observer entropy": ["--observer", "entropy"],
}


def repairs(arg, octet):
    """PTQ of the shipped weights and each repair of it, under three qconfigs: weights per channel, and per tensor."""
    row("model", "qconfig", *REPAIRS)
    row("---", "---", *["---:"] * len(REPAIRS))
    for model in arg.model[1:] or SHIPPED:
        shipped, int8 = pathlib.Path("assets/weights") / f"{model}.safetensors", arg.folder / "int8.octet.safetensors"
        plain = octet("ptq", model, int8, "--weights", shipped)
        inside = octet.run("inspect", int8)
        # AdaRound takes no larger filters.
        layers = [layer["name"] for layer in inside["layers"] if math.prod(layer["shape"][1:]) <= 1280]
        for qconfig in ("x86", "onednn", "qnnpack"):
            found = []
            for flags in REPAIRS.values():
                flags = [",".join(layers) if flag == "all" else flag for flag in flags]
                found.append(percent(octet("ptq", model, int8, "--weights", shipped, "--qconfig", qconfig, *flags)["int8"]))
            row(f"{model} ({percent(plain['float'])})", qconfig, *found)


def promise(arg, octet):
    """`--promise 0.5` for each model and seed, which says what is searched on and what verifies. Weights: shipped, else those
    of `table`'s first seed, which are made where they are not there."""
    arg.model = arg.model[1:] or MODELS
    row("model", "seed", "float", "PTQ", "outcome", "lost where searched", "lost where verified", "95 %", "what", "KB", "minutes")
    row("---", *["---:"] * 3, "---", *["---:"] * 3, "---", *["---:"] * 2)
    for model in arg.model:
        weights, int8 = arg.folder / f"{model}.0.safetensors", arg.folder / "int8.octet.safetensors"
        if model in SHIPPED:
            weights = pathlib.Path("assets/weights") / f"{model}.safetensors"
        elif not weights.exists():
            octet("train", model, weights, "--seed", 0, "--epochs", arg.epochs)
        ptq = octet("ptq", model, int8, "--weights", weights)
        for seed in arg.seeds:
            start = time.time()
            flags = ["--images", "16", "--promise", "0.5", "--seed", seed, "--threads", arg.threads]
            found = octet.run("analyze", int8, *flags)["promise"]
            chosen = found["trials"][found["chosen"]] if found["chosen"] is not None else min(found["trials"], key=lambda t: t["loss"])
            verified, points = found["verified"], lambda loss: f"{100 * loss:.2f}"
            row(model, seed, percent(ptq["float"]), percent(ptq["int8"]), found["outcome"], points(chosen["loss"]),
                points(verified["loss"]) if verified else "", " to ".join(map(points, verified["interval"])) if verified else "",
                chosen["what"], f"{chosen['bytes'] / 1e3:.0f}", f"{(time.time() - start) / 60:.1f}")


def main():
    arg = arguments()
    arg.folder.mkdir(parents=True, exist_ok=True)
    print(time.strftime("%d %B %Y"), flush=True)
    if arg.model == ["spoiled"]:
        spoiled(arg, Octet(arg))
    elif arg.model[0] in ("promise", "repairs"):
        {"promise": promise, "repairs": repairs}[arg.model[0]](arg, Octet(arg))
    else:
        table(arg, Octet(arg))


if __name__ == "__main__":
    main()
