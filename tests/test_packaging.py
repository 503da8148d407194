"""What is declared is what is imported, and the wheel holds the whole package and nothing beside it."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import gencompositor_jax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOLDERS = ("gencompositor_jax", "configs", "data_pipelines")

# Distributions whose name isn't that of the module they install.
DISTRIBUTIONS = {
    "PyOpenColorIO": "opencolorio",
    "PIL": "pillow",
    "absl": "absl-py",
    "cv2": "opencv-python-headless",
    "orbax": "orbax-checkpoint",
}
FOR_USERS = (
    "decord",
    "matting",
    "segment",
    "tensorboard",
    "tfds",
    "convert",
    "torch",
    "serve",
    "app",
    "exr",
    "colour",
)  # the extras that the package itself imports
NOT_IMPORTED = {
    "importlib-resources": "tensorflow-datasets imports it without declaring it",
    "sentencepiece": "the T5 tokenizer of transformers needs it",
}


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def names_of(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in requirements}


def lower_bounds() -> dict[str, str]:
    requirements = PROJECT["dependencies"] + [r for e in PROJECT["optional-dependencies"].values() for r in e]
    found = (re.match(r"([\w.-]+)>=([\w.]+)", requirement) for requirement in requirements)
    return {normal(match[1]): match[2] for match in found if match}


def pins(file: str) -> dict[str, list[str]]:
    """Distribution -> its pinned versions; several where they depend on Python's version."""
    pinned: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / file).read_text(), flags=re.MULTILINE):
        pinned.setdefault(normal(name), []).append(version)
    return pinned


def third_party(path: Path) -> Iterator[tuple[str, bool]]:
    """(distribution, whether the file can be imported without it) of each import of another project."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.Try)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        for module in (name.split(".")[0] for name in modules):
            if module not in sys.stdlib_module_names and module not in FOLDERS:
                yield normal(DISTRIBUTIONS.get(module, module)), node in guarded


def all_imports() -> list[tuple[Path, str, bool]]:
    return [
        (path.relative_to(ROOT), name, guarded)
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name, guarded in third_party(path)
    ]


def test_every_import_is_declared():
    required = names_of(PROJECT["dependencies"])
    optional = names_of([r for extra in FOR_USERS for r in PROJECT["optional-dependencies"][extra]])
    # fastapi installs the last three, and its interfaces consist of them.
    of_service = names_of(PROJECT["optional-dependencies"]["serve"]) | {"anyio", "pydantic", "starlette"}
    of_studio = of_service | names_of(PROJECT["optional-dependencies"]["app"])
    undeclared = {
        f"{path} imports {name}"
        for path, name, guarded in all_imports()
        if name not in required
        and not (guarded and name in optional)
        and not (path.parts[1] == "serve" and name in of_service)
        and not (path.parts[1] == "app" and name in of_studio)
    }
    assert not undeclared, sorted(undeclared)


def test_every_dependency_is_imported():
    extras = PROJECT["optional-dependencies"]
    declared = names_of(PROJECT["dependencies"] + [r for extra in FOR_USERS for r in extras[extra]])
    imported = {name for _, name, _ in all_imports()}
    assert declared - imported - {"gencompositor-jax"} == NOT_IMPORTED.keys()


def test_lower_bounds_are_what_the_lowest_constraints_pin():
    pinned = pins("constraints-lowest.txt")
    installed = names_of(
        PROJECT["dependencies"]
        + [
            r
            for extra in ("app", "colour", "decord", "exr", "matting", "serve", "tensorboard", "tfds", "test")
            for r in PROJECT["optional-dependencies"][extra]
        ]
    )
    bounds = {name: version for name, version in lower_bounds().items() if name in installed}
    assert bounds.keys() | {"libtpu"} == pinned.keys()
    for name, version in bounds.items():
        (lowest,) = pinned[name]
        assert lowest.removesuffix(".0").startswith(version.removesuffix(".0")), name


def test_every_dependency_has_a_pinned_version():
    everything = PROJECT["dependencies"] + [r for e in PROJECT["optional-dependencies"].values() for r in e]
    assert names_of(everything) - {"gencompositor-jax"} <= pins("constraints.txt").keys()


def test_the_version_needs_no_jax():
    check = "import sys, gencompositor_jax as g; print(g.__version__, 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [gencompositor_jax.__version__, "False"]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_wheel_holds_the_package_and_nothing_beside_it(tmp_path):
    """Built from the files that the container image is built from, and used from another folder."""
    pytest.importorskip("setuptools", "77.0.3")
    source, wheels, site = tmp_path / "source", tmp_path / "wheels", tmp_path / "site"
    source.mkdir()
    wheels.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, source)
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    build = f"from setuptools.build_meta import build_wheel; print(build_wheel({str(wheels)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=True
    )
    version = gencompositor_jax.__version__
    wheel = wheels / f"gencompositor_jax-{version}-py3-none-any.whl"
    assert done.stdout.splitlines()[-1] == wheel.name
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert {path.name for path in site.iterdir()} == {
        "gencompositor_jax",
        f"gencompositor_jax-{version}.dist-info",
    }
    # Every file of the package, and through its links the two folders beside it.
    expected = {
        path.relative_to(ROOT)
        for folder in ("gencompositor_jax", "gencompositor_jax/configs", "gencompositor_jax/data_pipelines")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    installed = {path.relative_to(site) for path in (site / "gencompositor_jax").rglob("*") if path.is_file()}
    assert installed == expected
    check = (
        "from importlib.util import find_spec; import gencompositor_jax.configs.tiny as c; "
        "import gencompositor_jax.data_pipelines as d; "
        "print(c.__file__, d.__file__, find_spec('configs'), find_spec('data_pipelines'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    package = site / "gencompositor_jax"
    assert done.stdout.split() == [
        str(package / "configs" / "tiny.py"),
        str(package / "data_pipelines" / "__init__.py"),
        "None",
        "None",
    ]
