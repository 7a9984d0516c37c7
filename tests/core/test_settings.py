"""Where settings come from, who wins, and what cannot be used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ya_salt.errors import SettingsError
from ya_salt.model import Settings
from ya_salt.settings import SETTINGS, load_settings


@pytest.fixture
def write(tmp_path: Path):
    def write_file(text: str) -> str:
        path = tmp_path / "ya-salt.yaml"
        path.write_text(text)
        return str(path)

    return write_file


def test_without_anything_the_documented_defaults_are_in_force() -> None:
    in_force = load_settings({}, {})
    assert in_force.settings.specs_dir == "/etc/hostman/porto-daemons.d"
    assert in_force.settings.state_dir == "/var/lib/ya-salt"
    assert in_force.settings.log_file == "/var/log/ya-salt.log"
    assert set(in_force.origins.values()) == {"default"}


def test_the_environment_goes_over_the_file_and_flags_over_both(write) -> None:
    path = write("specs_dir: /a\nstate_dir: /b\nroot: /c\n")
    in_force = load_settings(
        {"root": "/flag"}, {"YA_SALT_STATE_DIR": "/env", "YA_SALT_ROOT": "/env"}, path
    )
    settings = in_force.settings
    assert (settings.specs_dir, settings.state_dir, settings.root) == ("/a", "/env", "/flag")
    assert in_force.origins["specs_dir"] == f"{path}:1:1"
    assert in_force.origins["state_dir"] == "environment YA_SALT_STATE_DIR"
    assert in_force.origins["root"] == "flag --root"


def test_the_file_may_be_named_by_the_environment(write) -> None:
    path = write("parallel: 2\n")
    assert load_settings({}, {"YA_SALT_CONFIG": path}).settings.parallel == 2


def test_a_list_is_read_from_the_file_and_from_the_environment(write) -> None:
    path = write("packages_policy:\n  allow_removals: [old-tool, other]\n")
    assert load_settings({}, {}, path).settings.allow_removals == ("old-tool", "other")
    environment = {"YA_SALT_PACKAGES_POLICY_ALLOW_REMOVALS": "ab, cd"}
    assert load_settings({}, environment, path).settings.allow_removals == ("ab", "cd")


def test_settings_of_monitoring_lie_in_groups(write) -> None:
    path = write(
        "hostname: h.example.org\n"
        "monitoring:\n"
        "  yasm: {enabled: no, url: 'http://[::1]:11005/', ttl_s: 9,\n"
        "         tags: {itype: x, ctype: prod}}\n"
        "  juggler: {source: hostman, instance: one}\n"
        "  prometheus: {textfile_dir: /var/lib/textfile}\n"
        "  alertmanager: {url: 'https://alerts.example.org:9093/am'}\n"
    )
    settings = load_settings({}, {"YA_SALT_MONITORING_JUGGLER_ENABLED": "off"}, path).settings
    told = settings.monitoring
    assert settings.hostname == "h.example.org"
    assert (told.yasm.enabled, told.yasm.url, told.yasm.ttl_s) == (False, "http://[::1]:11005/", 9)
    assert told.yasm.tags == {"itype": "x", "ctype": "prod"}
    assert (told.juggler.enabled, told.juggler.source, told.juggler.instance) == (
        False,
        "hostman",
        "one",
    )
    assert told.juggler.url == "http://localhost:31579/events"
    assert (told.prometheus.enabled, told.prometheus.textfile_dir) == (True, "/var/lib/textfile")
    assert told.alertmanager.url == "https://alerts.example.org:9093/am"


def test_the_gate_is_a_group_of_its_own(write) -> None:
    path = write(
        "gate:\n"
        "  type: orly\n"
        "  endpoints: ['https://etcd1.example.org:2379', 'http://[::1]:2379']\n"
        "  prefix: /fleet/orly\n"
        "  facts: {dc: sas, stage: canary}\n"
    )
    gate = load_settings({}, {"YA_SALT_GATE_CA_FILE": "/etc/ca.pem"}, path).settings.gate
    assert gate.type == "orly"
    assert gate.endpoints == ("https://etcd1.example.org:2379", "http://[::1]:2379")
    assert gate.prefix == "/fleet/orly/"
    assert (gate.ca_file, gate.group) == ("/etc/ca.pem", "")
    assert gate.facts == {"dc": "sas", "stage": "canary"}


def test_tags_come_from_the_environment_too() -> None:
    environment = {"YA_SALT_MONITORING_YASM_TAGS": "itype=x, ctype=prod"}
    told = load_settings({}, environment).settings.monitoring
    assert told.yasm.tags == {"itype": "x", "ctype": "prod"}


def test_every_setting_can_be_shown_as_json() -> None:
    shown = {item.name: item.read(Settings()) for item in SETTINGS}
    assert json.loads(json.dumps(shown)) == shown
    assert shown["monitoring.yasm.tags"] == {"itype": "hostman"}


def test_relative_paths_are_taken_from_the_current_folder(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings({"specs_dir": "specs"}, {}).settings.specs_dir == f"{tmp_path}/specs"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("spec_dir: /a\n", ":1:1: spec_dir: there is no such setting; did you mean specs_dir?"),
        ("root: /a\nroot: /b\n", ":2:1: root: it is set twice; keep one"),
        ("parallel: many\n", ":1:1: parallel: 'many' is not a whole number from 1 to 64"),
        ("parallel: 0\n", ":1:1: parallel: '0' is not a whole number from 1 to 64"),
        ("root:\n", ":1:1: root: one value is wanted"),
        ("root: [/a]\n", ":1:1: root: one value is wanted"),
        ("- root\n", ":1:1: settings are a mapping of names to values"),
        ("packages_policy: {allow_removals: x}\n", ":1:19: packages_policy.allow_removals: a list"),
        ("packages_policy: {allow_removals: [-x]}\n", '"-x" is not a Debian package'),
        ("packages_policy: {allow_removal: [x]}\n", "did you mean packages_policy.allow_removals?"),
        ("root: /a\n  b: 1\n", ":2:"),
        ("monitoring: {yasm: {uri: x}}\n", "did you mean monitoring.yasm.url?"),
        ("monitoring: {graphite: {}}\n", ":1:14: monitoring.graphite: there is no such setting"),
        ("monitoring: {yasm: {url: 'localhost:11005'}}\n", "is not a URL such as"),
        ("monitoring: {yasm: {url: 'http://u:p@h/'}}\n", "is not a URL such as"),
        ("monitoring: {yasm: {enabled: 2}}\n", "monitoring.yasm.enabled: '2' is neither true nor"),
        ("monitoring: {yasm: {tags: [x]}}\n", "monitoring.yasm.tags: a mapping is wanted"),
        ("monitoring: {yasm: {tags: {itype: 'a b'}}}\n", "'a b' is not a tag"),
        ("hostname: хост\n", "is not a host name"),
        ("hostname: 'a b'\n", "'a b' is not a host name"),
        ("gate: {type: etcd}\n", ":1:8: gate.type: 'etcd' is not one of none, orly, fleetlock"),
        ("gate: {type: orly}\n", ":1:8: gate.type: orly wants gate.endpoints"),
        ("gate: {endpoints: ['h:2379']}\n", "gate.endpoints: 'h:2379' is not a URL such as"),
        ("gate: {prefix: 'a b'}\n", "gate.prefix: 'a b' is not a prefix of keys such as /orly/"),
        (
            "gate: {facts: {dc: 'a,b'}}\n",
            "gate.facts: 'a,b' is not a fact: one line without commas",
        ),
        ("gate: {group: a_b}\n", "gate.group: 'a_b' is not a group of FleetLock"),
        ("gate: {cert_file: /c}\n", ":1:8: gate.cert_file: it is of no use without gate.key_file"),
        ("gate: {username: u}\n", "gate.username: it is of no use without gate.password_file"),
        ("gate: {password: x}\n", "did you mean gate.password_file?"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(write, text: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {}, write(text))
    assert told in str(caught.value)


def test_every_problem_of_a_file_is_told_at_once(write) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {}, write("spec_dir: /a\nparallel: x\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_a_named_file_that_is_missing_is_an_error(tmp_path) -> None:
    with pytest.raises(SettingsError, match="no such settings file"):
        load_settings({}, {}, str(tmp_path / "none.yaml"))


def test_a_bad_environment_variable_is_named(tmp_path) -> None:
    with pytest.raises(SettingsError, match="environment YA_SALT_PARALLEL: 'x' is not a whole"):
        load_settings({}, {"YA_SALT_PARALLEL": "x"})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("YA_SALT_SPEC_DIR", "did you mean YA_SALT_SPECS_DIR?"),
        ("YA_SALT_CONF", "did you mean YA_SALT_CONFIG?"),
        ("YA_SALT_MONITORING_YASM_URI", "did you mean YA_SALT_MONITORING_YASM_URL?"),
        ("YA_SALT_", "known are"),
    ],
)
def test_an_unknown_variable_is_an_error_as_an_unknown_key_is(variable: str, meant: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {variable: "x", "HOME": "/root"})
    assert variable in str(caught.value)
    assert meant in str(caught.value)


def test_variables_of_others_are_nobodys_business() -> None:
    environment = {"YA_SALTY": "x", "SALT_YA": "x", "YA_SALT_TEST_STORIES": "3"}
    assert load_settings({}, environment).settings == Settings()


@pytest.mark.parametrize("name", ["specs_dir", "state_dir", "porto_socket", "root", "log_file"])
@pytest.mark.parametrize(
    "bad", ["a\nb", "a\tb", "a\x1b[31m", "a\0b", "a\u202eb", "a\udcff", "\x85"]
)
def test_a_path_with_control_characters_is_refused_at_once(name: str, bad: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: f"/srv/{bad}"}, {})
    assert str(caught.value).isprintable()
    assert f"flag --{name.replace('_', '-')}" in str(caught.value)


def test_a_path_with_blanks_and_quotes_is_taken_as_it_is() -> None:
    for name in ("a b", 'a "b"', "a'b", "a\\b", "-x", "ünï"):
        assert load_settings({"root": f"/srv/{name}"}, {}).settings.root == f"/srv/{name}"


def test_a_socket_path_that_is_too_long_is_refused_at_once() -> None:
    assert load_settings({"porto_socket": "/" + "x" * 106}, {})
    with pytest.raises(SettingsError, match="at most 107 bytes"):
        load_settings({"porto_socket": "/" + "x" * 107}, {})


# -- who may have written it -----------------------------------------------------------------------


def _world_writable(path: Path) -> None:
    path.chmod(0o666)


def _group_writable(path: Path) -> None:
    path.chmod(0o664)


def _of_nobody(path: Path) -> None:
    os.chown(path, 65534, 65534)


def _in_a_folder_of_nobody(path: Path) -> None:
    os.chown(path.parent, 65534, 65534)


def _in_a_folder_that_everybody_can_write(path: Path) -> None:
    path.parent.chmod(0o777)


def _behind_a_link_of_nobody(path: Path) -> None:
    real = path.with_name("real.yaml")
    path.rename(real)
    path.symlink_to(real)
    os.chown(path, 65534, 65534, follow_symlinks=False)


def _behind_a_link_into_a_folder_of_nobody(path: Path) -> None:
    folder = path.parent / "theirs"
    folder.mkdir()
    path.rename(folder / "real.yaml")
    path.symlink_to("theirs/real.yaml")
    os.chown(folder, 65534, 65534)


def _a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    ("open_up", "told"),
    [
        (_world_writable, "chmod go-w"),
        (_group_writable, "chmod go-w"),
        (_of_nobody, "chown root"),
        (_in_a_folder_of_nobody, "chown root"),
        (_in_a_folder_that_everybody_can_write, "chmod go-w"),
        (_behind_a_link_of_nobody, "chown root"),
        (_behind_a_link_into_a_folder_of_nobody, "theirs"),
        (_a_fifo, "neither a regular file"),
    ],
)
def test_settings_that_somebody_else_may_have_written_are_refused(write, open_up, told) -> None:
    path = Path(write("root: /tmp/theirs\n"))
    open_up(path)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {}, str(path))
    assert told in str(caught.value)


def test_a_link_of_ours_is_followed(write, tmp_path: Path) -> None:
    write("parallel: 9\n")
    (tmp_path / "link").symlink_to("ya-salt.yaml")
    assert load_settings({}, {}, str(tmp_path / "link")).settings.parallel == 9


# -- trials ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "environment", "flags", "is_written"),
    [
        ("", {}, {}, True),
        ("", {}, {"root": "/trial"}, False),
        ("", {}, {"state_dir": "/trial"}, False),
        ("", {"YA_SALT_STATE_DIR": "/trial"}, {}, False),
        ("", {}, {"state_dir": "/var/lib/ya-salt", "root": "/"}, True),
        ("state_dir: /trial\n", {}, {}, False),
        ("state_dir: /srv/ya-salt\n{textfile}", {}, {}, True),
        ("state_dir: /srv/ya-salt\n{textfile}", {}, {"state_dir": "/srv/ya-salt"}, True),
        ("state_dir: /srv/ya-salt\n{textfile}", {}, {"state_dir": "/trial"}, False),
        ("{textfile}", {}, {"root": "/trial"}, False),
        (
            "",
            {"YA_SALT_MONITORING_PROMETHEUS_TEXTFILE_DIR": "/own/textfile"},
            {"root": "/trial"},
            True,
        ),
    ],
)
def test_a_trial_does_not_write_the_hosts_textfile(
    write, file: str, environment: dict[str, str], flags: dict[str, str], is_written: bool
) -> None:
    named = "monitoring: {prometheus: {textfile_dir: /own/textfile}}\n"
    in_force = load_settings(flags, environment, write(file.format(textfile=named)))
    prometheus = in_force.settings.monitoring.prometheus
    assert (prometheus.enabled, bool(prometheus.textfile_dir)) == (is_written, is_written)
    if not is_written:
        assert "is another" in in_force.origins["monitoring.prometheus.enabled"]
