"""What fields mean, for people: of those whose tables hold no words, as a pass needs none. Pure.

Properties and settings have their words in their own tables. A test holds that nothing is missing
here, nothing is left over, and every example is taken by what checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ya_salt.gate.rule import Rule
from ya_salt.gate.rule_file import show_duration
from ya_salt.model import (
    PROBED_READY_TIMEOUT_S,
    READY_TIMEOUT_S,
    DaemonSpec,
    Readiness,
    UpdatePolicy,
    Watch,
)


class Words(NamedTuple):
    """`example` is YAML, of the value alone."""

    meaning: str
    default: str = ""
    example: str = ""
    change: str = ""


RESTART = "restart: the daemon is stopped and started"
LIVE = "live: set in the running container"
NO_RESTART = "restarts nothing"
FROM_NOW_ON = "restarts no daemon; the next pass reads it"

SPEC: Mapping[str, Words] = {
    "meta": Words("Which daemon this is."),
    "meta.kind": Words("What the file describes.", "left out", "PortoDaemon", NO_RESTART),
    "meta.version": Words("Any text that helps people.", "none", '"1.10"', NO_RESTART),
    "meta.name": Words(
        "The daemon's name, and its container's.",
        example="juggler-agent-rtc",
        change="another daemon; the one of the old name is left as it is",
    ),
    "meta.delete_requested": Words(
        "true removes the daemon: its container is destroyed, its packages are purged.",
        "false",
        "true",
        "true removes it",
    ),
    "meta.annotations": Words(
        "Your own texts by name; ya-salt only shows them.",
        "none",
        "{owner: monitoring team}",
        NO_RESTART,
    ),
    "spec": Words("How the daemon is to be. Left out only with meta.delete_requested."),
    "spec.properties": Words("How its container is set up; what is left out stays Porto's own."),
    "spec.properties.cmd": Words(
        "The command. A list is taken word by word; one string is split by Porto.",
        example="[/usr/bin/juggler-client, --config-dir, /etc/juggler/]",
        change=RESTART,
    ),
    "spec.properties.command": Words(
        "The same as cmd written as one string, by Porto's name.",
        example="/usr/bin/juggler-client --config-dir /etc/juggler/",
        change=RESTART,
    ),
    "spec.packages": Words(
        "The exact Debian packages it runs from. Each name once.", "none", change=RESTART
    ),
    "spec.packages.name": Words("The package.", example="juggler-client-core", change=RESTART),
    "spec.packages.version": Words("Its version.", example='"2.3.2001221352"', change=RESTART),
    "spec.packages.allow_held": Words(
        "Whether it may be changed though somebody put it on hold.", "false", "true", NO_RESTART
    ),
    "spec.min_ready_s": Words(
        "Seconds without a respawn that make it ready.",
        f"{DaemonSpec.min_ready_s:g}",
        "10",
        NO_RESTART,
    ),
    "spec.ready_timeout_s": Words(
        "Seconds within which it becomes ready after it was started anew; an update that takes"
        " longer has failed. 0: nobody waits.",
        f"{READY_TIMEOUT_S:g}, with readiness {PROBED_READY_TIMEOUT_S:g}",
        "120",
        NO_RESTART,
    ),
    "spec.readiness": Words(
        "How it is known whether it is ready: by asking, one way, or as it says so itself.",
        "running for min_ready_s",
    ),
    "spec.readiness.exec": Words(
        "A command in the daemon's container that exits with 0 where it is ready.",
        example="[/usr/bin/juggler-check]",
        change=NO_RESTART,
    ),
    "spec.readiness.tcp": Words("A port that takes connections.", "", "8080", NO_RESTART),
    "spec.readiness.http": Words("A page that answers as it should."),
    "spec.readiness.http.port": Words("The port to ask.", "", "8080", NO_RESTART),
    "spec.readiness.http.path": Words("The page.", Readiness.http_path, "/health", NO_RESTART),
    "spec.readiness.http.status": Words(
        "The status that means yes.", str(Readiness.http_status), "204", NO_RESTART
    ),
    "spec.readiness.notify": Words(
        "true: it says so itself, to the socket in its NOTIFY_SOCKET (sd_notify); needs the agent.",
        "false",
        "true",
        RESTART,
    ),
    "spec.readiness.watchdog_s": Words(
        "With notify: seconds without WATCHDOG=1 after which it is not ready any more.",
        "nobody waits for that",
        "30",
        RESTART,
    ),
    "spec.readiness.period_s": Words(
        "Seconds from one question to the next.",
        f"{Readiness.period_s:g}, with exec 30",
        "15",
        NO_RESTART,
    ),
    "spec.readiness.timeout_s": Words(
        "Seconds to wait for an answer.", f"{Readiness.timeout_s:g}", "2.5", NO_RESTART
    ),
    "spec.readiness.failure_threshold": Words(
        "Times in a row that it says no before it is not ready any more.",
        str(Readiness.failure_threshold),
        "5",
        NO_RESTART,
    ),
    "spec.readiness.on_failure": Words(
        "What is done then: nothing, or a restart.", Readiness.on_failure, "restart", NO_RESTART
    ),
    "spec.update": Words("What becomes of an update that fails.", "it is undone"),
    "spec.update.on_failure": Words(
        "rollback: what was ready before comes back; keep: it stays as it is.",
        UpdatePolicy.on_failure,
        "keep",
        NO_RESTART,
    ),
    "spec.update.max_failures": Words(
        "Times that the new version may die before it is ready.",
        str(UpdatePolicy.max_failures),
        "1",
        NO_RESTART,
    ),
    "spec.update.watch_s": Words(
        "Seconds after it became ready in which a death is still the update's failure.",
        f"{UpdatePolicy.watch_s:g}",
        "3600",
        NO_RESTART,
    ),
    "spec.update.state": Words(
        "Paths of its data that are copied before an update and go back with it.",
        "none",
        "[/var/lib/juggler-client]",
        NO_RESTART,
    ),
    "spec.watch": Words("Files whose change is acted on.", "none"),
    "spec.watch.path": Words(
        "A file, or a pattern with * ? [ ].", "", "/etc/juggler/*.yaml", NO_RESTART
    ),
    "spec.watch.conffiles": Words(
        "true: the conffiles of its packages, in the place of path.", "false", "true", NO_RESTART
    ),
    "spec.watch.signal": Words(
        "Tell it by this signal, in the place of a restart.",
        Watch.signal or "it is started anew",
        "SIGHUP",
        NO_RESTART,
    ),
    "spec.watch.splay_s": Words(
        "Tell it at some moment within so many seconds, so that not all hosts do at once.",
        f"{Watch.splay_s:g}",
        "60",
        NO_RESTART,
    ),
    "spec.after": Words(
        "Daemons that have to be ready before it is started.", "none", "[log-shipper]", NO_RESTART
    ),
    "spec.drift": Words(
        "What is done where somebody else changed its container: it is put right, or reported.",
        DaemonSpec.drift,
        "report",
        NO_RESTART,
    ),
}

RULE: Mapping[str, Words] = {
    "rule.meta": Words("Which rule this is."),
    "rule.meta.kind": Words("What the file describes.", "left out", "OrlyRule"),
    "rule.meta.name": Words(
        "porto-daemon-NAME is the rule of the daemon NAME.", "", "porto-daemon-juggler-agent-rtc"
    ),
    "rule.meta.annotations": Words("Your own texts by name.", "none", "{owner: monitoring team}"),
    "rule.spec": Words("How changes of the daemon may go through the fleet."),
    "rule.spec.max_concurrent": Words(
        "Hosts that may change at once, those that failed with the same version among them.",
        "",
        "10",
    ),
    "rule.spec.rate": Words("How many hosts may start within a time.", "no bound"),
    "rule.spec.rate.count": Words("Hosts that may start in one window.", "", "60"),
    "rule.spec.rate.window": Words("The time in which they are counted.", "", "1h"),
    "rule.spec.selector": Words(
        "Facts (the setting gate.facts; hostname is one) that a host must have, all of them; of a"
        " list it must have one.",
        "every host",
        "{dc: [sas, vla]}",
    ),
    "rule.spec.halt_on_failure": Words(
        "Whether failures halt the rule; true is max_failures: 1.", "true", "false"
    ),
    "rule.spec.max_failures": Words(
        "Hosts that may fail with one version; then no further host gets it.",
        str(Rule.max_failures),
        "5",
    ),
    "rule.spec.min_healthy_time": Words(
        "A host gives its slot back when the daemon has stayed ready for so long.",
        "the probation of an update, spec.update.watch_s",
        "10m",
    ),
    "rule.spec.first_install": Words(
        "allow: the first installation on a host needs no slot.", Rule.first_install, "allow"
    ),
    "rule.spec.on_lost": Words(
        "What becomes of the slot of a host that is not heard of: held, or free for others.",
        Rule.on_lost,
        "free",
    ),
    "rule.spec.lost_after": Words(
        "How long a host may be silent.", show_duration(Rule.lost_after_s), "30m"
    ),
    "rule.spec.time_zone": Words(
        "The zone of freeze and windows.", Rule.time_zone, "Europe/Moscow"
    ),
    "rule.spec.freeze": Words("Times in which nothing starts.", "none"),
    "rule.spec.freeze.from": Words("The first moment without starts.", "", '"2026-12-30 18:00"'),
    "rule.spec.freeze.to": Words("The first moment after it.", "", '"2027-01-09"'),
    "rule.spec.freeze.reason": Words("Why, for people.", "none", "holidays"),
    "rule.spec.windows": Words("Times in which changes may start.", "every time"),
    "rule.spec.windows.days": Words(
        "The days on which the window opens.", "every day", "[mon-thu, sat]"
    ),
    "rule.spec.windows.from": Words("When it opens.", "", '"10:00"'),
    "rule.spec.windows.to": Words(
        "When it closes; not after from: on the day after.", "", '"18:00"'
    ),
}

SETTINGS_GROUPS: Mapping[str, str] = {
    "settings.packages_policy": "What apt may do beside what specs name.",
    "settings.monitoring": "Who is told how the daemons stand.",
    "settings.monitoring.yasm": "YASM's agent.",
    "settings.monitoring.juggler": "Juggler's client.",
    "settings.monitoring.prometheus": "node_exporter's textfile collector.",
    "settings.monitoring.alertmanager": "An Alertmanager.",
    "settings.gate": "Whom to ask before a running daemon is disturbed.",
}
"""Settings that stand in a mapping of their own have it from these."""

PROPERTY_EXAMPLES: Mapping[str, str] = {
    "virt_mode": "host",
    "user": "monitor",
    "group": "monitor",
    "root": "/srv/juggler",
    "cwd": "/var/lib/juggler-client",
    "env": "{LANG: C.UTF-8}",
    "env_secret": "{TOKEN: 0123abcd}",
    "umask": '"022"',
    "ulimit": "{nofile: 1024 2048, core: unlimited}",
    "bind": "[/data/juggler /data ro]",
    "symlink": "{/run/juggler: /var/lib/juggler-client/run}",
    "stdin_path": "/dev/null",
    "stdout_path": "/var/log/juggler.out",
    "stderr_path": "/var/log/juggler.err",
    "core_command": "/usr/bin/save-core",
    "coredump_filter": '"0x33"',
    "max_respawns": "10",
    "respawn_delay": "5s",
    "labels": "{OWNER.team: monitoring}",
    "oom_score_adj": "-500",
    "cpu_period": "100ms",
    "cpu_set": "0-3,8",
    "cpu_weight": "2.5",
    "thread_limit": "500",
    "io_guarantee": "{/: 10M}",
    "io_limit": "{/: 100M, fs r: 50M}",
    "io_ops_guarantee": "{/: 100}",
    "io_ops_limit": "{/: 1000}",
    "io_weight": "2.5",
    "place": "[/place]",
    "place_limit": "{/place: 10G}",
    "volumes_required": "[/place/data]",
    "net": "[L3 veth]",
    "ip": "[veth 192.0.2.1/24]",
    "ip_limit": "[192.0.2.0/24]",
    "default_gw": "[veth 192.0.2.254]",
    "hostname": "juggler.example.org",
    "etc_hosts": "127.0.0.1 localhost",
    "resolv_conf": "[nameserver 192.0.2.53]",
    "sysctl": "{kernel.shmmni: 4096}",
    "net_guarantee": "{default: 10M}",
    "net_limit": "{default: 100M}",
    "net_limit_soft": "1024",
    "net_rx_limit": "{default: 100M}",
    "capabilities": "[NET_BIND_SERVICE]",
    "capabilities_ambient": "[NET_BIND_SERVICE]",
    "devices": "[/dev/fuse rw]",
    "enable_porto": "read-only",
    "seccomp": '\'{"action": "SCMP_ACT_ALLOW"}\'',
    "seccomp_name": "builtin",
    "controllers": "{devices: false}",
}
"""YAML of a value, where its kind alone does not say it well enough."""

KIND_EXAMPLES: Mapping[str, str] = {"size": "2Gb", "CPU": "1.5c", "boolean": "true"}

PROPERTY_UNITS: Mapping[str, str] = {
    **dict.fromkeys(("io_guarantee", "io_limit"), "bytes a second"),
    **dict.fromkeys(("io_ops_guarantee", "io_ops_limit"), "operations a second"),
    **dict.fromkeys(("net_guarantee", "net_limit", "net_rx_limit"), "bytes a second"),
    "net_limit_soft": "kilobytes a second",
}
"""Where it is not that of the kind."""

UNITS_BY_ENDING: Mapping[str, str] = {"_s": "seconds", "_bytes": "bytes"}

SETTING_EXAMPLES: Mapping[str, str] = {
    "packages_policy.allow_removals": "[old-agent]",
    "hostname": "host1.example.org",
    "monitoring.juggler.instance": "main",
    "monitoring.alertmanager.url": "http://alerts.example.org:9093/",
    "gate.type": "orly",
    "gate.endpoints": '["https://etcd1.example.org:2379"]',
    "gate.username": "ya-salt",
    "gate.password_file": "/etc/hostman/etcd.password",
    "gate.ca_file": "/etc/hostman/ca.pem",
    "gate.cert_file": "/etc/hostman/host.pem",
    "gate.key_file": "/etc/hostman/host.key",
    "gate.facts": "{dc: sas, stage: canary}",
    "gate.group": "juggler",
}
"""Of those that have no default that would be one."""
