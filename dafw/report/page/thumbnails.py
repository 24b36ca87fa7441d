"""Pictures of runs, made small and put into the page; a cache keeps them from one report to the next."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from dafw.cache import written_whole

WIDTH = 900  # pixels
QUALITY = 70  # of WebP
EFFORT = 2  # of WebP, 0 to 6; more takes three times as long for a twentieth fewer bytes


def data_uris(pictures: Iterable[Path], cache: Path) -> dict[Path, str | None]:
    """Each picture as a `data:` URI of WebP, at most 900 pixels wide; None where the file holds no picture.

    cache: a folder, made where it can be; a picture is found again there while its path, time and size are the same.
    """
    can_keep = os.access(next(parent for parent in cache.parents if parent.exists()), os.W_OK)
    if can_keep:
        cache.mkdir(parents=True, exist_ok=True)
    paths = list(pictures)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow works outside the interpreter's lock
        made = pool.map(lambda path: webp(path, cache if can_keep else None), paths)
        return {path: _data_uri(content) for path, content in zip(paths, made, strict=True)}


def webp(path: Path, cache: Path | None) -> bytes | None:
    """The picture in WebP, from the cache where it is there; None where the file holds no picture."""
    stat = path.stat()
    told = f"{path.resolve()}|{stat.st_mtime_ns}|{stat.st_size}|{WIDTH}|{QUALITY}|{EFFORT}"
    kept = cache / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.webp" if cache else None
    if kept is not None and kept.is_file():
        return kept.read_bytes()
    try:
        content = _encoded(path)
    except (UnidentifiedImageError, OSError, SyntaxError):  # Pillow's three words for a file that is cut or no picture
        return None
    if kept is not None:
        with written_whole(kept) as temporary:
            temporary.write_bytes(content)
    return content


def _encoded(path: Path) -> bytes:
    with Image.open(path) as image:
        small = _opaque(image)
    small.thumbnail((WIDTH, 10 * WIDTH))
    written = io.BytesIO()
    small.save(written, "WEBP", quality=QUALITY, method=EFFORT)
    return written.getvalue()


def _opaque(image: Image.Image) -> Image.Image:
    """On white where something shines through; WebP takes as long for transparency as for all the colours."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    alpha = clear.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return clear.convert("RGB")
    paper = Image.new("RGB", clear.size, "white")
    paper.paste(clear, mask=alpha)
    return paper


def _data_uri(content: bytes | None) -> str | None:
    return None if content is None else "data:image/webp;base64," + base64.b64encode(content).decode()
