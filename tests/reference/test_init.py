"""`ya-salt init` prints a valid spec; of a service it takes what a spec can say."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from helpers.yaml_reader import read
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ya_salt.cli.main import main
from ya_salt.errors import SpecError
from ya_salt.model import DaemonSpec
from ya_salt.reference.schema import make_schema
from ya_salt.reference.template import render_spec
from ya_salt.specs.directory import parse_spec
from ya_salt.specs.unit_file import FromUnit, read_unit, split_words


def init(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["init", *arguments]) == 0
    return capsys.readouterr().out


def translate(service: str, name: str = "agent.service") -> FromUnit:
    return read_unit(f"[Service]\n{service}", name)


def cmd(line: str, more: str = "", name: str = "agent.service") -> list[str]:
    return list(translate(f"{more}\nExecStart={line}\n", name).properties["cmd"])


def properties(service: str) -> dict[str, Any]:
    found = translate(f"ExecStart=/bin/d\n{service}")
    text = render_spec("d", [], found, "d.service")
    return dict(parse_spec(text, "d.yaml").properties)


# -- what is printed -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["agent", "no", "1.10", "a@b:c", "-x"[1:], "true"])
def test_the_spec_is_valid_as_it_stands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = init(capsys, name, "--package", "a1=1:2.3-4", "--package", "b2=1.10")
    spec = parse_spec(text, "d.yaml")
    assert (spec.name, [(p.name, p.version) for p in spec.packages]) == (
        name,
        [("a1", "1:2.3-4"), ("b2", "1.10")],
    )
    jsonschema.Draft7Validator(make_schema("spec")).validate(read(text))
    assert text.startswith("# yaml-language-server: $schema=/usr/share/ya-salt/schemas/spec.json\n")


def _uncomment(text: str) -> DaemonSpec:
    lines = [re.sub(r"^(\s+)# (?=\s*(-|[a-z_]+:))", r"\1", line) for line in text.splitlines()]
    return parse_spec("\n".join(lines), "d.yaml")


def test_every_comment_that_is_a_field_is_valid_too(capsys: pytest.CaptureFixture[str]) -> None:
    text = init(capsys, "agent").replace("    # virt_mode: host", "    # virt_mode: app")
    spec = _uncomment(text)
    assert spec.properties["memory_limit"] == "2147483648"
    assert spec.readiness is not None
    assert spec.after == ("another-daemon",)
    assert [package.name for package in spec.packages] == ["a-package"]
    assert spec.update.state == ("/var/lib/agent",)


def test_the_version_of_a_package_is_the_one_installed_here(
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = parse_spec(init(capsys, "agent", "--package", "dpkg"), "d.yaml")
    assert spec.packages[0].name == "dpkg"
    assert spec.packages[0].version[0].isdigit()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a/b"], "holds a slash"),
        (["self"], "means something else to Porto"),
        (["a", "--package", "no-such-package-here"], "no-such-package-here=VERSION"),
        (["a", "--package", "dpkg=1.0-"], "is not a Debian version"),
        (["a", "--package", "a1=1", "--package", "a1=2"], "named twice"),
        (["a", "--from-unit", "/nonexistent.service"], "cannot be read"),
    ],
)
def test_what_cannot_be_is_told(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, told in err) == ("", True)


# -- a service -----------------------------------------------------------------------------------

SERVICE = r"""
[Unit]
Description=Agent of monitoring
After=network.target

[Service]
Type=forking
Environment="A=b c" D=e
Environment=PORT=80
EnvironmentFile=-/etc/default/agent
ExecStartPre=/bin/mkdir -p /run/agent
ExecStart=/usr/sbin/agent --port ${PORT} --name "x \"y\" %i" \
   # a comment within
   $D --flag='q r'
User=monitor
Group=monitor
WorkingDirectory=/var/lib/agent
LimitNOFILE=65536
LimitCORE=infinity
LimitNPROC=100:200
MemoryMax=2G
CPUQuota=150%
TasksMax=500
Restart=on-failure
RestartSec=1min 30s
StandardOutput=append:/var/log/agent.log
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_NET_RAW
IOReadBandwidthMax=/dev/sda 5M
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""


