"""Settings of the training that suit the size of the data, as the text of a YAML file with the reasons in it."""

import math

from tfrs_shop.own_data.check import Size

SMALL, LARGE = 50_000, 2_000_000
STEPS = 1500  # that a small shop's training takes at least


def training_settings(size: Size, whole: bool) -> str:
    """Return a settings file for ``tfrs-shop train --config``.

    Args:
        size: what was counted.
        whole: whether that is all there is.
    """
    counted = f"{size.events:,} events of {size.users:,} users" + ("" if whole else ", and more")
    head = [
        f"# Settings for {counted}; written by tfrs-shop init. What is not named keeps its default",
        "# (docs/configuration.md).",
    ]
    if not size.events:
        return "# A catalogue without events: the defaults (docs/configuration.md).\n{}\n"
    if not whole or size.events >= LARGE:
        lines = [
            "training:",
            "  batch_size: 512         # a large log: fewer, larger steps",
            "  epochs: 10",
            "  log_every: 200",
            "  checkpoint_every: 2000  # a long epoch that is killed does not begin anew",
        ]
    elif size.events >= SMALL:
        lines = ["training:", "  epochs: 20", "  batch_size: 128"]
    else:
        # A window holds up to 20 events; each user has one at least.
        windows = max(size.users, size.events // 20, 1)
        batch = min(128, max(16, 2 ** int(math.log2(max(1, windows / 20)))))
        steps = max(1, windows // batch)
        epochs = min(40, max(15, math.ceil(STEPS / steps)))
        lines = [
            "towers:",
            "  width: 64               # a small shop: narrower towers, less dropout, smaller batches",
            "  dropout: 0.3",
            "training:",
            f"  epochs: {epochs}",
            f"  batch_size: {batch}",
            f"  warmup_steps: {max(10, min(200, steps * epochs // 20))}",
        ]
    return "\n".join([*head, *lines]) + "\n"
