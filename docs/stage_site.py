"""Collects the pages of the documentation site: python docs/stage_site.py build/pages

The pages keep their relative links, so that these work on the site as they do on a code host: every page, and
every file that a page links to, is copied to the same path relative to the root.
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOP_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "launch/README.md")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def pages() -> list[Path]:
    """The pages of the site as files of the repository: Markdown and notebooks."""
    docs = ROOT / "docs"
    return [
        *(ROOT / name for name in TOP_PAGES),
        *sorted(docs.rglob("*.md")),
        *sorted(docs.rglob("*.ipynb")),
    ]


def notebook_text(notebook: str) -> str:
    """A notebook as Markdown: its text, and its code in fences."""
    cells = json.loads(notebook)["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
    return "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for text, kind in texts) + "\n"


def linked_files(page: Path, text: str) -> Iterator[Path]:
    """The files of the repository that a page links to or shows."""
    for target in LINK.findall(text):
        path = (page.parent / target).resolve()
        if "://" not in target and path.is_file() and path.is_relative_to(ROOT):
            yield path


def stage(folder: Path) -> None:
    """Writes all pages and the files they link to into `folder`, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    files = set(pages())
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if page.suffix == ".ipynb":
            text = notebook_text(text)
            rendered = folder / page.relative_to(ROOT).with_suffix(".md")
            rendered.parent.mkdir(parents=True, exist_ok=True)
            rendered.write_text(text, encoding="utf-8")
        files.update(linked_files(page, text))
    for file in sorted(files):
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    stage(parser.parse_args().folder)
