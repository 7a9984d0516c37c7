"""The daemons directory: what is read, what is refused, what is left alone."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ya_salt.errors import OperatorError
from ya_salt.specs import directory
from ya_salt.specs.directory import (
    DaemonsDirectoryError,
    DaemonsDirectoryMissingError,
    load_files,
    load_specs,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "porto-daemons.d"
    path.mkdir(mode=0o755)
    return path


def write(path: Path, name: str = "d", text: str | None = None) -> Path:
    path.write_text(text or f"meta: {{name: {name}}}\nspec: {{properties: {{cmd: [d]}}}}\n")
    path.chmod(0o644)
    return path


def reasons(folder: Path) -> dict[str, tuple[str, ...]]:
    prefix = f"{folder}/"
    return {
        one.path.removeprefix(prefix): tuple(
            problem.removeprefix(prefix) for problem in one.problems
        )
        for one in load_specs(str(folder)).rejected
    }


def test_files_are_read_in_name_order(folder: Path) -> None:
    for number in (3, 1, 2, 10):
        write(folder / f"{number}.yaml", f"d{number}")
    loaded = load_specs(f"{folder}/")
    assert [spec.name for spec in loaded.specs] == ["d1", "d10", "d2", "d3"]
    assert loaded.specs[0].path == f"{folder}/1.yaml"
    assert (loaded.rejected, loaded.ignored) == ((), ())


def test_every_ending_is_read(folder: Path) -> None:
    write(folder / "a.yml", "a")
    write(folder / "b.yaml", "b")
    write(folder / "c.json", text='{"meta":{"name":"c"},"spec":{"properties":{"cmd":["d"]}}}')
    assert [spec.name for spec in load_specs(str(folder)).specs] == ["a", "b", "c"]


def test_json_is_not_read_as_yaml(folder: Path) -> None:
    write(folder / "a.json")
    assert reasons(folder) == {
        "a.json": (
            'a.json:1:1: is not JSON here: found "meta";'
            " write a value; texts stand in double quotes",
        )
    }


LEFTOVERS = {
    ".a.yaml": "a hidden file",
    ".a.yaml.swp": "a hidden file",
    "#a.yaml#": "a leftover of an editor or of a package manager",
    "a.yaml~": "a leftover of an editor or of a package manager",
    "a.yaml.bak": "a leftover of an editor or of a package manager",
    "a.yaml.dpkg-new": "a leftover of an editor or of a package manager",
    "a.yaml.dpkg-old": "a leftover of an editor or of a package manager",
    "a.yaml.dpkg-dist": "a leftover of an editor or of a package manager",
    "a.yaml.dpkg-tmp": "a leftover of an editor or of a package manager",
    "a.yaml.orig": "a leftover of an editor or of a package manager",
    "a.yaml.rej": "a leftover of an editor or of a package manager",
    "a.yaml.ucf-dist": "a leftover of an editor or of a package manager",
    "README": "not a spec file: their names end in .yml, .yaml or .json",
    "a.YAML": "not a spec file: their names end in .yml, .yaml or .json",
    "a.yaml.disabled": "not a spec file: their names end in .yml, .yaml or .json",
    "yaml": "not a spec file: their names end in .yml, .yaml or .json",
}


@pytest.mark.parametrize("name", LEFTOVERS)
def test_leftover_is_ignored_and_listed(folder: Path, name: str) -> None:
    write(folder / name)
    loaded = load_specs(str(folder))
    assert [(one.path, one.reason) for one in loaded.ignored] == [
        (f"{folder}/{name}", LEFTOVERS[name])
    ]
    assert (loaded.specs, loaded.rejected) == ((), ())


def test_directory_with_a_specs_ending_is_ignored(folder: Path) -> None:
    (folder / "a.yaml").mkdir()
    assert [(one.path, one.reason) for one in load_specs(str(folder)).ignored] == [
        (f"{folder}/a.yaml", "a directory")
    ]


def test_symbolic_link_is_rejected_and_not_followed(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "real.yaml")
    (folder / "a.yaml").symlink_to(tmp_path / "real.yaml")
    (folder / "b.yaml").symlink_to(tmp_path / "nowhere")
    (folder / "c.txt").symlink_to(tmp_path / "real.yaml")
    words = "is a symbolic link, which is not followed; put the file itself here"
    assert reasons(folder) == {"a.yaml": (f"a.yaml: {words}",), "b.yaml": (f"b.yaml: {words}",)}
    assert load_specs(str(folder)).specs == ()


def test_fifo_and_socket_are_rejected_and_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "a.yaml")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(folder, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{here}/b.yaml")
        finally:
            os.close(here)
    write(folder / "c.yaml")
    assert reasons(folder) == {
        "a.yaml": ("a.yaml: is a FIFO; put a regular file here",),
        "b.yaml": ("b.yaml: is a socket; put a regular file here",),
    }
    assert [spec.name for spec in load_specs(str(folder)).specs] == ["d"]


def test_entry_that_becomes_a_fifo_does_not_hang(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(folder / "a.yaml")
    real = write(folder / "b.yaml").stat()
    seen = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **more: real if path == "a.yaml" else seen(path, **more)
    )
    assert reasons(folder) == {"a.yaml": ("a.yaml: is a FIFO; put a regular file here",)}


def test_entry_that_becomes_a_link_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = write(folder / "b.yaml").stat()
    (folder / "a.yaml").symlink_to(folder / "b.yaml")
    seen = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **more: real if path == "a.yaml" else seen(path, **more)
    )
    assert reasons(folder) == {
        "a.yaml": ("a.yaml: cannot be read: Too many levels of symbolic links",)
    }


def test_file_that_vanishes_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "b.yaml")
    monkeypatch.setattr(os, "listdir", lambda _: ["a.yaml", "b.yaml"])
    loaded = load_specs(str(folder))
    assert [spec.name for spec in loaded.specs] == ["d"]
    assert [one.reason for one in loaded.ignored] == ["gone while the directory was read"]


def test_bad_file_disturbs_no_other(folder: Path) -> None:
    write(folder / "a.yaml", text="\0")
    write(folder / "b.yaml", "b")
    write(folder / "c.yaml", text="meta: {name: c}\n spec: {")
    loaded = load_specs(str(folder))
    assert [spec.name for spec in loaded.specs] == ["b"]
    assert [(one.name, len(one.problems)) for one in loaded.rejected] == [("", 1), ("c", 1)]


def test_rejected_file_tells_its_daemon_where_that_can_be_read(folder: Path) -> None:
    write(folder / "a.yaml", text="meta: {name: a}\nspec: {properties: {cmd: [}}")
    write(folder / "b.yaml", text="meta: {name: b}\nspec: {}\n")
    write(folder / "c.json", text='{"meta": {"name": "c"}, "spec": {"properties": {"cmd": [}}}')
    write(folder / "e.yaml", text="meta: {name: e/f}\n")
    assert [one.name for one in load_specs(str(folder)).rejected] == ["a", "b", "c", ""]


def test_one_name_in_two_files_refuses_both(folder: Path) -> None:
    write(folder / "a.yaml", "same")
    write(folder / "b.yaml", "other")
    write(folder / "c.json", text='{"meta":{"name":"same"},\n"spec":{"properties":{"cmd":["d"]}}}')
    loaded = load_specs(str(folder))
    assert [spec.name for spec in loaded.specs] == ["other"]
    assert [one.name for one in loaded.rejected] == ["same", "same"]
    assert reasons(folder) == {
        "a.yaml": (
            f"a.yaml:1:14: meta.name: same is also defined in {folder}/c.json; keep it in one file",
        ),
        "c.json": (
            f"c.json:1:17: meta.name: same is also defined in {folder}/a.yaml; keep it in one file",
        ),
    }


def test_three_files_of_one_name_name_each_other(folder: Path) -> None:
    for name in "abc":
        write(folder / f"{name}.yaml")
    problem = load_specs(str(folder)).rejected[1].problems[0]
    assert f"{folder}/a.yaml, {folder}/c.yaml" in problem


def test_broken_twin_does_not_take_a_good_file_down(folder: Path) -> None:
    write(folder / "a.yaml", text="meta: {name: d}\nspec: {}\n")
    write(folder / "b.yaml", "d")
    loaded = load_specs(str(folder))
    assert [spec.path for spec in loaded.specs] == [f"{folder}/b.yaml"]
    assert [(one.path, one.name) for one in loaded.rejected] == [(f"{folder}/a.yaml", "")]


@needs_root
@pytest.mark.parametrize(
    ("mode", "who"),
    [(0o664, "its group"), (0o646, "everybody"), (0o666, "its group and everybody")],
)
def test_file_that_others_can_write_is_rejected(folder: Path, mode: int, who: str) -> None:
    write(folder / "a.yaml").chmod(mode)
    path = f"{folder}/a.yaml"
    (rejected,) = load_specs(str(folder)).rejected
    assert rejected.problems == (f"{path}: can be written by {who}; chmod go-w {path}",)
    assert rejected.name == "d"


@needs_root
def test_open_file_cannot_speak_for_the_daemon_of_a_good_one(folder: Path) -> None:
    write(folder / "a.yaml").chmod(0o666)
    write(folder / "b.yaml")
    loaded = load_specs(str(folder))
    assert [spec.path for spec in loaded.specs] == [f"{folder}/b.yaml"]
    assert [one.name for one in loaded.rejected] == [""]


@needs_root
def test_file_of_another_user_is_rejected(folder: Path) -> None:
    os.chown(write(folder / "it's.yaml"), 12345, 0)
    path = f"{folder}/it's.yaml"
    assert load_specs(str(folder)).rejected[0].problems == (
        f"{path}: is owned by user 12345, who could run anything as root;"
        f" chown root '{folder}/it'\"'\"'s.yaml'",
    )


@needs_root
def test_open_directory_rejects_all_its_files(folder: Path) -> None:
    write(folder / "a.yaml", "a")
    write(folder / "b.txt")
    folder.chmod(0o777)
    loaded = load_specs(str(folder))
    assert loaded.specs == ()
    assert [(one.name, one.problems) for one in loaded.rejected] == [
        (
            "a",
            (
                f"{folder}/a.yaml: its directory can be written by its group and everybody;"
                f" chmod go-w {folder}",
            ),
        )
    ]
    assert len(loaded.ignored) == 1


@needs_root
def test_directory_of_another_user_rejects_all_its_files(folder: Path) -> None:
    write(folder / "a.yaml", "a")
    os.chown(folder, 12345, 0)
    assert "its directory is owned by user 12345" in load_specs(str(folder)).rejected[0].problems[0]


@needs_root
@pytest.mark.parametrize("how", ["mode", "owner", "link"])
def test_what_leads_to_the_directory_is_looked_at_too(folder: Path, how: str) -> None:
    specs = folder / "etc" / "specs"
    specs.mkdir(parents=True)
    write(specs / "a.yaml", "a")
    named = specs
    if how == "mode":
        specs.parent.chmod(0o777)
    elif how == "owner":
        os.chown(specs.parent, 12345, 0)
    else:
        named = folder / "link"
        named.symlink_to(specs)
        os.chown(named, 12345, 0, follow_symlinks=False)
    loaded = load_specs(str(named))
    assert loaded.specs == ()
    (rejected,) = loaded.rejected
    assert rejected.name == "a"
    assert f"{named if how == 'link' else specs.parent}, which leads to" in rejected.problems[0]
    assert ("chmod go-w" if how == "mode" else "chown root") in rejected.problems[0]


@needs_root
def test_a_sticky_directory_on_the_way_is_fine_as_long_as_what_lies_in_it_is_ours(
    folder: Path,
) -> None:
    specs = folder / "tmp" / "specs"
    specs.mkdir(parents=True)
    specs.parent.chmod(0o1777)
    write(specs / "a.yaml", "a")
    assert len(load_specs(str(specs)).specs) == 1
    os.chown(specs, 12345, 0)
    assert "its directory is owned by user 12345" in load_specs(str(specs)).rejected[0].problems[0]


def test_permissions_are_nothing_to_a_plain_user(folder: Path) -> None:
    write(folder / "a.yaml").chmod(0o666)
    assert len(load_specs(str(folder), uid=1000).specs) == 1


def test_file_that_cannot_be_read_is_rejected_not_absent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "a.yaml")

    def refuse(_file: int, _size: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", refuse)
    assert reasons(folder) == {"a.yaml": ("a.yaml: cannot be read: Input/output error",)}


def test_name_that_cannot_be_printed_is_rejected(folder: Path) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff\n.yaml"))).write_text("x")
    rejected = load_specs(str(folder)).rejected[0]
    assert rejected.path == f"{folder}/\\udcff\\n.yaml"
    assert rejected.problems == (f"{rejected.path}: its name cannot be printed; rename it",)


def test_file_that_never_ends_is_read_to_its_limit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "a.yaml", text="#" * (1 << 20) + "##")
    assert reasons(folder) == {
        "a.yaml": ("a.yaml:1:1: is over 1048576 bytes; a spec is a few kilobytes",)
    }


def test_missing_directory_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(DaemonsDirectoryMissingError) as caught:
        load_specs(str(tmp_path / "none"))
    assert str(caught.value) == (
        f"{tmp_path}/none: the daemons directory does not exist;"
        " create it, or set its path in the settings"
    )
    assert isinstance(caught.value, OperatorError)


def test_directory_that_is_none_is_not_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml")
    with pytest.raises(DaemonsDirectoryError, match="cannot be read: Not a directory"):
        load_specs(str(path))
    with pytest.raises(DaemonsDirectoryError, match=r"cannot be read: .*embedded null"):
        load_specs("/etc/\0")


def test_directory_that_stops_answering_is_not_empty(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_folder: int) -> list[str]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(DaemonsDirectoryError, match="Input/output error"):
        load_specs(str(folder))


def test_named_files_may_be_links_and_anybodys(tmp_path: Path) -> None:
    real = write(tmp_path / "real.txt", "r")
    real.chmod(0o666)
    link = tmp_path / "a.yaml"
    link.symlink_to(real)
    loaded = load_files([str(link), str(link), str(tmp_path / "none.yaml")])
    assert [spec.path for spec in loaded.specs] == [str(link)]
    assert loaded.rejected[0].problems == (
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory",
    )


def test_named_fifo_or_directory_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    loaded = load_files([str(tmp_path / "a.yaml"), str(tmp_path), "/dev/zero"])
    assert [one.problems[0].partition(": ")[2] for one in loaded.rejected] == [
        "is a FIFO; put a regular file here",
        "cannot be read: Is a directory",
        "is a device; put a regular file here",
    ]


def test_named_files_of_one_name_are_refused(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{name}.yaml")) for name in "ab"]
    assert len(load_files(paths).rejected) == 2


def test_what_was_read_before_is_parsed_anew_only_where_it_says_something_else(
    tmp_path: Path,
) -> None:

    file = tmp_path / "one.yaml"
    text = 'meta: {name: one, version: "1"}\nspec: {properties: {cmd: [sleep, "1"]}}\n'
    file.write_text(text)
    first = load_specs(str(tmp_path))
    before = directory._parse_once.cache_info().misses
    assert load_specs(str(tmp_path)) == first
    assert directory._parse_once.cache_info().misses == before
    file.write_text(text.replace('version: "1"', 'version: "2"'))
    assert load_specs(str(tmp_path)).specs[0].version == "2"
