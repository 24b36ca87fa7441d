"""The four sentiment domains of VADER."""

from __future__ import annotations

from dafw.datasets._texts import parted_rows, read_file, text_domain
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset

NAMES = {"0": "negative", "1": "positive"}


@register_dataset
def vader(place: Place) -> Domain:
    """Sentences of tweets, reviews and newspapers, clearly negative or positive (Hutto and Gilbert 2014, ICWSM).

    tweets, amazon (product reviews), movies (film reviews), nyt (New York Times editorials): two balanced classes by
    the mean rating of about 20 people, without near duplicates. scripts/prepare_vader.py makes the files from the
    PyPI package vaderSentiment 0.5. Cite the paper.
    """
    domain = place.domain or ""
    folders = place.folders("vader")
    for folder in folders:
        file = folder / f"{domain}.jsonl.gz"
        if file.is_file():
            rows = [row._replace(label=NAMES.get(row.label, row.label)) for row in read_file(file)]
            return text_domain(f"vader/{domain}", str(file), *parted_rows(rows, place, 1 / 3))
    raise place.missing(
        f"vader/{domain}", f"{domain}.jsonl.gz", f"python scripts/prepare_vader.py {folders[0]} of dafw's repository"
    )


vader.domains = ("tweets", "amazon", "movies", "nyt")
vader.licence = "the package vaderSentiment: MIT; the sentences are third parties'"
vader.backbone = "minilm"
vader.recipe = {"backbone.frozen": True}
