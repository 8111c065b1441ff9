"""What must not grow: import directions, cycles, file sizes, what in-rank code may import."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOPS = (
    "perfkit",
    "profiler",
    "analyzers",
    "roofline",
    "recipes",
    "tests",
    "examples",
    "benchmarks",
)
MOST_LINES = 400


def sources(*tops: str) -> list[Path]:
    """Return the Python files below the folders, each once, links not followed."""
    found = {
        file
        for top in tops
        for file in (ROOT / top).rglob("*.py")
        if not any(p.is_symlink() for p in file.parents) and "__pycache__" not in file.parts
    }
    return sorted(found)


SOURCES = sources(*TOPS)
IN_RANK = [file for file in SOURCES if "inrank" in file.relative_to(ROOT).parts[:-1]]
IN_RANK = [file for file in IN_RANK if "tests" not in file.relative_to(ROOT).parts]


def name_of(path: Path) -> str:
    """Return the path below the root, for test names."""
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every imported module's full name and the level of a relative import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level


def test_imports_keep_their_directions_and_have_no_cycles() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_say_what_they_are_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("path", IN_RANK, ids=name_of)
def test_in_rank_code_is_python_3_9_and_stands_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    for module, level in imports(tree):
        top = module.partition(".")[0]
        allowed = (
            level > 0
            or top in sys.stdlib_module_names
            or top in {"torch", "sitecustomize", "usercustomize"}
            or module.startswith(("perfkit.profiler.inrank", "perfkit.recipes.inrank"))
            or top.startswith("_perfkit")
        )
        assert allowed, f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_go_by_their_names_under_perfkit(path: Path) -> None:
    bare = {"profiler", "analyzers", "roofline", "recipes"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {module.partition(".")[0] for module, level in imports(tree) if level == 0}
    assert not found & bare


IMPORT_NAMES = {"nvidia-ml-py": "pynvml"}
NOT_IMPORTED = {
    "py-spy",  # a program
    "rich",  # Typer shows help with it
}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = {re.split(r"[<>=\[ ]", line)[0] for line in settings["project"]["dependencies"]}
    declared = {IMPORT_NAMES.get(name, name) for name in names - NOT_IMPORTED}
    found = {
        module.partition(".")[0]
        for path in sources("perfkit", "profiler", "analyzers", "roofline", "recipes")
        for module, level in imports(ast.parse(path.read_text(encoding="utf-8")))
        if level == 0 and path not in IN_RANK
    }
    own = {"perfkit", "torch", "setuptools"}  # torch is the training's; one builds the wheel
    extras = settings["project"]["optional-dependencies"]
    asked = [*extras["ray"], *extras["metrics"]]  # imported where they are used, which says so
    optional = {re.split(r"[<>=\[ ]", line)[0].replace("-", "_") for line in asked}
    assert found - sys.stdlib_module_names - own - optional == declared


def imported_by(code: str) -> set[str]:
    """Return the top-level names of the modules that a fresh interpreter imports to run `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
    )
    return {name.partition(".")[0] for name in done.stderr.split()}


HEAVY = {"torch", "polars", "plotly", "numpy", "scipy", "pandas", "msgspec", "jinja2", "fsspec"}


def test_importing_perfkit_imports_the_standard_library_only() -> None:
    bare = imported_by("")
    assert imported_by("import perfkit") - bare <= {"perfkit", *sys.stdlib_module_names}


@pytest.mark.parametrize("line", ["--help", "profile --help", "analyze --help", "--version"])
def test_help_imports_nothing_heavy(line: str) -> None:
    code = (
        "import perfkit.cli\n"
        f"try: perfkit.cli.main({line.split()!r})\n"
        "except SystemExit as end: assert not end.code, end.code"
    )
    assert not imported_by(code) & HEAVY
