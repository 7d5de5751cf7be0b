"""Names of files made of what records say, which anybody may have written."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 60


def plain(name: str) -> str:
    """A part of a file name that any file system takes and that leads out of no folder.

    Names that only lose spaces and the signs of inference options stay readable; to any other, the
    beginning of a hash is added, so that different names stay different.
    """
    kept = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:_LONGEST]
    if re.fullmatch(rf"[A-Za-z0-9,=_ -][A-Za-z0-9.,=_ -]{{0,{_LONGEST - 1}}}", name):
        return kept
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept}-{digest}".lstrip("-")
