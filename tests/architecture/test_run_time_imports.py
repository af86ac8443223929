"""What is really loaded, seen in `sys.modules` of a fresh process."""

import subprocess
import sys

from sources import ROOT, module_files

HEAVY = ["torch", "transformers", "ray", "vllm", "deepspeed", "peft", "accelerate", "datasets"]
HEAVY += ["pyarrow", "pandas", "numpy"]
PURE = ["errors", "records", "manifest", "plugins", "compat", "formats", "chat", "config"]
PURE += ["algorithms", "synthesis", "judging", "curation", "prompts", "intervals"]
REPORT = "; print('HEAVY:', *sorted(set(sys.modules) & set({heavy!r})))"


def heavy_after(code: str, heavy: list[str]) -> list[str]:
    """The heavy libraries that `code` leaves loaded."""
    command = [sys.executable, "-c", f"import sys; {code}{REPORT.format(heavy=heavy)}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].removeprefix("HEAVY:").split()


def modules_of(parts: list[str]) -> list[str]:
    return [name for name in module_files() if name.split(".")[1:2] and name.split(".")[1] in parts]


def test_pure_layers_and_configs_load_nothing_heavy():
    code = f"import importlib; [importlib.import_module(name) for name in {modules_of(PURE)}]"
    assert heavy_after(code, HEAVY) == []


def test_losses_load_torch_alone():
    code = "import importlib; [importlib.import_module(name) for name in {}]".format(modules_of(["losses"]))
    assert heavy_after(code, ["ray", "vllm", "deepspeed", "transformers"]) == []


def test_help_loads_nothing_heavy():
    assert heavy_after("from autoalign.cli.main import main; main(['--help'])", [*HEAVY, "pydantic"]) == []


COMMANDS = [
    "sft",
    "dpo",
    "plan",
    "align",
    "align status",
    "rm",
    "score",
    "infer",
    "merge",
    "serve",
    "eval",
    "synthesize",
]
COMMANDS += [
    "data",
    "data validate",
    "models",
    "models fetch",
    "models promote",
    "batch",
    "jobs",
    "jobs list",
]
COMMANDS += ["tokens", "tokens create", "chat", "doctor"]


def test_no_commands_help_loads_anything_heavy():
    code = (
        "import contextlib; from autoalign.cli.main import main\n"
        f"for command in {COMMANDS}:\n"
        "    with contextlib.suppress(SystemExit): main([*command.split(), '--help'])\n"
        f"    if found := set(sys.modules) & set({HEAVY}): raise SystemExit(f'{{command}} loads {{found}}')\n"
        "pass"
    )
    assert heavy_after(code, HEAVY) == []
