"""The names that the package, the folders and the links agree on."""

import importlib.machinery
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = SETTINGS["tool"]["setuptools"]["packages"]
FOLDERS: dict[str, str] = SETTINGS["tool"]["setuptools"]["package-dir"]
BOOT = "boot"  # served to ranks as files, never imported as part of perfkit


def folder_of(package: str) -> Path:
    """Return the real folder of a package: its own mapping, or its nearest mapped parent's."""
    for parent, folder in FOLDERS.items():
        if package == parent or package.startswith(parent + "."):
            return ROOT / folder / package[len(parent) + 1 :].replace(".", "/")
    return ROOT / package.replace(".", "/")


def test_every_folder_of_code_is_packaged() -> None:
    code = {
        file.parent
        for top in ("perfkit", *FOLDERS.values())
        for file in (ROOT / top).rglob("__init__.py")
        if BOOT not in file.parts
    }
    real = {d for d in code if not any(p.is_symlink() for p in (d, *d.parents))}
    assert real == {folder_of(name) for name in PACKAGES}


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_each_link_leads_to_its_folder(name: str) -> None:
    link = ROOT / name.replace(".", "/")
    assert link.is_symlink()
    assert link.readlink() == Path("..") / FOLDERS[name]
    assert link.resolve() == ROOT / FOLDERS[name]


@pytest.mark.parametrize("name", sorted(FOLDERS.values()))
def test_no_generic_name_is_importable(name: str) -> None:
    away = [entry for entry in sys.path if entry and Path(entry).resolve() != ROOT]
    assert importlib.machinery.PathFinder.find_spec(name, away) is None


def test_every_data_file_is_packaged() -> None:
    data: dict[str, list[str]] = SETTINGS["tool"]["setuptools"]["package-data"]
    shipped = {
        file
        for package, patterns in data.items()
        for pattern in patterns
        for file in folder_of(package).glob(pattern)
    }
    for package in PACKAGES:
        home = folder_of(package)
        nested = {folder_of(other) for other in PACKAGES if other != package}
        for file in home.rglob("*"):
            if (
                not file.is_file()
                or "__pycache__" in file.parts
                or set(file.parents) & (nested - set(home.parents))
            ):
                continue
            if any(p.is_symlink() for p in file.parents):
                continue
            is_module = file.suffix == ".py" and file.parent == home
            assert is_module or file in shipped, f"{file.relative_to(ROOT)} is not packaged"
