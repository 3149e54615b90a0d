"""The embedded server in a process of its own, for benchmarks."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.serving_bundle import MODEL
from benchmarks.serving_load import HOST

READY_SECONDS = 300.0


class ServerProcess:
    """A server of MODELS/shop that is ready when this returns."""

    def __init__(self, base: Path, *flags: str) -> None:
        self.rest_port, self.grpc_port = _free_port(), _free_port()
        command = [
            sys.executable,
            "-m",
            "serving.model_server",
            f"--model_name={MODEL}",
            f"--model_base_path={base}",
            f"--rest_api_port={self.rest_port}",
            f"--port={self.grpc_port}",
            "--max_num_load_retries=0",
            *flags,
        ]
        start = time.perf_counter()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if not self._ready.wait(READY_SECONDS) or self._process.poll() is not None:
            self.kill()
            raise RuntimeError(f"The server did not get ready: {' '.join(command)}")
        self.ready_seconds = time.perf_counter() - start
        self._connection = http.client.HTTPConnection(HOST, self.rest_port, timeout=30)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("Ready."):
                self._ready.set()
        # The end of its output is the end of the process.
        self._ready.set()

    def port(self, protocol: str) -> int:
        return self.rest_port if protocol == "REST" else self.grpc_port

    def states(self) -> dict[int, tuple[str, str]]:
        """The state and the error text of each version."""
        entries = json.loads(self._status())["model_version_status"]
        return {
            int(entry["version"]): (entry["state"], entry.get("status", {}).get("error_message", ""))
            for entry in entries
        }

    def _status(self) -> bytes:
        """Ask over one connection that is kept, so that asking often takes little of what is measured."""
        try:
            return self._ask()
        except (ConnectionError, http.client.HTTPException):
            # The server closes what was idle for long; asked again, the connection is opened anew.
            self._connection.close()
            return self._ask()

    def _ask(self) -> bytes:
        self._connection.request("GET", f"/v1/models/{MODEL}")
        return self._connection.getresponse().read()

    def wait_for_end(self, versions: set[int], seconds: float = 300.0) -> dict[int, tuple[str, str]]:
        """Wait until these versions are at their end; raise where they are not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            states = self.states()
            if all(states.get(version, ("",))[0] == "END" for version in versions):
                return states
            time.sleep(0.05)
        raise RuntimeError(f"Versions {sorted(versions)} did not end: {self.states()}")

    def memory_mb(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def terminate(self, seconds: float = 60.0) -> int:
        """Send SIGTERM and return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(30)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])