def test_a_service_becomes_a_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "agent@1.service"
    path.write_text(SERVICE)
    text = init(capsys, "agent", "--from-unit", str(path))
    spec = parse_spec(text, "d.yaml")
    assert dict(spec.properties) == {
        "command_argv": '/usr/sbin/agent\t--port\t80\t--name\tx "y" 1\te\t--flag=q r',
        "user": "monitor",
        "group": "monitor",
        "cwd": "/var/lib/agent",
        "env[A]": "b c",
        "env[D]": "e",
        "env[PORT]": "80",
        "ulimit[nofile]": "65536 65536",
        "ulimit[core]": "unlimited unlimited",
        "ulimit[nproc]": "100 200",
        "stdout_path": "/var/log/agent.log",
        "respawn_delay": "90000000000ns",
        "memory_limit": str(2 << 30),
        "cpu_limit": "1.5c",
        "thread_limit": "500",
        "io_limit[/dev/sda r]": "5000000",
        "capabilities": "NET_BIND_SERVICE;NET_RAW",
    }
    assert spec.annotations == {"description": "Agent of monitoring"}
    told = [line for line in text.splitlines() if line.startswith("# - ")]
    names = [re.split("[=:]", line[4:])[0] for line in told]
    assert sorted(names) == sorted(
        ["Restart", "Type", "After", "EnvironmentFile", "ExecStartPre", "PrivateTmp"]
        # Put into the command, though that file may say other.
        + ["Environment"] * 2
    )


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("/bin/d a  b", ["/bin/d", "a", "b"]),
        ("/bin/d 'a  b' \"c'd\"", ["/bin/d", "a  b", "c'd"]),
        ("/bin/d --x='a b'c", ["/bin/d", "--x=a bc"]),
        (r"/bin/d a\x20b \u00e9 \101 \s1", ["/bin/d", "a b", "é", "A"]),
        (r"/bin/d a\qb", ["/bin/d", r"a\qb"]),
        ("/bin/d 100%% $$HOME", ["/bin/d", "100%", "$HOME"]),
        ("/bin/d ${A}x $B ${A}$B", ["/bin/d", "1 2x", "3", "4", "1 2$B"]),
        ("/bin/d $EMPTY $Q ${Q}", ["/bin/d", "5 6", "7", "8 9", "'5 6' \\7 \"8 9"]),
        (":/bin/d ${A} $B", ["/bin/d", "${A}", "$B"]),
        ("-/bin/d x", ["/bin/d", "x"]),
        ("@/bin/d name x", ["/bin/d", "x"]),
        ("-@+/bin/d name x", ["/bin/d", "x"]),
        ("!!/bin/d x", ["/bin/d", "x"]),
        (r"/bin/d a \; b", ["/bin/d", "a", ";", "b"]),
        ("/bin/d a ; /bin/e b", ["/bin/d", "a"]),
        ("/bin/d %n %N %p %t %S/x", ["/bin/d", "agent.service", "agent", "agent", "/run"]),
    ],
)
def test_a_command_is_read_as_systemd_reads_it(line: str, argv: list[str]) -> None:
    quoted = r"""Environment="Q='5 6' \\7 \"8 9" EMPTY="""
    found = cmd(line, f'Environment="A=1 2" "B=3 4"\n{quoted}')
    assert found[: len(argv)] == argv


def test_blanks_at_the_ends_of_an_argument_are_told_as_porto_drops_them() -> None:
    found = translate(r"ExecStart=/bin/d ' a' b")
    assert found.properties["cmd"] == ["/bin/d", "b"]
    assert any("begins or ends with a blank" in told for told in found.missing)


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("a@x-y.service", ["x-y", "x/y", "a"]),
        ("a.service", ["", "", "a"]),
        (r"a@b\x2dc.service", [r"b\x2dc", "b-c", "a"]),
    ],
)
def test_specifiers_come_from_the_name_of_the_file(name: str, argv: list[str]) -> None:
    assert cmd("/bin/d i%i I%I p%p", name=name)[1:] == [
        f"{letter}{value}" for letter, value in zip("iIp", argv, strict=True)
    ]


