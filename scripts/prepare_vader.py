"""Prepare the four domains of `src=vader/<tweets|amazon|movies|nyt>` from the PyPI package vaderSentiment 0.5.

    python scripts/prepare_vader.py OUT                  pip downloads the source archive of 2.6 MB and checks its hash
    python scripts/prepare_vader.py OUT --sdist FILE     the archive is at hand

OUT is the folder of the data set, DIR/vader where runs are given data=DIR; it gets four files <domain>.jsonl.gz, a row
a sentence: {"id", "text", "label": 0 negative or 1 positive, "rating": -4..4, "split": "train" or "test"}.

Cite C.J. Hutto and Eric Gilbert (2014), VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text, ICWSM-14. The package is under the MIT licence, (c) 2014 cjhutto; that grant is the packager's. The sentences are
third parties': tweets, Amazon reviews (Hu and Liu 2004), film reviews (Pang and Lee 2004) and the New York Times.

A sentence's class is the sign of its mean rating, which must be beyond 0.5. Of texts that say nearly the same the first
is kept, across domains too, so that no test text was trained on.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
REQUIREMENT = f"vaderSentiment==0.5 --hash=sha256:{SHA256}"
ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {
    "tweets": "hutto_ICWSM_2014/tweets_GroundTruth.txt",
    "amazon": "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
    "movies": "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    "nyt": "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt",
}
GROUPED = ("amazon", "nyt")  # ids are <review or article>_<sentence>; what was written together stays together
CAPS = {("movies", "train"): 800, ("movies", "test"): 400, ("amazon", "test"): 400}  # sentences of a class
LEAST_RATING = 0.5
LEAST_WORDS = 3
SIMILARITY = 0.7  # Jaccard's, of the sets of three words in a row
TEST_FRACTION = 0.34
SEED = 0


class Sentence(NamedTuple):
    id: str
    text: str
    rating: float

    @property
    def label(self) -> int:
        return int(self.rating > 0)


def prepare(out: Path, sdist: bytes) -> None:
    """Write OUT/<domain>.jsonl.gz of all domains; `sdist` is the source archive, whose hash is checked first."""
    found = hashlib.sha256(sdist).hexdigest()
    if found != SHA256:
        raise SystemExit(f"the archive has sha256 {found}; expected {SHA256}: vaderSentiment-0.5.zip as PyPI has it")
    domains = {domain: list(sentences(text)) for domain, text in ground_truths(sdist).items()}
    out.mkdir(parents=True, exist_ok=True)
    for domain, kept in without_near_duplicates(domains).items():
        rows = divided(domain, kept)
        write(out / f"{domain}.jsonl.gz", rows)
        counted = Counter((row["split"], row["label"]) for row in rows)
        print(
            f"{domain}: {len(domains[domain])} clear sentences of {LEAST_WORDS} words or more, {len(kept)} without "
            f"near duplicates; of each class {counted['train', 0]} to train and {counted['test', 0]} to test"
        )


def downloaded() -> bytes:
    """The source archive by pip, which checks its hash before it looks inside."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "wanted.txt")
        wanted.write_text(REQUIREMENT)
        command = [
            "download",
            "--no-deps",
            "--no-binary",
            "vaderSentiment",
            "--require-hashes",
            "-r",
            str(wanted),
            "-d",
            folder,
        ]
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
        (file,) = Path(folder).glob("*.zip")
        return file.read_bytes()


def ground_truths(sdist: bytes) -> dict[str, str]:
    """The four files, read in memory: nothing is unpacked to the disk."""
    with zipfile.ZipFile(io.BytesIO(sdist)) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(ARCHIVE))) as inner:
        return {domain: inner.extractfile(name).read().decode("utf-8-sig") for domain, name in FILES.items()}  # type: ignore[union-attr]


def sentences(text: str) -> Iterator[Sentence]:
    """The sentences of a file, <id> tab <rating> tab <text> a line, that are clear and long enough."""
    for line in text.splitlines():
        name, rating, raw = line.split("\t", 2)
        sentence = Sentence(name, " ".join(html.unescape(raw).split()), float(rating))
        if abs(sentence.rating) > LEAST_RATING and len(words(sentence.text)) >= LEAST_WORDS:
            yield sentence


def words(text: str) -> list[str]:
    """Lower-case words, without @mentions and links."""
    return re.findall(r"\w+", re.sub(r"@\w+|http\S+", " ", text.lower()))


def without_near_duplicates(domains: dict[str, list[Sentence]]) -> dict[str, list[Sentence]]:
    """The sentences that are not nearly the same as one kept before, in their own domain or an earlier one."""
    sizes: list[int] = []  # of the kept sentences' sets
    holders: dict[tuple[str, ...], list[int]] = {}  # which of them hold three words in a row
    kept: dict[str, list[Sentence]] = {domain: [] for domain in domains}
    for domain, found in domains.items():
        for sentence in found:
            threes = trigrams(words(sentence.text))
            shared = Counter(holder for three in threes for holder in holders.get(three, ()))
            if any(count / (len(threes) + sizes[holder] - count) >= SIMILARITY for holder, count in shared.items()):
                continue
            for three in threes:
                holders.setdefault(three, []).append(len(sizes))
            sizes.append(len(threes))
            kept[domain].append(sentence)
    return kept


def trigrams(found: Sequence[str]) -> set[tuple[str, ...]]:
    """All sequences of three words in a row."""
    return set(zip(found, found[1:], found[2:], strict=False))


def divided(domain: str, kept: Sequence[Sentence]) -> list[dict[str, object]]:
    """The rows of a domain, shuffled: reviews, articles or sentences go to test until it has its share, then both
    classes are made equally large.
    """
    random = Random(SEED)  # the shuffle of the standard library, which is the same in every version
    groups: dict[str, list[Sentence]] = {}
    for s in kept:
        groups.setdefault(s.id.partition("_")[0] if domain in GROUPED else s.id, []).append(s)
    names = sorted(groups)
    random.shuffle(names)
    parts: dict[str, list[Sentence]] = {"train": [], "test": []}
    for name in names:
        split = "test" if len(parts["test"]) < TEST_FRACTION * len(kept) else "train"
        parts[split] += groups[name]
    chosen: list[tuple[str, Sentence]] = []
    for split, part in parts.items():
        classes = [[s for s in part if s.label == label] for label in (1, 0)]
        size = min(*map(len, classes), CAPS.get((domain, split), len(part)))
        for each in classes:
            random.shuffle(each)
            chosen += [(split, s) for s in each[:size]]
    random.shuffle(chosen)
    return [
        {"id": s.id, "text": s.text, "label": s.label, "rating": round(s.rating, 3), "split": split}
        for split, s in chosen
    ]


def write(path: Path, rows: Sequence[dict[str, object]]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    partial = path.with_suffix(".part")
    partial.write_bytes(gzip.compress(lines.encode(), mtime=0))  # the same bytes each time
    partial.replace(path)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of the data set, DIR/vader")
    parser.add_argument("--sdist", type=Path, help="vaderSentiment-0.5.zip, where it is at hand")
    options = parser.parse_args(given)
    prepare(options.out, downloaded() if options.sdist is None else options.sdist.read_bytes())


if __name__ == "__main__":
    main()
