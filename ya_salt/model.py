"""The words of the house: what is wanted, what is there, what is done, how it stands. Pure data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from ya_salt.flags import STATE_DIR
from ya_salt.life import Change, Hold, Life, Pin, Rejection, Trial
from ya_salt.quick_dataclass import dataclass, field

Progress = Callable[[str], None]
"""Told in a sentence what is being done, for a person who looks."""

READY_TIMEOUT_S, PROBED_READY_TIMEOUT_S = 60.0, 300.0
"""Defaults of `ready_timeout_s`, without `readiness` and with."""

HELD = "Held"
"""The reason of a daemon that does not run because somebody stopped it."""

NOTIFY_DIR = "/run/ya-salt-notify"
"""Default of the setting `notify_dir`."""

LABEL = "HOSTMAN.spec"
"""The Porto label that holds a spec's digest: "is it ours, is it current" is one comparison."""

DOWN = frozenset({"dead", "stopped"})
"""States of a container without a process that portod does not leave by itself."""

PROBE_FAILED = "ProbeFailed"
"""The reason of a daemon that runs and does not say, or no longer, that it is ready."""


@dataclass(frozen=True)
class YasmSettings:
    """The push of signals to YASM's agent on the host."""

    enabled: bool = True
    url: str = "http://localhost:11005/"
    tags: Mapping[str, str] = field(default_factory=lambda: {"itype": "hostman"})
    ttl_s: int = 300
    """How long the agent goes on showing a value after it was pushed."""


@dataclass(frozen=True)
class JugglerSettings:
    """The push of raw events to Juggler's client on the host."""

    enabled: bool = True
    url: str = "http://localhost:31579/events"
    source: str = "ya-salt"
    instance: str = ""


@dataclass(frozen=True)
class PrometheusSettings:
    """The file for node_exporter's textfile collector; written where the directory exists."""

    enabled: bool = True
    textfile_dir: str = "/var/lib/prometheus/node-exporter"


@dataclass(frozen=True)
class AlertmanagerSettings:
    """Alerts straight to an Alertmanager; off while there is no URL."""

    enabled: bool = True
    url: str = ""


@dataclass(frozen=True)
class MonitoringSettings:
    """Who is told how the daemons stand."""

    yasm: YasmSettings = field(default_factory=YasmSettings)
    juggler: JugglerSettings = field(default_factory=JugglerSettings)
    prometheus: PrometheusSettings = field(default_factory=PrometheusSettings)
    alertmanager: AlertmanagerSettings = field(default_factory=AlertmanagerSettings)


@dataclass(frozen=True)
class GateSettings:
    """Whom to ask before a running daemon is disturbed."""

    type: str = "none"
    """none, orly (rules on etcd) or fleetlock."""
    endpoints: tuple[str, ...] = ()
    prefix: str = "/orly/"
    """Begins all keys in etcd."""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What selectors of rules look at."""
    group: str = ""
    """FleetLock's group for all daemons; "": one of its own, named like the rule, for each."""


@dataclass(frozen=True)
class Settings:
    """What is in force on this host; `settings.py` reads it, docs/settings.md explains it."""

    specs_dir: str = "/etc/hostman/porto-daemons.d"
    state_dir: str = STATE_DIR
    porto_socket: str = "/run/portod.socket"
    root: str = "/"
    """dpkg's and apt's root; containers run on the host whatever it is."""
    log_file: str = "/var/log/ya-salt.log"
    notify_dir: str = NOTIFY_DIR
    """Where the sockets of `readiness.notify` are."""
    interval_s: int = 60
    """How long the agent goes without a pass where nothing happens."""
    parallel: int = 4
    """Daemons whose containers are worked on side by side."""
    lock_timeout_s: int = 120
    """How long another apt or dpkg is waited for."""
    script_timeout_s: int = 900
    """After this a maintainer script counts as hanging and is killed."""
    stop_timeout_s: int = 20
    """How long dpkg may go on with what it began once a pass is told to stop."""
    package_cache_bytes: int = 1 << 30
    """Bound of our cache of .deb files for going back."""
    allow_removals: tuple[str, ...] = ()
    """Packages that apt may remove, downgrade or upgrade though no spec names them."""
    read_group: str = "porto"
    """Whose members may read what passes have left; "" nobody but root."""
    hostname: str = ""
    """Under which name monitoring and the gate know this host; "" is its FQDN."""
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)
    gate: GateSettings = field(default_factory=GateSettings)


