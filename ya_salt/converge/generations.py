"""What of a daemon was ready once, kept whole in files, so that it can be brought back.

A file holds the spec with its secrets: it is root's alone, in a directory that is. The summaries
are in the daemon's record, with what was rejected and who went back; a lost store learns all of it
from here.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ya_salt.as_left import is_disk_full
from ya_salt.codec import DamagedError, from_data, to_data
from ya_salt.converge import trials
from ya_salt.converge.drift import has_secrets, is_current
from ya_salt.converge.package_users import find_missing
from ya_salt.converge.readiness import find_probes, is_ready
from ya_salt.converge.watching import list_news
from ya_salt.errors import PortoError
from ya_salt.life import Generation, Life, Pin, Rejection
from ya_salt.model import DaemonPlan, DaemonSpec, Observed, Outcome
from ya_salt.porto.client import PortoClient
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.trusted_files import (
    UntrustedError,
    explain,
    make_directory,
    open_inside,
    open_trusted,
)

DIRECTORY = "generations"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_BYTES = 1 << 24

_log = logging.getLogger("ya_salt.pass")

T = TypeVar("T")


# -- the files -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kept:
    """What a file holds."""

    summary: Generation
    spec: DaemonSpec


@dataclass(frozen=True)
class _Standing:
    """What of a daemon's life has to outlive the store: a bad version would be tried once more."""

    generations: tuple[Generation, ...] = ()
    """Their summaries as they are now, the one that was ready last at the end."""
    rejection: Rejection | None = None
    pin: Pin | None = None


def _find_file(state_dir: str, name: str, number: int) -> Path:
    return Path(state_dir, DIRECTORY, name, f"{number}.json")


def _find_standing(state_dir: str, name: str) -> Path:
    return Path(state_dir, DIRECTORY, name, "standing.json")


def load_spec(state_dir: str, name: str, number: int) -> DaemonSpec | str:
    """The spec of a generation, secrets and all; a sentence where it cannot be had."""
    path = _find_file(state_dir, name, number)
    try:
        return _read(path, _Kept).spec
    except (OSError, UntrustedError, DamagedError, ValueError, RecursionError) as error:
        words = explain(error) if isinstance(error, OSError) else str(error)
        return f"generation {number} of {name} cannot be read: {path}: {words}"


def _read(path: Path, kind: type[T]) -> T:
    """Raises OSError, UntrustedError, and what reading JSON of that kind may raise."""
    file = open_trusted(str(path))
    with os.fdopen(file, "rb") as stream:
        found = os.fstat(stream.fileno())
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or not stat.S_ISREG(found.st_mode):
            raise UntrustedError("others than root may have read or written it")
        text = stream.read(_MAX_BYTES)
    return from_data(kind, json.loads(text))


@contextmanager
def _open_folder(state_dir: str) -> Iterator[int]:
    """Lend the open directory with those of all daemons. Raises OSError, UntrustedError."""
    path = str(Path(state_dir, DIRECTORY))
    make_directory(path, 0o700, parents_mode=0o700)
    folder = open_trusted(path)
    try:
        yield folder
    finally:
        os.close(folder)


def _write(among: int, path: Path, kept: object, *, is_fresh: bool = False) -> None:
    """`among` is the open directory two steps above `path`. Raises OSError, UntrustedError.

    `is_fresh`: nobody counts on a file of that name before this returns.
    """
    text = json.dumps(to_data(kept, is_sparse=True), separators=(",", ":")).encode()
    daemon = path.parent
    with suppress(FileExistsError):
        os.mkdir(daemon.name, 0o700, dir_fd=among)
        os.chmod(daemon.name, 0o700, dir_fd=among)
    folder = open_inside(among, daemon.name, str(daemon))
    temporary = f".{path.name}.{os.urandom(8).hex()}"
    try:
        file = os.open(temporary, _NEW, 0o600, dir_fd=folder)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(text)
                stream.flush()
                if not is_fresh:
                    os.fsync(file)
                os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
                if is_fresh:
                    # Now its name goes to the disk along with it: one write of a journal, not two.
                    os.fsync(file)
        except OSError:
            for name in (temporary, path.name) if is_fresh else (temporary,):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
            raise
        os.fsync(folder)
    finally:
        os.close(folder)


