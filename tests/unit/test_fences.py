"""Which fenced block of an answer counts."""

from __future__ import annotations

import pytest

from autoalign.scoring.fences import last_block


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("no block", None),
        ("```python\na = 1\n```", "a = 1\n"),
        ("```Python3 title=x\na = 1\n```\nThis works.", "a = 1\n"),
        ("```\na = 1\n```", "a = 1\n"),
        ("```python\na = 1\n```\nand\n```py\nb = 2\n```", "b = 2\n"),
        ("```python\na = 1", "a = 1"),  # cut off
        ("```bash\npip install x\n```\nThen:\n```python\na = 1\n```\nThis works.", "a = 1\n"),
        ("```python\na = 1\n```\nIt prints:\n```text\n1\n```\nDone.", "a = 1\n"),
        ("```bash\nls\n```\nThat is all.", None),
    ],
)
def test_the_last_block_in_the_language_counts(text: str, block: str | None) -> None:
    assert last_block(text, ("python", "py", "python3")) == block
