"""tfrs_shop: shop search and recommendation on TensorFlow.

TensorFlow Recommenders works on Keras 2 only, so this package asks TensorFlow for it
before TensorFlow is first imported. Import ``tfrs_shop`` before ``tensorflow``, or set
``TF_USE_LEGACY_KERAS=1`` in the environment.
"""

import os
import sys
import warnings

__version__ = "0.1.0"


def _require_keras_2() -> None:
    """Make ``tf.keras`` Keras 2, or say clearly why that is no longer possible."""
    if os.environ.get("TF_USE_LEGACY_KERAS") == "1":
        return
    loaded = sys.modules.get("tensorflow")
    if loaded is not None and str(loaded.keras.__version__).startswith("3"):
        raise ImportError(
            "TensorFlow was imported with Keras 3 before tfrs_shop; TensorFlow Recommenders needs Keras 2. "
            "Import tfrs_shop before tensorflow, or set TF_USE_LEGACY_KERAS=1 in the environment."
        )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"


_require_keras_2()
# Of tensorflow-hub 0.16, whenever it is imported; who runs this package can do nothing about it.
warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