def forget(state_dir: str, name: str, numbers: Iterable[int] | None = None) -> None:
    """Remove these generations of a daemon, all of them without `numbers`."""
    try:
        if numbers is None:
            import shutil

            shutil.rmtree(Path(state_dir, DIRECTORY, name))
            return
        for number in numbers:
            _find_file(state_dir, name, number).unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("porto-daemon-%s: an old generation stays: %s", name, explain(error))


def keep_standing(state_dir: str, lives: Mapping[str, Life]) -> None:
    """Write down beside the generations what a lost store is to learn again, where that is new."""
    for name, life in lives.items():
        standing = _find_more(life)
        path = _find_standing(state_dir, name)
        if standing == _Standing() and not os.path.lexists(path):
            # As it is for nearly all.
            continue
        if standing == (_try_to_read(path, _Standing) or _Standing()):
            continue
        try:
            if standing == _Standing():
                path.unlink()
            else:
                with _open_folder(state_dir) as folder:
                    _write(folder, path, standing)
        except (OSError, UntrustedError) as error:
            words = explain(error) if isinstance(error, OSError) else str(error)
            _log.warning(
                "porto-daemon-%s: what was rejected is known to the store alone: %s", name, words
            )


def _find_more(life: Life) -> _Standing:
    """What there is to be kept beside the files of its generations; mostly there is nothing."""
    numbers = [item.number for item in life.generations]
    is_in_order = numbers == sorted(numbers) and not any(item.rejected for item in life.generations)
    if is_in_order and life.rejection is None and life.pin is None:
        return _Standing()
    return _Standing(life.generations, life.rejection, life.pin)


def relearn(state_dir: str) -> dict[str, Life]:
    """Daemon -> what of its life the store has lost and files still hold."""
    found: dict[str, Life] = {}
    try:
        folders = sorted(Path(state_dir, DIRECTORY).iterdir())
    except OSError:
        return {}
    for folder in folders:
        standing = _try_to_read(_find_standing(state_dir, folder.name), _Standing) or _Standing()
        kept = [item for path in _list_files(folder) if (item := _read_summary(path)) is not None]
        numbers = {item.number for item in kept}
        # The newest may not have come to be written down there.
        known = tuple(item for item in standing.generations if item.number in numbers)
        fresh = numbers - {item.number for item in known}
        last = sorted((item for item in kept if item.number in fresh), key=lambda item: item.number)
        life = Life(generations=(*known, *last), rejection=standing.rejection, pin=standing.pin)
        if life != Life():
            found[folder.name] = life
    return found


def _list_files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.stem.isdecimal()]
    except OSError:
        return []


def _read_summary(path: Path) -> Generation | None:
    kept = _try_to_read(path, _Kept)
    return kept.summary if kept is not None and str(kept.summary.number) == path.stem else None


def _try_to_read(path: Path, kind: type[T]) -> T | None:
    try:
        return _read(path, kind)
    except (OSError, UntrustedError, DamagedError, ValueError, RecursionError):
        return None


# -- which spec is in effect -----------------------------------------------------------------------


def load_chosen(
    state_dir: str, specs: Iterable[DaemonSpec], lives: Mapping[str, Life]
) -> dict[str, DaemonSpec | str]:
    """Daemon -> the spec of the generation that is in effect, or why it cannot be read."""
    chosen = {
        spec.name: trials.find_chosen(lives[spec.name]) for spec in specs if spec.name in lives
    }
    return {name: load_spec(state_dir, name, number) for name, number in chosen.items() if number}


# -- trials --------------------------------------------------------------------------------------


def name_boot(client: PortoClient) -> str:
    """What tells this boot of the host and this start of portod from others."""
    try:
        boot = Path(_BOOT_ID).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        boot = ""
    try:
        return f"{boot} {client.name_peer()}"
    except PortoError:
        return f"{boot} "


