"""Data formats, one small file each, and the functions that read files of them.

A format is a module here without a leading underscore. It declares

- `KIND`: "sft", "preference" or "unpaired";
- `FIELDS`: the row's keys for messages, in the order question, answer (sft) or
  prompt, chosen, rejected (preference), prompt, completion (unpaired); for error messages;
- `matches(row)`: whether the row's keys are this format's;
- `parse(row)`: the row as a record (`id`, `source` and `line` are filled in by the reader);
- `dump(record)`: the record as a row; DataError where the format cannot hold it.

Adding a format is adding a file.
"""

from autoalign.formats._blocks import Block, Split, read_block, split
from autoalign.formats._files import parse_sources
from autoalign.formats._load import (
    Dataset,
    Report,
    check,
    iter_records,
    iter_rows,
    load,
    names,
    refuse_bad_rows,
)
from autoalign.formats._problems import Problems
from autoalign.formats._read import BOM, is_json, read_rows
from autoalign.formats._types import Format, Kind, Purpose, RawRow, Record
from autoalign.formats._write import convert, write_rows

__all__ = [
    "BOM",
    "Block",
    "Dataset",
    "Format",
    "Kind",
    "Problems",
    "Purpose",
    "RawRow",
    "Record",
    "Report",
    "Split",
    "check",
    "convert",
    "is_json",
    "iter_records",
    "iter_rows",
    "load",
    "names",
    "parse_sources",
    "read_block",
    "read_rows",
    "refuse_bad_rows",
    "split",
    "write_rows",
]
