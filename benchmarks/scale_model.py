"""What a very large run needs, worked out from what a small one was measured to need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from autoalign.sampling.replicas import Replicas, tasks_ahead

REPLICAS, ROWS, SHARDS = 1_000, 10**10, 100
ANSWERS_OF_A_REPLICA = 10.0  # a second: 5,000 output tokens a second and 500 an answer; not measured here
_GIB, _TIB = 2**30, 2**40
_LEDGER_BYTES = 24  # a row of an earlier run, while a rerun looks it up: 16 of its key, 8 of its place
_PLACES_BYTES = 2 * 8  # of the prompt and of the answer, on disk


@dataclass(frozen=True)
class Constants:
    """Bytes and seconds of one row; bytes of one task that is under way."""

    output: float
    prompt: float
    names: float
    key: float
    task: float
    answers_per_second: float
    driver_mib: float

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> Self:
        """From a run of `scale_run.rows`."""
        return cls(
            output=figures["output_bytes_a_row"],
            prompt=figures["prompt_bytes_a_row"],
            names=figures["names_bytes_a_row"],
            key=figures["key_bytes_a_row"],
            task=figures["task_bytes"],
            answers_per_second=figures["answers_per_second"],
            driver_mib=figures["driver_mib"],
        )


def table(one: Constants, replicas: int = REPLICAS, rows: int = ROWS, shards: int = SHARDS) -> str:
    """A line for each thing that could run out."""
    each, wanted = rows / shards, replicas * ANSWERS_OF_A_REPLICA
    engines = math.ceil(replicas / shards)
    ahead = tasks_ahead(Replicas(engines, engines))
    lines = [
        f"| {rows:.0e} rows, {replicas:,} replicas | of one shard of {shards} | of all |",
        "|---|---|---|",
        f"| rows | {each:,.0f} | {rows:,} |",
        f"| answers/s that the replicas give | {wanted / shards:,.0f} | {wanted:,.0f} |",
        f"| answers/s that a driver can take | {one.answers_per_second:,.0f} | "
        f"{one.answers_per_second * shards:,.0f} |",
        f"| drivers that are needed at least | | {math.ceil(wanted / one.answers_per_second)} |",
        f"| days | | {rows / min(wanted, one.answers_per_second * shards) / 86_400:.1f} |",
        f"| driver's memory: what it starts with, and names of prompts | "
        f"{one.driver_mib / 1024 + each * one.names / _GIB:.1f} GiB | |",
        f"| the same when a rerun looks its rows up | "
        f"{one.driver_mib / 1024 + each * (one.names + _LEDGER_BYTES) / _GIB:.1f} GiB | |",
        f"| tasks in the object store | {ahead * one.task / 2**20:.1f} MiB | |",
        f"| disk: answers | {each * one.output / _GIB:,.0f} GiB | {rows * one.output / _TIB:,.1f} TiB |",
        f"| of these, keys: the ledger | {each * one.key / _GIB:,.1f} GiB | "
        f"{rows * one.key / _TIB:,.2f} TiB |",
        f"| disk while it runs: answers twice at the end, prompts, places | "
        f"{each * (2 * one.output + one.prompt + _PLACES_BYTES) / _GIB:,.0f} GiB | "
        f"{rows * (2 * one.output + one.prompt + _PLACES_BYTES) / _TIB:,.1f} TiB |",
        f"| files at the end (answers, and errors of a folder) | 1 | {shards + 1} |",
    ]
    return "\n".join(lines)
