"""The preprocessing job's own flags; everything else on the command line is Beam's."""

import argparse
import sys

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.examples import BY_TIME, LEAVE_ONE_OUT
from tfrs_shop.errors import UserError, suggest


class PreprocessOptions(PipelineOptions):
    """Flags of ``python -m pipelines.preprocess``."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        files = {"nargs": "+", "default": [], "metavar": "FILE"}
        parser.add_argument("--events", **files, help="Behaviour rows: CSV, JSON lines or Parquet, .gz too, globs.")  # type: ignore[arg-type]
        parser.add_argument("--products", **files, help="The catalogue. Without it, it is read out of the event rows.")  # type: ignore[arg-type]
        parser.add_argument("--users", **files, help="User profiles: user_id and any attributes.")  # type: ignore[arg-type]
        parser.add_argument("--output", default="", metavar="DIR", help="The data directory to write.")
        parser.add_argument("--mapping", default="", help="Foreign column names: a YAML file, or a shipped mapping.")
        parser.add_argument("--split", choices=[LEAVE_ONE_OUT, BY_TIME], default=LEAVE_ONE_OUT)
        parser.add_argument("--validation_share", type=float, default=0.1, help="By time: share of events.")
        parser.add_argument("--test_share", type=float, default=0.1, help="By time: share of events.")
        parser.add_argument("--validation_from", default="", help="By time: where validation starts (ISO 8601).")
        parser.add_argument("--test_from", default="", help="By time: where the test starts (ISO 8601).")
        parser.add_argument("--order_by", choices=["auto", "timestamp", "position"], default="auto")
        parser.add_argument("--target_events", default="", help="Event types that can be a target, comma-separated.")
        parser.add_argument("--max_history", type=int, default=50, help="Longest history of an example.")
        parser.add_argument("--max_events_per_user", type=int, default=10_000, help="Older ones are left out.")
        parser.add_argument("--max_bad_rows", type=float, default=0.05, help="Share of bad rows that stops the job.")
        parser.add_argument("--max_vocabulary", type=int, default=1_000_000, help="Most values of one vocabulary.")
        parser.add_argument("--shards", type=int, default=4, help="Files of each record folder.")
        parser.add_argument(
            "--text_encoder",
            default="default",
            help="Frozen BERT: 'default' (MiniLM, built offline), 'none', or a TF-Hub handle or path.",
        )
        parser.add_argument("--text_preprocessor", default="", help="Its preprocessor: a TF-Hub handle or path.")
        parser.add_argument("--text_length", type=int, default=32, help="Word pieces that are read of a text.")


def check_flags(options: PreprocessOptions, arguments: list[str]) -> None:
    """Raise ``UserError`` for a flag value that cannot be, or a flag that looks like a misspelt one of ours."""
    own = {action.option_strings[0] for action in _own_actions()}
    # Beam passes flags that it does not know on to the runner, so only near misses of ours can be told.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for cls in PipelineOptions.__subclasses__():
        cls._add_argparse_args(_Tolerant(parser))
    _, unknown = parser.parse_known_args(arguments)
    for flag in unknown:
        near = suggest(flag.split("=", 1)[0], own) if flag.startswith("--") else ""
        if near:
            raise UserError(f"unknown flag {flag.split('=', 1)[0]}.{near}")
        if not flag.startswith("-"):
            raise UserError(f"unexpected argument '{flag}'; every file needs its flag (--events, --products, --users).")
    if not options.output:
        raise UserError("--output is missing: give the data directory to write.")
    if not options.events and not options.products:
        raise UserError("--events and --products are both missing: give at least one of them.")
    for name in ("max_history", "max_events_per_user", "max_vocabulary", "shards", "text_length"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: must be at least 1.")
    for name in ("validation_share", "test_share", "max_bad_rows"):
        if not 0 <= getattr(options, name) <= 1:
            raise UserError(f"--{name} {getattr(options, name)}: must be a share from 0 to 1.")
    if bool(options.validation_from) != bool(options.test_from):
        raise UserError("--validation_from and --test_from go together.")
    if options.text_encoder not in ("default", "none") and not options.text_preprocessor:
        raise UserError("--text_encoder with a handle needs its --text_preprocessor too.")


def _own_actions() -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    PreprocessOptions._add_argparse_args(parser)
    return parser._actions


class _Tolerant:
    """Adds arguments to a parser and lets a second definition of one flag pass."""

    def __init__(self, parser: argparse.ArgumentParser):
        self.parser = parser

    def add_argument(self, *names: str, **settings: object) -> None:
        try:
            self.parser.add_argument(*names, **settings)  # type: ignore[arg-type]
        except argparse.ArgumentError:
            pass

    def add_mutually_exclusive_group(self, **_: object) -> "_Tolerant":
        return self


def usage() -> str:
    """Return the help text."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.preprocess" if not sys.argv[0].endswith("tfrs-shop") else "tfrs-shop preprocess",
        description="Turn raw shop events and a catalogue into a data directory of TFRecords and dataset.json. "
        "Flags of any Beam runner are taken too (--runner, --job_endpoint, ...).",
    )
    PreprocessOptions._add_argparse_args(parser)
    return parser.format_help()
