"""What opening the studio takes: first paint, time to interactive, bytes and requests.

make browser, then: python benchmarks/studio_page.py --out benchmarks/results/studio_page.json

Each visit has a new profile, so nothing is cached. Interactive is the moment at which the page has been drawn
with its handlers; then the example is chosen, and its canvas shows the background and the element.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from gencompositor_jax.files import atomic_write_text

OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_LOADED = """() => {
  const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter((e) => new URL(e.name).pathname === "/" || new URL(e.name).pathname.startsWith("/static/"));
  return {
    first_paint_ms: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    interactive_ms: performance.getEntriesByName("studio-ready")[0].startTime,
    bytes: all.reduce((sum, e) => sum + e.transferSize, 0),
    bytes_of_files: all.reduce((sum, e) => sum + e.decodedBodySize, 0),
    requests: all.length,
  };
}"""


def visit(browser: Browser, address: str) -> dict[str, float]:
    """One visit with an empty cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.goto(address)
    page.wait_for_load_state("networkidle")
    loaded: dict[str, float] = page.evaluate(_LOADED)
    start = time.perf_counter()
    with page.expect_response(re.compile("/app/elements/.*/frames/")):
        page.get_by_role("button", name="Choose the example").click()
    loaded["example_ms"] = 1000 * (time.perf_counter() - start)
    context.close()
    return loaded


def start_studio() -> tuple[subprocess.Popen[str], str, float]:
    """The process, its address, and the seconds until it listened."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "gencompositor_jax", "app", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"(http://\S+/) is the studio", line):
            return process, found[1], time.perf_counter() - start
    raise SystemExit("the studio didn't start")


def measure(visits: int) -> dict[str, Any]:
    """Medians over visits; the first one after the start of the server is reported by itself."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        raise SystemExit("no Chromium: make browser installs it")
    process, address, seconds = start_studio()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
            first, *others = [visit(browser, address) for _ in range(visits + 1)]
            version = browser.version
            browser.close()
    finally:
        process.terminate()
    return {
        "server_listens_after_s": round(seconds, 2),
        "first_visit": {name: round(value) for name, value in first.items()},
        "median": {name: round(statistics.median(each[name] for each in others)) for name in first},
        "visits": visits,
        "cores": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "chromium": version,
        "machine": platform.machine(),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--visits", type=int, default=10)
    args = parser.parse_args()
    found = json.dumps(measure(args.visits), indent=2)
    print(found)
    if args.out:
        atomic_write_text(args.out, found + "\n")


if __name__ == "__main__":
    main()
