"""``make bench``: every benchmark that this machine has the data for, one after the other."""

from benchmarks import beauty, cold_start, index, ratings, text_encoder


def main() -> None:
    text_encoder.main()
    index.main()
    beauty.main()
    cold_start.main()
    ratings.main()


if __name__ == "__main__":
    main()