@dataclass(frozen=True)
class Package:
    """An exact Debian package: `version` as dpkg writes it, with epoch and revision if any."""

    name: str
    version: str
    allow_held: bool = False
    line: int = 0
    """Where the spec file names it, counted from 1."""


@dataclass(frozen=True)
class Readiness:
    """How it is known whether a daemon is ready: by one of `exec`, `tcp`, `http_port`, `notify`."""

    exec: tuple[str, ...] = ()
    tcp: int = 0
    http_port: int = 0
    http_path: str = "/"
    http_status: int = 200
    period_s: float = 10.0
    timeout_s: float = 5.0
    failure_threshold: int = 3
    on_failure: str = "none"
    """none, or restart."""
    notify: bool = False
    """It says so itself, to a socket of its own."""
    watchdog_s: float = 0.0
    """Of `notify`: how long it may go without a sign of life; 0: as long as it likes."""


@dataclass(frozen=True)
class UpdatePolicy:
    """What becomes of an update that fails."""

    on_failure: str = "rollback"
    """rollback, or keep."""
    max_failures: int = 3
    watch_s: float = 600.0
    state: tuple[str, ...] = ()
    """Absolute paths that are copied before an update and go back with it."""


@dataclass(frozen=True)
class Watch:
    """Files whose change is acted on: `path`, a glob, or with "" the conffiles of the packages."""

    path: str = ""
    signal: str = ""
    """Its name (SIGHUP); "" starts the daemon anew."""
    splay_s: float = 0.0

    @property
    def name(self) -> str:
        return self.path or "conffiles"


@dataclass(frozen=True)
class DaemonSpec:
    """One valid file of the daemons directory, or what a Salt state says in its place.

    `properties` are Porto's own names, flattened where Porto sets them one by one
    (`controllers[devices]`, `env[PATH]`, `labels[X.y]`, `ulimit[nofile]`), with the text as it goes
    to portod: sizes in bytes, `true`/`false`, argv joined by tabs as `command_argv`.
    """

    name: str
    version: str
    path: str
    digest: str
    """64 hex digits over everything that decides what runs: properties and packages."""
    properties: Mapping[str, str]
    packages: tuple[Package, ...]
    delete_requested: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
    min_ready_s: float = 5.0
    ready_timeout_s: float = 60.0
    """How long `apply` waits; how long an update may take is `ready_deadline_s`."""
    readiness: Readiness | None = None
    update: UpdatePolicy = field(default_factory=UpdatePolicy)
    watch: tuple[Watch, ...] = ()
    after: tuple[str, ...] = ()
    drift: str = "correct"
    """correct, or report."""
    document: str = ""
    """The file's meaning as protobuf JSON ({"meta": …, "spec": …}), secrets masked."""
    generation: int = 0
    """Of a spec that was ready before and is in effect in the place of the file's: its number."""
    file_version: str = ""
    """Of such a one: the file's version."""

    @property
    def ready_deadline_s(self) -> float:
        """Seconds within which an update has to become ready."""
        default = READY_TIMEOUT_S if self.readiness is None else PROBED_READY_TIMEOUT_S
        return max(self.ready_timeout_s or default, self.min_ready_s)

    @property
    def is_from_state(self) -> bool:
        """Whether no file defines it: `path` is then `state ID of SLS NAME`."""
        return is_state(self.path)


def is_state(path: str) -> bool:
    """Whether that is where a Salt state stands, and no file."""
    return path.startswith("state ")


@dataclass(frozen=True)
class Rejected:
    """A file of the daemons directory that cannot be used.

    `problems` are whole sentences, each with its place; `name` is the daemon it would
    have been, where that much can be read, else "".
    """

    path: str
    problems: tuple[str, ...]
    name: str = ""
    is_hidden: bool = False
    """Only who looks now, another than root, may not read it: nothing is wrong with it."""


