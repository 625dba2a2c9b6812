"""Pauses whose record comes late or not at all: a job neither stays still nor runs against what was recorded."""

import concurrent.futures
import os
import pathlib
import signal

from conftest import wait_for
from rogue_trainer import rogue_runs, rogue_server
from sharing_tools import busy_database, state_is

PAUSE, RESUME = "told 12020801", "told 12020802"  # ToTrainer.control of proto/trainer.proto


def stands(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def told(server, job):
    return [line for line in server.cli("jobs", "logs", job).out.splitlines() if line in (PAUSE, RESUME)]


def test_a_job_whose_trainer_never_says_that_it_rests_can_be_resumed(rogue_server, spec):
    server = rogue_server("time.sleep(600)", "--set", "stop_timeout=1s", "--set", "isolation.rung=off")
    job, trainer = rogue_runs(server, spec)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with busy_database(server):
            paused = pool.submit(server.request, "POST", f"/api/v1/jobs/{job}/pause")
            wait_for("it stands, ahead of its record", lambda: stands(trainer))
            wait_for("it may end what it is at", lambda: not stands(trainer))
        assert paused.result()[0] == 200
    state_is(server, job, "pausing")
    wait_for("it was told", lambda: told(server, job) == [PAUSE])
    server.cli("jobs", "resume", job)
    state_is(server, job, "running")
    wait_for("it was told", lambda: told(server, job) == [PAUSE, RESUME])
    server.cli("jobs", "pause", job)
    state_is(server, job, "paused")
    server.assert_well()


def test_a_job_whose_resume_could_not_be_recorded_is_told_to_pause_again(rogue_server, spec):
    server = rogue_server("time.sleep(600)", "--set", "stop_timeout=1s")
    job, _ = rogue_runs(server, spec)
    server.cli("jobs", "pause", job)
    state_is(server, job, "paused")
    with busy_database(server):
        status, body = server.request("POST", f"/api/v1/jobs/{job}/resume")
    assert status == 503 and b"another process holds the file open" in body, (status, body)
    wait_for("it was told", lambda: told(server, job) == [PAUSE, RESUME, PAUSE])
    assert server.job(job)["state"] == "paused"
    server.cli("jobs", "resume", job)
    state_is(server, job, "running")
    server.assert_well()


def test_a_pause_does_not_wait_for_what_the_control_loop_writes_of_another_job(rogue_server, spec):
    server = rogue_server("time.sleep(600)", "--set", "stop_timeout=1s", "--set", "isolation.rung=off", "--set", "training.max_jobs=2")
    (other, ends), (job, trainer) = rogue_runs(server, spec), rogue_runs(server, spec)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with busy_database(server):
            os.kill(ends, signal.SIGKILL)
            wait_for("the loop has seen its end, and writes that", lambda: server.job(other)["pid"] == 0)
            paused = pool.submit(server.request, "POST", f"/api/v1/jobs/{job}/pause")
            wait_for("it stands", lambda: stands(trainer))
            assert "holds the file open" not in server.log_text(), "the loop waited no more"
        assert paused.result()[0] == 200
    state_is(server, job, "paused", "pausing")
    server.assert_well()
