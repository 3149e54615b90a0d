"""The command line's output: help of everything, --quiet prints nothing, --json only JSON, exit codes, completion."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from tfrs_shop import output
from tfrs_shop.cli import app
from tfrs_shop.output import Pace, with_stdout

COMMAND = [sys.executable, "-m", "tfrs_shop.cli"]


def commands(group=None, path=()):
    """Yield the words of every command."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        yield (*path, name)


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("words", sorted(commands()), ids=" ".join)
def test_every_command_has_help(words, capfd):
    if words == ("serve",):
        # It becomes the server's process.
        shown = subprocess.run([*COMMAND, "serve", "--help"], capture_output=True, text=True, check=True).stdout
        assert "--model_base_path" in shown
        return
    result = invoke(*words, "--help")
    shown = result.stdout + capfd.readouterr().out
    assert result.exit_code == 0
    assert "usage" in shown.lower()
    assert "--help" in shown or words == ("preprocess",)


@pytest.fixture(scope="module")
def steps(shop, run, bundle, tmp_path_factory):
    """Return every step's command, without output options."""
    work = tmp_path_factory.mktemp("steps")
    (work / "c.yaml").write_text(
        "towers: {width: 16, layers: 1}\ntraining: {epochs: 1, batch_size: 32}\n"
        "behavior: {steps: 0}\nintent: {steps: 0}\nsearch: {steps: 0}\n"
    )
    raw = ["--events", f"{shop.raw}/events.csv.gz", "--products", f"{shop.raw}/products.jsonl.gz"]

    def command(name, number):
        here = work / f"{name}-{number}"
        return {
            "init": ["init", shop.raw, "--output", here],
            "preprocess": ["preprocess", *raw, "--text_encoder", "none", "--output", here],
            "train": ["train", "--data", shop.data, "--config", work / "c.yaml", "--output", here],
            "evaluate": ["evaluate", "--run", run],
            "report": ["report", "--run", run, "--output", here / "r.html"],
            "export": ["export", "--run", run, "--index", "brute_force", "--output", here],
            "inspect": ["inspect", bundle],
            "simulate": ["data", "simulate", "--output", here, "--users", 20, "--products", 100, "--days", 5],
        }[name]

    return command


@pytest.mark.parametrize("name", ["init", "preprocess", "train", "evaluate", "report", "export", "inspect", "simulate"])
@pytest.mark.usefixtures("few_questions")
def test_quiet_prints_nothing(steps, name, capfd):
    result = invoke(*steps(name, "quiet"), "--quiet")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("init", "commands"),
        ("preprocess", "rows_kept"),
        ("evaluate", "recall@10"),
        ("export", "bundle"),
        ("inspect", "signatures"),
    ],
)
@pytest.mark.usefixtures("few_questions")
def test_json_alone_prints_only_json_and_progress_goes_to_stderr(steps, name, key):
    result = invoke(*steps(name, "json"), "--json")
    assert result.exit_code == 0, result.output
    assert key in json.loads(result.stdout)
    assert name == "inspect" or result.stderr != ""


def test_json_with_a_file_writes_it_and_leaves_progress_where_it_is(steps, tmp_path):
    result = invoke(*steps("init", "file"), "--json", tmp_path / "new" / "p.json")
    assert "Next:" in result.stdout
    assert json.loads((tmp_path / "new" / "p.json").read_text())["tables"]["events"]["check"]["rejected"] == 0


def test_quiet_silences_tensorflows_own_code_but_no_error(tmp_path):
    code = (
        "import os, sys; from tfrs_shop.output import progress; progress(True)('a line');"
        "os.write(2, b'a warning of C++ code'); print('Error: x', file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "Error: x\n")


def test_a_lone_json_is_standard_output():
    assert with_stdout(["train", "--json", "--quiet"]) == ["train", "--json", "-", "--quiet"]
    assert with_stdout(["train", "--json", "m.json", "--json"]) == ["train", "--json", "m.json", "--json", "-"]


def test_the_commands_that_init_prints_are_taken(steps, tmp_path):
    printed = [
        shlex.split(line)[1:] for line in invoke(*steps("init", "printed")).stdout.splitlines() if "  tfrs-shop" in line
    ]
    assert [words[0] for words in printed] == ["preprocess", "train", "evaluate", "export", "serve", "query"]
    root = typer.main.get_command(app)
    for words in printed:
        if words[0] in ("preprocess", "serve"):
            continue
        command = root.commands[words[0]]
        command = command.commands[words[1]] if words[0] == "query" else command
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_ctrl_c_is_exit_code_130_without_a_traceback(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "data", "simulate", "--output", str(tmp_path / "raw"), "--users", "200000", "--days", "300"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, the shell has Ctrl-C ignored for all of them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Simulating a shop")
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == "Stopped.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_usage_error_is_exit_code_2_on_stderr():
    result = subprocess.run([*COMMAND, "train", "--date", "x"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "--date" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(shell):
    variable = {"bash": {"COMP_WORDS": "tfrs-shop eva", "COMP_CWORD": "1"}}.get(
        shell, {"_TYPER_COMPLETE_ARGS": "tfrs-shop eva", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    )
    environment = {**os.environ, **variable, "_TFRS_SHOP_COMPLETE": f"complete_{shell}"}
    code = "import sys; sys.argv = ['tfrs-shop']; from tfrs_shop.cli import app; app(prog_name='tfrs-shop')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert "evaluate" in result.stdout
    assert "preprocess" not in result.stdout


def test_pace_says_how_long_the_rest_may_take(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    said: list[str] = []
    pace = Pace("targets ranked", 1000, said.append)
    for seconds, done in ((1.0, 100), (10.0, 200), (12.0, 300), (50.0, 1000)):
        now[0] = 100.0 + seconds
        pace(done)
    assert said == ["  200 of 1,000 targets ranked, about 40 s left"]
    assert [output.duration(seconds) for seconds in (42.4, 200, 9000)] == ["42 s", "3.3 min", "2.5 h"]


def test_the_command_table_of_the_docs_names_every_command():
    text = (Path(__file__).parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
    top = {words[0] for words in commands()}
    assert {name for name in top if f"`{name}`" not in text} == set()