def judge_trials(  # noqa: PLR0913, PLR0917 - what is wanted, there, was done; where, what was said, when
    specs: Sequence[DaemonSpec],
    observed: Observed,
    before: Mapping[str, Life],
    outcomes: Mapping[str, Outcome],
    host: str,
    troubles: Mapping[str, str],
    state_dir: str,
    now: float,
) -> tuple[dict[str, Life], dict[str, str]]:
    """The lives with every trial as it goes on now; daemon -> why, of those that were lost.

    `before` are the lives as they were when they were judged last.
    """
    lives, lost = dict(observed.lives), {}
    for spec in specs:
        life = lives.get(spec.name, Life())
        if life.trial is None or spec.name in observed.unknown or spec.generation:
            continue
        if life.hold is not None:
            # It is paused, and begins anew when somebody starts it.
            lives[spec.name] = replace(life, trial=replace(life.trial, host=""))
            continue
        outcome = outcomes.get(spec.name)
        if outcome is not None and outcome.plan.refusal and not life.trial.is_carried_out:
            # It has not even begun, and does not now.
            lives[spec.name] = replace(life, trial=None)
            continue
        ending, words = trials.split_words(troubles.get(spec.name, ""))
        was = before.get(spec.name, Life())
        excuse = trials.find_excuse(spec, was, life, observed, words)
        news = list_news(spec, observed)
        if not excuse and news and was.trial is not None and was.trial.is_carried_out:
            excuse = f"{news[0]} has changed"
        if not excuse and is_disk_full(state_dir):
            excuse = "the disk is full"
        probes = find_probes(observed.containers.get(spec.name), life)
        if not excuse and probes is not None and probes.is_unheard and not probes.is_ready:
            excuse = "nobody heard whether it said that it is ready"
        sight = trials.Sight(
            container=observed.containers.get(spec.name),
            is_current=_is_in_place(spec, observed),
            is_ready=is_whole(spec, observed),
            host=host,
            excuse=excuse,
            ending=ending,
            error=trials.find_own_error(outcome),
            words=words,
            answer=probes.answer if probes is not None else "",
            until=probes.until if probes is not None else 0.0,
        )
        verdict = trials.judge(life.trial, spec, sight, now)
        if verdict.why:
            lost[spec.name] = verdict.why
            lives[spec.name] = trials.lose(life, life.trial, verdict.why, now)
        else:
            lives[spec.name] = replace(life, trial=verdict.trial)
    return lives, lost


def judge_rollbacks(
    specs: Sequence[DaemonSpec],
    observed: Observed,
    outcomes: Mapping[str, Outcome],
    troubles: Mapping[str, str],
    now: float,
) -> dict[str, Life]:
    """The lives with why going back failed, of those where it did."""
    lives = dict(observed.lives)
    for spec in specs:
        life = lives.get(spec.name, Life())
        if life.rejection is None or not spec.generation or spec.name in observed.unknown:
            continue
        if life.hold is not None:
            continue
        problem = trials.find_rollback_problem(
            spec,
            life.rejection,
            outcomes.get(spec.name),
            observed.containers.get(spec.name),
            is_whole(spec, observed),
            troubles.get(spec.name, ""),
            now,
        )
        lives[spec.name] = replace(life, rejection=replace(life.rejection, problem=problem))
    return lives


def _is_in_place(spec: DaemonSpec, observed: Observed) -> bool:
    container = observed.containers.get(spec.name)
    is_ours = container is not None and container.is_ours and is_current(spec, container)
    return is_ours and not observed.packages_error and not find_missing(spec, observed)


def is_whole(spec: DaemonSpec, observed: Observed) -> bool:
    """Whether spec, packages and container are what is wanted, and the daemon is ready."""
    container = observed.containers.get(spec.name)
    return (
        container is not None
        and _is_in_place(spec, observed)
        and is_ready(spec, container, observed.lives.get(spec.name, Life()))
    )


def begin_trials(
    specs: Sequence[DaemonSpec],
    plans: Sequence[DaemonPlan],
    observed: Observed,
    host: str,
    now: float,
) -> dict[str, Life]:
    """The lives with a trial for every update that the plans are about to carry out."""
    known = {plan.name: plan for plan in plans}
    return {
        **observed.lives,
        **{
            spec.name: trials.begin_trial(
                spec,
                observed.lives.get(spec.name, Life()),
                known[spec.name],
                observed,
                host,
                now,
            )
            for spec in specs
        },
    }


