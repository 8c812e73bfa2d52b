"""Writes histogram_observer.json: what PyTorch 2.9's HistogramObserver makes of synthetic batches (CPU, one thread)."""
import hashlib, json, sys
import numpy as np
import torch
from torch.ao.quantization import HistogramObserver

torch.set_num_threads(1)
MASK = (1 << 64) - 1


def synth(name, count):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    i = np.arange(1, count + 1, dtype=np.uint64)
    z = np.uint64(h) + i * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return ((z ^ z >> np.uint64(31)) >> np.uint64(40)).astype(np.float64) / 2**24


def batch(name, count, low, high, power):
    """low + (high - low) * u^power: a heavy lower end for a high power."""
    u = synth(name, count)
    v = u.copy()
    for _ in range(power - 1):
        v = v * u
    return torch.from_numpy((low + (high - low) * v).astype(np.float32))


CASES = {
    "one batch": [(5000, -1.0, 2.0, 1)],
    "after relu": [(20000, 0.0, 9.0, 6), (20000, 0.0, 9.5, 7)],
    "grows both ways": [(8000, -1.0, 1.0, 1), (8000, -1.7, 1.2, 3), (8000, -1.6, 4.0, 5), (8000, -0.5, 0.5, 1)],
    "grows far": [(3000, 0.0, 0.001, 2), (3000, -3.0, 40.0, 9), (3000, -3.0, 41.0, 2)],
    "above zero": [(4000, 3.0, 5.0, 2), (4000, 2.5, 5.5, 2)],
    "below zero": [(4000, -5.0, -3.0, 2), (4000, -6.0, -3.0, 2)],
    "all zero": [(100, 0.0, 0.0, 1), (100, 0.0, 0.0, 1)],
    "one value": [(100, 2.5, 2.5, 1)],
    "one value, then more": [(100, 2.5, 2.5, 1), (1000, -1.0, 3.0, 2)],
    "many values": [(1 << 20, -2.0, 6.0, 4), (1 << 20, -2.1, 6.5, 4), (1 << 20, -2.2, 6.4, 4)],
    "outliers": [(30000, -0.5, 0.5, 1), (7, -40.0, 60.0, 1), (30000, -0.6, 0.4, 1)],
}

out = []
for title, batches in CASES.items():
    for quant_max in (127, 255):
        observer = HistogramObserver(reduce_range=quant_max == 127)
        specs = []
        for k, (count, low, high, power) in enumerate(batches):
            name = f"{title}/{k}"
            observer(batch(name, count, low, high, power))
            specs.append({"name": name, "count": count, "low": low, "high": high, "power": power})
        scale, zero_point = observer.calculate_qparams()
        clip = observer._non_linear_param_search()
        counts = observer.histogram.numpy().astype("<f4")
        out.append({
            "title": title, "quant_max": quant_max, "batches": specs,
            "min": observer.min_val.item(), "max": observer.max_val.item(),
            "clip_min": clip[0].item(), "clip_max": clip[1].item(),
            "scale": scale.item(), "zero_point": int(zero_point.item()),
            "counts_sum": float(counts.astype(np.float64).sum()),
            "counts_sha256": hashlib.sha256(counts.tobytes()).hexdigest(),
        })
json.dump(out, open(sys.argv[1], "w"), indent=1)
