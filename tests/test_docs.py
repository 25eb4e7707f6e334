"""The documents tell the truth: what the tutorial shows is run, and links lead somewhere."""
import os
import pathlib
import re
import subprocess

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]


def commands(page):
    """(command, shown output) of each ```console block; a command goes on until its quotes are closed."""
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.M | re.S):
        for command in re.split(r"^\$ ", block, flags=re.M)[1:]:
            lines = command.splitlines()
            n = next(k for k in range(1, len(lines) + 1) if "\n".join(lines[:k]).count('"') % 2 == 0)
            yield "\n".join(lines[:n]), lines[n:]


def pattern(line):
    """What a shown line stands for: `...` is anything, numbers and blanks may differ."""
    parts = re.split(r"(\.\.\.|\d+(?:\.\d+)?|\s+)", line)
    return "".join(".*" if p == "..." else r"[\d.]+" if p[:1].isdigit() else r"\s*" if p.isspace() else re.escape(p)
                   for p in parts)


def test_the_tutorial_can_be_followed(tmp_path):
    environment = dict(os.environ)
    for command, shown in commands(CHECKOUT / "docs" / "tutorial.md"):
        done = subprocess.run(["bash", "-c", f". {CHECKOUT}/bin/env; {command}"], cwd=tmp_path, env=environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        told = done.stdout.splitlines()
        at = 0
        for line in (s for s in shown if s.strip() not in ("", "...")):
            hit = next((k for k in range(at, len(told)) if re.match(pattern(line), told[k].rstrip())), None)
            assert hit is not None, f"{command} does not print {line!r}:\n{done.stdout}"
            at = hit + 1


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_documents_lead_to_files(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_files_named_in_documents_exist():
    named = {(page.name, word) for page in PAGES
             for word in re.findall(r"`((?:bin|docs|etc|slurm|lsf|tests|mpixfel)/[\w./]*\w)`", page.read_text())}
    assert [n for n in sorted(named) if not (CHECKOUT / n[1]).exists()] == []
