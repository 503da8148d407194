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

# Ground floor first. A file imports from floors below its own, and beside it only inside one folder.
FLOORS: dict[str, float] = {
    **dict.fromkeys(("errors", "arch", "erope", "diffusion", "masks", "mask_shapes", "int8", "sharding"), 0),
    "attention": 0.5,
    "layers": 1,
    **dict.fromkeys(("dit", "branch", "vae", "vae_layers", "vae_tiling", "codec"), 2),
    **dict.fromkeys(("denoiser", "sampler", "manifest", "checkpoint", "restore", "flops", "fast"), 3),
    "controls": 4,
    "data_pipelines": 4.3,  # beside the package: knows floor 0 and the controls, and no network
    **dict.fromkeys(("generation", "executables", "latents"), 4.4),
    "evaluation": 4.5,
    "training": 4.6,
    **dict.fromkeys(("compositor", "conversion"), 5),
    **dict.fromkeys(("benchmarking", "planning"), 5.5),  # measure and compile what the floors below run
    **dict.fromkeys(("cli", "app", "__main__"), 6),
    "configs": 7,
}
PURE_ROOMS = {name for name, floor in FLOORS.items() if floor < 1}


def room_of(module: str) -> str:
    """`gencompositor_jax.controls.video` lives in `controls`, `configs.tiny` in `configs`."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else parts[0]


def modules() -> Iterator[tuple[str, Path]]:
    for top in (PACKAGE, "data_pipelines", "configs"):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the whole name"
            assert node.module is not None
            yield node.lineno, node.module
            if node.module in (
                PACKAGE,
                f"{PACKAGE}.controls",
                f"{PACKAGE}.training",
            ):  # from package import module
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def is_ours(module: str) -> bool:
    return module.split(".")[0] in (PACKAGE, "data_pipelines", "configs") and module != PACKAGE


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
            if not is_ours(other):
                continue
            there = room_of(other)
            beside = name.rsplit(".", 1)[0] == other.rsplit(".", 1)[0] or here == there
            if not (FLOORS[there] < FLOORS[here] or (FLOORS[there] == FLOORS[here] and beside)):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_the_mathematics_knows_no_flax_no_files_and_no_flags():
    forbidden = {"flax", "orbax", "optax", "absl", "argparse", "pathlib", "os", "shutil", "av", "decord"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for name, path in modules()
        if room_of(name) in PURE_ROOMS
        for line, module in imports(path)
        if module.split(".")[0] in forbidden
    ]
    assert not wrong, "\n".join(wrong)


def test_data_pipelines_know_no_network():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for name, path in modules()
        if room_of(name) == "data_pipelines"
        for line, module in imports(path)
        if module.split(".")[0] == "flax" or (is_ours(module) and 0 < FLOORS[room_of(module)] < 4)
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
    from gencompositor_jax.controls.scene import read_scene
    from gencompositor_jax.controls.trajectory import parse_trajectory

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
