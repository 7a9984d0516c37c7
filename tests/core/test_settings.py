"""Where settings come from, who wins, and what cannot be used."""

from __future__ import annotations

import json
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
    environment = {"YA_SALT_PACKAGES_POLICY_ALLOW_REMOVALS": "a, b"}
    assert load_settings({}, environment, path).settings.allow_removals == ("a", "b")


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
        ("packages_policy: {allow_removals: [-x]}\n", "'-x' is not a Debian package name"),
        ("packages_policy: {allow_removal: [x]}\n", "did you mean packages_policy.allow_removals?"),
        ("root: /a\n  b: 1\n", ":2:"),
        ("monitoring: {yasm: {uri: x}}\n", "did you mean monitoring.yasm.url?"),
        ("monitoring: {graphite: {}}\n", ":1:14: monitoring.graphite: there is no such setting"),
        ("monitoring: {yasm: {url: 'localhost:11005'}}\n", "is not a URL such as"),
        ("monitoring: {yasm: {url: 'http://u:p@h/'}}\n", "is not a URL such as"),
        ("monitoring: {yasm: {enabled: 2}}\n", "monitoring.yasm.enabled: '2' is neither true nor"),
        ("monitoring: {yasm: {tags: [x]}}\n", "monitoring.yasm.tags: a mapping is wanted"),
        ("monitoring: {yasm: {tags: {itype: 'a b'}}}\n", "'a b' is not a tag"),
        ("hostname: 'a b'\n", "'a b' is not a host name"),
        ("gate: {type: etcd}\n", ":1:8: gate.type: 'etcd' is not one of none, orly, fleetlock"),
        ("gate: {type: orly}\n", ":1:8: gate.type: orly wants gate.endpoints"),
        ("gate: {endpoints: ['h:2379']}\n", "gate.endpoints: 'h:2379' is not a URL such as"),
        ("gate: {prefix: 'a b'}\n", "gate.prefix: 'a b' is not a prefix of keys such as /orly/"),
        (
            "gate: {facts: {dc: 'a,b'}}\n",
            "gate.facts: 'a,b' is not a fact: write one line without commas",
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
    with pytest.raises(
        SettingsError, match="environment YA_SALT_PARALLEL: 'x' is not a whole number"
    ):
        load_settings({}, {"YA_SALT_PARALLEL": "x"})
