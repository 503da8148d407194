"""The studio in Chromium: one server and one browser for all tests of a file, a new profile for each test."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import processes

HERE = Path(__file__).parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Besides what Playwright passes: nothing that asks the network, or needs a GPU or a user namespace.
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZE = {"width": 1280, "height": 720}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of this folder run in `make test-all`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running studio."""
    folder = tmp_path_factory.mktemp("studio")
    command = [
        sys.executable,
        "-m",
        "gencompositor_jax",
        "app",
        "--port",
        "0",
        "--folder",
        str(folder / "kept"),
    ]
    with processes.start(command, folder) as group:
        yield group.wait_for(r"(http://\S+/) is the studio")[1]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser. Of the module: while Playwright's loop runs, other tests can't start one of their own."""
    api = pytest.importorskip("playwright.sync_api", reason="make browser installs it")
    if CHROMIUM is None:
        pytest.skip("no Chromium; make browser installs it")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Any, studio: str) -> Iterator[Any]:
    """A new profile at a laptop's size. An error in a page's console fails the test."""
    context = chromium.new_context(base_url=studio, viewport=SIZE, color_scheme="dark")
    context.set_default_timeout(1000 * processes.PATIENCE_S)
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on("console", lambda message: message.type == "error" and errors.append(message.text))
    yield context
    context.close()
    # Refusals are what some tests are about; Chromium writes them into the console.
    unexpected = [error for error in errors if not re.search(r"responded with a status of 4\d\d", error)]
    assert not unexpected, unexpected


@pytest.fixture
def page(context: Any) -> Any:
    """The studio's page."""
    page = context.new_page()
    page.goto("/")
    return page
