"""OpenCompass's dataset configs: found by name, read without importing OpenCompass."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoalign.errors import ConfigError, DataError, JobFailed, nearest
from autoalign.evaluation.opencompass.environment import Environment

_SUFFIX = "_datasets"
_INSIDE = Path(__file__).resolve().parents[1] / "inside_opencompass"


@dataclass(frozen=True)
class DatasetConfig:
    """A file of `opencompass/configs/datasets`.

    Attributes:
        module: as Python imports it.
        variables: its lists of data sets.
    """

    name: str
    module: str
    variables: tuple[str, ...]


@dataclass(frozen=True)
class Subset:
    """One data set of a config (MMLU has 57): its abbreviation names OpenCompass's files.

    Attributes:
        path: where its data should be; None where it can't be told.
        inferencer: OpenCompass's class that asks the model.
        evaluator: and the one that scores; `metric` is what its config tells it to count.
        run: which of the set's runs this is; each has an abbreviation of its own.
        given_path: what the config's `path` has to become, where OpenCompass would not look by itself.
        lacking: what scoring needs and is not there, with its remedy.
    """

    name: str
    abbr: str
    path: str | None
    found: bool
    inferencer: str = "GenInferencer"
    evaluator: str = ""
    metric: str | None = None
    run: int = 0
    given_path: str | None = None
    lacking: Sequence[str] = ()

    @property
    def base(self) -> str:
        """The abbreviation without the run's number."""
        return self.abbr.removesuffix(run_suffix(self.run))

    @property
    def asks_for_text(self) -> bool:
        """Otherwise it compares likelihoods, which an endpoint for chats does not give."""
        return self.inferencer.endswith(("GenInferencer", "ChatInferencer"))


def run_suffix(run: int) -> str:
    """What a run's abbreviation ends with; the first one's with nothing."""
    return f"_run{run}" if run else ""


def find_configs(names: Sequence[str], package: Path) -> list[DatasetConfig]:
    """The dataset configs of these names (case aside), in their order.

    Raises:
        ConfigError: OpenCompass has none of that name.
    """
    root = package / "configs" / "datasets"
    files = {path.stem: path for path in sorted(root.rglob("*.py"))}
    folded = {stem.casefold(): path for stem, path in files.items()}
    found = []
    for name in names:
        path = files.get(name) or folded.get(name.casefold())
        if path is None:
            raise ConfigError(f"'datasets': OpenCompass has no dataset config '{name}'{nearest(name, files)}")
        parts = path.relative_to(package.parent).with_suffix("").parts
        variables = _variables(path, set())
        if not variables:
            raise ConfigError(f"'datasets': {path} defines no list of data sets (NAME{_SUFFIX})")
        found.append(DatasetConfig(name, ".".join(parts), variables))
    return found


def _variables(path: Path, seen: set[Path]) -> tuple[str, ...]:
    """Names that end in `_datasets`: assigned there, or imported."""
    if path in seen or not path.is_file():
        return ()
    seen.add(path)
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.ImportFrom):
            aliases = [alias.asname or alias.name for alias in node.names]
            names += aliases
            if "*" in aliases and node.level == 1 and node.module:
                names += _variables(path.parent / (node.module.replace(".", "/") + ".py"), seen)
    return tuple(dict.fromkeys(name for name in names if name.endswith(_SUFFIX)))


def look_into(configs: Sequence[DatasetConfig], environment: Environment, data_folder: Path) -> list[Subset]:
    """Every data set of the configs, with the path of its data; OpenCompass reads them, in its environment.

    Raises:
        JobFailed: OpenCompass can't read one of its configs.
    """
    task: dict[str, Any] = {
        "configs": [[each.name, each.module, each.variables] for each in configs],
        "data_folder": str(data_folder.absolute()),
    }
    done = subprocess.run(
        [str(environment.python), str(_INSIDE / "list_datasets.py")],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        env=environment.variables(data_folder.absolute().parent, data_folder.absolute()),
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise JobFailed(f"OpenCompass can't read its dataset configs: {last}")
    return [Subset(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def require_data(subsets: Sequence[Subset], data_folder: Path) -> None:
    """Raises DataError naming every data set that is not on the disk, with the path looked in.

    So it does with what scoring needs beside it.
    """
    lost: dict[str, str | None] = {}
    for subset in subsets:
        if not subset.found:
            lost.setdefault(subset.name, subset.path)
    needed = dict.fromkeys((subset.name, need) for subset in subsets for need in subset.lacking)
    told = []
    if lost:
        told.append(
            "data sets that are not on the disk (nothing was started):\n"
            + "\n".join(f"  {name}: {path}" for name, path in lost.items())
            + f"\nput them there, or give --data_root (now {data_folder}); OpenCompass's own data is "
            "OpenCompassData-core, a release file of its repository"
        )
    if needed:
        lines = "\n".join(f"  {name}: {need}" for name, need in needed)
        told.append(f"what scoring needs and is not there (nothing was started):\n{lines}")
    if told:
        raise DataError("\n".join(told))


def require_apart(subsets: Sequence[Subset]) -> None:
    """Raises ConfigError for two configs whose sets have one abbreviation, and so one file of answers."""
    owners: dict[str, str] = {}
    for subset in subsets:
        other = owners.setdefault(subset.abbr, subset.name)
        if other != subset.name:
            raise ConfigError(
                f"'datasets': {other} and {subset.name} both hold a set '{subset.abbr}', whose answers "
                "OpenCompass keeps in one file; evaluate them apart, each with a --model_id of its own"
            )


def require_chat(subsets: Sequence[Subset]) -> None:
    """Raises ConfigError for sets that compare likelihoods, which are for the hf backend."""
    names = dict.fromkeys(subset.name for subset in subsets if not subset.asks_for_text)
    if names:
        raise ConfigError(
            f"'datasets': {', '.join(names)} compare likelihoods, which an endpoint does not give; "
            "use --backend hf, or their _gen config"
        )
