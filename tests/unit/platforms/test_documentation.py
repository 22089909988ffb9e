"""The pages that the wheel carries: those of docs/, found by name, and no link among them that leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from jackfield.cli.main import jackfield
from jackfield_platforms.documentation import NoSuchPageError, contents, main, page

DOCS = Path(__file__).parents[3] / "docs"


def anchors(text):
    """Of its headings, as readers of Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_a_page_is_the_one_text_that_there_is():
    assert page("tutorial") == page("tutorial.md") == (DOCS / "tutorial.md").read_text()


def test_the_contents_name_every_page_the_tutorial_first_with_titles_and_the_folder():
    *lines, folder = contents().splitlines()
    assert re.fullmatch(r"tutorial +Bring up a device in a day", lines[0])
    assert sorted(line.split()[0] for line in lines) == sorted(path.stem for path in DOCS.glob("*.md"))
    assert (Path(folder.removeprefix("They lie in ")) / "tutorial.md").is_file()


def test_every_link_among_the_pages_leads_to_one():
    seen = 0
    for path in DOCS.glob("*.md"):
        for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
            if "://" not in link:
                name, _, anchor = link.partition("#")
                assert not anchor or anchor in anchors(page(name)), link
                assert page(name), link
                seen += 1
    assert seen > 5


def test_a_page_that_is_not_there_is_an_error_with_the_likely_one(capsys):
    with pytest.raises(
        NoSuchPageError, match=r"no page 'tutoral'\. Did you mean 'tutorial'\? There are tutorial, plugins, "
    ):
        page("tutoral")
    with pytest.raises(NoSuchPageError):
        page("../README")
    assert main(["tutoral"]) == 2
    assert capsys.readouterr().err.startswith("There is no page 'tutoral'.")


def test_the_command_line_does_the_same():
    run = CliRunner().invoke
    assert run(jackfield, ["docs"]).output == f"{contents()}\n"
    assert run(jackfield, ["docs", "buckets"]).output == f"{page('buckets')}\n"
    wrong = run(jackfield, ["docs", "bucket"])
    assert (wrong.exit_code, "Did you mean 'buckets'?" in wrong.output) == (1, True)


def test_no_framework_is_loaded_to_print_a_page():
    code = "import sys; from jackfield_platforms.documentation import main; main(); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, "plugins"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{page('plugins')}\n"
