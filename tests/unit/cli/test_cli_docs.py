"""What the documentation says of the command line is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from podlite.cli import run
from podlite.cli.docs_page import main, markdown
from podlite.cli.exit_status import TABLE
from podlite.cli.main import usage
from podlite.cli.verbs import VERBS

ROOT = Path(__file__).parents[3]
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md"))]


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs/cli.md").read_text() == markdown(), "run: python -m podlite.cli.docs_page docs/cli.md"


def test_the_page_is_the_same_whatever_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = markdown()
    monkeypatch.setenv("PODLITE_RUN_DIR", "/elsewhere")
    monkeypatch.setenv("COLUMNS", "40")
    assert markdown() == before


def test_writing_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "cli.md")]) == 0
    assert (tmp_path / "cli.md").read_text() == markdown()
    assert main([]) == 0
    assert capsys.readouterr().out == markdown()
    assert main(["a", "b"]) == 2


def test_every_command_is_in_the_page_and_in_the_overview() -> None:
    for name in VERBS:
        assert f"\n## `podlite {name}`\n" in markdown()
        assert re.search(rf"^  {name} +\S", usage(), re.MULTILINE)


def test_the_readme_has_the_table_of_exit_statuses() -> None:
    readme = (ROOT / "README.md").read_text()
    for status, meaning in TABLE:
        assert f"| {status} | {meaning} |\n" in readme


def test_help_has_the_table_too() -> None:
    for status, meaning in TABLE:
        assert f"  {status:16}{meaning.replace('`', '')}" in run.epilog()


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_documentation_exist(page: str) -> None:
    """`podlite WORD` in code is a command; `./dev WORD` too."""
    text = (ROOT / page).read_text()
    found = set(re.findall(r"`(?:podlite|\./dev) ([a-z][a-z-]*)", text))
    found |= set(re.findall(r"^(?:# podlite|\$ podlite|\./dev) ([a-z][a-z-]*)", text, re.MULTILINE))
    assert found <= {*VERBS, "test", "lint"}, page


@pytest.mark.parametrize("page", PAGES)
def test_links_and_file_names_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    here = (ROOT / page).parent
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (here / link).exists(), f"{page}: {link}"
    for path in re.findall(r"`((?:podlite|tests|benchmarks|manifests|docs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{page}: {path}"
