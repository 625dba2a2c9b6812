"""Jobs whose model takes long to prepare: nobody else waits for it, and they hear what they are told meanwhile."""

import errno
import os
import subprocess

import pytest

from conftest import BIN, wait_for
from rogue_trainer import replace_program
from sharing_tools import ENDLESS, explain, running, state_is, submit

# Waits before it makes the copy of a job's model, until whoever holds the other end of the pipe lets go of it.
SLOW_HOST = """#!/bin/sh
case "$*" in
*/start.onnx) read -r line < {gate} ;;
esac
exec {real} "$@"
"""
PREPARED = "its model is being prepared"


class SlowHost:
    """A daemon that prepares the models of jobs once it may; `bring` submits a job that starts from a file."""

    def __init__(self, server, gate, spec, file):
        self.server, self.gate, self.spec, self.file = server, gate, spec, file

    def bring(self, **changes):
        return submit(self.server, self.spec("file.yaml", **{**ENDLESS, "model": {"onnx": str(self.file)}, **changes}))

    def held(self):
        """The pipe's end, once a helper waits at the other one: it goes on when this is closed."""
        def opened():
            try:
                return os.open(self.gate, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                assert error.errno == errno.ENXIO, error
        return wait_for("a helper prepares the model", opened)


@pytest.fixture
def slow_host(new_server, tmp_path, monkeypatch, squares, spec):
    gate, file = tmp_path / "gate", tmp_path / "mlp.onnx"
    os.mkfifo(gate)
    subprocess.run([BIN / "tandem-engine-host", "model", "new", "--arch", "mlp", "--input", "1x16x16", "--classes", "4", "--out", file], check=True)
    replace_program(tmp_path / "bin", monkeypatch, "tandem-engine-host", SLOW_HOST.format(gate=gate, real=BIN / "tandem-engine-host"))
    server = new_server("--set", "training.max_jobs=2").start()
    server.cli("dataset", "add", "squares", squares)
    return SlowHost(server, gate, spec, file)


def assert_ended(pipe):
    """Nobody reads any more: the helper has gone."""
    with pytest.raises(BrokenPipeError):
        os.write(pipe, b"go on\n")
    os.close(pipe)


def test_a_job_whose_model_is_being_prepared_holds_nobody_up_and_has_its_seat(slow_host, spec):
    server = slow_host.server
    first = submit(server, spec("first.yaml", **ENDLESS))
    running(server, first)
    second = slow_host.bring()
    pipe = slow_host.held()
    assert state_is(server, second, "starting")["reason"] == PREPARED
    assert explain(server, second)["waits_for"] == PREPARED
    server.cli("jobs", "pause", first)
    state_is(server, first, "paused")
    server.cli("jobs", "resume", first)
    state_is(server, first, "running")
    third = submit(server, spec("third.yaml", **ENDLESS))
    wait_for("both seats are taken", lambda: "max_jobs" in server.job(third)["reason"])
    server.cli("jobs", "cancel", first)
    state_is(server, first, "cancelled")
    running(server, third)
    assert server.job(second)["state"] == "starting"
    server.cli("jobs", "cancel", third)
    state_is(server, third, "cancelled")
    os.close(pipe)
    running(server, second)
    server.assert_well()


def test_a_job_whose_model_is_being_prepared_is_cancelled_at_once(slow_host):
    server, job = slow_host.server, slow_host.bring()
    pipe = slow_host.held()
    server.cli("jobs", "cancel", job)
    assert state_is(server, job, "cancelled")["reason"] == "cancelled before it started"
    assert_ended(pipe)
    assert server.request("DELETE", f"/api/v1/jobs/{job}")[0] == 200
    assert not (server.folder / f"data/checkpoints/job-{job}").exists()


def test_a_job_whose_model_is_being_prepared_gives_its_seat_back_and_prepares_again(slow_host):
    server, job = slow_host.server, slow_host.bring()
    pipe = slow_host.held()
    server.cli("jobs", "release", job)
    state_is(server, job, "queued")
    assert_ended(pipe)
    server.cli("jobs", "resume", job)
    os.close(slow_host.held())
    assert running(server, job)["attempt"] == 2
    server.cli("jobs", "cancel", job)
    state_is(server, job, "cancelled")


def test_a_pause_asked_for_while_the_model_is_prepared_holds_once_it_runs(slow_host):
    server, job = slow_host.server, slow_host.bring()
    pipe = slow_host.held()
    server.cli("jobs", "pause", job)
    assert server.job(job)["state"] == "starting", "there is nothing yet that could stand still"
    os.close(pipe)
    assert state_is(server, job, "paused")["attempt"] == 1
    server.cli("jobs", "resume", job)
    running(server, job)
    server.assert_well()


def test_a_job_that_is_out_of_time_while_its_model_is_prepared_ends(slow_host):
    server, job = slow_host.server, slow_host.bring(time_limit="6s")
    pipe = slow_host.held()
    assert "its time limit is 6.0 s" in state_is(server, job, "timed_out")["reason"]
    assert_ended(pipe)
    server.assert_well()


def test_a_server_that_stops_waits_for_no_model_and_the_next_one_prepares_it_again(slow_host):
    server, job = slow_host.server, slow_host.bring()
    pipe = slow_host.held()
    assert server.stop() == 0
    assert "did not leave in time" not in server.log_text()
    assert_ended(pipe)
    half = server.folder / f"data/checkpoints/job-{job}/start.onnx.tmp-1-0"
    half.write_bytes(b"as a helper leaves it that was killed")
    server.start()
    pipe = slow_host.held()
    assert not half.exists()
    assert state_is(server, job, "starting")["reason"] == PREPARED
    os.close(pipe)
    running(server, job)
