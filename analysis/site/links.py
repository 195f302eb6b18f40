"""Names of tables become links where the page can reach them."""

from __future__ import annotations

import re
from html import escape
from os.path import relpath
from pathlib import Path


def linked(html: str, folder: Path, page: Path) -> str:
    """Make the names of the tables links, relative from the page, where the folder lies beside or under it."""
    base = Path(relpath(folder.resolve(), page.resolve().parent)).as_posix()
    if base.startswith("../..") or Path(base).is_absolute():
        return html
    return re.sub(r'<li data-file="([^"]+)">[^<]*</li>', rf'<li><a href="{escape(base)}/\1">\1</a></li>', html)
