"""What breaks under the daemon: engines, disks, files and the daemon itself in the middle of its work."""

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess

import pytest

import onnx_files as onnx
from conftest import BIN, wait_for

TEST_ENGINES = BIN / "test_engines"
GOOD = onnx.linear(onnx.tensor("w", [4, 2], [1, 0, 0, 1, 1, 0, 0, 1]))

needs_test_engines = pytest.mark.skipif(not (TEST_ENGINES / "libtandem_engine_gate.so").exists(),
                                        reason=f"no test engines in {TEST_ENGINES}: build the target tandem_test_engines")


def behave(word, model=GOOD):
    """A model, whose first word tells the test engine what to do: an unknown protobuf field that readers skip."""
    text = word.encode().ljust(9)
    return b"\n\x09" + text + model


@pytest.fixture
def gate_server(new_server, monkeypatch):
    """Starts daemons that serve with the engine `gate`."""
    monkeypatch.setenv("TANDEM_ENGINE_PATH", str(TEST_ENGINES))
    return lambda *args: new_server("--set", "serving.engine=gate", *args)


def bring(server, name, data):
    status, body = server.request("POST", f"/api/v1/models/{name}/versions?source={name}.onnx", data)
    assert status == 200, body


def version_of(server, name, number=1):
    return server.cli("models", "show", name, "--json").json["versions"][number - 1]


def ask_gate(server, model="good"):
    inputs = [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}, {"name": "y", "shape": [2], "datatype": "INT32", "data": [1, 2]}]
    return server.request("POST", f"/v2/models/{model}/infer", {"inputs": inputs})[0]


# --- engines ---

@needs_test_engines
def test_engines_that_refuse_crash_or_hang_are_named_and_harm_nothing(gate_server):
    server = gate_server().start()
    bring(server, "good", behave("fine"))
    server.cli("models", "deploy", "good")
    for word, words in (("bad", "operator 'Nonsense' is not supported"), ("crash", "crashed the engine: signal 6"),
                        ("hang", "took longer than 1.0 s")):
        if word == "hang":  # the others may take as long as a busy machine needs
            server.stop()
            server.start("--set", "serving.prepare_timeout=1s")
        bring(server, word, behave(word))
        result = server.cli("models", "deploy", word, check=False)
        assert result.code != 0 and "'gate'" in result.err and words in result.err, result.err
        assert f"'{word}' version 1" in result.err
        assert ask_gate(server) == 200
    server.assert_well()
    server.kill()
    server.start()
    assert version_of(server, "good")["state"] == "READY"
    assert all(version_of(server, word)["state"] == "UNAVAILABLE" for word in ("bad", "crash", "hang")), "they had failed: no quarantine"
    assert ask_gate(server) == 200


@needs_test_engines
def test_a_model_that_was_being_loaded_when_the_daemon_died_is_quarantined(gate_server):
    server = gate_server().start()
    bring(server, "good", behave("fine"))
    server.cli("models", "deploy", "good")
    bring(server, "slow", behave("hang"))
    environment = {**os.environ, "TANDEM_URL": server.url}
    deploy = subprocess.Popen([BIN / "tandem", "models", "deploy", "slow"], env=environment, stderr=subprocess.PIPE)
    wait_for("it is being loaded", lambda: version_of(server, "slow")["state"] == "LOADING")
    wait_for("the child prepares it", lambda: preparing(server))
    server.kill()
    deploy.communicate(timeout=30)
    assert deploy.returncode != 0
    wait_for("no child outlives the daemon", lambda: not preparing(server))

    server.start()
    slow = version_of(server, "slow")
    assert slow["state"] == "QUARANTINED" and "tandem models deploy slow/1" in slow["reason"], slow
    assert version_of(server, "good")["state"] == "READY" and ask_gate(server) == 200
    assert any("slow/1" in notice for notice in server.cli("status", "--json").json["notices"])
    server.kill()
    server.start("--set", "serving.prepare_timeout=1s")
    assert version_of(server, "slow")["state"] == "QUARANTINED", "a restart does not forget it"
    result = server.cli("models", "deploy", "slow", check=False)
    assert "took longer than 1.0 s" in result.err, "a person's word tries again: " + result.err
    server.assert_well()


