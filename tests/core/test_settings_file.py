"""The settings file of Debian's package: every setting, commented out, as it is in force."""

from __future__ import annotations

import re
from pathlib import Path

from helpers.documents import REPOSITORY

from ya_salt.model import Settings
from ya_salt.settings import SETTINGS, load_settings

FILE = REPOSITORY / "packaging/ya-salt.yaml"
EXAMPLES = re.compile(r"hostname|monitoring\.alertmanager\.url|gate\.(?!type|prefix).*")
"""These have no default: an example stands there."""
TRIALS = {"root"}
"""No host's."""


def load(text: str, folder: Path) -> tuple[dict[str, object], dict[str, str]]:
    file = folder / "ya-salt.yaml"
    file.write_text(text)
    found = load_settings({}, {}, str(file))
    return {item.name: item.read(found.settings) for item in SETTINGS}, dict(found.origins)


def test_the_settings_file_changes_nothing_as_it_comes(tmp_path: Path) -> None:
    values, origins = load(FILE.read_text(), tmp_path)
    assert set(origins.values()) == {"default"}
    assert values == {item.name: item.read(Settings()) for item in SETTINGS}


def test_every_setting_stands_in_the_settings_file_as_it_is(tmp_path: Path) -> None:
    text = re.sub(r"^#(?! \S)", "", FILE.read_text(), flags=re.M)
    values, origins = load(text, tmp_path)
    assert {name for name, origin in origins.items() if origin == "default"} == TRIALS
    for item in SETTINGS:
        if not EXAMPLES.fullmatch(item.name):
            assert values[item.name] == item.read(Settings()), item.name
