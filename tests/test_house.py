"""The plan of the house: imports run downwards, the mathematics is pure, the README's commands exist."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "gencompositor_jax"

# Ground floor first. A file imports from floors below its own, and beside it only inside its own room.
FLOORS: dict[str, int] = {
    **dict.fromkeys(
        ("errors", "arch", "pixels", "sharding", "files", "fields", "npy", "libtpu", "multihost", "versions"),
        0,
    ),
    **dict.fromkeys(("diffusion", "masks", "codec", "perf.hardware", "perf.flops"), 1),
    "model": 2,
    **dict.fromkeys(("checkpoints", "controls"), 3),
    **dict.fromkeys(("data_pipelines", "inference", "conversion"), 4),
    **dict.fromkeys(("compositor", "evaluation"), 5),
    **dict.fromkeys(("training", "jobs"), 6),
    **dict.fromkeys(("perf", "configs", "serve"), 7),  # plans, measures and offers what the floors below run
    **dict.fromkeys(("app", "ablation"), 8),
    "cli": 9,
    "__main__": 10,
}
# Rooms whose files are mathematics: pure functions on arrays, and Flax modules that declare their parameters.
MATHEMATICS = (
    "arch",
    "pixels",
    "diffusion",
    "masks",
    "codec",
    "model",
    "sharding",
    "perf.flops",
    "perf.hardware",
)
# Of those the ones that hold no parameters.
PURE = ("arch", "pixels", "diffusion", "masks", "sharding", "perf.flops", "perf.hardware")


def room_of(module: str) -> str:
    """`gencompositor_jax.controls.media.video` is in the room `controls`: the longest name with a floor."""
    parts = module.split(".")[1:]
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in FLOORS), ".".join(parts))


def modules() -> Iterator[tuple[str, Path]]:
    """Every module by its name; data_pipelines/ and configs/ are rooms of the package through two links."""
    for top, prefix in ((PACKAGE, ""), ("data_pipelines", f"{PACKAGE}."), ("configs", f"{PACKAGE}.")):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = prefix + ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


MODULES = {name for name, _ in modules()}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the whole name"
            assert node.module is not None
            for alias in node.names:  # `from package.room import module` imports the module
                full = f"{node.module}.{alias.name}"
                yield node.lineno, full if full in MODULES else node.module


def is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE and module != PACKAGE


def test_every_module_has_a_floor():
    homeless = [name for name, _ in modules() if name != PACKAGE and room_of(name) not in FLOORS]
    assert not homeless, f"give these a floor in tests/test_house.py: {homeless}"


def test_imports_run_downwards():
    wrong = []
    for name, path in modules():
        if name == PACKAGE:  # the package's own __init__ offers what lives upstairs
            continue
        here = room_of(name)
        for line, other in imports(path):
            if is_ours(other):
                there = room_of(other)
                beside = there == here or FLOORS[there] == FLOORS[here] == 0
                if not (FLOORS[there] < FLOORS[here] or beside):
                    wrong.append(f"{path.relative_to(ROOT)}:{line} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_the_rooms_of_the_controls_are_stacked():
    """Media know no element, elements no geometry, and none of them the scene."""
    order = ("media", "element", "geometry")

    def level(module: str) -> int:
        room = module.split(".")[2]
        return order.index(room) if room in order else len(order)

    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {other}"
        for name, path in modules()
        if name.startswith(f"{PACKAGE}.controls.")
        for line, other in imports(path)
        if other.startswith(f"{PACKAGE}.controls.") and level(other) > level(name)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_folders_at_the_top_are_rooms_of_the_package():
    """Installed under the package's own name they can't meet another project's `configs`."""
    for name in ("data_pipelines", "configs"):
        link = ROOT / PACKAGE / name
        assert link.is_symlink() and link.resolve() == ROOT / name
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for top in (PACKAGE, "data_pipelines", "configs", "tests", "benchmarks", "docs")
        for path in sorted((ROOT / top).rglob("*.py"))
        for line, module in imports(path)
        if module.split(".")[0] in ("data_pipelines", "configs")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_mathematics_knows_no_files_and_no_flags():
    forbidden = {"orbax", "optax", "absl", "argparse", "pathlib", "os", "shutil", "av", "decord"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for name, path in modules()
        if room_of(name) in MATHEMATICS
        for line, module in imports(path)
        if module.split(".")[0] in forbidden | ({"flax"} if room_of(name) in PURE else set())
    ]
    assert not wrong, "\n".join(wrong)


def test_data_pipelines_know_no_network():
    network = {"model", "checkpoints", "inference", "codec"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for name, path in modules()
        if room_of(name) == "data_pipelines"
        for line, module in imports(path)
        if module.split(".")[0] == "flax" or (is_ours(module) and room_of(module) in network)
    ]
    assert not wrong, "\n".join(wrong)


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def json_examples(document: Path) -> list[dict[str, Any]]:
    blocks = re.findall(r"```json\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [json.loads(block) for block in blocks]


def commands(document: Path) -> Iterator[list[str]]:
    """The words of each command line in a document's fenced sh blocks (continued lines joined)."""
    for block in re.findall(
        r"```(?:sh|bash|console)\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL
    ):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line.removeprefix("$ "), comments=True):
                yield words


def test_make_targets_in_the_documents_exist():
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        word
        for document in documents()
        for words in commands(document)
        if words[0] == "make"
        for word in words[1:]
    }
    assert {"demo", "test"} <= named
    assert named <= targets, f"not in the Makefile: {sorted(named - targets)}"


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_gencompositor_commands_in_the_documents_parse(document):
    from gencompositor_jax.cli import parse
    from gencompositor_jax.errors import InputError

    for words in commands(document):
        words = words[words.index("gencompositor") :] if "gencompositor" in words else words
        if words[0] == "gencompositor" and "--help" not in words:
            try:
                parse(words[1:])
            except (InputError, SystemExit):
                pytest.fail(f"{document.name}: {shlex.join(words)} is not a command of this version")


def test_project_and_trajectory_examples_are_read(tmp_path):
    from gencompositor_jax.controls.geometry.trajectory_text import parse_trajectory
    from gencompositor_jax.controls.scene import read_scene

    file, kinds = tmp_path / "example.json", []
    for example in json_examples(ROOT / "docs" / "controls.md"):
        file.write_text(json.dumps(example))
        kinds.append("layers" in example)
        read_scene(file) if "layers" in example else parse_trajectory(str(file))
    assert sorted(kinds) == [False, True]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_links_in_the_documents_exist(document):
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert not missing, f"{document.name} points to files that don't exist: {missing}"