@pytest.mark.parametrize(("word", "name"), [("%i", "a@.service"), ("%H", "a.service")])
def test_what_the_file_does_not_tell_stays_and_is_told(word: str, name: str) -> None:
    found = read_unit(f"[Service]\nExecStart=/bin/d {word}\nUser=a{word}\n", name)
    assert found.properties == {"cmd": ["/bin/d", word]}
    assert [told.partition("=")[0] for told in found.told if word in told] == ["ExecStart", "User"]
    assert [told.partition("=")[0] for told in found.missing] == ["ExecStart"]


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("MemoryMax=infinity", {}),
        ("MemoryLimit=512M", {"memory_limit": str(512 << 20)}),
        ("MemoryMin=1G", {"memory_guarantee": str(1 << 30)}),
        ("CPUQuota=20%", {"cpu_limit": "0.2c"}),
        ("CPUWeight=200", {"cpu_weight": "2"}),
        ("AllowedCPUs=0-3 8", {"cpu_set": "0-3,8"}),
        ("LimitMEMLOCK=64M", {"ulimit[memlock]": f"{64 << 20} {64 << 20}"}),
        ("UMask=0027", {"umask": "027"}),
        ("OOMScoreAdjust=-500", {"oom_score_adj": "-500"}),
        ("Restart=no", {"max_respawns": "0"}),
        ("Restart=always", {}),
        ("RestartSec=100ms", {"respawn_delay": "100000000ns"}),
        ("RestartSec=2.5", {"respawn_delay": "2500000000ns"}),
        ("RootDirectory=/srv/d", {"root": "/srv/d"}),
        ("AmbientCapabilities=CAP_NET_RAW", {"capabilities_ambient": "NET_RAW"}),
        ("StandardError=null", {"stderr_path": "/dev/null"}),
        ("User=a\nUser=b", {"user": "b"}),
        ("User=1000", {"user": "1000"}),
        ("Environment=A=1\nEnvironment=\nEnvironment=B=2", {"env[B]": "2"}),
    ],
)
def test_a_key_becomes_a_property(service: str, expected: dict[str, str]) -> None:
    assert properties(service) == {"command_argv": "/bin/d", **expected}


@pytest.mark.parametrize(
    "line",
    [
        "MemoryMax=50%",
        "MemoryMax=1K",
        "MemoryHigh=1G",
        "TasksMax=10%",
        "CapabilityBoundingSet=~CAP_SYS_ADMIN",
        "CapabilityBoundingSet=CAP_NO_SUCH",
        "LimitNICE=+5",
        "User=not a user",
        "WorkingDirectory=~",
        "RestartSec=soon",
        "Environment='A=1",
        "Environment=1A=2",
        "ProtectSystem=strict",
        "NoSuchKey=1",
        "KillSignal=SIGINT",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Type=dbus",
        "WatchdogSec=10",
    ],
)
def test_what_a_spec_cannot_say_is_named(line: str) -> None:
    found = translate(f"Restart=always\nExecStart=/bin/d\n{line}")
    assert found.properties == {"cmd": ["/bin/d"]}
    assert [told.partition("=")[0] for told in found.told] == [line.partition("=")[0]]


def test_a_service_that_says_so_itself_does_so_here() -> None:
    found = translate("Type=notify\nWatchdogSec=1min 30\nRestart=always\nExecStart=/bin/d\n")
    assert found.told == []
    readiness = parse_spec(render_spec("d", [], found, "d"), "d.yaml").readiness
    assert readiness is not None
    assert (readiness.notify, readiness.watchdog_s) == (True, 90.0)
    long = parse_spec(render_spec("d" * 60, [], found, "d"), "d.yaml")
    assert long.readiness is None


def test_nothing_of_a_unit_steers_the_file_that_is_made() -> None:
    text = "Description=x\\x1b[31m\nNoSuchKey=a\x1b]0;\x07\nExecStart=/bin/d '\\x1b' \"a\\nb\" é\n"
    shown = render_spec("d", [], translate(text), "x\n#y.service")
    assert shown.replace("\n", "").isprintable()
    assert shown.isascii()
    assert parse_spec(shown, "d.yaml").properties["command_argv"].endswith("\x1b\ta\nb\té")


KEYS = (
    *("ExecStart", "Environment", "User", "Group", "MemoryMax", "CPUQuota", "LimitNOFILE"),
    *("TasksMax", "UMask", "RestartSec", "WorkingDirectory", "StandardOutput", "CPUWeight"),
    *("AllowedCPUs", "IOReadIOPSMax", "CapabilityBoundingSet", "OOMScoreAdjust", "Description"),
    *("Type", "RootDirectory", "WatchdogSec"),
)
UNITS = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.builds(
            "{}={}".format,
            st.sampled_from(KEYS),
            st.text("abc/ 019%${}\\\"'=-:;@x\n\0\x1b#[]é~GM.,", max_size=25),
        ),
    ),
    max_size=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(UNITS)