@needs_test_engines
def test_an_engine_whose_load_the_daemon_did_not_survive_is_held_back_and_the_former_one_serves(new_server, monkeypatch):
    monkeypatch.setenv("TANDEM_ENGINE_PATH", str(TEST_ENGINES))
    server = new_server("--set", "serving.engine=auto").start()
    bring(server, "good", behave("fine", onnx.chain("NoSuchOperator")))  # no real engine serves it
    server.cli("models", "configure", "good", "--set", "engine=gate")
    server.cli("models", "deploy", "good")
    server.cli("models", "configure", "good", "--set", "engine=auto")
    derived = server.folder / "data" / "artifacts" / "derived"
    wait_for("the chosen engine loads it", lambda: list(derived.glob("*/stuck-f32/loading")), 180)
    version = version_of(server, "good")
    assert json.loads(version["engine_report"])["chosen"] == "stuck" and version["engine"] == "gate", version
    assert ask_gate(server) == 200, "served as before meanwhile"
    server.kill()

    server.start()
    version = version_of(server, "good")
    assert version["state"] == "READY" and version["engine"] == "gate", version
    assert ask_gate(server) == 200
    report = json.loads(version["engine_report"])
    assert report["chosen"] == "gate" and "stuck is held back: the server ended" in report["why"], report
    assert [row["engine"] for row in report["engines"] if row.get("held_back")] == ["stuck"]
    assert report["why"] in server.cli("models", "show", "good").out
    notices = server.cli("status", "--json").json["notices"]
    assert any("good/1" in notice and "'stuck' is held back" in notice for notice in notices), notices
    server.kill()
    server.start()
    assert version_of(server, "good")["engine"] == "gate", "a restart does not forget it"
    assert ask_gate(server) == 200


def preparing(server):
    """Processes of the engine host that work in this server's folder."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"tandem-engine-host") and any(str(server.folder).encode() in word for word in words):
                found.append(int(folder.name))
    return found


@needs_test_engines
def test_doctor_names_plug_ins_that_cannot_be_used(gate_server):
    server = gate_server().start()
    for environment in ({}, {"TANDEM_URL": "http://127.0.0.1:1"}):  # with a server, and without
        result = server.cli("doctor", "--json", check=False, env=environment)
        assert result.code == 1
        checks = {check["name"]: check for check in result.json["checks"]}
        assert checks["engine gate"]["state"] == "ok" and checks["engine openvino"]["state"] == "ok"
        for name, words in (("otherabi", "speaks version 99"), ("deaf", "does not speak version"), ("holes", "function is missing"),
                            ("noentry", "no function tandem_engine_entry"), ("misnamed", "calls itself 'gate'")):
            check = checks[f"engine {name}"]
            assert check["state"] == "error" and words in check["detail"] and f"libtandem_engine_{name}.so" in check["detail"], check
            assert check["cure"]


@needs_test_engines
@pytest.mark.parametrize("engine, words", [("otherabi", "speaks version 99"), ("gatee", "did you mean 'gate'"), ("noentry", "no engine plug-in")])
def test_an_engine_that_cannot_be_used_is_named_when_a_model_is_deployed(new_server, monkeypatch, engine, words):
    monkeypatch.setenv("TANDEM_ENGINE_PATH", str(TEST_ENGINES))
    server = new_server("--set", f"serving.engine={engine}").start()
    bring(server, "good", GOOD)
    result = server.cli("models", "deploy", "good", check=False)
    assert result.code != 0 and f"'{engine}'" in result.err and words in result.err, result.err
    server.assert_well()


# --- versions that cannot be compared ---

def compared(spec, name, **changes):
    """A job whose version takes over if it is better than the champion."""
    rule = {"metric": "accuracy", "better_than": "champion"}
    return spec(name, register={"model": "squares", "alias": "champion", "promote_if": rule}, **changes)


def trainers(server):
    """The children that train or evaluate."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if parent == server.process.pid and words[0].endswith(b"tandem-trainer"):
                found.append(int(folder.name))
    return found