@dataclass(frozen=True)
class Ignored:
    """An entry of the daemons directory that is not a spec file, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    """What one look at the daemons directory found, each in name order."""

    specs: tuple[DaemonSpec, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    ignored: tuple[Ignored, ...] = ()


@dataclass(frozen=True)
class InstalledPackage:
    """A package as dpkg knows it: `status` is dpkg's word (`installed`, `half-configured`…)."""

    name: str
    version: str
    status: str = "installed"
    held: bool = False


@dataclass(frozen=True)
class Container:
    """A container as portod reports it.

    `values` are read-back texts by property name; a property that portod did not answer for is
    absent. `running_s` is the age of its process in whole seconds.
    """

    name: str
    state: str
    labels: Mapping[str, str] = field(default_factory=dict)
    applied: LastApplied | None = None
    """What its `private` says we did to it; None where that says nothing, or nothing of ours."""
    respawn_count: int = 0
    running_s: int = 0
    values: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    """portod's number for it; containers of one name have different ones, one after the other."""
    created_at: int = 0
    """Seconds since 1970; with `id` it tells containers apart across reboots of the host."""
    memory_bytes: int | None = None
    cpu_ns: int | None = None
    """CPU time that it has used since it was started."""
    started_at: int = 0
    """Seconds since 1970: when its process was started last; 0 where it never was."""
    died_at: int = 0
    """Seconds since 1970: when it died; 0 unless it is dead."""
    changed_at: int = 0
    """Seconds since 1970: when its state or one of its properties changed last."""

    @property
    def is_ours(self) -> bool:
        return LABEL in self.labels


@dataclass(frozen=True)
class Answer:
    """What came of asking a daemon whether it is ready."""

    start: str
    """Of the process that was asked: `readiness.name_start`."""
    says: Literal["yes", "no", "wait", "unknown"]
    """wait: it is not ready, which is no failure; unknown: it could not be asked."""
    words: str
    """For people: the status, the exit code and the like."""
    at: float
    """Seconds since 1970."""
    until: float = 0.0
    """Seconds since 1970: it asked for time until then."""


@dataclass(frozen=True)
class LastApplied:
    """What we did to a container, kept in its own `private` text so that it outlives our store.

    Hashes are short: they only have to tell a changed value from an unchanged one.
    """

    sent: Mapping[str, str] = field(default_factory=dict)
    """Property, flattened -> hash of the text that we sent."""
    read: Mapping[str, str] = field(default_factory=dict)
    """Property, whole -> hash of the text that portod read back right after."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Dynamic property, flattened -> what portod read back before we set it."""
    unsupported: tuple[str, ...] = ()
    """Guarantees that this host's kernel has no support for."""
    packages: str = ""
    """Hash of the exact packages that the process was started from."""
    package_names: tuple[str, ...] = ()
    """Packages that this daemon ever had under our management."""
    portod: str = ""
    """Version of the portod that read `read` back."""
    key: str = ""
    """Which of the host's keys the hashes of `env_secret` were made with; "" for hashes without."""
    entries: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Map that does not read back whole -> its entries -> hash of the text that we sent."""
    refused: str = ""
    """Mark of the spec that portod would not start, so that this container was brought back."""
    refused_because: str = ""
    """portod's words for that."""


@dataclass(frozen=True)
class Condition:
    """`status` since `since` (seconds since 1970), with a CamelCase `reason` and a sentence."""

    status: bool
    reason: str
    message: str
    since: float


@dataclass(frozen=True)
class GateStanding:
    """How a change of a daemon stands with the rollout gate, since `since` (seconds since 1970)."""

    state: str
    """waiting; with a slot working, settling or failed."""
    reason: str
    message: str
    since: float
    operation: str = ""
    target: str = ""

    @property
    def change(self) -> str:
        """What it is about: `update to 2.4`, `first installation`, `restart`, `removal`."""
        match self.operation:
            case "update":
                return f"update to {self.target}"
            case "install":
                return "first installation"
            case "remove":
                return "removal"
        return self.operation or "change"


@dataclass(frozen=True)
class ProbeStanding:
    """How a daemon with `readiness` answers, since `since`; times in seconds since 1970."""

    question: str
    is_ready: bool
    failures: int
    """Noes in a row that count."""
    threshold: int
    """So many of them make it not ready."""
    answer: str
    """The last one; "" where none was asked."""
    since: float
    asked_at: float


