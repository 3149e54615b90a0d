"""The engines: what may be fetched and run, how each is started and stopped, and that all of them agree."""

import hashlib
import json
import stat
import sys
import time
from pathlib import Path

import pytest

from pipelines import engines
from pipelines.engines import Pin, check, engine, engine_options, fetch, missing, pin_hash, read_pins
from tfrs_shop.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
ENGINES_DIR = ROOT / ".engines"
JAR = b"not really a jar"
JAR_DIGEST = "sha256:" + hashlib.sha256(JAR).hexdigest()
FLINK = Pin("flink", "org.example:flink:1", "flink.jar", JAR_DIGEST)
SPARK = Pin("spark", "org.example:spark:1", "spark.jar", JAR_DIGEST)
PRISM = Pin("prism", "example.org/prism@v1", "bin/prism", "h1:good=")


@pytest.fixture
def clients(tmp_path, monkeypatch):
    """Return a function that puts a stand-in for a client on a PATH that holds only such stand-ins."""
    folder = tmp_path / "clients"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name, python):
        script = folder / name
        script.write_text(f"#!{sys.executable}\nimport os, pathlib, sys\n{python}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    return put


@pytest.fixture
def jars(tmp_path, monkeypatch):
    """Return a directory with a pinned file for each engine that is fetched."""
    monkeypatch.setattr(engines, "read_pins", lambda: {"flink": FLINK, "spark": SPARK, "prism": PRISM})
    folder = tmp_path / "engines"
    (folder / "bin").mkdir(parents=True)
    for pin in (FLINK, SPARK, PRISM):
        (folder / pin.file).write_bytes(JAR)
    return folder


# A Maven that copies `content` to where dependency:copy would.
MAVEN = """
out = next(a for a in sys.argv if a.startswith("-DoutputDirectory=")).split("=", 1)[1]
(pathlib.Path(out) / "flink-1.jar").write_bytes({content!r})
"""


# --- what may be fetched and run ---


def test_the_lock_pins_the_beam_version_that_is_installed():
    import apache_beam

    assert {pin.engine for pin in read_pins().values()} == {"flink", "spark", "prism"}
    for pin in read_pins().values():
        assert pin.source.endswith((f":{apache_beam.__version__}", f"@v{apache_beam.__version__}"))


def test_a_jar_with_the_pinned_hash_is_taken(jars):
    check(FLINK, jars / FLINK.file)


def test_a_jar_with_another_hash_is_refused(jars):
    (jars / FLINK.file).write_bytes(JAR + b"!")
    with pytest.raises(
        UserError, match=r"flink\.jar is not org\.example:flink:1: its hash is sha256:\w+, engines\.lock"
    ):
        check(FLINK, jars / FLINK.file)


def test_a_jar_that_is_not_pinned_is_refused(jars):
    with pytest.raises(UserError, match=r"has no hash of org\.example:flink:1, so it is neither fetched nor run"):
        check(FLINK._replace(digest=None), jars / FLINK.file)


def test_a_jar_that_is_not_there_says_how_to_fetch_it(tmp_path):
    with pytest.raises(UserError, match=r"is not there\. Fetch it with 'python -m pipelines\.engines fetch flink'"):
        check(FLINK, tmp_path / "flink.jar")


def test_prism_is_known_by_the_module_sum_in_its_build_record(jars, clients):
    clients("go", r'print("prism: go1\n\tpath\tp\n\tmod\texample.org\tv1\th1:good=\n\tdep\tother\tv1\th1:other=")')
    check(PRISM, jars / PRISM.file)
    with pytest.raises(UserError, match=r"its hash is h1:good=, engines\.lock says h1:evil="):
        check(PRISM._replace(digest="h1:evil="), jars / PRISM.file)


def test_a_file_that_go_did_not_build_is_not_prism(jars, clients):
    clients("go", "sys.exit(1)")
    with pytest.raises(UserError, match=r"its hash is none \(not a Go binary\)"):
        check(PRISM, jars / PRISM.file)


def test_what_is_there_and_right_is_not_fetched_again(jars, clients):
    assert fetch(FLINK, jars) is False  # there is no Maven on this PATH


def test_fetch_keeps_a_download_with_the_right_hash(tmp_path, clients):
    clients("mvn", MAVEN.format(content=JAR))
    assert fetch(FLINK, tmp_path / "new") is True
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["flink.jar"]


def test_fetch_leaves_nothing_of_a_download_with_another_hash(tmp_path, clients):
    clients("mvn", MAVEN.format(content=b"something else"))
    with pytest.raises(UserError, match=r"is not org\.example:flink:1"):
        fetch(FLINK, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_fetch_does_not_download_what_is_not_pinned(tmp_path, clients):
    with pytest.raises(UserError, match="neither fetched nor run"):
        fetch(FLINK._replace(digest=None), tmp_path)


def test_fetch_installs_prism_with_go(tmp_path, clients):
    clients(
        "go",
        'if sys.argv[1] == "install": (pathlib.Path(os.environ["GOBIN"]) / "prism").write_text("binary")\n'
        r'else: print("x\n\tmod\texample.org\tv1\th1:good=")',
    )
    assert fetch(PRISM, tmp_path / "new") is True
    assert (tmp_path / "new/bin/prism").read_text() == "binary"


@pytest.mark.parametrize(("pin", "product"), [(FLINK, "Maven"), (PRISM, "Go")])
def test_a_missing_client_is_named(tmp_path, clients, pin, product):
    with pytest.raises(UserError, match=f"{product} is needed for {pin.source}, and there is no"):
        fetch(pin, tmp_path)


def test_a_failing_client_is_quoted_in_one_line_without_addresses(tmp_path, clients):
    clients(
        "mvn", 'print("[INFO] hm\\n[ERROR] No such jar in central (https://example.org/m2)\\n[ERROR] x"); sys.exit(1)'
    )
    with pytest.raises(UserError) as error:
        fetch(FLINK, tmp_path)
    assert str(error.value) == (
        "Maven cannot bring org.example:flink:1 (no network, or its repository lacks it). "
        "It says: No such jar in central"
    )


def test_pinning_writes_the_hash_into_the_lock(tmp_path, clients):
    clients("mvn", MAVEN.format(content=JAR))
    lock = tmp_path / "engines.lock"
    lock.write_text(json.dumps({"flink": {"source": FLINK.source, "file": FLINK.file, "digest": None}}))
    pin_hash(read_pins(lock)["flink"], tmp_path / "new", lock)
    assert read_pins(lock)["flink"] == FLINK
    assert fetch(FLINK, tmp_path / "new") is False


# --- flags ---


def test_the_direct_engine_never_looks_for_another_one_to_download():
    assert engine_options("direct") == ["--runner=FnApiRunner"]


def test_flink_runs_embedded_from_the_checked_jar(jars, clients):
    clients("java", "")
    flags = engine_options("flink", jars)
    assert flags[:5] == [
        "--runner=FlinkRunner",
        f"--flink_job_server_jar={jars / 'flink.jar'}",
        "--flink_master=[local]",
        "--environment_type=LOOPBACK",
        "--parallelism=2",
    ]
    assert "--job_server_jvm_properties=--add-opens=java.base/java.util=ALL-UNNAMED" in flags


def test_spark_runs_embedded_from_the_checked_jar(jars, clients):
    clients("java", "")
    assert engine_options("spark", jars)[:4] == [
        "--runner=SparkRunner",
        f"--spark_job_server_jar={jars / 'spark.jar'}",
        "--spark_master_url=local[2]",
        "--environment_type=LOOPBACK",
    ]


def test_prism_runs_from_the_fetched_binary(jars):
    assert engine_options("prism", jars)[:2] == ["--runner=PrismRunner", f"--prism_location={jars / 'bin/prism'}"]


def test_an_engine_that_is_up_is_reached_at_its_endpoint(jars):
    assert engine_options("prism", jars, job_endpoint="localhost:1") == [
        "--runner=PortableRunner",
        "--job_endpoint=localhost:1",
        "--environment_type=LOOPBACK",
    ]


def test_beam_knows_every_flag(jars, clients):
    from apache_beam.options.pipeline_options import JobServerOptions, PipelineOptions, PortableOptions

    clients("java", "")
    for name in ("prism", "flink", "spark"):
        options = PipelineOptions(engine_options(name, jars))
        assert options.view_as(PortableOptions).environment_type == "LOOPBACK"
        if name != "prism":
            assert options.view_as(JobServerOptions).job_server_jvm_properties == list(engines.JVM_FLAGS)


def test_a_wrong_jar_is_never_run(jars, clients):
    clients("java", "")
    (jars / "spark.jar").write_bytes(b"changed")
    with pytest.raises(UserError, match=r"spark\.jar is not"):
        engine_options("spark", jars)


def test_what_an_engine_lacks_is_said(jars, clients, tmp_path):
    assert missing("direct", tmp_path) is None
    assert missing("portable", tmp_path) is None
    assert missing("flink", jars) == "flink: Java is needed, and there is no 'java' on the PATH. Install Java 17."
    assert "bin/prism is not there" in str(missing("prism", tmp_path))


def test_a_misspelt_engine_gets_a_suggestion(capsys):
    assert engines.main(["flags", "flnk"]) == 2
    assert capsys.readouterr().err == (
        "Unknown engine 'flnk': it is one of direct, portable, prism, flink, spark. Did you mean 'flink'?\n"
    )


def test_the_command_prints_flags(capsys):
    assert engines.main(["flags", "portable", "--job_endpoint", "localhost:8099"]) == 0
    assert capsys.readouterr().out.split() == [
        "--runner=PortableRunner",
        "--job_endpoint=localhost:8099",
        "--environment_type=LOOPBACK",
    ]


def test_the_command_fetches_the_rest_when_one_engine_cannot_be_had(jars, clients, capsys):
    (jars / "flink.jar").unlink()
    assert engines.main(["fetch", "flink", "spark", "--output", str(jars)]) == 2
    said = capsys.readouterr()
    assert said.out == "spark: there already\n"
    assert said.err == "Maven is needed for org.example:flink:1, and there is no 'mvn' on the PATH. Install it.\n"


# --- starting and stopping, with a stand-in for java that listens where it is told to and has a child ---

SERVER = """
import signal, socket, subprocess
port = next(int(a.split("=")[1]) for a in sys.argv if a.startswith("--job-port="))
child = subprocess.Popen(["/bin/sleep", "600"])
pathlib.Path({record!r}).write_text(f"{{os.getpid()}} {{child.pid}} " + " ".join(sys.argv[1:]))
listener = socket.create_server(("localhost", port))
signal.pause()
"""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid):
    """Return whether a killed process ends soon: nobody here can wait for somebody else's child."""
    deadline = time.monotonic() + 30
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_running(pid)


def test_a_job_server_and_its_children_are_gone_after_a_failure(jars, clients, tmp_path):
    record = tmp_path / "record"
    clients("java", SERVER.format(record=str(record)))

    def job():
        with engine("flink", jars) as flags:
            assert flags[0] == "--runner=PortableRunner"
            assert is_running(record.read_text().split()[0])
            raise RuntimeError("the job failed")

    with pytest.raises(RuntimeError, match="the job failed"):
        job()
    server, child, *command = record.read_text().split()
    assert not is_running(server)
    assert ends(child)
    assert command[0] == "-Xmx1g"
    assert "--flink-master=[local]" in command


def test_a_job_server_that_ends_at_once_is_quoted(jars, clients):
    clients("java", 'print("starting"); print("Error: Could not find or load main class"); sys.exit(1)')
    with (
        pytest.raises(UserError, match=r"spark: the job server ended with code 1\. The last it said: Error: Could not"),
        engine("spark", jars),
    ):
        pytest.fail("it did not start")


# --- equal output on all engines ---
