"""What Octet exports, opened by the tools it is for, and what they write, opened by Octet. `tests/interop/run` calls it."""

import pathlib
import platform
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402

import code_of  # noqa: E402
import from_onnx  # noqa: E402
import from_torch  # noqa: E402
import to_torch  # noqa: E402
from common import Octet  # noqa: E402

MODELS = ["shufflenet_v2_x0_5", "mobilenet_v3_small", "resnet18", "mobilenet_v3_large", "resnet50"]
WITHOUT_TWIN = ["efficientnet_v2_s"]
QUICK = ["shufflenet_v2_x0_5"]


def main():
    binary, *rest = sys.argv[1:]
    quick = "--quick" in rest
    models = [m for m in rest if not m.startswith("--")] or (QUICK if quick else MODELS + WITHOUT_TWIN)
    torch.set_num_threads(2)
    torch.backends.quantized.engine = "fbgemm"
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, "
          f"torchvision {torchvision.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            octet, folder = Octet(binary, pathlib.Path(folder)), pathlib.Path(folder)
            start = time.time()
            int8 = from_onnx.check_int8(octet, model, folder)
            from_onnx.check_float(octet, model, folder)
            if model in WITHOUT_TWIN:
                to_torch.check_refused(octet, int8, folder)
            else:
                to_torch.check(octet, model, int8, folder)
                from_torch.check_quantized(octet, model, folder)
                from_torch.check_apart(octet, model, folder)
                from_torch.check_qat(octet, model, folder)
                code_of.check(octet, model, folder)
                code_of.check_qat(octet, model, folder)
            print(f"{model}: {time.time() - start:.0f} s", flush=True)
    print("All checks passed.")


main()