@dataclass(frozen=True)
class CrashStanding:
    """How a daemon that keeps dying stands; times are seconds since 1970."""

    since: float
    deaths: int
    """In a row."""
    delay_s: float
    """How long it rests after a death."""
    next_at: float = 0.0
    """When it is started again; 0 while it runs."""
    last_words: str = ""


@dataclass(frozen=True)
class Drift:
    """What somebody else has changed and is left as it is."""

    what: str
    """A property of the container, or `package NAME`."""
    now: str
    wanted: str
    until: float = 0.0
    """Until when it is not put right any more, as that was in vain; 0: `drift: report`."""
    by: str = ""
    """Who did it, as far as anybody tells."""


@dataclass(frozen=True)
class DaemonStatus:
    """How one daemon stands; field for field PortoDaemonStatus of proto/ya_salt.proto."""

    name: str
    version: str = ""
    """Of what runs, or ran last."""
    path: str = ""
    phase: str = "Managed"
    installed: Condition | None = None
    running: Condition | None = None
    ready: Condition | None = None
    state: str = ""
    respawn_count: int = 0
    restart_count: int = 0
    digest: str = ""
    packages: tuple[tuple[str, str, str], ...] = ()
    """(name, declared version, installed version or "")"""
    warnings: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    error: str = ""
    updated_at: float = 0.0
    memory_bytes: int | None = None
    cpu_ns: int | None = None
    gate: GateStanding | None = None
    wanted_version: str = ""
    """Of the file; another than `version` where it has not come to run."""
    probe: ProbeStanding | None = None
    """None without `readiness`."""
    drift: tuple[Drift, ...] = ()
    waits_for: str = ""
    """For which daemons (`after`) its start or its change waits, and how they stand."""
    rejection: Rejection | None = None
    """Of the file's version, where it failed and is not tried again."""
    trial: Trial | None = None
    """Of an update that has yet to prove itself."""
    pin: Pin | None = None
    """Where somebody went back by hand."""
    generations: int = 0
    """How many are remembered."""
    crash: CrashStanding | None = None
    """None unless it keeps dying."""
    hold: Hold | None = None
    """None unless somebody holds it."""

    @property
    def waits(self) -> bool:
        """Whether what is to be done about it waits for the rollout gate."""
        return self.gate is not None and self.gate.state == "waiting"


@dataclass(frozen=True)
class Record:
    """What the store remembers of a daemon between passes."""

    name: str
    spec: DaemonSpec | None = None
    """The last valid one, secrets masked; its packages are needed as long as the daemon stands."""
    package_names: tuple[str, ...] = ()
    """Every package that it ever had under our management."""
    restart_pending: bool = False
    """Its process has to be replaced: its packages were changed under it, or `restart_reason`."""
    restart_reason: str = ""
    was_created: bool = False
    """It has run here before: where its container is gone, making it anew is a repair."""
    life: Life = field(default_factory=Life)
    change: Change | None = None
    """What was done to it last; None while nothing was, or it is not known any more."""
    status: DaemonStatus | None = None


@dataclass(frozen=True)
class FileNow:
    """A watched file as it is."""

    hash: str
    """Stands for what is in it; "" where it is not there."""
    stamp: str = ""
    """Its stat; "" where that is too fresh to tell it from a changed one."""
    changed_at: float = 0.0
    """When it, or what leads to it, changed last, seconds since 1970; 0 where nobody asked."""


@dataclass(frozen=True)
class WatchedFiles:
    """What one daemon watches, as it is."""

    found: Mapping[str, Mapping[str, FileNow]] = field(default_factory=dict)
    """Entry of `watch` -> its files, those remembered among them though they are gone."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Entry or file -> why it cannot be told."""
    started_at: float = 0.0
    """When its process was started, where that has to be known exactly; 0."""


