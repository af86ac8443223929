"""A merging method with its options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from autoalign import plugins
from autoalign.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from autoalign.merging.stack import Stretches

PACKAGE = "autoalign.merging.methods"


@dataclass(frozen=True)
class Method:
    """What `build` makes.

    Args:
        name: the method's file name.
        options: the file's `Options`.
        module: the file.
    """

    name: str
    options: Any
    module: ModuleType

    @property
    def needs_base(self) -> bool:
        """Whether it works on differences from a base model."""
        return bool(getattr(self.module, "NEEDS_BASE", False))

    @property
    def adapters_only(self) -> bool:
        """Whether every model must be a LoRA adapter."""
        return bool(getattr(self.module, "ADAPTERS", False))

    def check(self, weights: tuple[float | None, ...]) -> tuple[float, ...]:
        """The models' weights, 1 where none was written.

        Raises:
            ConfigError: too many or too few models, or weights that the method can't take.
        """
        expected = getattr(self.module, "MODELS", None)
        if expected is not None and len(weights) != expected:
            raise ConfigError(f"method {self.name} merges exactly {expected} models, found {len(weights)}")
        if any(weight is not None for weight in weights) and not getattr(self.module, "TAKES_WEIGHTS", True):
            raise ConfigError(
                f"method {self.name} takes no weights: write PATH instead of PATH@WEIGHT, or take 'weighted'"
            )
        numbers = tuple(1.0 if weight is None else weight for weight in weights)
        if getattr(self.module, "POSITIVE_WEIGHTS", False) and min(numbers) <= 0:
            raise ConfigError(f"method {self.name} takes weights above 0, found {min(numbers):g}")
        return numbers

    def merge(self, stretches: Stretches) -> Iterator[Tensor]:
        """One merged (n,) float64 tensor for each stretch."""
        extra: tuple[Any, ...] = ()
        if hasattr(self.module, "measure"):
            extra = (self.module.measure(stretches, self.options),)
        for stack in stretches():
            yield self.module.merge(stack, self.options, *extra)


def names() -> list[str]:
    """The methods there are."""
    return plugins.names(PACKAGE)


def build(name: str, **settings: Any) -> Method:
    """A method by its name; a setting of None is the method's own default.

    Raises:
        UnknownName: no method has that name.
        ConfigError: a setting that the method lacks, or a value that it may not take.
    """
    module = plugins.load(PACKAGE, name)
    return Method(name, plugins.options(module, name, settings), module)
