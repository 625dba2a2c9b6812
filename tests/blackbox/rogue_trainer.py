"""Programs in the place of the daemon's own; a trainer that does what a test says, whatever the daemon tells it."""

import contextlib
import os
import pathlib
import stat
import sys

import pytest

import conftest
from sharing_tools import ENDLESS, alive, bring_hot, running, submit

# Speaks the framing of src/messaging and proto/trainer.proto: progress of one step, then `behave`, whatever it is told.
ROGUE = """#!{python}
import ctypes, os, signal, socket, struct, sys, threading, time
daemon = socket.socket(fileno=3)
def send(payload): daemon.sendall(b"TM\\x01\\0" + struct.pack("<I", len(payload)) + payload)
def receive(size):
    data = b""
    while len(data) < size:
        data += daemon.recv(size - len(data)) or os._exit(0)
    return data
def listen():
    while True: print("told", receive(struct.unpack("<I", receive(8)[4:])[0]).hex(), flush=True)
def burn():
    while True: pass
def tried(what, *arguments):
    try: what(*arguments)
    except OSError as error: print("refused", what.__name__, error.strerror, flush=True)
    else: print("allowed", what.__name__, flush=True)
listen_first = receive(struct.unpack("<I", receive(8)[4:])[0])
threading.Thread(target=listen, daemon=True).start()
send(bytes([10, 4, 24, 1, 32, 9]))  # FromTrainer.progress: step 1 of 9
{behave}
"""


def replace_program(folder, monkeypatch, name, script):
    """Daemons that are started from now on run out of the new folder, where the program `name` is a script."""
    folder.mkdir()
    for file in conftest.BIN.iterdir():
        if file.name == name or file.is_dir() or file.name.endswith("_test"):
            continue
        try:
            os.link(file, folder / file.name)  # a symbolic one would lead the daemon back to the real program
        except OSError:
            pytest.skip(f"no hard link from {conftest.BIN} to {folder}: they are on two file systems")
    program = folder / name
    program.write_text(script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(conftest, "BIN", folder)


@pytest.fixture
def rogue_server(new_server, tmp_path, monkeypatch, squares):
    """A daemon whose trainer is the program ROGUE that behaves as given."""
    made = []

    def make(behave, *arguments):
        replace_program(tmp_path / "bin", monkeypatch, "tandem-trainer", ROGUE.format(python=sys.executable, behave=behave))
        made.append(new_server(*arguments).start())
        made[-1].cli("dataset", "add", "squares", squares)
        bring_hot(made[-1])
        return made[-1]

    yield make
    for server in made:
        server.close()
    assert not processes_below(tmp_path), "a process of the trainer outlives the daemon"


def processes_below(folder):
    """Command lines of processes that run out of this test's folder, without its daemons."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().decode(errors="replace").split("\0")
            if any(word.startswith(str(folder)) and word.endswith("tandem-trainer") for word in words) and alive(int(entry.parent.name)):
                found.append(words)
    return found


def rogue_runs(server, spec, **changes):
    job = submit(server, spec(**{**ENDLESS, **changes}))
    return job, running(server, job)["pid"]
