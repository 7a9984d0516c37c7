"""What processes use is counted as they come and go, whether their files are kept open or not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from devporto.counting import KeptFile, Process

# The shell stands for a container's init, what it runs for the command.
_INIT = ["sh", "-c", '"$0" -c "$1"; :', sys.executable]
_COMMAND = """\
import os, signal, sys, threading, time

def fork(count):
    for _ in range(count):
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(1000)
        children.append(pid)

def end(count):
    for _ in range(count):
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children.pop(0), 0)

def fork_from_thread(count):
    forked = threading.Event()
    def work():
        fork(count)
        forked.set()
        time.sleep(1000)
    threading.Thread(target=work, daemon=True).start()
    forked.wait()

children = []
for line in sys.stdin:
    word, count = line.split()
    globals()[word](int(count))
    print("done", flush=True)
end(len(children))
os._exit(0)
"""


class Container:
    """A command below an init, which does as it is told."""

    def __init__(self, shell: subprocess.Popen[str]) -> None:
        self._shell = shell
        self.init = Process(shell.pid)

    def do(self, words: str) -> None:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        print(words, file=self._shell.stdin, flush=True)
        assert self._shell.stdout.readline() == "done\n"


@pytest.fixture(params=[0, 1000])
def container(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Container]:
    """With room for so many files to be kept open."""
    monkeypatch.setattr(KeptFile, "room", request.param)
    pipe = subprocess.PIPE
    with subprocess.Popen([*_INIT, _COMMAND], stdin=pipe, stdout=pipe, text=True) as shell:
        yield Container(shell)
        # The end of its input is the command's end, and that the shell's.


def test_processes_are_counted_as_they_come_and_go(container: Container) -> None:
    counts = []
    for words in ("fork 3", "end 2", "fork 4"):
        container.do(words)
        counts.append(container.init.count_as_init().processes)
    # The init and the command are counted, too.
    assert counts == [5, 3, 7]


def test_more_children_than_the_kernel_tells_at_once_are_all_counted(container: Container) -> None:
    container.do("fork 1200")
    assert container.init.count_as_init().processes == 1202


def test_children_of_threads_are_counted(container: Container) -> None:
    container.do("fork 1")
    assert container.init.count_as_init().processes == 3
    container.do("fork_from_thread 2")
    found = container.init.count_as_init()
    assert (found.processes, found.threads) == (5, 6)


def test_only_so_many_files_are_kept_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(KeptFile, "room", 1)
    one, other = KeptFile("/proc/self/stat"), KeptFile("/proc/self/stat")
    assert one.read().split()[0] == other.read().split()[0] == one.read().split()[0]
    assert KeptFile.room == 0
    del one, other
    assert KeptFile.room == 1
