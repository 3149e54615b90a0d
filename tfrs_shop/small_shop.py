"""A small simulated shop that notebooks share: each part is made when it is first asked for, and then found."""

import dataclasses
import logging
import os
import subprocess
import sys
from pathlib import Path

from tfrs_shop.config import Config, IntentConfig, TowerConfig, TrainingConfig
from tfrs_shop.errors import UserError

PRODUCTS, USERS, DAYS, SEED = 500, 300, 30, 7


@dataclasses.dataclass(frozen=True)
class SmallShop:
    """A shop of 300 users and 500 products over 30 days: raw files, data directory, run and bundle.

    A minute or two for all of it. Delete the directory to make it anew, after an update of the package too.

    >>> SmallShop("small_shop").bundle()                                                    # doctest: +SKIP

    Args:
        directory: where its parts are, or will be.
    """

    directory: str | Path

    def raw(self) -> Path:
        """Return the directory of the events, products and users, as of ``tfrs-shop data simulate``."""
        from tfrs_shop.sources.simulator import simulate_shop

        path = Path(self.directory) / "raw"
        if not path.exists():
            simulate_shop(path, users=USERS, products=PRODUCTS, days=DAYS, seed=SEED)
        return path

    def data(self) -> Path:
        """Return the data directory, as of ``tfrs-shop preprocess``, with BERT's text vectors."""
        path = Path(self.directory) / "data"
        if not path.exists():
            raw = self.raw()
            files = {"events": "events.csv.gz", "products": "products.jsonl.gz", "users": "users.csv.gz"}
            inputs = [word for name, file in files.items() for word in (f"--{name}", str(raw / file))]
            # A process of its own: inside of a notebook Beam writes scripts into the output.
            command = [sys.executable, "-m", "pipelines.preprocess", *inputs, "--output", str(path), "--quiet"]
            done = subprocess.run([*command, "--shards", "1"], capture_output=True, text=True, check=False)
            if done.returncode:
                raise UserError(f"{path}: preprocessing failed: {done.stderr.strip()}")
        return path

    def run(self, name: str = "run", config: Config | None = None) -> Path:
        """Return a finished run directory, as of ``tfrs-shop train``.

        Args:
            name: of the run; another one for other settings.
            config: its settings; those of `small_config` if not given. They count when the run is made.
        """
        path = Path(self.directory) / name
        if not path.exists():
            from tfrs_shop.training import train

            train(self.data(), path, config or small_config(), _silent)
        return path

    def bundle(self) -> Path:
        """Return the version directory of the run, as of ``tfrs-shop export``, with an exact index."""
        path = Path(self.directory) / "models" / "shop" / "1"
        if not path.exists():
            from tfrs_shop.export import Serving, export
            from tfrs_shop.run import load_run

            model, data, _ = load_run(self.run(), self.data())
            export(model, data, path.parent, "brute_force", Serving(10, "bought"), _silent)
        return path


def small_config(towers: TowerConfig | None = None) -> Config:
    """Return settings that train on a small shop in seconds; `towers` if they shall not be narrow ones of all parts."""
    return Config(
        towers=towers or TowerConfig(width=32, layers=1, dropout=0.2, max_history=15),
        intent=IntentConfig(steps=400),
        training=TrainingConfig(
            epochs=8, batch_size=32, learning_rate=4e-3, warmup_steps=10, average=0.9, log_every=1000
        ),
    )


def quiet_notebook() -> None:
    """Leave the start-up notes and tracing hints of TensorFlow out of a notebook's output; to be called first."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # The kernel shows what C++ writes to file 2; Python's errors do not go there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import tfrs_shop  # noqa: F401  (before TensorFlow: it asks for Keras 2)

    import tensorflow  # noqa: F401  (it sets the level of its logger when it is imported)  # isort: skip

    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _silent(line: str) -> None:
    """Take a line of progress and drop it."""
