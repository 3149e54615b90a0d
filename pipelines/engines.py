"""The engines that can run a Beam job on this machine: fetch them, start them, and the flags that reach them.

``python -m pipelines.engines fetch [flink] [spark] [prism]`` brings what is not there yet into ``.engines/`` through
the ordinary clients (Maven, Go) and checks it against ``engines.lock``; ``python -m pipelines.engines flags NAME``
prints the Beam flags. In code, ``with engine("prism") as flags:`` starts the engine, yields its flags and stops it.

| engine   | what runs the job                               | needs       |
| -------- | ----------------------------------------------- | ----------- |
| direct   | Beam's in-process Python runner                 | nothing     |
| portable | the same behind Beam's local job service (gRPC) | nothing     |
| prism    | Beam's local engine in Go                       | Go, once    |
| flink    | Flink, embedded in Beam's job server            | Java, Maven |
| spark    | Spark, embedded in Beam's job server            | Java, Maven |
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tfrs_shop.errors import UserError, suggest

ENGINES = ("direct", "portable", "prism", "flink", "spark")
DEFAULT_DIR = Path(".engines")
LOCK = Path(__file__).with_name("engines.lock")

PARALLELISM = 2
START_SECONDS = 120
# Flink's and Spark's serialisers reach into these packages, which Java 17 keeps closed. The flags go on the job
# server's own command line, not into JAVA_TOOL_OPTIONS, so that no other JVM is touched.
OPENED = ("java.lang", "java.lang.invoke", "java.nio", "java.util", "java.util.concurrent", "sun.nio.ch")
JVM_FLAGS = ("-Xmx1g", *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED))
MASTER = {"flink": "[local]", "spark": f"local[{PARALLELISM}]"}


class Pin(NamedTuple):
    """One entry of ``engines.lock``: what to ask the client for, where it goes, and the hash it must have.

    `digest` is None while nobody has been able to fetch the artifact and pin it; it is then never run.
    """

    engine: str
    source: str
    file: str
    digest: str | None


def read_pins(lock: Path = LOCK) -> dict[str, Pin]:
    """Return the pinned artifacts by engine name."""
    entries = json.loads(lock.read_text(encoding="utf-8"))
    return {name: Pin(name, entry["source"], entry["file"], entry["digest"]) for name, entry in entries.items()}


def digest_of(pin: Pin, file: Path) -> str:
    """Return a jar's sha256, or the module sum that the Go compiler wrote into the binary.

    A Go binary's own hash depends on the compiler that built it; the sum of the module's source does not.
    """
    if pin.engine == "prism":
        if shutil.which("go") is None:
            raise UserError("Go is needed to check prism, and there is no 'go' on the PATH. Install it.")
        record = subprocess.run(["go", "version", "-m", str(file)], capture_output=True, text=True).stdout
        found = re.search(r"^\s*mod\t\S+\t\S+\t(h1:\S+)", record, re.MULTILINE)
        return found.group(1) if found else "none (not a Go binary)"
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def check(pin: Pin, file: Path) -> None:
    """Raise UserError unless the artifact is pinned and `file` is that artifact."""
    if pin.digest is None:
        raise UserError(
            f"{pin.engine}: {LOCK.name} has no hash of {pin.source}, so it is neither fetched nor run. Where Maven "
            f"serves it, 'python -m pipelines.engines fetch --pin {pin.engine}' writes the hash; then commit the lock."
        )
    if not file.is_file():
        raise UserError(
            f"{pin.engine}: {file} is not there. Fetch it with 'python -m pipelines.engines fetch {pin.engine}'."
        )
    found = digest_of(pin, file)
    if found != pin.digest:
        raise UserError(
            f"{pin.engine}: {file} is not {pin.source}: its hash is {found}, {LOCK.name} says {pin.digest}. "
            "Delete it and fetch again; if it stays so, do not run it."
        )


def fetch(pin: Pin, engines_dir: Path) -> bool:
    """Bring one artifact into `engines_dir`; return False when it was there and right.

    The file gets its name only after its hash has been found right: a wrong or half one is never left behind.
    """
    target = engines_dir / pin.file
    if target.exists() or pin.digest is None:
        check(pin, target)
        return False
    with _downloaded(pin, engines_dir) as file:
        check(pin, file)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    return True


def pin_hash(pin: Pin, engines_dir: Path, lock: Path = LOCK) -> Pin:
    """Download the artifact, write the hash it has into the lock, and keep it. For a maintainer, before a commit."""
    with _downloaded(pin, engines_dir) as file:
        pinned = pin._replace(digest=digest_of(pin, file))
        target = engines_dir / pin.file
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    entries = json.loads(lock.read_text(encoding="utf-8"))
    entries[pin.engine]["digest"] = pinned.digest
    lock.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    return pinned


@contextlib.contextmanager
def _downloaded(pin: Pin, engines_dir: Path) -> Iterator[Path]:
    """Yield the freshly fetched file in a directory that goes away afterwards."""
    engines_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=engines_dir) as scratch:
        if pin.engine == "prism":
            environment = {"GOBIN": str(Path(scratch).resolve())}
            _client(["go", "install", pin.source], product="Go", wanted=pin.source, environment=environment)
        else:
            # -C: Maven compares the download with the checksum published beside it, and fails if they differ.
            # -U: a "not found" of yesterday is asked again.
            copy = ["dependency:copy", f"-Dartifact={pin.source}", f"-DoutputDirectory={Path(scratch).resolve()}"]
            _client(["mvn", "-B", "-C", "-U", "-ntp", *copy], product="Maven", wanted=pin.source)
        yield next(path for path in Path(scratch).iterdir() if path.is_file())


def _client(command: list[str], *, product: str, wanted: str, environment: dict[str, str] | None = None) -> str:
    """Run a package client; return what it printed, or raise one sentence with its first complaint."""
    if shutil.which(command[0]) is None:
        raise UserError(f"{product} is needed for {wanted}, and there is no '{command[0]}' on the PATH. Install it.")
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode == 0:
        return done.stdout
    complaints = [line for line in done.stdout.splitlines() if "ERROR" in line] or done.stdout.splitlines() or [""]
    said = re.sub(r"\s*\(?https?://\S+", "", complaints[0].removeprefix("[ERROR] "))
    raise UserError(f"{product} cannot bring {wanted} (no network, or its repository lacks it). It says: {said}")


def missing(engine_name: str, engines_dir: Path = DEFAULT_DIR) -> str | None:
    """Say in one sentence what `engine_name` lacks on this machine, or None when it can run."""
    try:
        _needed_file(engine_name, engines_dir)
    except UserError as lack:
        return str(lack)
    return None


def _needed_file(engine_name: str, engines_dir: Path) -> Path | None:
    """Return the checked file that the engine runs from, or None when it is part of Beam."""
    if engine_name not in ENGINES:
        raise UserError(
            f"Unknown engine '{engine_name}': it is one of {', '.join(ENGINES)}.{suggest(engine_name, ENGINES)}"
        )
    if engine_name in ("direct", "portable"):
        return None
    pin = read_pins()[engine_name]
    file = (engines_dir / pin.file).resolve()
    if engine_name == "prism":
        # Running prism needs no Go, so a machine that only runs it is not asked for Go to check it once more.
        if not file.is_file():
            check(pin, file)
        return file
    if shutil.which("java") is None:
        raise UserError(f"{engine_name}: Java is needed, and there is no 'java' on the PATH. Install Java 17.")
    check(pin, file)
    return file


def engine_options(engine_name: str, engines_dir: Path = DEFAULT_DIR, *, job_endpoint: str | None = None) -> list[str]:
    """Return the Beam flags that run a job on an engine.

    With `job_endpoint` (``host:port``) the flags reach an engine that is up; without it Beam starts one and
    stops it at the end of the process. `portable` can only be reached: Beam does not start its job service.
    """
    file = _needed_file(engine_name, engines_dir)
    # Without --runner, or with DirectRunner, Beam first tries to download Prism; FnApiRunner is what remains of
    # DirectRunner when that fails, so naming it is the same run without the network.
    if engine_name == "direct":
        return ["--runner=FnApiRunner"]
    # LOOPBACK: the engine calls back into the submitting process for Python code, so no containers are needed.
    flags = ["--environment_type=LOOPBACK"]
    if engine_name == "flink":
        flags += [f"--parallelism={PARALLELISM}"]
    if job_endpoint is not None:
        return ["--runner=PortableRunner", f"--job_endpoint={job_endpoint}", *flags]
    if engine_name == "portable":
        raise UserError("portable: give the host:port of a running job service; see docs/engines.md.")
    if engine_name == "prism":
        return ["--runner=PrismRunner", f"--prism_location={file}", "--prism_log_level=warn", *flags]
    jvm = [f"--job_server_jvm_properties={flag}" for flag in JVM_FLAGS]
    if engine_name == "flink":
        master = f"--flink_master={MASTER[engine_name]}"
        return ["--runner=FlinkRunner", f"--flink_job_server_jar={file}", master, *flags, *jvm]
    master = f"--spark_master_url={MASTER[engine_name]}"
    return ["--runner=SparkRunner", f"--spark_job_server_jar={file}", master, *flags, *jvm]


def server_command(engine_name: str, file: Path | None, *, port: int, scratch: Path) -> list[str]:
    """Return the command line of an engine's job server, listening on `port`, with its files in `scratch`."""
    if engine_name == "portable":
        module = "apache_beam.runners.portability.local_job_service_main"
        return [sys.executable, "-m", module, f"--port={port}", f"--staging_dir={scratch}"]
    if engine_name == "prism":
        return [str(file), f"--job_port={port}", "--log_level=warn", "--log_kind=text", "--serve_http=false"]
    ports = [f"--job-port={port}", "--artifact-port=0", "--expansion-port=0", f"--artifacts-dir={scratch}"]
    master_flag = {"flink": "--flink-master", "spark": "--spark-master-url"}[engine_name]
    jvm = [*JVM_FLAGS, f"-Djava.io.tmpdir={scratch}"]
    return ["java", *jvm, "-jar", str(file), f"{master_flag}={MASTER[engine_name]}", *ports]


