"""Files that a page shows or offers, written beside it by the code that draws them.

The report says in TATL_PAGE which page a notebook makes: the files of reports/quick/variants.html lie in
reports/quick/files/.  A notebook opened by hand makes no page: its files are data inside its output, so that it shows
and offers the same.
"""

from __future__ import annotations

import base64
import os
from collections import Counter
from html import escape
from pathlib import Path
from urllib.parse import quote

KINDS = {".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp", ".csv": "text/csv", ".tex": "text/x-tex"}

_numbers = Counter[str]()


def numbered(kind: str) -> str:
    """figure-1, figure-2: the next name of a kind in this notebook."""
    _numbers[kind] += 1
    return f"{kind}-{_numbers[kind]}"


def address(name: str, content: bytes) -> str:
    """Where the page finds a file, which is written; its content as data where there is no page."""
    page = os.environ.get("TATL_PAGE")
    if not page:
        return data_address(Path(name).suffix, content)
    file = Path(page).parent / "files" / f"{Path(page).stem}-{name}"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return f"files/{quote(file.name)}"


def data_address(suffix: str, content: bytes) -> str:
    """A file as its own address."""
    return f"data:{KINDS[suffix]};base64,{base64.b64encode(content).decode()}"


def link(label: str, name: str, content: bytes) -> str:
    """A link to a file, for download."""
    return f'<a download="{escape(name)}" href="{address(name, content)}">{label}</a>'
