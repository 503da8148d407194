"""The page: its pure functions, its size, and that it draws the trajectory that is composited."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gencompositor_jax.controls.geometry.path import resolve_path
from gencompositor_jax.controls.geometry.trajectory import from_json

HERE = Path(__file__).parent
STATIC = HERE.parents[2] / "gencompositor_jax" / "app" / "static"
FRAMES, SIZE = 17, (576, 384)
MAX_BYTES = 250_000  # of all that a browser loads

TRAJECTORIES = {
    "one point": [{"x": 10, "y": 20}],
    "two points": [{"x": 10, "y": 20}, {"x": 300.5, "y": -40}],
    "curve": [{"x": 126, "y": 256}, {"x": 276, "y": 134}, {"x": 446, "y": 236}, {"x": 440, "y": 300}],
    "the same point twice": [{"x": 1, "y": 2}, {"x": 1, "y": 2}, {"x": 90, "y": 2}],
    "it stands still": [{"x": 5, "y": 5, "scale": 1}, {"x": 5, "y": 5, "scale": 2}],
    "scale and rotation at some": [
        {"x": 0, "y": 0, "scale": 0.5},
        {"x": 100, "y": 50},
        {"x": 80, "y": 90, "scale": 2, "rotation": 30},
        {"x": 0, "y": 90, "rotation": -30},
    ],
    "easings": [
        {"x": 0, "y": 0, "time": 0, "easing": "ease-in-out"},
        {"x": 100, "y": 50, "time": 0.5, "scale": 2, "easing": "hold"},
        {"x": 80, "y": 90, "time": 0.7, "scale": 3},
        {"x": 0, "y": 0, "time": 1, "scale": 1},
    ],
    "times": [{"x": 0, "y": 0, "time": 0.1}, {"x": 9, "y": 5, "time": 0.2}, {"x": 50, "y": 0, "time": 0.9}],
}
SCRIPT = """
import {resolve, spread} from "./js/path/curve.js";
import {readFileSync} from "node:fs";
const {cases, frames, layer} = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map((points) => resolve(points, spread(frames), layer))));
"""


def node() -> str:
    """Node.js: the machine's, or Playwright's own."""
    if found := shutil.which("node"):
        return found
    playwright = pytest.importorskip("playwright")
    return str(Path(playwright.__file__).parent / "driver" / "node")


def run_node(*words: str, given: str = "") -> str:
    done = subprocess.run(
        [node(), "--no-warnings", *words], cwd=STATIC, input=given, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_functions_of_the_page():
    run_node("--test", *map(str, sorted(HERE.glob("*.test.mjs"))))


@pytest.mark.parametrize("easing", ["linear", "ease-in", "ease-out", "ease-in-out"])
def test_the_page_draws_the_trajectory_that_is_composited(easing):
    layer = {"scales": [0.5, 1, 0.4], "rotations": [10, -20], "easing": easing}
    given = {"cases": list(TRAJECTORIES.values()), "frames": FRAMES, "layer": layer}
    drawn = json.loads(run_node("--input-type=module", "-e", SCRIPT, given=json.dumps(given)))
    for name, path in zip(TRAJECTORIES, drawn, strict=True):
        trajectory = from_json(TRAJECTORIES[name], "trajectory")
        expected = resolve_path(
            trajectory, FRAMES, SIZE, layer["scales"], rotations=layer["rotations"], easing=easing
        )
        np.testing.assert_allclose(path["x"], expected.xy[:, 0], atol=0.05, err_msg=name)
        np.testing.assert_allclose(path["y"], expected.xy[:, 1], atol=0.05, err_msg=name)
        np.testing.assert_allclose(path["scale"], expected.scale, atol=2e-3, err_msg=name)
        np.testing.assert_allclose(path["rotation"], expected.rotation, atol=0.05, err_msg=name)


def test_the_page_is_small_and_loads_nothing_from_elsewhere():
    files = [path for path in STATIC.rglob("*") if path.suffix in (".html", ".css", ".js", ".svg")]
    assert len(files) > 10
    assert sum(path.stat().st_size for path in files) < MAX_BYTES
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert "http://" not in text and "https://" not in text, path
