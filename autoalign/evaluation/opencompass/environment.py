"""OpenCompass's own Python environment: found, or made from its lock file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from autoalign.config.evaluate import EvalConfig
from autoalign.errors import ConfigError, MissingDependency
from autoalign.evaluation.proxies import past_proxies

VERSION = "0.5.4"
ROOT = Path(__file__).resolve().parents[3]
_SETUP = ROOT / "scripts" / "setup.sh"
_LOCK = ROOT / "requirements" / "eval-cpu.lock"
_VARIABLE = "AUTOALIGN_EVAL_PYTHON"


@dataclass(frozen=True)
class Environment:
    """A Python that can import OpenCompass.

    Attributes:
        package: the folder of the package `opencompass`, whose `configs/` hold the data sets.
        checkout: what goes on the import path, where a checkout takes the installed one's place.
    """

    python: Path
    package: Path
    checkout: Path | None = None

    @property
    def version(self) -> str:
        """Of OpenCompass, as its code says."""
        found = re.search(r"__version__ = ['\"](.+?)['\"]", _source(self.package / "__init__.py"))
        return found[1] if found else VERSION

    def variables(self, cache: Path, data_folder: Path) -> dict[str, str]:
        """The environment of its processes: no network, and data below `cache`/data alone.

        nltk's data may lie in `data_folder`/nltk_data.
        """
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "RAY_"))}
        paths = [str(path) for path in (self.checkout, ROOT) if path is not None]
        nltk = [str(data_folder / "nltk_data"), kept.get("NLTK_DATA", "")]
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "COMPASS_DATA_CACHE": str(cache),
            "NLTK_DATA": os.pathsep.join(filter(None, nltk)),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_EVALUATE_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **past_proxies(os.environ),
        }


def find_environment(config: EvalConfig) -> Environment:
    """The configured Python, AUTOALIGN_EVAL_PYTHON, or .venv-eval, which is made when it is absent.

    Raises:
        ConfigError: the configured one has no OpenCompass, or the checkout is none.
        MissingDependency: there is none, and no lock file to make one from.
    """
    given = config.opencompass_python or os.environ.get(_VARIABLE)
    python = Path(given).expanduser() if given else _own(ROOT)
    if not given and not _is_made(ROOT):
        _make(ROOT)
    if not python.is_file():
        raise ConfigError(f"opencompass_python: {python}: no such file")
    checkout = _checkout(config.opencompass_path)
    package = checkout / "opencompass" if checkout else _installed(python)
    return Environment(python.absolute(), package, checkout)


def _source(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _own(root: Path) -> Path:
    return root / ".venv-eval" / "bin" / "python"


def _is_made(root: Path) -> bool:
    """Whether scripts/setup.sh came to its end."""
    return (root / ".venv-eval" / ".installed").is_file()


def _make(root: Path) -> None:
    if not (_SETUP.is_file() and _LOCK.is_file()):
        raise MissingDependency(
            "OpenCompass needs an environment of its own: python3.11 -m venv DIR && DIR/bin/pip install "
            f"'autoalign[eval]', then --opencompass_python DIR/bin/python (or {_VARIABLE})"
        )
    print(
        "eval: making OpenCompass's environment, once (2.2 GB, about 2 minutes)", file=sys.stderr, flush=True
    )
    done = subprocess.run(
        [str(_SETUP), "eval"], cwd=root, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False
    )
    if done.returncode:
        raise MissingDependency(
            "OpenCompass's environment can't be made; the reason stands above. Again: make setup-eval"
        )


def _checkout(path: str | None) -> Path | None:
    if path is None:
        return None
    folder = Path(path).expanduser().absolute()
    if (folder / "opencompass" / "configs" / "datasets").is_dir():
        return folder
    if folder.is_dir():
        return None  # a folder with nothing but data in it
    raise ConfigError(f"opencompass_path: {folder}: no such folder")


def _installed(python: Path) -> Path:
    """Asked without importing it, which takes seconds."""
    code = (
        "import importlib.util as u; s = u.find_spec('opencompass'); "
        "print(s.submodule_search_locations[0] if s else '')"
    )
    done = subprocess.run(
        [str(python), "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    found = done.stdout.strip()
    if done.returncode or not found:
        raise ConfigError(f"{python}: this Python has no OpenCompass; make setup-eval makes one that has")
    return Path(found)