@example(["ExecStart=/bin/d %"])
@example(["Type=notify", "WatchdogSec=5", "Environment=NOTIFY_SOCKET=x"])
@example(["ExecStart=-", "ExecStart=@/bin/d"])
def test_whatever_a_unit_says_the_spec_is_valid(lines: list[str]) -> None:
    found = read_unit("[Service]\n" + "\n".join(lines), "d.service")
    check_spec(render_spec("d", [], found, "d.service"), found)


def check_spec(text: str, found: FromUnit) -> None:
    """A spec that is valid, or lacks nothing but the command that its comment is about."""
    if not found.missing:
        parse_spec(text, "d.yaml")
        return
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "d.yaml")
    (problem,) = caught.value.problems
    assert "spec.properties.cmd: is empty" in str(problem)
    parse_spec(text.replace("    cmd:", "    cmd: [x]"), "d.yaml")


UNKNOWN = """
[Service]
Environment=PORT=80
EnvironmentFile=-/etc/default/agent
ExecStart=/usr/sbin/agent --port ${PORT} $OPTS --name=${NAME}
"""


def test_a_command_of_which_a_part_is_not_known_is_no_valid_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.service").write_text(UNKNOWN)
    assert main(["init", "agent", "--from-unit", str(tmp_path / "agent.service")]) == 0
    text, said = capsys.readouterr()
    for name in ("OPTS", "NAME"):
        for told in (" ".join(text.replace("#  ", "").split()), said):
            assert f"no Environment= sets {name}, perhaps /etc/default/agent does" in told
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    assert main(["validate", str(path)]) == 1
    place = text.splitlines().index("    cmd:") + 1
    assert f"{path}:{place}:9: spec.properties.cmd: is empty" in capsys.readouterr().err
    # Its words are there, to be gone on with.
    text = text.replace("    #  - ", "      - ").replace('"$OPTS"', "-v").replace("${NAME}", "x")
    argv = parse_spec(text, "d.yaml").properties["command_argv"]
    assert argv == "/usr/sbin/agent\t--port\t80\t-v\t--name=x"


@pytest.mark.parametrize(
    "line", ["", "ExecStart=-", "ExecStart='/bin/d", "ExecStart=/bin/d $X", "ExecStart=/bin/d ' a'"]
)
def test_a_guessed_command_passes_for_none_of_a_service(line: str) -> None:
    found = translate(line)
    assert found.missing
    check_spec(render_spec("d", [], found, "d.service"), found)


@given(st.lists(st.text("ab c\"'\\\t;$é", max_size=8)))
def test_words_that_are_quoted_come_back(words: list[str]) -> None:
    escaped = [word.replace("\\", "\\\\").replace('"', '\\"') for word in words]
    assert split_words(" ".join(f'"{word}"' for word in escaped)) == words


# -- whose file it is ----------------------------------------------------------------------------


def test_a_link_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "real.service").write_text("[Service]\nExecStart=/bin/d\n")
    (tmp_path / "link.service").symlink_to("real.service")
    assert main(["init", "d", "--from-unit", str(tmp_path / "link.service")]) == 2
    assert "a symbolic link, which is not followed" in capsys.readouterr().err


def test_a_fifo_does_not_hold_it_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "x.service")
    assert main(["init", "d", "--from-unit", str(tmp_path / "x.service")]) == 2
    assert "FIFO" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"\xff[Service]", b"just words", b"[Service]\n#" + b"x" * (1 << 20)]
)
def test_what_is_no_unit_is_told(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.service").write_bytes(content)
    assert main(["init", "d", "--from-unit", str(tmp_path / "x.service")]) == 2
    assert capsys.readouterr().out == ""


def test_units_of_this_machine_become_specs() -> None:
    folder = Path("/usr/lib/systemd/system")
    units = [path for path in sorted(folder.glob("*.service")) if not path.is_symlink()]
    for path in units or [Path(__file__).parents[2] / "packaging/systemd/ya-salt.service"]:
        found = read_unit(path.read_text(), path.name)
        check_spec(render_spec("d", [], found, str(path)), found)
