"""What a command prints: lines of progress, one JSON document instead of them, or nothing.

Progress goes to stdout, a line at a time, so that a pipe and a log get it too; errors go to stderr. ``--quiet`` leaves
progress out. ``--json FILE`` writes the result as JSON; ``--json -``, or ``--json`` alone, prints it on stdout, where
nothing else is then: progress goes to stderr. (In ``tfrs-shop query`` the answer is the result, and ``--json`` takes no
file.)
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tfrs_shop.errors import UserError

Say = Callable[[str], None]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="[FILE]", help="Write the result as JSON; without FILE, or with -, to stdout."),
]
STDOUT = Path("-")
STOPPED = 130
SECONDS_BETWEEN_LINES = 5.0


def progress(quiet: bool, json_file: Path | None = None) -> Say:
    """Return what takes a line of progress."""
    if quiet:
        _silence_native_code()
        return _drop
    return _to_stderr if json_file == STDOUT else say


def write_result(json_file: Path | None, result: Any) -> None:
    """Write `result` as the JSON that ``--json`` asks for, whole or not at all.

    Raises:
        UserError: it cannot be written there.
    """
    if json_file is None:
        return
    text = json.dumps(result, indent=2, ensure_ascii=False, default=str) + "\n"
    if json_file == STDOUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    temporary = json_file.with_name(f".{json_file.name}.partial")
    try:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(json_file)
    except OSError as error:
        raise UserError(f"--json {json_file}: cannot be written ({error.strerror}).") from None


class Pace:
    """Says every five seconds how far a loop of known length is, and how long the rest may take.

    Args:
        what: what is counted, such as ``targets ranked``.
        total: how many there are.
        say: takes one line.
    """

    def __init__(self, what: str, total: int, say: Say):
        self.what, self.total, self.say = what, total, say
        self.started = self.said = time.monotonic()

    def __call__(self, done: int) -> None:
        """Take note that `done` of them are done."""
        now = time.monotonic()
        if now - self.said < SECONDS_BETWEEN_LINES or not 0 < done < self.total:
            return
        self.said = now
        left = (now - self.started) / done * (self.total - done)
        self.say(f"  {done:,} of {self.total:,} {self.what}, about {duration(left)} left")


def duration(seconds: float) -> str:
    """Return `seconds` for people.

    >>> duration(42.4), duration(200), duration(9000)
    ('42 s', '3.3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class ShopGroup(TyperGroup):
    """The commands: ``--json`` may stand alone, and a command that is stopped exits with code 130."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a lone ``--json`` its "-"."""
        if args and args[0] != "query":
            args = with_stdout(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            raise typer.Exit(STOPPED) from None


def with_stdout(arguments: list[str]) -> list[str]:
    """Return `arguments` with a "-" after each ``--json`` that has no file.

    >>> with_stdout(["train", "--json", "--quiet"]), with_stdout(["train", "--json", "m.json"])
    (['train', '--json', '-', '--quiet'], ['train', '--json', 'm.json'])
    """
    filled: list[str] = []
    for place, argument in enumerate(arguments):
        filled.append(argument)
        following = arguments[place + 1 : place + 2]
        if argument == "--json" and (not following or following[0].startswith("--")):
            filled.append("-")
    return filled


def _silence_native_code() -> None:
    """Send what TensorFlow's C++ code writes to stderr nowhere; Python's own messages still arrive.

    Some of its warnings heed no log level.
    """
    if sys.stderr is None or not _is_on(sys.stderr, 2):
        return
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _is_on(stream: Any, descriptor: int) -> bool:
    """Tell whether `stream` writes to a file descriptor (in tests it may not)."""
    try:
        return bool(stream.fileno() == descriptor)
    except (OSError, ValueError, AttributeError):
        return False


def say(line: str) -> None:
    """Print one line at once, even into a pipe."""
    print(line, flush=True)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _drop(line: str) -> None:
    """Take a line of progress and drop it."""
