"""`tandem jobs explain` for each thing that a job may wait for: what it is, what would start the job, and when at the earliest."""

import time

import pytest

from conftest import wait_for
from rogue_trainer import rogue_server
from sharing_tools import ENDLESS, Asking, explain, machine, prepared, running, set_policy, submit


def told(server, job, words):
    """What is said once the reason of the queue is in it."""
    return wait_for(f"it waits for {words}", lambda: (e := explain(server, job)) and words in e["waits_for"] and e, timeout=20)


def test_a_job_for_which_training_has_become_too_small_says_which_numbers_to_change(new_server, squares, spec):
    server = new_server("--set", "training.max_jobs=2").start("--set", "training.threads=4", "--set", "training.memory=4GB")
    server.cli("dataset", "add", "squares", squares)
    threads = submit(server, spec("threads.yaml", **ENDLESS, resources={"threads": 4, "memory": "400MB"}))
    memory = submit(server, spec("memory.yaml", **ENDLESS, resources={"threads": 1, "memory": "3GB"}))
    server.stop()
    server.start("--set", "training.threads=1", "--set", "training.memory=1GB")
    shown = told(server, threads, "asks for 4 threads, training has 1")
    assert "resources.threads" in shown["would_start"] and "training.threads" in shown["would_start"] and shown["earliest_ms"] == 0
    shown = told(server, memory, "needs about 3.0 GB of memory, training has 1.0 GB")
    assert "resources.memory" in shown["would_start"] and "training.memory" in shown["would_start"]


def test_a_job_that_waits_for_a_seat_or_for_its_owner_says_so(machine, spec):
    first = submit(machine, spec("first.yaml", **ENDLESS))
    running(machine, first)
    second, third = (submit(machine, spec(f"{name}.yaml", **ENDLESS)) for name in ("second", "third"))
    shown = told(machine, third, "waits for a running job to end (1 at a time: training.max_jobs); 1 ahead of it")
    assert "higher priority" in shown["would_start"]
    assert any(f"jobs that hold resources: {first} (squares, running)" == fact for fact in shown["facts"]), shown["facts"]
    assert any(fact.startswith("1 queued jobs are ahead of it") for fact in shown["facts"]), shown["facts"]
    machine.cli("jobs", "pause", second)
    shown = told(machine, second, "paused before it started")
    assert shown["would_start"] == f"tandem jobs resume {second}"


def test_a_job_that_waits_for_memory_says_how_much_is_free(new_server, squares, spec):
    server = new_server("--set", "training.max_jobs=2", "--set", "training.memory=1GB").start()
    server.cli("dataset", "add", "squares", squares)
    running(server, submit(server, spec("first.yaml", **ENDLESS, resources={"memory": "600MB"})))
    second = submit(server, spec("second.yaml", **ENDLESS, resources={"memory": "500MB"}))
    shown = told(server, second, "waits for 500 MB of memory, 400 MB of training's is free")
    assert "memory" in shown["would_start"]


def test_a_job_whose_window_was_taken_away_says_what_to_add(machine, spec):
    night = "windows: [{name: night, from: '01:00', to: '01:01', time_zone: UTC}]\n"
    set_policy(machine, night)
    job = submit(machine, spec(**ENDLESS, window="night"))
    set_policy(machine)
    shown = told(machine, job, "asks for window 'night', which does not exist")
    assert "a window 'night' in the sharing document" in shown["would_start"] and shown["earliest_ms"] == 0


def test_jobs_say_when_training_has_no_share_and_when_it_has_one_again(machine, spec):
    at = time.strftime("%H:%M", time.gmtime(time.time() + 2 * 3600))
    until = time.strftime("%H:%M", time.gmtime(time.time() + 3 * 3600))
    set_policy(machine, "lend: false\nserving: {cpu: 100%}\n"
                        f"windows: [{{name: night, from: '{at}', to: '{until}', time_zone: UTC, training: {{cpu: 50%}}}}]\n")
    job = submit(machine, spec(**ENDLESS))
    shown = told(machine, job, "training has no share of the machine now; goes on at")
    assert shown["would_start"] == "the opening of the next window in which training may run"
    assert 1.9 < (shown["earliest_ms"] / 1000 - time.time()) / 3600 <= 2


def test_jobs_that_wait_for_a_time_ratio_say_when_their_part_begins(machine, spec):
    every = 20
    waiting = lambda: 1 < time.time() % every < 15  # far enough from its next part to set the policy and look
    wait_for("training's part is over", waiting)
    set_policy(machine, f"ratio: {{training: 1%, every: {every}s}}\n")
    job = submit(machine, spec(**ENDLESS))
    shown = told(machine, job, f"waits for training's part of the time ratio (the first 1 % of every {every} s)")
    assert shown["would_start"] == "the beginning of training's part of the time ratio"
    assert shown["earliest_ms"] % (1000 * every) == 0 and 0 < shown["earliest_ms"] / 1000 - time.time() + 1 <= every + 1
    set_policy(machine)
    running(machine, job)
    wait_for("training's part is over", waiting)
    set_policy(machine, f"ratio: {{training: 1%, every: {every}s}}\n")
    shown = told(machine, job, "its turn: training may not run now")
    assert shown["job"]["state"] == "running" and shown["would_start"] == "the beginning of training's part of the time ratio"


def test_a_job_that_stands_behind_the_gate_says_why(machine, spec):
    job = submit(machine, spec(**ENDLESS))
    running(machine, job)
    set_policy(machine, "automatic: false\nslo_ms: {hot: 0.01}\n")
    with Asking(machine, threads=2):
        told(machine, job, "its turn on the CPU: serving needs all of it (")


def test_a_job_that_is_tried_again_says_when(rogue_server, spec):
    server = rogue_server("os.kill(os.getpid(), signal.SIGSEGV)")
    job = submit(server, spec(**ENDLESS))
    shown = told(server, job, "the next attempt begins in")
    assert "SIGSEGV" in shown["waits_for"] and shown["would_start"] == "the time of its next attempt"
    assert 0 < shown["earliest_ms"] / 1000 - shown["job"]["created_ms"] / 1000 < 60