@dataclass(frozen=True)
class Portod:
    """What portod says of itself: its version, and which properties it changes live."""

    version: str = ""
    dynamic: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Observed:
    """One look at the host, and what we remember of it."""

    packages: Mapping[str, InstalledPackage] = field(default_factory=dict)
    packages_error: str = ""
    """Why dpkg could not be asked; "" where it could."""
    containers: Mapping[str, Container] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Name -> why portod could not tell whether there is such a container, and how it stands."""
    dynamic: frozenset[str] = frozenset()
    """Properties that may change in a running container, as remembered; asked of portod where
    something is to be done."""
    portod: str = ""
    """portod's version; as `dynamic`, remembered or asked for."""
    key: bytes = field(default=b"", repr=False)
    """The host's secret, for hashes of secrets; empty where it cannot be read."""
    records: Mapping[str, Record] = field(default_factory=dict)
    lives: Mapping[str, Life] = field(default_factory=dict)
    """Those of the records, as they have gone on; of every daemon that is looked after."""
    answers: Mapping[str, Answer] = field(default_factory=dict)
    """Daemon -> what it said when it was asked right after this look; of those that were."""
    left: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Daemon -> what is not put right any more, though somebody else changed it -> until when."""
    files: Mapping[str, WatchedFiles] = field(default_factory=dict)
    """Of daemons that watch any."""
    hostname: str = ""
    """Tells this host from others where they are not to act all at once."""


class Event(NamedTuple):
    """A line of the history."""

    at: float
    """Seconds since 1970."""
    name: str
    """The daemon's."""
    what: str
    """A sentence."""
    who: str = ""
    """Who had it done: `agent`, `shell: NAME`, `Salt job ID`; "" where nobody did."""


# -- steps: a closed union, in the order in which a pass takes them ------------------------------


@dataclass(frozen=True)
class InstallPackages:
    """Bring packages to exact versions while the old daemon still runs."""

    name: str
    packages: tuple[Package, ...]
    reason: str
    theirs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """What somebody else had changed (`package NAME`) -> (what it is, what it is to be)."""


@dataclass(frozen=True)
class CreateContainer:
    """There is no container: make one and start it."""

    spec: DaemonSpec
    reason: str

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True)
class ReplaceContainer:
    """Stop the running daemon gracefully and start it anew."""

    spec: DaemonSpec
    reason: str
    theirs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """What somebody else had changed -> (what it is, what it is to be), without secrets."""

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True)
class ChangeLive:
    """Set dynamic properties of the running container; the process is untouched."""

    spec: DaemonSpec
    changes: Mapping[str, str]
    """Property, flattened -> text to send; may be empty where only our label is out of date."""
    reason: str
    relearn: frozenset[str] = frozenset()
    """Properties not changed that read back otherwise now, and rightly so."""
    theirs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """As of ReplaceContainer."""

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True)
class StartContainer:
    """The container is right but does not run: start it (`state` says where from)."""

    name: str
    state: str
    reason: str


@dataclass(frozen=True)
class StopContainer:
    """Stop the daemon gracefully and keep its container, as somebody holds it.

    Also told, and never planned then, of one that was stopped for a restart whose start failed.
    """

    name: str
    reason: str
    respawn: str = ""
    """What the container has for `respawn` when it is stopped; "" where nobody holds it."""


