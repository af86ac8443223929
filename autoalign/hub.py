"""Model folders: those that are here, and those that the Hugging Face hub has."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.errors import JobFailed, MissingDependency, ModelError

Say = Callable[[str], None]

# The top level of a repository alone: weights once, as safetensors; no code, no pickles.
WANTED_FILES = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
    "*.tiktoken",
    "LICENSE*",
    "README.md",
)
UNWANTED_FILES = ("*/*", "consolidated*")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model folder on this machine.

    `bytes` counts the weight files; `parent` is what `autoalign.json` says the model was made from.
    """

    name: str
    path: Path
    bytes: int
    parent: str


def missing_parts(folder: Path) -> list[str]:
    """What a Hugging Face model folder lacks to be loaded; empty when it is whole."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing += sorted(shard for shard in shards if not (folder / shard).is_file())
    elif not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if not has_tokenizer(folder):
        missing.append("tokenizer.json")
    return missing


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer that transformers can load."""
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def is_repo_id(name: str) -> bool:
    """Whether `name` reads like the hub's ORG/NAME."""
    return _REPO_ID.fullmatch(name) is not None


def copy_local(source: Path, target: Path) -> Path:
    """Copy a model folder of this machine to `target`, which appears whole or not at all.

    Raises:
        ModelError: `source` is not a whole model folder.
    """
    if missing := missing_parts(source):
        raise ModelError(f"{source}: not a whole model folder: {', '.join(missing)} missing")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns("*.bin", "*.pt", "*.pth", ".cache"))
    return _put(partial, target)


def download(repo_id: str, target: Path, revision: str | None, say: Say) -> Path:
    """Download ORG/NAME from the hub (`HF_ENDPOINT`, `HF_TOKEN`) to `target`.

    An interrupted download goes on where it stopped; `target` appears only when it is whole.

    Raises:
        ModelError: no hub can be reached, no such model, no access, or no safetensors in it.
    """
    found = _ask_hub(repo_id, revision)
    files: dict[str, int] = {item.rfilename: item.size or 0 for item in found.siblings or []}
    weights = [size for name, size in files.items() if name.endswith(".safetensors") and "/" not in name]
    if not weights:
        raise ModelError(f"{repo_id} holds no safetensors weights; other kinds can run code when loaded")
    say(f"{repo_id} at {found.sha[:12]}: {sum(weights) / 1e9:.2f} GB of weights")
    partial = target.with_name(f".{target.name}.partial")
    _download_snapshot(repo_id, found.sha, partial)
    if missing := missing_parts(partial):
        raise ModelError(f"{repo_id} can't be loaded: {', '.join(missing)} missing")
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    source = {"kind": "fetch", "source": f"hub:{repo_id}", "revision": found.sha}
    manifest.write_json(partial / manifest.MANIFEST_NAME, source)
    return _put(partial, target)


def _put(partial: Path, target: Path) -> Path:
    """Only now may an older folder of that name go."""
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    return target


def _ask_hub(repo_id: str, revision: str | None) -> Any:
    errors, hub = _hub_modules()
    try:
        return hub.HfApi().model_info(repo_id, revision=revision, files_metadata=True)
    except errors.GatedRepoError:
        raise ModelError(
            f"{repo_id} wants its terms accepted: do so on its page, then set HF_TOKEN to a token of yours"
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        at = f" at revision {revision}" if revision else ""
        raise ModelError(
            f"the hub has no model {repo_id}{at} (a private one needs HF_TOKEN); check the spelling"
        ) from None
    except (errors.HTTPError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{repo_id}: no model hub can be reached from here ({reason}). Without one, use the demo model "
            "(autoalign-cli models fetch smollm2-135m-instruct), give the path of a model folder, "
            "or set HF_ENDPOINT to a mirror"
        ) from None


def _download_snapshot(repo_id: str, commit: str, folder: Path) -> None:
    errors, hub = _hub_modules()
    if not sys.stderr.isatty():
        hub.utils.disable_progress_bars()
    patterns = {"allow_patterns": list(WANTED_FILES), "ignore_patterns": list(UNWANTED_FILES)}
    try:
        hub.snapshot_download(repo_id, revision=commit, local_dir=folder, **patterns)
    except (errors.HTTPError, OSError) as error:
        raise JobFailed(
            f"{repo_id}: the download stopped: {error}. The same command goes on from here"
        ) from None


def _hub_modules() -> tuple[Any, Any]:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise MissingDependency("huggingface_hub is not installed: pip install 'autoalign[train]'") from None
    return errors, huggingface_hub


def local_models(folder: Path) -> list[LocalModel]:
    """The model folders directly under `folder`, by name; hidden and unfinished ones left out."""
    if not folder.is_dir():
        return []
    candidates = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [_describe(path) for path in candidates if (path / "config.json").is_file()]


def _describe(path: Path) -> LocalModel:
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    return LocalModel(path.name, path, size, _parent(manifest.read(path)))


def _parent(content: Mapping[str, Any]) -> str:
    parent = content.get("parent") or content.get("source") or ""
    if isinstance(parent, Mapping):
        parent = parent.get("path") or parent.get("name") or parent.get("digest") or ""
    return str(parent)
