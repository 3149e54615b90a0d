"""The documentation holds: its commands can be given, its blocks read, its messages exist, its API is the bundle's."""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
import typer
import yaml
from conftest import Shop
from docs_support import ROOT, blocks, commands, messages

from tfrs_shop.cli import app
from tfrs_shop.client import ShopClient
from tfrs_shop.config import Config
from tfrs_shop.errors import UserError
from tfrs_shop.inspection import inspect
from tfrs_shop.mapping import Mapping
from tfrs_shop.settings import from_dict

API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
# Sections of docs/api.md: the text from one signature's heading to the next.
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", API, re.MULTILINE | re.DOTALL))


def test_there_is_something_to_check() -> None:
    assert len(commands()) > 80
    assert len(SECTIONS) > 20


@pytest.mark.parametrize(("where", "words"), [pytest.param(*found, id=found[0]) for found in commands()])
def test_every_command_can_be_given(where: str, words: list[str]) -> None:
    if words[0] == "tfrs-shop":
        check_tfrs_shop(words[1:])
    elif words[0] == "make":
        check_make(words[1:])
    elif words[0] == "curl":
        check_curl(words[1:])
    else:
        check_module(words[2], words[3:])


def check_tfrs_shop(words: list[str]) -> None:
    """Parse with the command line's own parsers, and run nothing."""
    if words[0] in ("preprocess", "serve"):
        return check_module(
            {"preprocess": "pipelines.preprocess", "serve": "serving.model_server"}[words[0]], words[1:]
        )
    command, path = typer.main.get_command(app), []
    # Completion and help end the parser by themselves.
    if words[-1] in ("--help", "--install-completion", "--show-completion"):
        words, only = words[:-1], True
    else:
        only = False
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        if not words:
            assert only, f"{' '.join(path)}: is a group of commands"
            return None
        assert words[0] in command.commands, f"{' '.join(path)}: has no command {words[0]}"
        path.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    if not only:
        context = command.make_context(path[-1], list(words))
        assert all(word.startswith("-") or "=" in word for word in context.args[:1])
    return None


def check_module(module: str, words: list[str]) -> None:
    assert importlib.util.find_spec(module) is not None
    words = [word for word in words if not word.startswith("$(")]
    if words == ["--help"]:
        return
    if module == "pipelines.preprocess":
        from pipelines.options import parse_flags

        parse_flags(words)
    elif module == "serving.model_server":
        from serving.model_server.flags import parse_flags as parse_server_flags

        parse_server_flags(words)
    elif module.split(".")[0] in ("benchmarks", "docs_tools", "pipelines", "tfrs_shop"):
        source = Path(str(importlib.util.find_spec(module).origin)).read_text(encoding="utf-8")  # type: ignore[union-attr]
        for word in words:
            flag = word.split("=", 1)[0]
            assert not flag.startswith("--") or f'"{flag}"' in source, f"{module} has no {flag}"


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    names = [word for word in words if "=" not in word]
    assert names
    assert set(names) <= set(targets)


def check_curl(words: list[str]) -> None:
    """A request must name a signature of docs/api.md and all of its inputs."""
    body = json.loads(words[words.index("-d") + 1])
    assert words[-1].endswith("/v1/models/shop:predict")
    inputs = inputs_of(SECTIONS[body.get("signature_name", "serving_default")])
    rows = body.get("instances", [body.get("inputs")])
    for row in rows:
        assert (set(row) if isinstance(row, dict) else inputs) == inputs


def inputs_of(section: str) -> set[str]:
    table = section.split("| input |", 1)[1].split("\n\n", 1)[0]
    return set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))


def test_the_api_page_has_the_signatures_and_inputs_of_a_bundle(bundle: Path) -> None:
    described = {name: inputs_of(section) for name, section in SECTIONS.items()}
    there = {name: set(signature["inputs"]) for name, signature in inspect(bundle)["signatures"].items()}
    assert {name: described.get(name) for name in there} == there
    # The bundle of the tests has no text vectors.
    assert set(described) - set(there) == {"explain_words", "explain_words_for_history"}


