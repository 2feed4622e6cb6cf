"""torch and what stands next to it, looked at in a process of its own: an import may fail, or end its process."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from scalelab.doctor.finding import Finding, broken, fine, warning

TOPIC = "torch"
TESTED = "2.13"  # of constraints.txt
PATIENCE_SECONDS = 30.0
LOOK = """
import json, warnings
warnings.simplefilter("ignore")
found = {}
try:
    import torch
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}"
else:
    cuda = torch.cuda.is_available()
    found |= {
        "version": torch.__version__, "built_for_cuda": torch.version.cuda, "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "mps": torch.backends.mps.is_available(),
    }
    try:
        import torchvision
        found["torchvision"] = torchvision.__version__
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            found["torchvision_error"] = f"{type(error).__name__}: {error}"
    except Exception as error:
        found["torchvision_error"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def started() -> "subprocess.Popen[str]":
    """The process that looks; it takes seconds, during which the rest is looked at."""
    return subprocess.Popen(
        [sys.executable, "-c", LOOK],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """What it saw; an `error` where it did not come to its end."""
    try:
        said, complaint = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"error": f"importing torch took longer than {PATIENCE_SECONDS:.0f} s"}
    lines = said.strip().splitlines()
    if process.returncode or not lines:
        last = complaint.strip().splitlines()[-1:] or [""]
        return {"error": f"importing torch ended the process with {process.returncode}: {last[0]}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def of_torch(seen: dict[str, Any]) -> Iterator[Finding]:
    """What was seen, judged."""
    if "error" in seen:
        advice = "pip install -c constraints.txt torch; see README, Two commands, for the index of CPU builds"
        yield broken(TOPIC, "torch", seen["error"], advice)
        return
    version = str(seen["version"])
    if version.split("+")[0].split(".")[:2] == TESTED.split("."):
        yield fine(TOPIC, "torch", f"{version}, {seen['threads']} threads")
    else:
        advice = f"the tests run on {TESTED}: results of another version may differ in their last digits"
        yield warning(TOPIC, "torch", f"{version}, {seen['threads']} threads", advice)
    if seen["devices"]:
        yield fine(TOPIC, "devices", f"CPU, CUDA {seen['built_for_cuda']}: {', '.join(seen['devices'])}")
    elif seen["built_for_cuda"]:
        advice = "for GPUs look at `nvidia-smi`; without one the CPU build is a tenth as large"
        yield warning(TOPIC, "devices", f"CPU; built for CUDA {seen['built_for_cuda']}, which finds no device", advice)
    else:
        yield fine(TOPIC, "devices", "CPU and MPS" if seen["mps"] else "CPU")
    if "torchvision_error" in seen:
        advice = (
            "it is of another torch, and transformers fails with it: `pip uninstall torchvision`; scalelab needs none"
        )
        yield warning(TOPIC, "torchvision", seen["torchvision_error"], advice)
    elif "torchvision" in seen:
        yield fine(TOPIC, "torchvision", f"{seen['torchvision']}, goes with this torch")
