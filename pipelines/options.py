"""The preprocessing job's own flags; everything else on the command line is Beam's."""

import argparse
import contextlib
import sys
from typing import NoReturn

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from pipelines.examples import BY_TIME, LEAVE_ONE_OUT
from tfrs_shop.errors import UserError, suggest

# Runners inside this process: whatever flag they do not know, nobody does.
LOCAL_RUNNERS = (None, "DirectRunner", "FnApiRunner", "BundleBasedDirectRunner")


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
        parser.add_argument("--quiet", action="store_true", help="Print nothing but errors.")
        parser.add_argument(
            "--json",
            nargs="?",
            const="-",
            metavar="FILE",
            help="Write the counts as JSON; without FILE, or with -, to stdout.",
        )


def parse_flags(arguments: list[str]) -> tuple[PreprocessOptions, PipelineOptions]:
    """Return the job's own options, and all of them for the engine.

    Raises:
        UserError: a flag is unknown, or its value cannot be.
    """
    own, _ = _parser(own_only=True).parse_known_args(arguments)
    everything = _parser(own_only=False)
    _, unknown = everything.parse_known_args(arguments)
    pipeline_options = PipelineOptions(arguments)
    local = pipeline_options.view_as(StandardOptions).runner in LOCAL_RUNNERS
    flags = [flag.removeprefix("--") for flag in everything._option_string_actions if flag.startswith("--")]
    after_unknown = False
    for argument in unknown:
        if argument.startswith("--"):
            flag = argument.removeprefix("--").split("=", 1)[0]
            near = (suggest(flag, vars(own)) or (suggest(flag, flags) if local else "")).replace("'", "'--", 1)
            # An engine may know flags that Beam's Python side does not; the local ones know no others.
            if near or local:
                raise UserError(f"unknown flag --{flag}.{near or ' See --help.'}")
            after_unknown = "=" not in argument
        elif not after_unknown:
            raise UserError(
                f"unexpected argument '{argument}'; every file needs its flag (--events, --products, --users)."
            )
        else:
            after_unknown = False
    options = pipeline_options.view_as(PreprocessOptions)
    _check(options)
    return options, pipeline_options


def engine_options(parser: argparse.ArgumentParser, arguments: list[str], others: list[str]) -> PipelineOptions:
    """Return the engine's options of a job that has `parser`; `others` are the `arguments` that the job does not know.

    Raises:
        UserError: neither does the engine, and it is one inside this process.
    """
    options = PipelineOptions(others)
    if options.view_as(StandardOptions).runner in LOCAL_RUNNERS:
        _add_engine_flags(parser)
        _, unknown = parser.parse_known_args(arguments)
        if unknown:
            raise UserError(f"unknown flag {unknown[0].split('=', 1)[0]}. See --help.")
    return options


def _check(options: PreprocessOptions) -> None:
    if not options.output:
        raise UserError("--output is missing: give the data directory to write.")
    if not options.events and not options.products:
        raise UserError("--events and --products are both missing: give at least one of them.")
    if options.users and not options.events:
        raise UserError(
            "--users without --events: profiles are of use only with events; give both, or leave --users out."
        )
    for name in ("max_history", "max_events_per_user", "max_vocabulary", "shards", "text_length"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: must be at least 1.")
    for name in ("validation_share", "test_share", "max_bad_rows"):
        if not 0 <= getattr(options, name) <= 1:
            raise UserError(f"--{name} {getattr(options, name)}: must be a share from 0 to 1.")
    if options.validation_share + options.test_share >= 1:
        raise UserError("--validation_share and --test_share leave nothing for training; their sum must be below 1.")
    if bool(options.validation_from) != bool(options.test_from):
        raise UserError("--validation_from and --test_from go together; give both or neither.")
    if options.validation_from and options.split != BY_TIME:
        raise UserError(f"--validation_from and --test_from need --split {BY_TIME}.")
    if options.text_encoder not in ("default", "none") and not options.text_preprocessor:
        raise UserError("--text_encoder with a handle needs its --text_preprocessor too.")


class FlagParser(argparse.ArgumentParser):
    """Raises ``UserError`` where argparse would print the flags of all engines and exit."""

    def error(self, message: str) -> NoReturn:
        """Refuse what was given."""
        raise UserError(f"{message.removeprefix('argument ')}; see --help.")


def _parser(*, own_only: bool) -> argparse.ArgumentParser:
    parser = FlagParser(add_help=False, allow_abbrev=False)
    PreprocessOptions._add_argparse_args(parser)
    if not own_only:
        _add_engine_flags(parser)
    return parser


def _add_engine_flags(parser: argparse.ArgumentParser) -> None:
    for cls in PipelineOptions.__subclasses__():
        if cls is not PreprocessOptions:
            cls._add_argparse_args(_Tolerant(parser))


class _Tolerant:
    """Adds arguments to a parser and lets a second definition of one flag pass."""

    def __init__(self, parser: argparse.ArgumentParser):
        self.parser = parser

    def add_argument(self, *names: str, **settings: object) -> None:
        with contextlib.suppress(argparse.ArgumentError):
            self.parser.add_argument(*names, **settings)  # type: ignore[arg-type]

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
