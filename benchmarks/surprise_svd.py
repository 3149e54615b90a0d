"""scikit-surprise's SVD, default settings, in a process of its own: ``python surprise_svd.py TRAIN TEST OUTPUT SEED``.

It is run by the Python of a virtual environment that has scikit-surprise and nothing of this package. TRAIN and TEST
are CSV files of ``user_id, product_id, rating`` with a header; OUTPUT gets one predicted rating a line of TEST.
"""

import csv
import sys

import surprise

SCALE = (0.5, 5.0)


def read(path: str) -> list[tuple[str, str, float, None]]:
    """Return (user, product, rating, no time) of each row."""
    with open(path, newline="") as lines:
        return [(row["user_id"], row["product_id"], float(row["rating"]), None) for row in csv.DictReader(lines)]


def main(train: str, test: str, output: str, seed: str) -> None:
    reader = surprise.Reader(rating_scale=SCALE)
    model = surprise.SVD(random_state=int(seed))
    model.fit(surprise.Dataset(reader).construct_trainset(read(train)))
    with open(output, "w") as lines:
        lines.writelines(f"{model.predict(user, product).est}\n" for user, product, _, _ in read(test))
    print(f"scikit-surprise {surprise.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
