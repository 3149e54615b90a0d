"""One step of a benchmark: a module run as a process of its own, with what it took."""

import importlib
import os
import subprocess
import sys
import time


def run_step(module: str, *arguments: str, in_process: bool = False) -> dict[str, float]:
    """Run ``python -m MODULE ARGUMENTS`` and return its ``seconds``, ``cpu_seconds`` and ``peak_gb`` of memory.

    The memory is the largest resident set of that process alone. Where this process were larger before, the kernel
    would count that: so what calls this must not import TensorFlow.

    Args:
        module: with a ``main`` that takes the arguments, or ``tfrs_shop.cli``.
        arguments: of the command line.
        in_process: call it here instead, for a quick run: the import of TensorFlow is paid once, and only ``seconds``
            are returned.
    """
    print(f"\n$ python -m {module} {' '.join(arguments)}", flush=True)
    started = time.monotonic()
    if in_process:
        _run_here(module, list(arguments))
        return {"seconds": round(time.monotonic() - started, 1)}
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{module} failed with exit code {process.returncode}")
    return {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
    }


def _run_here(module: str, arguments: list[str]) -> None:
    found = importlib.import_module(module)
    code = found.app(arguments, standalone_mode=False) if module == "tfrs_shop.cli" else found.main(arguments)
    if code:
        raise SystemExit(f"{module} failed with exit code {code}")