def kept(server, number):
    """The version, once the deploy rule has left it challenger."""
    def decided():
        versions = server.cli("models", "show", "squares", "--json").json["versions"]
        return len(versions) >= number and versions[number - 1]["deploy"] != "pending" and versions[number - 1]

    version = wait_for(f"version {number} is decided on", decided, 240)
    model = server.cli("models", "show", "squares", "--json").json
    assert version["deploy"] == "kept" and model["aliases"]["challenger"] == number, version
    return version


@pytest.mark.skipif(not (BIN / "test_engines_dreamer").exists(), reason="no test engines: build the target tandem_test_engines")
def test_a_version_whose_engine_hangs_while_it_is_compared_is_kept_and_the_next_is_decided_on(new_server, squares, spec, monkeypatch):
    monkeypatch.setenv("TANDEM_ENGINE_PATH", str(BIN / "test_engines_dreamer"))
    server = new_server("--set", "serving.engine=dreamer", "--set", "serving.prepare_timeout=20s").start()
    server.cli("dataset", "add", "squares", squares)
    assert server.train(spec())["deploy"] == "promoted", "without a comparison nothing is run"
    server.cli("models", "configure", "squares", "--set", "run_timeout_s=0.5")
    hangs = server.cli("train", compared(spec, "hangs.yaml", seed=4), "--json").json["job"]
    follows = server.train(spec("follows.yaml", seed=5))
    assert follows["deploy"] == "promoted", follows
    reason = kept(server, 2)["deploy_reason"]
    assert "the engine of version 2 has answered nothing for 20.5 s" in reason and "tandem models deploy squares/2" in reason, reason
    assert server.job(hangs)["deploy"] == "kept" and not trainers(server)
    server.assert_well()
    assert server.stop() == 0, "the run that hangs does not keep the server from its end"


def test_an_evaluation_whose_child_hangs_is_ended_and_its_version_is_kept(new_server, squares, spec):
    server = new_server("--set", "serving.engine=openvino", "--set", "serving.prepare_timeout=20s").start()
    server.cli("dataset", "add", "squares", squares)
    assert server.train(spec())["deploy"] == "promoted"
    server.cli("models", "configure", "squares", "--set", "run_timeout_s=0.5")
    wait_for("the first job's trainer is gone", lambda: not trainers(server))
    server.cli("train", compared(spec, "hangs.yaml", seed=4))
    trains = wait_for("it trains", lambda: trainers(server))[0]
    evaluates = wait_for("it is evaluated", lambda: [pid for pid in trainers(server) if pid != trains], 120)[0]
    os.kill(evaluates, signal.SIGSTOP)
    reason = kept(server, 2)["deploy_reason"]
    assert "the child that reads the data has asked for nothing for 20.5 s" in reason, reason
    assert not pathlib.Path(f"/proc/{evaluates}").exists()
    follows = server.train(spec("follows.yaml", seed=5))
    assert follows["deploy"] == "promoted" and server.stop() == 0, follows


# --- what others do to the data folder ---