def test_the_api_page_names_every_output_of_a_bundle(bundle: Path) -> None:
    for name, signature in inspect(bundle)["signatures"].items():
        question = next(part for part in API.split("\n## ") if f"### `{name}`\n" in part)
        outputs = set(re.findall(r"^\| `(\w+)`", question.split("| output |", 1)[1], re.MULTILINE))
        assert set(signature["outputs"]) <= outputs, name


def test_every_yaml_block_is_settings_or_a_mapping() -> None:
    found = [block for block in blocks() if block.language == "yaml"]
    assert len(found) >= 4
    for block in found:
        data = yaml.safe_load(block.text)
        kind = Mapping if {"events", "products"} & set(data) else Config
        from_dict(kind, data, where=f"{block.page}:{block.line}")


def test_every_python_block_compiles_and_what_it_imports_is_there() -> None:
    found = [block for block in blocks() if block.language == "python"]
    assert len(found) >= 3
    for block in found:
        compile(block.text, block.page, "exec")
        lines = [line for line in block.text.split("\n") if re.match(r"(from|import) ", line)]
        exec("\n".join(lines), {})


def test_every_message_of_troubleshooting_is_one_of_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)
    assert len(quoted) >= 25
    there = messages()
    missing = [message for message in quoted if not any(quotes(message, whole) for whole in there)]
    assert missing == []


def quotes(message: str, whole: str) -> bool:
    """Whether `message` is `whole`, but for what an ellipsis at its end leaves out and one inside stands for."""
    pattern = ".*".join(re.escape(part) for part in message.split("…"))
    return re.fullmatch(pattern if message.endswith("…") else pattern + r"\s*", whole, re.DOTALL) is not None


def test_every_page_is_in_the_navigation_and_every_link_of_the_readme_leads_somewhere() -> None:
    for link in re.findall(r"\]\((docs/[^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert (ROOT / link).exists(), link
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in navigation, page


@pytest.mark.slow
def test_the_quick_start_can_be_followed(shop: Shop, run: Path, bundle: Path, tmp_path: Path) -> None:
    """Its commands but those whose work the fixtures have done: `make`, preprocess, train and export."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    # In this order: a longer path before its beginning.
    places = {
        "shop/models/shop/1": str(bundle),
        "./shop/models/shop": str(bundle.parent),
        "shop/": f"{tmp_path}/",
        "8501": port,
        "=8500": "=0",
    }
    given = []
    for where, words in commands():
        if where.startswith("docs/quickstart.md:"):
            words = [replaced(word, places) for word in words]
            given.append(words)
    shutil.copytree(run, tmp_path / "run")
    server, ran = None, []
    try:
        for words in given:
            if words[:2] == ["tfrs-shop", "serve"]:
                server = subprocess.Popen([sys.executable, "-m", "serving.model_server", *words[2:]])
                wait_for(ShopClient(f"127.0.0.1:{port}"), server)
            elif words[0] == "curl":
                client = ShopClient(f"127.0.0.1:{port}")
                assert len(client.predict(json.loads(words[2]))["predictions"][0]["product_id"]) == 5
            elif words[0] == "tfrs-shop" and words[1] not in ("preprocess", "train", "export"):
                if words[1] == "query":
                    words = [*words, "--url", f"127.0.0.1:{port}"]
                app(words[1:], standalone_mode=False)
            else:
                continue
            ran.append(" ".join(words[:3]))
    finally:
        if server is not None:
            server.terminate()
            server.wait(60)
    assert len(ran) == 9, ran
    assert (tmp_path / "report.html").is_file()
    assert "ndcg@10" in json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))


def replaced(word: str, places: dict[str, str]) -> str:
    """Return `word` with the first of `places` that is in it replaced."""
    before = next((before for before in places if before in word), "")
    return word.replace(before, places[before]) if before else word


def wait_for(client: ShopClient, server: "subprocess.Popen[bytes]") -> None:
    while server.poll() is None:
        try:
            if client.status()["model_version_status"][0]["state"] == "AVAILABLE":
                return
        except UserError:
            pass
        time.sleep(0.2)
    raise AssertionError("the server has ended")


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert result.returncode == 0, result.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        fetched = re.findall(
            r"<(?:script|img|link)[^>]+(?:src|href)=\"?(https?://[^\s\">]+)", page.read_text(encoding="utf-8")
        )
        assert fetched == [], page