@dataclass(frozen=True)
class SignalContainer:
    """Tell the daemon's main process by a signal; it runs on."""

    name: str
    signal: str
    reason: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Which files it is told of -> their hash, "" where they are gone."""


@dataclass(frozen=True)
class RemoveContainer:
    """Stop the daemon gracefully and destroy its container."""

    name: str
    reason: str


@dataclass(frozen=True)
class PurgePackages:
    """Purge the packages that nobody else needs, on hold or not for those in `allow_held`."""

    name: str
    packages: tuple[str, ...]
    allow_held: tuple[str, ...]
    reason: str


Step = (
    InstallPackages
    | CreateContainer
    | ReplaceContainer
    | ChangeLive
    | StartContainer
    | StopContainer
    | SignalContainer
    | RemoveContainer
    | PurgePackages
)


def describe_step(step: Step) -> str:  # noqa: PLR0911 - one line for each kind of step
    """One line: what is done, and why."""
    match step:
        case InstallPackages(reason=reason):
            return f"install: {reason}"
        case CreateContainer(reason=reason):
            return f"create: {reason}"
        case ReplaceContainer(reason=reason):
            return f"restart: {reason}"
        case ChangeLive(reason=reason):
            return f"live change: {reason}"
        case StartContainer(reason=reason):
            return f"start: {reason}"
        case StopContainer(reason=reason):
            return f"stop: {reason}"
        case SignalContainer(signal=signal, reason=reason):
            return f"signal {signal}: {reason}"
        case RemoveContainer(reason=reason):
            return f"remove: {reason}"
        case PurgePackages(packages=packages, reason=reason):
            return f"purge {', '.join(packages)}: {reason}"


def describe_deed(step: Step) -> str:
    """The same for the history: with the values of what somebody else had changed."""
    said = describe_step(step)
    if not isinstance(step, InstallPackages | ReplaceContainer | ChangeLive) or not step.theirs:
        return said
    shown = (
        f"{name} {now or 'not there'} -> {wanted or 'not set'}"
        for name, (now, wanted) in sorted(step.theirs.items())
    )
    return f"{said} (somebody else's: {', '.join(shown)})"


@dataclass(frozen=True)
class Deferral:
    """What is to be done waits for the rollout gate: a CamelCase reason and a sentence."""

    reason: str
    message: str


@dataclass(frozen=True)
class DaemonPlan:
    """What to do about one daemon, in order; or `refusal`: why nothing is done to it."""

    name: str
    steps: tuple[Step, ...] = ()
    refusal: str = ""
    refusal_reason: str = ""
    notes: tuple[str, ...] = ()
    """What is worth saying though nothing is done (a package kept because another needs it)."""
    deferral: Deferral | None = None
    """Why `waiting` is not done now."""
    waiting: tuple[Step, ...] = ()
    """Steps that wait for the rollout gate, or for other daemons."""
    meanwhile: tuple[Step, ...] = ()
    """Steps that are taken in place of the others while those wait."""
    blocked: str = ""
    """For which daemons `waiting` waits, and how they stand; ""."""
    rests: str = ""
    """Why it is not started though it does not run: it is held, or keeps dying."""
    is_held: bool = False
    drift: tuple[Drift, ...] = ()
    """What somebody else has changed and the steps leave as it is."""


@dataclass(frozen=True)
class StepResult:
    """What became of one step: done, unless there is an error or it waits."""

    step: Step
    error: str = ""
    reason: str = ""
    warnings: tuple[str, ...] = ()
    deferral: Deferral | None = None
    blocked: str = ""
    """For which daemons it waits."""
    goes_on: bool = False
    """Whether the steps after it are taken although it failed."""

    @property
    def is_done(self) -> bool:
        return not (self.error or self.deferral or self.blocked)


@dataclass(frozen=True)
class Outcome:
    """What a pass did about one daemon."""

    plan: DaemonPlan
    results: tuple[StepResult, ...] = ()

    @property
    def error(self) -> str:
        return self.plan.refusal or next((item.error for item in self.results if item.error), "")

    @property
    def reason(self) -> str:
        failed = next((item for item in self.results if item.error), None)
        return self.plan.refusal_reason or (failed.reason if failed else "")

    @property
    def deferral(self) -> Deferral | None:
        """Why something of the plan waits for the rollout gate."""
        found = (item.deferral for item in self.results if item.deferral is not None)
        return self.plan.deferral or next(found, None)

    @property
    def blocked(self) -> str:
        """For which daemons a start or a restart waits, or ""."""
        found = (item.blocked for item in self.results if item.blocked)
        return self.plan.blocked or next(found, "")

    @property
    def restarts(self) -> int:
        """Times that the daemon was stopped to be started anew, or started from the dead."""
        counted = ReplaceContainer | StartContainer | StopContainer
        return sum(
            isinstance(item.step, counted) and item.is_done and not _is_hold(item.step)
            for item in self.results
        )

    @property
    def touched(self) -> bool:
        """Whether the process is a new one, so that it is worth waiting for."""
        renewing = ReplaceContainer | StartContainer | CreateContainer
        return any(isinstance(item.step, renewing) and item.is_done for item in self.results)

    @property
    def is_down(self) -> bool:
        """Whether the old process was stopped and no new one came in its place."""
        return not self.touched and any(
            isinstance(item.step, StopContainer) and item.is_done and not _is_hold(item.step)
            for item in self.results
        )


def _is_hold(step: Step) -> bool:
    return isinstance(step, StopContainer) and bool(step.respawn)
