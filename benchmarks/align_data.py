"""Rows of the proofs of automatic alignment, out of public data sets: to learn from, and held out."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from autoalign.atomic_files import replacing
from autoalign.curation.overlap import Overlap

Row = Mapping[str, Any]


class Split(NamedTuple):
    """Rows to learn from, and rows that nothing learns from."""

    training: list[dict[str, Any]]
    held_out: list[dict[str, Any]]


def svamp(data: Path, training: int, held_out: int) -> Split:
    """SVAMP from its start and from its end; its problems are there in several forms, so see `_split`."""
    rows = json.loads((data / "svamp" / "SVAMP.json").read_text(encoding="utf-8"))
    return _split([svamp_row(row) for row in rows], training, held_out)


def svamp_row(row: Row) -> dict[str, Any]:
    """`( 76.0 - 25.0 )` and 51.0 become `76 - 25 = 51` and GSM8K's last line."""
    body = str(row["Body"]).strip()
    question = f"{body}{'' if body.endswith(('.', '?', '!')) else '.'} {str(row['Question']).strip()}"
    equation = str(row["Equation"]).removeprefix("( ").removesuffix(" )").replace(".0", "")
    answer = f"{float(row['Answer']):g}"
    return {"id": row["ID"], "question": question, "answer": f"{equation} = {answer}\n#### {answer}"}


def gsm8k(data: Path, training: int, held_out: int, longest: int = 60) -> Split:
    """GSM8K's training questions with a solution of at most `longest` words."""
    with (data / "gsm8k" / "train.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    short = [row for row in rows if len(row["answer"].split()) <= longest]
    return _split(
        [{"id": f"gsm8k-{number:04}", **row} for number, row in enumerate(short)], training, held_out
    )


def harmbench(data: Path, training: int, held_out: int) -> Split:
    """HarmBench's standard behaviours (without a context), every second one for each side."""
    with (data / "safety" / "harmbench_behaviors_text_test.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["FunctionalCategory"] == "standard"]
    found = [_asked(row["BehaviorID"], row["Behavior"]) for row in rows]
    return Split(found[::2][:training], found[1::2][:held_out])


def xstest_safe(data: Path, count: int) -> list[dict[str, Any]]:
    """XSTest's harmless prompts, `count` of them spread over its types."""
    rows = json.loads((data / "safety" / "xstest.json").read_text(encoding="utf-8"))
    safe = [row for row in rows if not row["type"].startswith("contrast")]
    step = max(len(safe) // count, 1)
    return [_asked(row["id"], row["prompt"]) for row in safe[::step][:count]]


def questions(path: Path, training: int, held_out: int) -> Split:
    """A file of prompts, the first and the last of them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return _split([json.loads(line) for line in lines], training, held_out)


def write(path: Path, rows: Sequence[Row]) -> str:
    """The rows as JSONL; the path, for a config."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _asked(name: str, question: str) -> dict[str, Any]:
    return {"id": name, "messages": [{"role": "user", "content": question}]}


def _split(rows: list[dict[str, Any]], training: int, held_out: int) -> Split:
    """The first rows that share no 13 words with the last ones, and the last ones."""
    hidden = rows[-held_out:]
    overlap = Overlap((row["id"], _question(row)) for row in hidden)
    found = [row for row in rows[: len(rows) - held_out] if overlap.match(_question(row)) is None]
    if training > len(found):
        raise SystemExit(
            f"{training} rows to learn from beside {held_out} held out, but there are {len(found)}"
        )
    return Split(found[:training], hidden)


def _question(row: Row) -> str:
    return str(row["question"] if "question" in row else row["messages"][-1]["content"])
