"""The tests mirror the house: ``tests/<room>/test_<module>.py`` tests ``guardrail/<room>/<module>.py``.

The rules, and no list of exceptions to grow:

* a module has its twin, and the twin holds at least one test;
* an ``__init__.py`` that only names its room (a docstring, nothing else) needs none; one with code is a
  module like any other, ``test___init__.py`` beside the tests of its room, but the twin of the package's
  own ``__init__.py`` is called ``test_public_names.py``, after what it checks;
* a module that declares Protocols and nothing else (``ports.py``) needs none: there is nothing to run,
  and mypy checks it;
* in the folder of a room every test file is somebody's twin, so that none outlives its module. Folders
  without a room (``e2e`` and such) and the top folder may hold whatever cuts across.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "guardrail"


def twin_of(module: Path) -> Path:
    """Where the test of a module is, relative to the tests; ``module`` is relative to the package."""
    if module == Path("__init__.py"):
        return Path("test_public_names.py")
    return module.with_name(f"test_{module.name}")


def has_code(file: Path) -> bool:
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in ast.parse(file.read_text()).body
    )


def only_declares(file: Path) -> bool:
    """Imports, ``__all__`` and at least one class, every class a Protocol."""
    body = ast.parse(file.read_text()).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    others = [
        node for node in body if not isinstance(node, ast.ClassDef | ast.Import | ast.ImportFrom | ast.Expr)
    ]
    return (
        bool(classes)
        and all("Protocol" in [ast.unparse(base).split("[")[0] for base in c.bases] for c in classes)
        and all(
            isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__" for node in others
        )
    )


def modules(package: Path) -> list[Path]:
    """Every module that needs a twin, relative to the package."""
    return sorted(
        file.relative_to(package)
        for file in package.rglob("*.py")
        if (has_code(file) if file.name == "__init__.py" else not only_declares(file))
    )


def strangers(package: Path, tests: Path) -> list[Path]:
    """Test files in the folder of a room that are nobody's twin."""
    twins = {twin_of(module) for module in modules(package)}
    rooms = {folder.relative_to(package) for folder in package.rglob("*") if folder.is_dir()}
    found = (file.relative_to(tests) for file in tests.rglob("test_*.py"))
    return sorted(file for file in found if file.parent in rooms and file not in twins)


@pytest.mark.parametrize("module", modules(PACKAGE), ids=str)
def test_every_module_has_its_twin(module: Path):
    twin = HERE / twin_of(module)
    assert twin.is_file(), f"guardrail/{module} has no tests/{twin_of(module)}"
    names = [node.name for node in ast.walk(ast.parse(twin.read_text())) if isinstance(node, _FUNCTIONS)]
    assert any(name.startswith("test_") for name in names), f"tests/{twin_of(module)} holds no test"


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def test_every_test_file_of_a_room_is_somebodys_twin():
    assert strangers(PACKAGE, HERE) == []


def test_every_folder_of_tests_can_be_imported_by_its_name():
    """Twins of different rooms have one name (``test_config.py``), so each folder is a package."""
    folders = {file.parent for file in HERE.rglob("test_*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_these_rules_can_be_broken(tmp_path: Path):
    package, tests = tmp_path / "guardrail", tmp_path / "tests"
    for file, text in {
        "guardrail/__init__.py": "from x import y\n",
        "guardrail/top.py": "",
        "guardrail/room/__init__.py": '"""Only a sign."""\n',
        "guardrail/room/one.py": "from typing import Protocol\nclass A(Protocol): ...\nclass B: ...\n",
        "guardrail/room/ports.py": "from typing import Protocol\n__all__ = []\nclass A(Protocol[T]): ...\n",
        "guardrail/live/__init__.py": '"""A sign."""\nx = 1\n',
        "tests/room/test_one.py": "",
        "tests/room/test_two.py": "",
        "tests/e2e/test_whatever.py": "",
        "tests/test_whatever.py": "",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    found = [str(module) for module in modules(package)]
    assert found == ["__init__.py", "live/__init__.py", "room/one.py", "top.py"]
    assert [str(twin_of(Path(module))) for module in found] == [
        "test_public_names.py",
        "live/test___init__.py",
        "room/test_one.py",
        "test_top.py",
    ]
    assert strangers(package, tests) == [Path("room/test_two.py")]
