"""One category of Amazon Reviews 2023 (McAuley Lab, UCSD): downloaded, checked, and kept with its checksums.

Published at https://amazon-reviews-2023.github.io (Y. Hou et al., Bridging Language and Items for Retrieval and
Recommendation, arXiv 2403.03952). No checksums are published, so a file is checked by its size and by the CRC inside
the gzip; its sha256 is then written down, which shows later damage and makes a run repeatable.
"""

import difflib
import fcntl
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfrs_shop.errors import UserError
from tfrs_shop.sources.download import Progress, Remote, UnreachableError, discard, fetch, writing

OFFICIAL = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
REVIEWS, META = "raw/review_categories/{}.jsonl.gz", "raw/meta_categories/meta_{}.jsonl.gz"
SIDECAR = "download.json"
BLOCK = 1 << 20
CATEGORIES = (
    "All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Baby_Products",
    "Beauty_and_Personal_Care", "Books", "CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry",
    "Digital_Music", "Electronics", "Gift_Cards", "Grocery_and_Gourmet_Food", "Handmade_Products",
    "Health_and_Household", "Health_and_Personal_Care", "Home_and_Kitchen", "Industrial_and_Scientific",
    "Kindle_Store", "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments", "Office_Products",
    "Patio_Lawn_and_Garden", "Pet_Supplies", "Software", "Sports_and_Outdoors", "Subscription_Boxes",
    "Tools_and_Home_Improvement", "Toys_and_Games", "Unknown", "Video_Games",
)  # fmt: skip


@dataclass(frozen=True)
class WholeFile:
    """What is written down about a whole file: where it came from, and what it holds."""

    remote: Remote
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class Download:
    """Two whole files with their rows, and the names of those that this call downloaded."""

    category: str
    reviews: Path
    meta: Path
    review_rows: int
    meta_rows: int
    downloaded: tuple[str, ...]

    def __str__(self) -> str:
        """Say it, and the command that comes next."""
        how = "downloaded" if self.downloaded else "all there already"
        return (
            f"{self.category}: {self.review_rows:,} reviews and {self.meta_rows:,} products, {how}. Next:\n"
            f"$ tfrs-shop preprocess --events {self.reviews} --products {self.meta} --mapping amazon_reviews_2023 "
            f"--output DIR"
        )


def amazon_2023(
    output: Path,
    category: str,
    *,
    base_url: str = OFFICIAL,
    sha256: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Download:
    """Download a category's reviews and products into the directory `output`; a killed call is gone on with.

    A file that is here in whole, and is what the server still has, is not downloaded again. Several categories can
    share a directory. While a file is not whole its name ends in ``.part``.

    Args:
        output: the directory for ``X.jsonl.gz``, ``meta_X.jsonl.gz`` and ``download.json`` (their checksums).
        category: one of CATEGORIES.
        base_url: another place with the published layout (``raw/review_categories/X.jsonl.gz``, ...).
        sha256: the checksums to insist on, by file name.
        progress: takes one line.

    Raises:
        UserError: an unknown category, no network, a file that is not there or not whole, or a wrong checksum.
    """
    if category not in CATEGORIES:
        names = {_plain(name): name for name in CATEGORIES}
        near = difflib.get_close_matches(_plain(category), names, n=1)
        hint = f"Did you mean '{names[near[0]]}'?" if near else f"They are: {', '.join(CATEGORIES)}."
        raise UserError(f"--category {category}: is none of the {len(CATEGORIES)} published names. {hint}")
    output = Path(output)
    say = progress or (lambda line: None)
    base = base_url.rstrip("/")
    with _alone_in(output):
        files, news = {}, []
        for place in (REVIEWS.format(category), META.format(category)):
            name = place.rpartition("/")[2]
            files[name], is_new = _get(f"{base}/{place}", output / name, (sha256 or {}).get(name, ""), say)
            news += [name] * is_new
    reviews, meta = files
    return Download(
        category, output / reviews, output / meta, files[reviews].rows, files[meta].rows, downloaded=tuple(news)
    )


def _get(url: str, target: Path, expected: str, say: Progress) -> tuple[WholeFile, bool]:
    """Return what `target` holds once it is whole and of today, and whether it was downloaded for that."""
    part = target.with_name(f"{target.name}.part")
    if target.exists():
        say(f"{target.name}: checking what is here")
    here = _whole(target, url)
    if here and expected and here.sha256 != expected.lower():
        here = None
    try:
        remote = fetch(url, part, say, kept=here.remote if here else None)
    except UnreachableError as error:
        if not here:
            raise
        say(f"{target.name}: is here in whole; whether there is a newer one is not known: {error}")
        return here, False
    if here and remote is None:
        discard(part)
        say(f"{target.name}: is here in whole ({here.rows:,} rows)")
        return here, False
    assert remote
    say(f"{target.name}: checking {part.stat().st_size / 1e6:,.1f} MB")
    try:
        whole = _check(url, remote, part, expected)
    except UserError:
        discard(part)  # going on with it would end the same way
        raise
    # The sidecar first: if this ends between the two, the next call finds a part that is whole, and no wrong file.
    with writing(target):
        _write_down(target, whole)
        os.replace(part, target)
        discard(part)
    say(f"{target.name}: whole, {whole.rows:,} rows, sha256 {whole.sha256}")
    return whole, True


def _check(url: str, remote: Remote, part: Path, expected: str) -> WholeFile:
    size = part.stat().st_size
    if remote.size is not None and size != remote.size:
        raise UserError(
            f"{url} has {size:,} bytes, not the {remote.size:,} that the server announced; try again later."
        )
    try:
        if not size:
            raise EOFError("it is empty")
        rows = _count_rows(part)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"{url} is not a whole gzip file ({error}); try again later, or another place with --base-url."
        ) from None
    found = _sha256(part)
    if expected and found != expected.lower():
        raise UserError(f"{url} has the sha256 {found}, not {expected.lower()}; it is not the file that was asked for.")
    return WholeFile(remote, size, found, rows)


def _count_rows(path: Path) -> int:
    """Return the number of lines; reading to the end checks the CRC and the length that gzip keeps there."""
    rows, last = 0, b"\n"
    with gzip.open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            rows += block.count(b"\n")
            last = block[-1:]
    return rows + (last != b"\n")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _whole(target: Path, url: str) -> WholeFile | None:
    """Return what is written down about `target` if it is there, undamaged, and from `url`."""
    try:
        written = _sidecar(target)[target.name]
        whole = WholeFile(Remote(**written.pop("remote")), **written)
    except (KeyError, TypeError, AttributeError):
        return None
    if whole.remote.url != url or not target.is_file() or target.stat().st_size != whole.size:
        return None
    return whole if _sha256(target) == whole.sha256 else None


def _sidecar(target: Path) -> dict[str, Any]:
    try:
        content = json.loads((target.parent / SIDECAR).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_down(target: Path, whole: WholeFile) -> None:
    content = _sidecar(target) | {target.name: asdict(whole)}
    written = target.parent / f"{SIDECAR}.new"
    written.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(written, target.parent / SIDECAR)


@contextmanager
def _alone_in(output: Path) -> Iterator[None]:
    """Make the directory and keep a second download out of it: two writers of one part would spoil it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        handle = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(f"cannot use {output} as a directory: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another download is writing into {output}; wait for it, or give another directory."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)


def _plain(name: str) -> str:
    return "_".join(name.casefold().replace("&", "and").replace("_", " ").split())