def remember_ready(
    state_dir: str,
    specs: Sequence[DaemonSpec],
    observed: Observed,
    outcomes: Mapping[str, Outcome],
    now: float,
) -> tuple[dict[str, Life], list[Generation]]:
    """The lives with a generation for each daemon that is ready as never before; what is new."""
    lives, made = dict(observed.lives), []
    grown: list[tuple[DaemonSpec, Life, Generation | None]] = []
    for spec in specs:
        outcome = outcomes.get(spec.name)
        life = lives.get(spec.name, Life())
        is_settled = outcome is not None and not outcome.error and outcome.deferral is None
        if not is_settled or spec.delete_requested or not is_whole(spec, observed):
            continue
        mark = trials.make_version_mark(spec, observed.key)
        grown.append((spec, *trials.add_generation(life, spec, mark, now)))
    lost = _keep_all(state_dir, [(spec, fresh) for spec, _, fresh in grown if fresh is not None])
    for spec, life, fresh in grown:
        if spec.name in lost:
            continue
        if fresh is not None:
            made.append(fresh)
        lives[spec.name], old = trials.forget_old(life)
        if old:
            forget(state_dir, spec.name, old)
    return lives, made


def remember_before(
    state_dir: str, specs: Sequence[DaemonSpec], observed: Observed, now: float
) -> dict[str, Life]:
    """The lives with what runs and is ready as their first generation, before it is updated.

    An earlier version of ya-salt made it, or it became ready when nobody looked. Where it has
    secrets it cannot be remembered: nobody knows them any more.
    """
    lives = dict(observed.lives)
    for spec in specs:
        record, life = observed.records.get(spec.name), lives.get(spec.name, Life())
        last = record.spec if record is not None else None
        if last is None or life.generations or last.generation or has_secrets(last):
            continue
        if last.digest == spec.digest or not is_whole(last, observed):
            continue
        mark = trials.make_version_mark(last, observed.key)
        grown, fresh = trials.add_generation(life, last, mark, now)
        if fresh is not None and not _keep_all(state_dir, [(last, fresh)]):
            lives[spec.name] = grown
    return lives


_WRITERS = 8
"""Threads: where many files go to the disk at once, it writes its own journal once for several."""


def _keep_all(state_dir: str, fresh: Sequence[tuple[DaemonSpec, Generation]]) -> set[str]:
    """Names of those that could not be kept."""
    if not fresh:
        return set()
    try:
        with _open_folder(state_dir) as folder:

            def keep(some: Sequence[tuple[DaemonSpec, Generation]]) -> set[str]:
                return {
                    spec.name for spec, made in some if not _keep(folder, state_dir, spec, made)
                }

            if len(fresh) == 1:
                return keep(fresh)
            from concurrent.futures import ThreadPoolExecutor

            shares = [fresh[first::_WRITERS] for first in range(_WRITERS)]
            with ThreadPoolExecutor(_WRITERS) as pool:
                return set[str]().union(*pool.map(keep, shares))
    except (OSError, UntrustedError) as error:
        for spec, _ in fresh:
            _warn_of_loss(spec, error)
        return {spec.name for spec, _ in fresh}


def _keep(folder: int, state_dir: str, spec: DaemonSpec, fresh: Generation) -> bool:
    path = _find_file(state_dir, spec.name, fresh.number)
    try:
        # What the store does not know of yet is nothing that anybody would go back to.
        _write(folder, path, _Kept(fresh, spec), is_fresh=True)
    except (OSError, UntrustedError) as error:
        _warn_of_loss(spec, error)
        return False
    return True


def _warn_of_loss(spec: DaemonSpec, error: OSError | UntrustedError) -> None:
    _log.warning(
        "porto-daemon-%s: the version that is ready cannot be remembered, so the next update "
        "cannot be undone: %s",
        spec.name,
        explain(error) if isinstance(error, OSError) else error,
    )