@needs_test_engines
def test_a_model_file_that_somebody_deleted_is_named(gate_server, tmp_path):
    server = gate_server().start()
    for name in ("good", "lost"):
        bring(server, name, behave("fine") if name == "good" else behave("fine") + b"\x12\x01 ")
        server.cli("models", "deploy", name)
    sha = version_of(server, "lost")["sha256"]
    file = next((server.folder / "data" / "artifacts").rglob(sha))
    if file.is_dir():
        file = server.folder / "data" / "artifacts" / "sha256" / sha[:2] / sha
    file.unlink()
    assert ask_gate(server, "lost") == 200, "it is in memory"
    result = server.cli("models", "export", "lost", "--out", tmp_path / "out.onnx", check=False)
    assert result.code != 0 and sha in result.err and not (tmp_path / "out.onnx").exists(), result.err
    server.kill()
    server.start()
    assert ask_gate(server) == 200
    lost = version_of(server, "lost")
    assert lost["state"] != "READY" and "missing" in lost["reason"], lost
    result = server.cli("models", "deploy", "lost", check=False)
    assert result.code != 0 and sha in result.err, result.err
    server.assert_well()


@needs_test_engines
def test_a_damaged_blob_is_made_again(gate_server):
    server = gate_server().start()
    bring(server, "good", behave("fine"))
    server.cli("models", "deploy", "good")
    server.stop()
    for file in (server.folder / "data" / "artifacts" / "derived").rglob("*"):
        if file.is_file():
            file.write_bytes(b"\xff" * 10)
    server.start()
    assert version_of(server, "good")["state"] == "READY" and ask_gate(server) == 200


def start_must_fail(server):
    server.start(wait=False)
    assert server.process.wait(30) == 1, server.log_text()
    return server.log_text()


@pytest.mark.parametrize("content", [b"this is no database\n" * 500, b"SQLite format 3\0" + b"\xff" * 8000], ids=["text", "header only"])
def test_a_database_that_is_none_is_refused_at_the_start_and_left_alone(new_server, content):
    server = new_server()
    (server.folder / "data").mkdir()
    database = server.folder / "data" / "tandem.db"
    database.write_bytes(content)
    log = start_must_fail(server)
    assert str(database) in log and "backup" in log, log
    assert database.read_bytes() == content, "what may be repaired is not touched"


