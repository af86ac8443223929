"""Rules that a reviewer would otherwise have to repeat."""

import ast
import re

import pytest
from sources import CODE_FOLDERS, ROOT, python_files, tree

LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 500, 80, 7
SHIPPED = [path for path in python_files(*CODE_FOLDERS) if ROOT / "tests" not in path.parents]
EVERY = python_files(*CODE_FOLDERS)
# Put together here, so that this file passes its own test.
LEFT_OVER = re.compile(
    r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "not supported" + " yet"]) + r")\b"
)


def places(paths, wrong):
    """`file:line` of every node for which `wrong(node)` holds."""
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        for node in ast.walk(tree(path))
        if hasattr(node, "lineno") and wrong(node)
    ]


def test_files_are_short():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in EVERY}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_functions_are_short():
    def long(node):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        return is_function and node.end_lineno - node.lineno >= LONGEST_FUNCTION

    assert places(SHIPPED, long) == []


def test_functions_take_few_positional_parameters():
    """Past seven, callers mix them up: a dataclass, or keyword-only ones."""

    def many(node):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return False
        names = {argument.arg for argument in (*node.args.posonlyargs, *node.args.args)}
        return len(names - {"self", "cls"}) > MOST_PARAMETERS

    assert places(SHIPPED, many) == []


@pytest.mark.parametrize(("keyword", "value"), [("shell", True), ("trust_remote_code", True)])
def test_no_call_turns_on(keyword, value):
    def wrong(node):
        return (
            isinstance(node, ast.keyword)
            and node.arg == keyword
            and isinstance(node.value, ast.Constant)
            and node.value.value is value
        )

    assert places(SHIPPED, wrong) == []


def test_no_pickle_and_no_unsafe_yaml():
    def wrong(node):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None)]
            return bool({"pickle", "cPickle", "dill", "marshal", "shelve"} & set(names))
        return isinstance(node, ast.Attribute) and ast.unparse(node) in ("yaml.load", "yaml.unsafe_load")

    assert places(SHIPPED, wrong) == []


def test_catching_everything_gives_its_reason():
    """Process boundaries alone may, with a comment on the line that says so."""
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SHIPPED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"except( \(?(Base)?Exception\b.*)?:", line) and "#" not in line
    ]
    assert bare == []


def test_nothing_is_left_for_later():
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in [*EVERY, *(ROOT / "docs").rglob("*.md"), ROOT / "Makefile", *(ROOT / "scripts").iterdir()]
        if path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if LEFT_OVER.search(line)
    ]
    assert found == []


def test_modules_are_named_after_what_is_in_them():
    vague = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert [str(path) for path in SHIPPED if path.name in vague] == []


def test_ray_jobs_are_a_few_lines():
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "ray_jobs").glob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 25} == {}
