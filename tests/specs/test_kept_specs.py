"""Specs that are kept parsed: whatever happens to files, they say what parsing them anew says."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ya_salt import as_left
from ya_salt.model import Loaded
from ya_salt.specs import directory, kept
from ya_salt.specs.directory import load_specs
from ya_salt.specs.kept import FILE_NAME, KeptSpecs

WORD = "hunter2"
PLAIN = "meta: {name: a}\nspec: {properties: {cmd: [d]}}\n"
TEXTS = (
    PLAIN,
    "meta: {name: a}\nspec: {properties: {cmd: [e]}}\n",
    "meta: {name: b}\nspec: {after: [a], properties: {cmd: [d]}}\n",
    "meta: {name: a}\nspec: {after: [b], properties: {cmd: [d]}}\n",
    "# below\n\nspec: {properties: {cmd: [d]}}\nmeta: {annotations: {é\u2028: 'x\\y'}, name: c}\n",
    '{"meta": {"name": "d", "version": "1"}, "spec": {"properties": {"cmd": ["x"]}}}',
    "meta: {name: e, delete_requested: true}\n",
    f"meta: {{name: f}}\nspec: {{properties: {{cmd: [d], env_secret: {{A: {WORD}}}}}}}\n",
    """\
meta: {name: g, version: "7"}
spec:
  min_ready_s: 3
  ready_timeout_s: 1.5
  drift: report
  readiness: {http: {port: 80, path: /x, status: 204}, period_s: 2}
  update: {max_failures: 2, watch_s: 60}
  watch: [{path: /etc/g.conf, signal: HUP, splay_s: 3}]
  properties:
    cmd: [d, "a b"]
    env: {B: "2", A: "1"}
    ulimit: {nofile: 10 20}
    labels: {XX.y: z}
    memory_limit: 64Mb
  packages: [{name: pp, version: "1.0", allow_held: true}, {name: oo, version: "2:1"}]
""",
    "meta: {name: a}\nspec: {properties: {cmd: [d], nonsense: 1}}\n",
    "meta: {name: [\n",
    "",
)
NAMES = st.sampled_from(["1.yaml", "2.yaml", "3.json", "4.yml", "5.yaml~"])
DEEDS = st.one_of(
    st.tuples(st.just("write"), NAMES, st.sampled_from(TEXTS)),
    st.tuples(st.just("remove"), NAMES, st.just("")),
    st.tuples(st.just("move"), NAMES, NAMES),
    st.tuples(st.just("open"), NAMES, st.just("")),
    st.tuples(st.just("flip"), st.just(FILE_NAME), st.integers(0, 5000)),
    st.tuples(st.just("cut"), st.just(FILE_NAME), st.integers(0, 5000)),
    st.tuples(st.just("anew"), st.just(""), st.just("")),
)


def do(deed: tuple[str, str, Any], specs: Path, state: Path) -> None:
    what, name, more = deed
    path = (state if name == FILE_NAME else specs) / name
    if what == "write":
        path.write_text(more)
        # As an editor may leave it that keeps times.
        os.utime(path, (1e9, 1e9))
        path.chmod(0o644)
    elif path.is_file() and name:
        if what == "remove":
            path.unlink()
        elif what == "move":
            path.replace(specs / more)
        elif what == "open":
            path.chmod(0o666)
        else:
            body = bytearray(path.read_bytes())
            at = more % len(body)
            body[at] ^= 1
            path.write_bytes(bytes(body[:at] if what == "cut" else body))


@given(st.lists(DEEDS, max_size=20))
def test_what_is_kept_says_what_parsing_says(deeds: list[tuple[str, str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        specs, state = make_places(Path(folder))
        for deed in deeds:
            do(deed, specs, state)
            memory = KeptSpecs(str(state), reads_anew=deed[0] == "anew")
            assert repr(load(specs, memory)) == repr(load(specs))
            memory.save()
            if (state / FILE_NAME).exists():
                assert WORD not in (state / FILE_NAME).read_text(errors="replace")


def make_places(folder: Path) -> tuple[Path, Path]:
    specs, state = folder / "specs", folder / "state"
    specs.mkdir(mode=0o755)
    state.mkdir(mode=0o700)
    return specs, state


def load(specs: Path, memory: KeptSpecs | None = None) -> Loaded:
    """As a process does that begins: it has parsed nothing."""
    directory._parse_once.cache_clear()
    return load_specs(str(specs), kept=memory)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A host that keeps something else than its one file says: by that it is known who is asked."""
    specs, state = make_places(tmp_path)
    (specs / "1.yaml").write_text(PLAIN)
    plant(specs, state, PLAIN)
    return specs, state


