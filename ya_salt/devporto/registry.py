"""All containers by name: who may see and touch which, and who is being changed just now."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Iterator

from ya_salt.devporto import matching
from ya_salt.devporto.container import NAMESPACE, ROOT, Container, State
from ya_salt.devporto.refusal import Refusal, make_bad_state, make_denied, make_invalid
from ya_salt.devporto.users import Caller
from ya_salt.proto import porto_pb2 as pb

_FIRST_ID = 4
_LAST_ID = 4095
_MAX_TOTAL = 3000
_LEVEL_MAX = 16


class Registry:
    """The containers of one server."""

    def __init__(self, workdir: str) -> None:
        self._workdir = workdir
        self.root = Container(ROOT, 1, None, "/", state=State.META, mode="host")
        self._all: dict[str, Container] = {}
        self._next_id = _FIRST_ID
        self._locked: set[str] = set()
        self._released: list[asyncio.Future[None]] = []

    def __iter__(self) -> Iterator[Container]:
        """Every container but the root, by name."""
        return iter([self._all[name] for name in sorted(self._all)])

    def find(self, name: str) -> Container:
        """By full name. Raises Refusal(ContainerDoesNotExist)."""
        container = self.root if name == ROOT else self._all.get(name)
        if container is None:
            raise Refusal(pb.ContainerDoesNotExist, f"container {name} not found")
        return container

    def resolve(self, caller: Caller, name: str) -> str:
        """Find the full name of what `caller` calls `name`. Raises Refusal(Permission)."""
        full = matching.normalize_path(self._expand(caller, name))
        if full == ".":
            full = ROOT
        inside = full.startswith((caller.namespace, caller.container + "/"))
        above = f"{caller.container}/".startswith(full + "/")
        if not (inside or above or full == ROOT):
            raise make_denied(f"container name out of namespace: {name}")
        return full

    def _expand(self, caller: Caller, name: str) -> str:
        if name == ROOT:
            return ROOT
        if name == "self":
            return caller.container
        if name == ".":
            return caller.namespace.rstrip("/") or ROOT
        if name.startswith("self/"):
            rest = name.removeprefix("self/")
            return rest if caller.container == ROOT else f"{caller.container}/{rest}"
        if name.startswith(NAMESPACE):
            return name.removeprefix(NAMESPACE)
        return caller.namespace + name

    def compose(self, caller: Caller, container: Container) -> str | None:
        """Find the name under which `caller` sees a container; None where it does not."""
        if container.is_root or not caller.namespace:
            return container.name
        if container.name.startswith(caller.namespace):
            return container.name.removeprefix(caller.namespace)
        return None

    def find_namespace(self, container: Container) -> str:
        """Find the prefix which clients inside that container do not see."""
        namespace = ""
        for one in container.ancestors():
            access = one.values.get("enable_porto", "true")
            if access in ("isolate", "read-isolate", "self-isolate") and not one.is_root:
                return f"{one.name}/{namespace}"
            namespace = str(one.values.get("porto_namespace", "")) + namespace
        return namespace

    def find_for(self, caller: Caller, name: str) -> Container:
        """For reading. Raises Refusal."""
        return self.find(self.resolve(caller, name))

    def find_writable(self, caller: Caller, name: str) -> Container:
        """For changing. Raises Refusal."""
        caller.check_write()
        container = self.find_for(caller, name)
        self.check_control(caller, container)
        return container

    def check_control(self, caller: Caller, container: Container) -> None:
        """Let pass who may change it. Raises Refusal(Permission)."""
        caller.check_write()
        if container.is_root:
            raise make_denied("Write access denied: root container is read-only")
        caller.check_control(container.owner)

    def create(self, caller: Caller, name: str) -> Container:
        """Make a new, stopped container. Raises Refusal."""
        full = self.resolve(caller, name)
        matching.check_name(full, superuser=caller.is_superuser)
        parent = self._find_parent(caller, full)
        if full == ROOT or full in self._all:
            raise Refusal(pb.ContainerAlreadyExists, f"container {full} already exists")
        if len(self._all) >= _MAX_TOTAL + (100 if caller.is_superuser else 0):
            raise Refusal(pb.ResourceNotAvailable, f"number of containers reached {_MAX_TOTAL}")
        container = Container(
            full,
            self._take_id(),
            parent,
            posixpath.join(self._workdir, full),
            owner=caller.credentials,
            task=caller.credentials,
        )
        self._all[full] = container
        parent.children[full] = container
        return container

    def _find_parent(self, caller: Caller, name: str) -> Container:
        parent = self.find(name.rpartition("/")[0] or ROOT)
        if parent.level >= _LEVEL_MAX:
            raise make_invalid(f"Maximum level is {_LEVEL_MAX}")
        caller.check_write()
        if not parent.is_root:
            caller.check_control(parent.owner)
            if not parent.values.get("children_allowed", True):
                raise make_bad_state("the parent allows no sub-containers")
        return parent

    def _take_id(self) -> int:
        used = {one.id for one in self._all.values()}
        while self._next_id in used:
            self._next_id = self._next_id % _LAST_ID + 1
        number, self._next_id = self._next_id, self._next_id % _LAST_ID + 1
        return max(number, _FIRST_ID)

    def forget(self, container: Container) -> None:
        """After this nobody finds it."""
        del self._all[container.name]
        if container.parent is not None:
            container.parent.children.pop(container.name, None)
        container.state = State.DESTROYED

    def is_locked(self, container: Container) -> bool:
        """Somebody changes it, something below it or something above it."""
        name = container.name
        return any(
            other == name or other.startswith(name + "/") or name.startswith(other + "/")
            for other in self._locked
        )

    async def lock(self, container: Container) -> None:
        """Wait until nobody else changes it. Raises Refusal(ContainerDoesNotExist)."""
        while self.is_locked(container):
            future = asyncio.get_running_loop().create_future()
            self._released.append(future)
            await future
        if container.state is State.DESTROYED:
            raise Refusal(pb.ContainerDoesNotExist, "Container was destroyed")
        self._locked.add(container.name)

    def unlock(self, container: Container) -> None:
        self._locked.discard(container.name)
        waiting, self._released = self._released, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
