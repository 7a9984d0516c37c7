"""Which pages and completions there are, and what each is made of."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from devporto.__main__ import make_parser as make_dev_portod

from pages import commands, completions, documents
from pages.roff import Page, bold, escape, typed
from ya_salt.cli.orlyctl import _make_parser as make_orlyctl
from ya_salt.cli.parser import make_parser as make_ya_salt
from ya_salt.reference.fields import list_roots, walk

REPOSITORY = Path(__file__).parents[2]
MAN = "docs/man"
COMPLETIONS = "packaging/completions"

PROGRAMS: Mapping[str, tuple[Callable[[], argparse.ArgumentParser], str]] = {
    "ya-salt": (
        make_ya_salt,
        "keep daemons running in Porto containers from exact Debian packages",
    ),
    "orlyctl": (make_orlyctl, "say how changes may go through a fleet"),
    "dev-portod": (make_dev_portod, "a Porto server for development and tests"),
}

_SETTINGS_FILE = {"/etc/hostman/ya-salt.yaml": "Settings, see ya-salt.yaml(5)."}

_FILES = {
    "/etc/hostman/porto-daemons.d/": "Spec files, one a daemon: see porto-daemon(5).",
    **_SETTINGS_FILE,
    "/var/lib/ya-salt/": "What must outlive a pass: store, lock, kept .deb files.",
    "/var/log/ya-salt.log": "What was done. Every line about a daemon has porto-daemon-NAME.",
    "/run/portod.socket": "Where portod listens.",
}

_ENVIRONMENT = {
    "YA_SALT_…": "Any setting, over the file and under flags: see ya-salt.yaml(5).",
    "NO_COLOR": "Set to anything: no colours.",
}

_SEE = (
    "ya-salt(1)",
    "orlyctl(1)",
    "dev-portod(1)",
    "ya-salt.yaml(5)",
    "porto-daemon(5)",
    "orly-rule(5)",
)

_LIFE = ("Readiness", "An update that fails", "Crash loops", "Files", "Order", "Drift")


def make_all() -> dict[str, str]:
    """Path within the repository -> text, of everything that `make pages` makes."""
    made = {}
    for name, (make_parser, summary) in PROGRAMS.items():
        made[f"{MAN}/{name}.1"] = _make_program_page(name, make_parser(), summary)
        for shell, place in (("bash", "{}"), ("zsh", "_{}"), ("fish", "{}.fish")):
            prefix = "porto-daemon-" if name == "orlyctl" else ""
            text = completions.render(make_parser(), shell, prefix, list_fields())
            made[f"{COMPLETIONS}/{shell}/{place.format(name)}"] = text
    sources: dict[str, tuple[str, list[tuple[str, Sequence[str]]]]] = {
        "ya-salt.yaml": ("settings of ya-salt and orlyctl", [("settings.md", ())]),
        "porto-daemon": ("spec file of a daemon", [("specs.md", ()), ("lifecycle.md", _LIFE)]),
        "orly-rule": ("how changes of a daemon go through the fleet", [("rules.md", ())]),
    }
    for name, (summary, parts) in sources.items():
        page = Page(name, 5, summary)
        for document, only in parts:
            documents.fill_page(page, (REPOSITORY / "docs" / document).read_text(), only)
        made[f"{MAN}/{name}.5"] = _end_page(page)
    return made


def list_fields() -> list[str]:
    """What `ya-salt explain` explains."""
    return [item.path for item in walk(list_roots())]


def list_strays(made: Iterable[str]) -> list[Path]:
    """Files beside what is made that nothing makes any more."""
    known = {REPOSITORY / name for name in made}
    there = [*(REPOSITORY / MAN).glob("*"), *(REPOSITORY / COMPLETIONS).glob("*/*")]
    return [path for path in there if path not in known]


def _make_program_page(name: str, parser: argparse.ArgumentParser, summary: str) -> str:
    page = Page(name, 1, summary)
    commands.fill_page(page, parser)
    if name != "dev-portod":
        page.heading("environment")
        _add_terms(page, _ENVIRONMENT)
        page.heading("files")
        _add_terms(page, _FILES if name == "ya-salt" else _SETTINGS_FILE)
    return _end_page(page)


def _add_terms(page: Page, terms: Mapping[str, str]) -> None:
    for name, text in terms.items():
        page.term(bold(name), escape(text))


def _end_page(page: Page) -> str:
    page.heading("see also")
    own = f"{page.name}({page.section})"
    names = (item.partition("(") for item in _SEE if item != own)
    page.paragraph(",\n".join(f"{bold(name)}({typed(number)}" for name, _, number in names))
    return page.render()
