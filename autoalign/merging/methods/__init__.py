"""Merging methods, one file each, found by file name.

A file holds `Options` (a frozen dataclass, its own options alone) and
`merge(stack: Stack, options: Options) -> Tensor (n,)`, which works element by element. It may also hold:

- `NEEDS_BASE = True`: `stack.base` is given;
- `TAKES_WEIGHTS = False`: models may not be written as PATH@WEIGHT;
- `POSITIVE_WEIGHTS = True`: weights are above 0;
- `MODELS = 2`: it merges exactly so many;
- `ADAPTERS = True`: every model must be a LoRA adapter;
- `measure(stretches: Stretches, options: Options)`: looks at the whole tensor first; `merge` takes what it
  returns as its third argument.

`build` makes a `Method` of a name and settings.
"""

from autoalign.merging.methods._method import Method, build, names

__all__ = ["Method", "build", "names"]