def test_a_database_whose_middle_is_damaged_is_refused_at_the_start(new_server):
    server = new_server().start()
    server.stop()
    database = server.folder / "data" / "tandem.db"
    size = database.stat().st_size
    with open(database, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    log = start_must_fail(server)
    assert str(database) in log and "damaged" in log, log


def test_a_data_folder_that_cannot_be_one_is_named(new_server):
    server = new_server()
    (server.folder / "data").write_text("I am a file")
    log = start_must_fail(server)
    assert str(server.folder / "data") in log, log


# --- a full disk ---

@pytest.fixture
def small_disk(new_server):
    """A daemon whose data folder is a file system of 24 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    server = new_server()
    data = server.folder / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", data], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"mount is refused here: {mounted.stderr.strip()}")
    yield server
    server.close()
    subprocess.run(["umount", "-l", data], check=True)


def fill(server):
    """Takes every byte that is left; gives the file, for deleting."""
    path = server.folder / "data" / "filler"
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def test_a_full_disk_is_said_and_nothing_is_lost(small_disk, squares, spec):
    # An engine that is named: engines that are being measured would write and remove files beside the ones below.
    server = small_disk.start("--set", "serving.engine=openvino")
    server.cli("dataset", "add", "squares", squares)
    bring(server, "good", GOOD)
    server.cli("models", "deploy", "good")
    before = server.cli("models", "show", "good", "--json").json
    filler = fill(server)

    status, body = server.request("POST", "/api/v1/models/new/versions?source=new.onnx", GOOD + b"\x12\x01 ")
    assert status == 507 and "space" in json.loads(body)["error"], (status, body)
    result = server.cli("dataset", "add", "copy", squares, "--copy", check=False)
    assert result.code != 0 and "space" in result.err, result.err
    submitted = server.cli("train", spec(steps=5, epochs=None, register=None), "--json", check=False)
    if submitted.code == 0:  # a little room was left in the database's own file
        job = json.loads(submitted.out)["job"]
        end = wait_for("the job ends", lambda: (j := server.job(job))["state"] in ("failed", "queued") and j["reason"] and j, timeout=240)
        assert "space" in end["reason"], end
        server.cli("jobs", "cancel", job, check=False)
    else:
        assert "space" in submitted.out + submitted.err or "full" in submitted.out + submitted.err, submitted.err
    server.assert_well()
    request = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    assert server.request("POST", "/v2/models/good/infer", request)[0] == 200

    filler.unlink()
    assert server.cli("models", "show", "good", "--json").json == before
    status, body = server.request("POST", "/api/v1/models/new/versions?source=new.onnx", GOOD + b"\x12\x01 ")
    assert status == 200, body
    server.cli("dataset", "add", "copy", squares, "--copy")
    end = server.train(spec(steps=5, epochs=None, register={"model": "trained"}))
    assert end["state"] == "succeeded", end
    server.kill()
    server.start()
    after = server.cli("models", "show", "good", "--json").json
    assert after["aliases"] == before["aliases"] and after["versions"][0]["state"] == "READY"
    assert server.cli("models", "show", "trained").code == 0


def test_a_disk_that_fills_while_a_job_runs_fails_the_job_with_the_reason(small_disk, squares, spec):
    server = small_disk.start("--set", "training.max_attempts=1")
    server.cli("dataset", "add", "squares", squares)
    # So many steps that it cannot have done them before it is stopped.
    filling = spec(epochs=None, steps=1_000_000, checkpoint={"every_steps": 1}, register={"model": "filling"})
    job = server.cli("train", filling, "--json").json["job"]
    trainer = wait_for("a trainer", lambda: server.job(job)["pid"])
    os.kill(trainer, signal.SIGSTOP)  # it stands still until the disk is full
    filler = fill(server)
    os.kill(trainer, signal.SIGCONT)
    wait_for("the trainer is gone", lambda: server.job(job)["pid"] == 0, timeout=240)
    server.assert_well()
    # Even the end could not be written; with room it is, and is not lost.
    filler.unlink()
    end = wait_for("the job has ended", lambda: (j := server.job(job))["state"] == "failed" and j)
    assert "No space" in end["reason"], end
    assert server.cli("models", "show", "filling", check=False).code == 4
    end = server.train(spec("again.yaml", steps=3, epochs=None, register=None))
    assert end["state"] == "succeeded", end


# --- descriptors ---

PIDFD_GETFD = 438  # the system call's number


def sockets_of(pid):
    names = {}
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            names[int(entry)] = os.readlink(f"/proc/{pid}/fd/{entry}")
    return {name: fd for fd, name in names.items() if name.startswith("socket:")}


def test_a_connection_that_is_over_is_forgotten_although_a_child_still_holds_its_socket(new_server):
    """As between fork and exec; a copy of the descriptor in this process stands in for the child."""
    server = new_server().start()
    pid = server.process.pid
    host, port = server.ready["http"].split(":")
    call = ctypes.CDLL(None, use_errno=True).syscall
    handle = os.pidfd_open(pid)
    ask = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n%s\r\n"
    for _ in range(3):
        before = sockets_of(pid)
        with socket.create_connection((host, int(port))) as client:
            client.sendall(ask % b"")
            assert client.recv(1000)
            held = [call(PIDFD_GETFD, handle, fd, 0) for name, fd in sockets_of(pid).items() if name not in before]
            if -1 in held:
                pytest.skip("this process may not copy descriptors of another one")
            assert held
            client.sendall(ask % b"Connection: close\r\n")
            assert client.recv(1000)
            wait_for("the server closes it", lambda: not set(sockets_of(pid)) - set(before))
            for _ in range(20):  # others take the memory that it had
                with socket.create_connection((host, int(port))) as other:
                    other.sendall(ask % b"")
                    assert other.recv(1000)
            client.send(b"more")  # an event of the socket that nobody reads
        for fd in held:
            os.close(fd)
        assert server.request("GET", "/v2/health/ready")[0] == 200
    os.close(handle)
    server.assert_well()