@contextlib.contextmanager
def engine(engine_name: str, engines_dir: Path = DEFAULT_DIR) -> Iterator[list[str]]:
    """Start an engine, yield the Beam flags that reach it, and stop it, whatever happens in between.

    One engine serves any number of jobs, one after the other, from this process or from others.
    """
    file = _needed_file(engine_name, engines_dir)
    if engine_name == "direct":
        yield engine_options(engine_name, engines_dir)
        return
    with tempfile.TemporaryDirectory(prefix=f"tfrs-{engine_name}-", ignore_cleanup_errors=True) as scratch:
        port = _free_port()
        command = server_command(engine_name, file, port=port, scratch=Path(scratch))
        with _running(engine_name, command, port=port, log=Path(scratch) / "server.log"):
            yield engine_options(engine_name, engines_dir, job_endpoint=f"localhost:{port}")


@contextlib.contextmanager
def _running(engine_name: str, command: list[str], *, port: int, log: Path) -> Iterator[None]:
    """Hold a server process, and all that it starts, up until the end of the block."""
    with log.open("wb") as output:
        # A session of its own: one signal then reaches the server's children too, and no process but them.
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_for(engine_name, server, port=port, log=log)
        yield
    finally:
        for stop in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=10)


def _wait_for(engine_name: str, server: "subprocess.Popen[bytes]", *, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        time.sleep(0.05)
    ended = "did not start" if server.poll() is None else f"ended with code {server.returncode}"
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["nothing"]
    raise UserError(f"{engine_name}: the job server {ended}. The last it said: {last[0]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def _fetch_all(names: Sequence[str], engines_dir: Path, *, pin: bool) -> None:
    """Fetch each engine, say how each went, and raise at the end if one failed."""
    pins = read_pins()
    failures = []
    for name in names:
        if name not in pins:
            raise UserError(f"There is nothing to fetch for '{name}': only for {', '.join(pins)}.")
        try:
            if pin:
                print(f"{name}: pinned {pin_hash(pins[name], engines_dir).digest}")
            else:
                print(f"{name}: {'fetched' if fetch(pins[name], engines_dir) else 'there already'}")
        except UserError as failure:
            failures.append(str(failure))
    if failures:
        raise UserError(" ".join(failures))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.engines", description="Fetch engines, print flags.")
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="bring what is missing, checked against engines.lock")
    fetching.add_argument("engines", nargs="*", metavar="ENGINE", help="default: flink spark prism")
    fetching.add_argument("--pin", action="store_true", help="write the hash of what comes into engines.lock")
    flags = commands.add_parser("flags", help="print the Beam flags of an engine")
    flags.add_argument("engine", metavar="ENGINE", help=", ".join(ENGINES))
    flags.add_argument("--job_endpoint", metavar="HOST:PORT", help="an engine that is up")
    for command in (fetching, flags):
        command.add_argument("--output", type=Path, default=DEFAULT_DIR, metavar="DIR", help="default: .engines")
    given = parser.parse_args(arguments)
    try:
        if given.command == "fetch":
            _fetch_all(given.engines or list(read_pins()), given.output, pin=given.pin)
        else:
            print("\n".join(engine_options(given.engine, given.output, job_endpoint=given.job_endpoint)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
