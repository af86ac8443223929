"""Imports point downwards only: the floors of docs/architecture.md, held by the syntax trees."""

from sources import imports, module_files

LAYERS = {
    "pure": "errors records manifest plugins compat progress words diversity formats chat losses algorithms "
    "synthesis judging curation prompts orphans intervals "
    "keyed_lines principals atomic_files cache_folder kernels",
    "config": "config",
    "engines": "cluster room hub demo_model model_folder embedding merging training sampling scoring "
    "synthesizing batching evaluation reinforcement alignment",
    "services": "jobs serving",
    "entry": "cli client",
}
FLOOR = {part: floor for floor, parts in enumerate(LAYERS.values()) for part in parts.split()}

# Who may look sideways, on the floors above `pure`.
SIDEWAYS = {
    "demo_model": {"hub"},
    "model_folder": {"hub"},
    "merging": {"model_folder"},
    "embedding": {"model_folder"},
    "training": {"cluster", "hub", "model_folder", "room"},
    "sampling": {"cluster", "hub", "model_folder", "room"},
    "scoring": {"model_folder", "sampling", "training"},
    "synthesizing": {"cluster", "sampling"},
    "evaluation": {"cluster", "hub", "model_folder", "sampling", "scoring", "training"},
    "batching": {"cluster", "sampling"},
    "reinforcement": {"model_folder", "training", "sampling", "scoring"},
    "alignment": {
        "cluster",
        "evaluation",
        "model_folder",
        "reinforcement",
        "sampling",
        "scoring",
        "synthesizing",
        "training",
    },
    "serving": {"jobs"},
    "cli": {"client"},
}
TORCH_CODE = {"losses", "kernels"}
HEAVY = {"torch", "transformers", "ray", "vllm", "deepspeed", "peft", "accelerate", "datasets"}


def part(module: str) -> str:
    """`autoalign.training.loop` is part `training`; the package's root has none."""
    return module.split(".")[1] if "." in module else ""


def inner_imports():
    return [
        found
        for found in imports()
        if found.target.startswith("autoalign.") and part(found.source) != part(found.target)
    ]


def test_every_part_stands_on_a_floor():
    assert {part(name) for name in module_files()} - {""} <= set(FLOOR)


def test_nothing_imports_upwards():
    upwards = [
        f"{found.source}:{found.line} imports {found.target}"
        for found in inner_imports()
        if found.source != "autoalign" and FLOOR[part(found.target)] > FLOOR[part(found.source)]
    ]
    assert upwards == []


def test_sideways_only_what_is_named():
    sideways = [
        f"{found.source}:{found.line} imports {found.target}"
        for found in inner_imports()
        if found.source != "autoalign"
        and FLOOR[part(found.target)] == FLOOR[part(found.source)] > FLOOR["errors"]
        and part(found.target) not in SIDEWAYS.get(part(found.source), set())
    ]
    assert sideways == []


def test_pure_code_and_configs_import_nothing_heavy():
    low = {name for name, floor in FLOOR.items() if floor <= FLOOR["config"]}
    heavy = [
        f"{found.source}:{found.line} imports {found.target}"
        for found in imports()
        if part(found.source) in low
        and found.target.split(".")[0] in HEAVY
        and not found.for_types
        and not (part(found.source) in TORCH_CODE and found.target.split(".")[0] == "torch")
    ]
    assert heavy == []


def test_heavy_libraries_are_imported_where_they_are_used():
    """The losses apart: they are torch code, and are imported by what has torch already."""
    early = [
        f"{found.source}:{found.line} imports {found.target}"
        for found in imports()
        if part(found.source) in {"", "cli", "client", "hub", "demo_model", "cluster"}
        and found.target.split(".")[0] in HEAVY
        and not found.deferred
    ]
    assert early == []


def test_no_import_cycles():
    graph: dict[str, set[str]] = {name: set() for name in module_files()}
    for found in imports():
        if found.target in graph and found.target != found.source and not found.deferred:
            graph[found.source].add(found.target)
    # A package's __init__ that gathers its own modules is no cycle: Python has begun it already.
    for name in graph:
        graph[name] = {target for target in graph[name] if not name.startswith(f"{target}.")}
    while leaves := [name for name, targets in graph.items() if not targets]:
        for leaf in leaves:
            del graph[leaf]
        for name in graph:
            graph[name] -= set(leaves)
    assert sorted(graph) == []
