"""Say as JSON what one Python interpreter offers a training: torch, its devices, NVML.

Run as a file by interpreters that need not have perfkit: standard library, torch and pynvml only,
Python 3.9.
"""

import json
import platform
import sys
from typing import Any


def torch_facts() -> "dict[str, Any]":
    """Return torch's version and devices, or why it cannot be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"error": str(error) or type(error).__name__}
    cuda = torch.cuda.is_available()
    return {
        "version": str(torch.__version__),
        "built_for_cuda": torch.version.cuda,
        "built_for_rocm": getattr(torch.version, "hip", None),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if cuda
        else [],
        "distributed": torch.distributed.is_available(),
        "threads": torch.get_num_threads(),
    }


def nvml_facts() -> "dict[str, Any]":
    """Return the driver's version and its devices, or why NVML does not answer."""
    try:
        import pynvml
    except ImportError as error:
        return {"error": str(error)}
    try:
        pynvml.nvmlInit()
        driver = pynvml.nvmlSystemGetDriverVersion()
        return {"driver": str(driver), "devices": pynvml.nvmlDeviceGetCount()}
    except pynvml.NVMLError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    found = {
        "executable": sys.executable,
        "python": platform.python_version(),
        "torch": torch_facts(),
        "nvml": nvml_facts(),
    }
    sys.stdout.write(json.dumps(found))
