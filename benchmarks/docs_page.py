"""Figures in a page of the docs: between markers, so that they always come from one run."""

from __future__ import annotations

from pathlib import Path


def update(page: Path, block: str, text: str) -> None:
    """Put `text` between `<!-- BLOCK: begin -->` and `<!-- BLOCK: end -->`.

    Raises:
        SystemExit: the page lacks the markers.
    """
    content = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {block}: begin -->", f"<!-- {block}: end -->"
    before, found_begin, rest = content.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise SystemExit(f"{page}: no markers '{begin}' and '{end}'")
    temporary = page.with_name(f".{page.name}.tmp")
    temporary.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
    temporary.replace(page)
