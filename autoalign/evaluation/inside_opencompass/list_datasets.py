"""Lists the data sets of dataset configs: a task on stdin, JSON on stdout's last line.

Task: {"configs": [[name, module, [variable, ...]], ...], "data_folder": path}.
"""

import json
import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config

from autoalign.evaluation.inside_opencompass.data_places import cache_folder, place_of
from autoalign.evaluation.inside_opencompass.needs import lacking


def main() -> None:
    """Answer the task."""
    task = json.load(sys.stdin)
    spec = find_spec("opencompass")
    assert spec is not None and spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    mapping = runpy.run_path(str(package / "utils" / "datasets_info.py"))["DATASETS_MAPPING"]
    data_folder = Path(task["data_folder"])
    rows = []
    for name, module, variables in task["configs"]:
        file = package.parent.joinpath(*module.split(".")).with_suffix(".py")
        config = Config.fromfile(str(file), format_python_code=False)
        for variable in variables:
            rows += [_row(name, dataset, mapping, data_folder) for dataset in config[variable]]
    print(json.dumps(rows))


def _row(name: str, dataset: Any, mapping: dict[str, Any], data_folder: Path) -> dict[str, Any]:
    place = place_of(dataset, mapping, data_folder, cache_folder(os.environ))
    evaluator = dataset["eval_cfg"].get("evaluator", {})
    scored_by = _class_name(evaluator.get("type", ""))
    return {
        "name": name,
        "abbr": dataset["abbr"],
        "path": place.told,
        "found": place.found,
        "given_path": place.given,
        "lacking": lacking(scored_by),
        "inferencer": _class_name(dataset["infer_cfg"]["inferencer"]["type"]),
        "evaluator": scored_by,
        "metric": evaluator.get("metric"),
    }


def _class_name(given: object) -> str:
    name = given.__name__ if isinstance(given, type) else str(given)
    return name.strip("<>'").split(".")[-1]


if __name__ == "__main__":
    main()
