"""A small simulated shop that notebooks share: each part is made when it is first asked for, and then found."""

import dataclasses
from pathlib import Path

from tfrs_shop.config import BehaviorConfig, Config, IntentConfig, TowerConfig, TrainingConfig

PRODUCTS, USERS, DAYS, SEED = 240, 300, 30, 7


@dataclasses.dataclass(frozen=True)
class SmallShop:
    """A shop of 300 users and 240 products over 30 days: raw files, data directory, run and bundle.

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
            from pipelines.preprocess import run

            raw = self.raw()
            files = {"events": "events.csv.gz", "products": "products.jsonl.gz", "users": "users.csv.gz"}
            inputs = [word for name, file in files.items() for word in (f"--{name}", str(raw / file))]
            run([*inputs, "--output", str(path), "--shards", "1"], _silent)
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


def small_config(towers: TowerConfig | None = None, behavior: BehaviorConfig | None = None) -> Config:
    """Return settings that train on a small shop in seconds.

    Args:
        towers: other towers than narrow ones of all parts.
        behavior: other settings of the behaviour head.
    """
    return Config(
        towers=towers or TowerConfig(width=32, layers=1, dropout=0.2, max_history=15),
        behavior=behavior or BehaviorConfig(),
        intent=IntentConfig(steps=400),
        training=TrainingConfig(
            epochs=8, batch_size=32, learning_rate=4e-3, warmup_steps=10, average=0.9, log_every=1000
        ),
    )


def _silent(line: str) -> None:
    """Take a line of progress and drop it."""