def plant(specs: Path, state: Path, text: str) -> None:
    path = str(specs / "1.yaml")
    parsed = directory._parse(text, path)
    assert parsed.spec is not None
    memory = KeptSpecs(str(state))
    memory.keep(path, text.encode(), replace(parsed, spec=replace(parsed.spec, version="kept")))
    memory.save()


def find_version(specs: Path, state: Path, *, reads_anew: bool = False) -> str:
    (spec,) = load(specs, KeptSpecs(str(state), reads_anew=reads_anew)).specs
    return spec.version


def test_what_is_known_is_not_parsed(places: tuple[Path, Path]) -> None:
    assert find_version(*places) == "kept"


def test_a_file_that_only_has_the_same_times_and_size_is_parsed(places: tuple[Path, Path]) -> None:
    specs, _ = places
    path = specs / "1.yaml"
    was = path.stat()
    path.write_text(PLAIN.replace("[d]", "[e]"))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert find_version(*places) == ""


def test_the_same_content_in_another_file_is_parsed(places: tuple[Path, Path]) -> None:
    specs, _ = places
    (specs / "1.yaml").rename(specs / "2.yaml")
    assert find_version(*places) == ""


def test_anew_means_that_nothing_of_it_is_used_and_it_is_replaced(
    places: tuple[Path, Path],
) -> None:
    specs, state = places
    memory = KeptSpecs(str(state), reads_anew=True)
    assert load(specs, memory).specs[0].version == ""
    memory.save()
    assert find_version(specs, state) == ""


def _share(path: Path) -> None:
    path.chmod(0o640)


def _give_away(path: Path) -> None:
    os.chown(path, 1234, 1234)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _open_the_way(path: Path) -> None:
    path.parent.chmod(0o777)


def _make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SPOILS: list[Callable[[Path], None]] = [_share, _link, _open_the_way, _make_fifo]


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_others_may_have_a_hand_in_is_not_used(
    places: tuple[Path, Path], spoil: Callable[[Path], None]
) -> None:
    spoil(places[1] / FILE_NAME)
    assert find_version(*places) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_is_somebody_elses_is_not_used(places: tuple[Path, Path]) -> None:
    _give_away(places[1] / FILE_NAME)
    assert find_version(*places) == ""


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (as_left, "__version__", "another"),
        (as_left, "name_boot", lambda: "another"),
        (kept, "FORMAT", 0),
        (kept, "MAX_AGE_S", 0.0),
    ],
)
def test_another_ya_salt_another_boot_and_old_age_are_parsed(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, where: Any, name: str, value: Any
) -> None:
    monkeypatch.setattr(where, name, value)
    assert find_version(*places) == ""


def test_age_is_counted_from_the_first_that_was_kept(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    specs, state = places
    began = (state / FILE_NAME).read_bytes().splitlines()[2]
    (specs / "2.yaml").write_text(PLAIN.replace("a}", "b}"))
    memory = KeptSpecs(str(state))
    load(specs, memory)
    memory.save()
    head = (state / FILE_NAME).read_bytes().splitlines()
    assert head[2] == began
    assert len(head) == 3 + 2


def test_it_is_roots_alone_and_without_secrets_and_mistakes(tmp_path: Path) -> None:
    specs, state = make_places(tmp_path)
    for number, text in enumerate(TEXTS):
        (specs / f"{number}.yaml").write_text(text.replace("name: a", f"name: a{number}"))
    memory = KeptSpecs(str(state))
    loaded = load(specs, memory)
    memory.save()
    path = state / FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert WORD not in path.read_text()
    assert [spec.name for spec in loaded.specs][-2:] == ["f", "g"]
    with_secrets = [spec for spec in loaded.specs if spec.name == "f"]
    assert len(path.read_text().splitlines()) == 3 + len(loaded.specs) - len(with_secrets)
    assert [entry.name for entry in state.iterdir()] == [FILE_NAME]


def test_where_it_cannot_be_written_nothing_fails(tmp_path: Path) -> None:
    specs, _ = make_places(tmp_path)
    (specs / "1.yaml").write_text(PLAIN)
    memory = KeptSpecs(str(tmp_path / "nowhere"))
    assert load(specs, memory).specs
    memory.save()
    assert not (tmp_path / "nowhere").exists()


def test_a_row_of_another_shape_is_parsed(places: tuple[Path, Path]) -> None:
    specs, state = places
    memory = KeptSpecs(str(state))
    memory._known = dict.fromkeys(memory._known, '[[1, 1], [1, 1], {"name": 5}]')
    assert load(specs, memory).specs[0].version == ""
