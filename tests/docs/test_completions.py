"""Completions, in the shells themselves: commands, flags, files, and daemons without root."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from helpers.documents import REPOSITORY
from helpers.programs import list_missing
from helpers.shells import PACKAGES, complete

SCRIPTS = REPOSITORY / "packaging/completions"
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    missing = " ".join(list_missing(PACKAGES))
    if missing and os.geteuid() == 0:
        pytest.fail(f"programs are missing that .ci/prepare-servers unpacks: {missing}")
    if missing:
        pytest.skip(f"Debian packages are missing: apt-get install {missing}")


@pytest.fixture
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A daemons directory with names in every spelling, and with what is no file to read."""
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "any.yaml").write_text("# meta\nmeta:\n  version: '1'\n  name: \"block-agent\"  #\n")
    (folder / "b.yml").write_text("meta: {version: '1', name: flow}\nspec: {}\n")
    (folder / "c.json").write_text('{"meta": {"name": "json-agent", "version": "1"}}')
    (folder / "d.yaml").write_text(
        "spec:\n  packages: [{name: package}]\n  properties: {hostname: h}\nmeta:\n  name: 'last'\n"
    )
    (folder / "evil.yaml").write_text(f"meta:\n  name: $(touch {tmp_path}/ran)\n")
    (folder / "note.txt").write_text("meta:\n  name: text\n")
    (folder / "link.yaml").symlink_to(folder / "b.yml")
    os.mkfifo(folder / "fifo.yaml")
    monkeypatch.setenv("YA_SALT_SPECS_DIR", str(folder))
    return folder


NAMES = ["block-agent", "flow", "json-agent", "last"]


def find_script(shell: str, program: str) -> Path:
    return SCRIPTS / shell / {"bash": "{}", "zsh": "_{}", "fish": "{}.fish"}[shell].format(program)


def ask(shell: str, line: str) -> list[str]:
    return complete(shell, find_script(shell, line.split(maxsplit=1)[0]), line)


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_flags_and_choices_are_offered(shell: str) -> None:
    assert ask(shell, "ya-salt st") == ["start", "status", "stop"]
    assert ask(shell, "ya-salt status --s") == ["--saved", "--specs-dir", "--state-dir"]
    assert ask(shell, "ya-salt plan -o ") == ["json", "table", "yaml"]
    assert ask(shell, "ya-salt schema s") == ["settings", "spec"]
    assert ask(shell, "orlyctl re") == ["release", "resume"]
    assert ask(shell, "dev-portod --s") == ["--socket", "--sysroot"]


@pytest.mark.parametrize("shell", SHELLS)
def test_fields_are_offered_where_they_are_explained(shell: str) -> None:
    found = ask(shell, "ya-salt explain spec.properties.memory_l")
    assert found == ["spec.properties.memory_limit", "spec.properties.memory_lock_policy"]
    assert "settings.gate.endpoints" in ask(shell, "ya-salt explain settings.gate.")


@pytest.mark.parametrize("shell", SHELLS)
def test_daemons_of_this_host_are_offered(shell: str, specs: Path, tmp_path: Path) -> None:
    assert ask(shell, "ya-salt why ") == NAMES
    assert ask(shell, "ya-salt restart --reason x bl") == ["block-agent"]
    assert ask(shell, "ya-salt apply last f") == ["flow"]
    assert ask(shell, "orlyctl status porto-daemon-l") == ["porto-daemon-last"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_daemons_are_those_of_the_directory_that_the_line_names(
    shell: str, specs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.yaml").write_text("meta: {name: elsewhere}\n")
    assert ask(shell, f"ya-salt --specs-dir {other} why ") == ["elsewhere"]
    assert ask(shell, f"ya-salt why --specs-dir {other} ") == ["elsewhere"]
    monkeypatch.delenv("YA_SALT_SPECS_DIR")
    settings = tmp_path / "settings.yaml"
    settings.write_text(f'parallel: 2\nspecs_dir: "{other}"  # ours\n')
    assert ask(shell, f"ya-salt --config {settings} why ") == ["elsewhere"]


@pytest.mark.parametrize("shell", SHELLS)
def test_files_are_offered_where_files_are_wanted(
    shell: str, specs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(specs)
    assert ask(shell, "ya-salt validate an") == ["any.yaml"]
    assert ask(shell, "ya-salt apply -f not") == ["note.txt"]
    assert ask(shell, "orlyctl apply-rule -f b") == ["b.yml"]


def test_names_are_quick(specs: Path) -> None:
    for number in range(500):
        (specs / f"many-{number}.yaml").write_text(f"meta: {{name: many-{number}}}\n")
    began = time.monotonic()
    assert len(ask("bash", "ya-salt why many-")) == 500
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("shell", SHELLS)
def test_names_with_colons_are_whole(shell: str, specs: Path) -> None:
    (specs / "n.yaml").write_text("meta: {name: 'ns:agent:a', version: '1'}\n")
    (specs / "o.yaml").write_text("meta: {name: 'ns:other', version: '1'}\n")
    assert ask(shell, "ya-salt why ns") == ["ns:agent:a", "ns:other"]
    assert ask(shell, "ya-salt why ns:") == ["ns:agent:a", "ns:other"]
    assert ask(shell, "ya-salt why ns:ag") == ["ns:agent:a"]
    assert ask(shell, "ya-salt why ns:agent:") == ["ns:agent:a"]
    assert ask(shell, "ya-salt plan ns:other fl") == ["flow"]


def test_bash_offers_values_behind_a_sign(specs: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("")
    offered = ask("bash", f"ya-salt --config={tmp_path}/sett")
    assert offered == [f"--config={tmp_path}/settings.yaml"]
    assert ask("bash", "ya-salt status --color=a") == ["--color=always", "--color=auto"]
    assert ask("bash", f"ya-salt --specs-dir={specs} why l") == ["last"]


@pytest.mark.parametrize("breaks", ["${COMP_WORDBREAKS//:}", "${COMP_WORDBREAKS//[:=]}"])
def test_bash_may_cut_words_elsewhere(specs: Path, breaks: str) -> None:
    (specs / "n.yaml").write_text("meta: {name: 'ns:agent', version: '1'}\n")
    before = f"COMP_WORDBREAKS={breaks}; "
    script = find_script("bash", "ya-salt")
    assert complete("bash", script, "ya-salt why ns:a", before) == ["ns:agent"]
    found = complete("bash", script, f"ya-salt --specs-dir={specs} why ns:", before)
    assert found == ["ns:agent"]
