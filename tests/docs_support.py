"""What the documentation says: its blocks of code, its commands, and the messages that the code can give."""

import ast
import dataclasses
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
COMMANDS = ("tfrs-shop", "python -m", "make", "curl")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    page: str
    line: int
    language: str
    text: str


def blocks() -> list[Block]:
    """Return all fenced and indented blocks, the latter as of language ""."""
    found = []
    for path in PAGES:
        lines = path.read_text(encoding="utf-8").split("\n")
        page, place = str(path.relative_to(ROOT)), 0
        while place < len(lines):
            line, start = lines[place], place
            if match := re.match(r"( *)```(\w*)", line):
                place += 1
                body = []
                while lines[place].strip() != "```":
                    body.append(lines[place].removeprefix(match[1]))
                    place += 1
                found.append(Block(page, start + 1, match[2], "\n".join(body)))
            elif line.startswith("    ") and place and not lines[place - 1].strip():
                body = []
                while place < len(lines) and (lines[place].startswith("    ") or not lines[place]):
                    body.append(lines[place][4:])
                    place += 1
                found.append(Block(page, start + 1, "", "\n".join(body)))
            place += 1
    return found


def commands() -> list[tuple[str, list[str]]]:
    """Return where each command of the pages is, and its words; what a shell would read over several lines is one."""
    found = []
    for block in blocks():
        if block.language not in ("", "bash", "console"):
            continue
        for command in _whole_lines(block.text):
            command = command.removeprefix("$ ").replace("$PWD", ".").removesuffix("&")
            command = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command)
            if command.startswith(COMMANDS):
                words = shlex.split(
                    command.replace("$(", "'$(").replace(")", ")'") if "$(" in command else command, comments=True
                )
                found.append((f"{block.page}:{block.line}", words))
    return found


def _whole_lines(text: str) -> list[str]:
    lines: list[str] = []
    for line in text.split("\n"):
        unfinished = lines and (lines[-1].endswith("\\") or lines[-1].count("'") % 2)
        if unfinished:
            lines[-1] = lines[-1].removesuffix("\\") + " " + line.strip()
        else:
            lines.append(line.strip())
    return lines


def messages() -> set[str]:
    """Return every string of the code, with an ellipsis in place of what it fills in."""
    found = set()
    for folder in ("tfrs_shop", "pipelines", "serving"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                    found.add("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found
