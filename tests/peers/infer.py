"""One image (or eight), from float pixels to float logits: Octet's int8 and float beside PyTorch, ONNX Runtime and OpenVINO.

Every side takes its turn in each round, in a shuffled order, so that whatever else the machine does falls on all of them; a
turn is one run that is not counted and three that are. Medians over all rounds; the ratio is the fastest peer's median over
that of Octet's int8. 224x224, 33 classes, random weights with batch norms that have seen data.

Usage: infer.py INFER_SPEED FOLDER [--threads 1,2] [--batch 1,8] [--seconds S] [MODEL...]
FOLDER keeps the exported and quantized models between calls.
"""

import argparse
import gc
import os
import pathlib
import platform
import random
import statistics
import subprocess
import time
import warnings

import numpy

MODELS = ["shufflenet_v2_x0_5", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_v2_s", "resnet18", "resnet50"]
SIZE, CLASSES, LEAST, COUNTED, CALIBRATION = 224, 33, 5, 3, 32
# Thread pools that spin after their run would burn the core that the next side needs.
PAUSE = 0.005


def arguments():
    numbers = lambda text: [int(n) for n in text.split(",")]
    parser = argparse.ArgumentParser()
    parser.add_argument("infer_speed")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--batch", type=numbers, default=[1, 8])
    parser.add_argument("--seconds", type=float, default=15, help="for each table row")
    parser.add_argument("model", nargs="*", default=MODELS)
    return parser.parse_intermixed_args()


def images(count):
    return numpy.random.default_rng(0).normal(size=(count, 3, SIZE, SIZE)).astype(numpy.float32)


class Octet:
    """A process that runs the batch once for each line, `float` or `int8`, and answers with milliseconds."""

    def __init__(self, program, model, batch, threads):
        command = [program, model, str(batch), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.isa, floor = self.process.stdout.readline().split()
        self.floor = float(floor)

    def run(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def timed(call):
    def run():
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3

    return run


def torch_model(name):
    import torch
    import torchvision

    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    with torch.no_grad():
        model(torch.from_numpy(images(16)))
    return model.eval()


def export(name, batch, folder):
    import torch

    path = folder / f"{name}.{batch}.onnx"
    if not path.exists():
        model = torch_model(name)
        example = torch.from_numpy(images(batch))
        torch.onnx.export(model, example, str(path), input_names=["x"], output_names=["y"], opset_version=17, dynamo=False)
    return path


def qdq(name, batch, folder):
    """ONNX Runtime's own static quantization: QDQ, weights per channel."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = folder / f"{name}.{batch}.qdq.onnx"
    if not path.exists():
        class Reader(quantization.CalibrationDataReader):
            def __init__(self):
                self.batches = iter(numpy.split(images(CALIBRATION // batch * batch), CALIBRATION // batch))

            def get_next(self):
                found = next(self.batches, None)
                return None if found is None else {"x": found}

        prepared = folder / f"{name}.{batch}.prepared.onnx"
        quant_pre_process(str(export(name, batch, folder)), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared), str(path), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        )
    return path


def nncf_model(name, batch, folder):
    """OpenVINO's own post-training quantization."""
    import nncf
    import openvino

    path = folder / f"{name}.{batch}.nncf.xml"
    if not path.exists():
        model = openvino.Core().read_model(str(export(name, batch, folder)))
        batches = numpy.split(images(CALIBRATION // batch * batch), CALIBRATION // batch)
        openvino.save_model(nncf.quantize(model, nncf.Dataset(batches)), str(path), compress_to_fp16=False)
    return path


def ort_run(path, threads, input):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return timed(lambda: session.run(None, {"x": input}))


def openvino_run(path, threads, input, precision=None):
    import openvino

    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    if precision:
        config["INFERENCE_PRECISION_HINT"] = precision
    request = openvino.Core().compile_model(str(path), "CPU", config).create_infer_request()
    tensor = openvino.Tensor(input)
    return timed(lambda: request.infer({0: tensor}))


def torch_run(name, threads, input, layout):
    import torch

    torch.set_num_threads(threads)
    model = torch_model(name).to(memory_format=layout)
    batch = torch.from_numpy(input).to(memory_format=layout)

    def run():
        with torch.inference_mode():
            model(batch)

    return timed(run)


def peers(name, batch, threads, folder):
    import torch

    input = images(batch)
    float_model, int8_model = export(name, batch, folder), qdq(name, batch, folder)
    sides = {
        "torch float": torch_run(name, threads, input, torch.contiguous_format),
        "torch float, channels last": torch_run(name, threads, input, torch.channels_last),
        "ort float": ort_run(float_model, threads, input),
        "ort int8": ort_run(int8_model, threads, input),
        "openvino f32": openvino_run(float_model, threads, input, "f32"),
        "openvino default": openvino_run(float_model, threads, input),
        "openvino int8 qdq": openvino_run(int8_model, threads, input),
    }
    try:
        sides["openvino int8 nncf"] = openvino_run(nncf_model(name, batch, folder), threads, input)
    except ImportError:
        print("  (nncf is not installed: OpenVINO's own quantization is left out)")
    return sides


def measure(sides, seconds):
    times = {name: [] for name in sides}
    begin, order = time.perf_counter(), random.Random(0)
    rounds = 0
    while rounds < LEAST or time.perf_counter() - begin < seconds:
        for name in order.sample(list(sides), len(sides)):
            time.sleep(PAUSE)
            sides[name]()
            times[name] += [sides[name]() for _ in range(COUNTED)]
        rounds += 1
    return {name: statistics.median(found) for name, found in times.items()}, rounds


def machine():
    try:
        names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        return f"{names[0]}, {len(names)} cores"
    except (OSError, IndexError):
        return platform.processor()


TABLE = """
| model | batch | threads | int8 | floor / int8 | float | fastest peer | its time | ratio | ORT float / Octet float |
|---|---:|---:|---:|---:|---:|---|---:|---:|---:|"""


def main():
    arg = arguments()
    arg.folder.mkdir(parents=True, exist_ok=True)
    print(f"{machine()}, {time.strftime('%d %B %Y %H:%M')}")
    table = []
    for batch in arg.batch:
        for threads in arg.threads:
            print(f"\nbatch {batch}, {threads} thread(s): milliseconds, medians", flush=True)
            for name in arg.model:
                octet = Octet(arg.infer_speed, name, batch, threads)
                sides = {"octet int8": lambda: octet.run("int8"), "octet float": lambda: octet.run("float")}
                sides |= peers(name, batch, threads, arg.folder)
                medians, rounds = measure(sides, arg.seconds)
                octet.end()
                gc.collect()
                ours = medians["octet int8"]
                fastest = min((n for n in medians if not n.startswith("octet")), key=medians.get)
                ratio, float_ratio = medians[fastest] / ours, medians["octet float"] / ours
                print(f"{name} ({octet.isa}, {rounds} rounds): {ratio:.2f} times as fast as the fastest peer, {fastest};"
                      f" {float_ratio:.2f} times Octet's float")
                table.append(f"| {name} | {batch} | {threads} | {ours:.2f} | {octet.floor / ours:.0%} | {medians['octet float']:.2f}"
                             f" | {fastest} | {medians[fastest]:.2f} | {ratio:.2f}"
                             f" | {medians['ort float'] / medians['octet float']:.2f} |")
                print("   " + ", ".join(f"{n} {t:.2f}" for n, t in sorted(medians.items(), key=lambda m: m[1])), flush=True)
    print("\n".join([TABLE, *table]))


if __name__ == "__main__":
    # One thread pool of PyTorch's serves all models; its size is set before each.
    warnings.filterwarnings("ignore")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
