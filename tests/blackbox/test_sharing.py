"""How serving and training share the machine, measured from outside: the rung, shares, the policy, pauses, the queue."""

import contextlib
import math
import os
import pathlib
import time

import pytest

from conftest import wait_for
from sharing_tools import (CPUS, ENDLESS, STEADY, Asking, alive, bring_hot, cpu_seconds, cpus_used, engine_processes, explain, machine, metrics,
                           policy, prepared, request_cpu_seconds, running, set_policy, state_is, submit, succeeded, threads_of, undisturbed)

RUNGS = ["realtime", "cgroup-weight", "autogroup", "nice", "off"]


# --- the rung ---

@pytest.mark.parametrize("wanted", RUNGS)
def test_the_rung_is_the_one_asked_for_or_the_best_below_and_the_kernel_shows_it(new_server, squares, spec, wanted):
    server = new_server("--set", f"isolation.rung={wanted}").start()
    status = server.cli("status", "--json").json
    rung = status["rung"]
    assert RUNGS.index(rung) >= RUNGS.index(wanted), f"no better than asked: {status}"
    if wanted in ("nice", "off") or os.geteuid() == 0 and wanted == "autogroup":
        assert rung == wanted, status
    shown = metrics(server)
    assert {name: shown[f'tandem_isolation_rung{{rung="{name}"}}'] for name in RUNGS} == {name: "1" if name == rung else "0" for name in RUNGS}
    checks = {check["name"]: check for check in server.cli("doctor", "--json", check=False).json["checks"]}
    assert checks["isolation"]["detail"].startswith(rung + ": ") and (rung == "realtime") == (checks["isolation"]["state"] == "ok"), checks["isolation"]

    server.cli("dataset", "add", "squares", squares)
    trainer = running(server, submit(server, spec(**ENDLESS)))["pid"]
    latency = ("http-io", "grpc-io", "grpc-accept")
    requests = [tid for tid, name in threads_of(server.process.pid) if name.startswith(latency)]
    others = [tid for tid, name in threads_of(server.process.pid) if not name.startswith(latency) and name != "watchdog"]
    assert requests and others
    expected = os.SCHED_FIFO if rung == "realtime" else os.SCHED_OTHER
    assert all(os.sched_getscheduler(tid) & ~os.SCHED_RESET_ON_FORK == expected for tid in requests)
    for tid in others + [tid for tid, _ in threads_of(trainer)]:
        with contextlib.suppress(ProcessLookupError):
            assert os.sched_getscheduler(tid) in (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE), tid
    group = pathlib.Path(f"/proc/{trainer}/cgroup").read_text()
    assert (group != pathlib.Path(f"/proc/{server.process.pid}/cgroup").read_text()) == ("in a cgroup" in status["isolation"]), group
    niceness = os.getpriority(os.PRIO_PROCESS, trainer) - os.getpriority(os.PRIO_PROCESS, os.getpid())
    if rung == "nice":
        assert os.getpriority(os.PRIO_PROCESS, trainer) == 19
    if rung == "off":
        assert niceness == 0
    if rung == "autogroup":
        assert pathlib.Path(f"/proc/{trainer}/autogroup").read_text().split()[-1] == "19"
    server.kill()
    wait_for("no trainer outlives the daemon", lambda: not alive(trainer))


# --- shares ---

def test_a_wall_holds_training_to_its_share_and_lending_gives_it_what_is_idle(machine, spec):
    if "CPU caps" not in machine.cli("doctor", check=False).out:
        pytest.skip("the kernel holds no CPU caps here: no cgroup can be written")
    set_policy(machine, "lend: false\ntraining: {cpu: 50%}\n")
    wait_for("the wall", lambda: walls(machine)[0] == pytest.approx(CPUS / 2))
    job = submit(machine, spec(**ENDLESS))
    trainer = running(machine, job)["pid"]
    used, foreign = cpus_used(2, lambda: cpu_seconds(trainer), [trainer])
    assert 0.95 * CPUS / 2 - foreign <= used <= 1.05 * CPUS / 2
    set_policy(machine, "lend: true\ntraining: {cpu: 50%}\n")
    wait_for("its threads are back", lambda: machine.job(job)["progress"]["threads"] == CPUS)
    used, foreign = cpus_used(2, lambda: cpu_seconds(trainer), [trainer])
    assert used > 0.85 * CPUS - foreign, "all that is idle"
    assert metrics(machine)["tandem_training_cpu_cap"] == "0"


def test_serving_is_held_to_its_wall_by_refusing_requests(machine):
    share = 0.1 * CPUS
    set_policy(machine, "lend: false\nserving: {cpu: 10%}\n")
    wait_for("the wall", lambda: walls(machine)[1] == pytest.approx(share))
    server = machine.process.pid
    with Asking(machine, threads=4) as asking:
        wait_for("it is over its share", lambda: any(code == 503 for code, _ in asking.answers))
        used, _ = cpus_used(3, lambda: request_cpu_seconds(server), [server])
    assert used == pytest.approx(share, rel=0.15)
    assert asking.codes() == {200, 503}, "some are answered all the time"
    refusal = next(text for code, text in asking.answers if code == 503)
    assert "hot" in refusal and "share of the CPU" in refusal and "serving.cpu" in refusal
    set_policy(machine)
    with Asking(machine) as asking:
        wait_for("none is refused any more", lambda: len(asking.answers) > 50 and all(code == 200 for code, _ in asking.answers[-50:]))


def test_serving_is_held_to_its_wall_also_where_an_engine_has_a_process_of_its_own(new_server):
    server, share = new_server().start(), 0.25 * CPUS
    bring_hot(server, "apart", "engine=torch")
    pid, (engine,) = server.process.pid, engine_processes(server)
    with Asking(server, threads=4, model="apart") as asking:
        wait_for("answers", lambda: len(asking.answers) > 100)
        free, _ = cpus_used(2, lambda: cpu_seconds(engine), [pid, engine])
    set_policy(server, "lend: false\nserving: {cpu: 25%}\n")
    wait_for("the wall", lambda: walls(server)[1] == pytest.approx(share), timeout=2)
    with Asking(server, threads=4, model="apart") as asking:
        wait_for("it is over its share", lambda: any(code == 503 for code, _ in asking.answers))
        apart = cpu_seconds(engine)
        used, _ = cpus_used(3, lambda: request_cpu_seconds(pid) + cpu_seconds(engine), [pid, engine])
        apart = cpu_seconds(engine) - apart
    assert asking.codes() == {200, 503}, "some are answered all the time"
    assert used == pytest.approx(share, rel=0.15), f"without a wall the engine's process alone used {free:.2f} CPUs"
    assert apart > 3 * share / 2, "most of it was used there"


def test_instances_whose_number_is_open_follow_the_wall(new_server):
    server = new_server().start()
    bring_hot(server, "apart", "engine=torch")  # there each instance has a thread that can be seen
    (engine,) = engine_processes(server)

    def instances():
        return sum(name.startswith("instance-") for _, name in threads_of(engine))

    assert instances() == 1
    with Asking(server, threads=4 * CPUS, model="apart"):
        wait_for("one for each request thread", lambda: instances() == CPUS)
        set_policy(server, "lend: false\nserving: {cpu: 25%}\n")
        wait_for("as many as the wall keeps busy", lambda: instances() == math.ceil(CPUS / 4))
        set_policy(server, "lend: true\nserving: {cpu: 25%}\n")
        wait_for("what is lent bounds nothing", lambda: instances() == CPUS)


# --- the policy document ---

def walls(server):
    """CPUs that training and serving are held to; 0 = not held."""
    state = policy(server)
    return state["training_cpus"], state["serving_cpus"]


def test_a_policy_is_set_shown_kept_reverted_and_its_history_says_who_and_why(machine, tmp_path):
    first = policy(machine)["current"]["revision"]
    path = tmp_path / "shares.yaml"
    path.write_text("serving: {cpu: 70%}\ntraining: {cpu: 30%}\nlend: false\n")
    assert machine.cli("policy", "set", path, "--why", "train by night", "--json").json["current"]["revision"] == first + 1
    wait_for("both walls", lambda: walls(machine) == pytest.approx((0.3 * CPUS, 0.7 * CPUS)))
    text = machine.cli("policy", "set", "--set", "training.cpu=20%", "--set", "lend=true", "--json").json["current"]["text"]
    assert 'cpu: 20%' in text and 'cpu: 80%' in text, "the other side has the rest"
    wait_for("no wall", lambda: walls(machine) == (0, 0))
    changes = machine.cli("policy", "history", "--json").json["changes"]
    assert [change["revision"] for change in changes[:3]] == [first + 2, first + 1, first]
    assert changes[1]["why"] == "train by night" and changes[1]["who"] and 0 < changes[1]["when_ms"] <= changes[0]["when_ms"]
    assert machine.cli("policy", "show", first + 1, "--json").json == changes[1]
    assert "train by night" in machine.cli("policy", "history").out

    state = machine.cli("policy", "revert", "--why", "too slow", "--json").json
    assert state["current"]["revision"] == first + 3 and state["current"]["text"] == changes[1]["text"]
    assert f"back to revision {first + 1}: too slow" == state["current"]["why"]
    state = machine.cli("policy", "revert", first, "--json").json
    assert state["current"]["text"] == changes[2]["text"]
    # The text shown is a document that can be set again, and means the same.
    again = set_policy(machine, changes[1]["text"], "--json").json
    assert again["current"]["text"] == changes[1]["text"]


def test_one_share_alone_can_be_set_on_top_of_what_is_in_force(machine):
    machine.cli("policy", "set", "--set", "training.cpu=30%", "--set", "lend=false")
    wait_for("the other side has the rest", lambda: walls(machine) == pytest.approx((0.3 * CPUS, 0.7 * CPUS)))


def test_a_policy_outlives_a_kill_until_the_settings_file_changes(new_server, tmp_path):
    settings = tmp_path / "tandem.yaml"
    settings.write_text("sharing:\n  training: {cpu: 20%}\n")
    server = new_server("--config", settings).start()
    assert 'cpu: 20%' in policy(server)["current"]["text"]
    set_policy(server, "training: {cpu: 30%}\n", "--why", "by hand")
    server.kill()
    server.start()
    current = policy(server)["current"]
    assert 'cpu: 30%' in current["text"] and current["why"] == "by hand"
    server.kill()
    settings.write_text("sharing:\n  training: {cpu: 40%}\n")
    server.start()
    current = policy(server)["current"]
    assert 'cpu: 40%' in current["text"] and current["who"] == "settings" and current["revision"] == 3
    assert server.cli("policy", "revert", "--json").json["current"]["why"].startswith("back to revision 2")


def test_what_the_policy_decides_carries_its_reason_and_can_be_undone(new_server):
    server = new_server("--set", "sharing.training_share=50%").start()
    decided = wait_for("nobody asks: training gets more", lambda: (s := policy(server))["training_share"] == 1 and s)
    decision = decided["decisions"][0]
    assert (decision["what"], decision["from"], decision["to"]) == ("training_share", 0.5, 1) and "no requests" in decision["reason"]
    undone = server.cli("policy", "undo", "--json").json
    assert undone["training_share"] == 0.5 and not undone["automatic"] and undone["decisions"][0]["reason"] == "undone by hand"
    time.sleep(2.5)  # longer than it took to decide
    assert policy(server)["training_share"] == 0.5
    server.stop()
    server.start()
    assert any(d["reason"] == "undone by hand" for d in policy(server)["decisions"]), "what was decided is kept"


def test_an_undo_leaves_the_window_that_is_open_as_it_is(new_server, tmp_path):
    settings = tmp_path / "tandem.yaml"
    settings.write_text("sharing:\n  training_share: 50%\n  windows:\n    - {name: always, training: {cpu: 20%}}\n")
    server = new_server("--config", settings).start()
    wait_for("nobody asks: training gets more", lambda: policy(server)["training_share"] == 1)
    server.cli("policy", "undo")
    time.sleep(1)  # ten decisions
    decisions = policy(server)["decisions"]
    assert [d["what"] for d in decisions].count("window") == 1, decisions
    assert decisions[0]["reason"] == "undone by hand" and policy(server)["window"] == "always"


def test_a_share_that_requests_lowered_comes_back_when_no_job_is_left(machine, spec):
    job = submit(machine, spec(**ENDLESS))
    running(machine, job)
    # A target that no request meets.
    set_policy(machine, "policy: latency_first\nslo_ms: {hot: 0.01}\n")
    with Asking(machine, threads=2):
        wait_for("the share falls", lambda: policy(machine)["training_share"] < 0.2)
        machine.cli("jobs", "cancel", job)
        state_is(machine, job, "cancelled")
    wait_for("nobody asks: the share comes back", lambda: policy(machine)["training_share"] == 1)


def test_what_the_gate_changes_under_load_beside_a_job_is_kept_with_its_reason_and_counted(machine, spec):
    def moves():
        shown = metrics(machine)
        return {change: float(shown[f'tandem_gate_changes_total{{change="{change}"}}']) for change in ("closed", "narrowed", "opened")}

    def closings():
        return [change for change in policy(machine)["gate_changes"]
                if change["change"] == "closed" and change["last_ms"] >= begun and "p99 of 'hot'" in change["reason"]]

    running(machine, submit(machine, spec(**ENDLESS)))
    before, begun = moves(), time.time() * 1000
    # A target that no request meets; the slow share stands still, so that only the gate moves.
    set_policy(machine, "automatic: false\nslo_ms: {hot: 0.01}\n")
    with Asking(machine, threads=2):
        closed = wait_for("the gate closes", closings)[0]
    merged_ms = 60_000  # the same change within a minute counts as one, of which the first may be from before
    assert closed["from"] > closed["to"] == 0 and closed["times"] >= 1
    assert begun - merged_ms <= closed["first_ms"] <= closed["last_ms"] <= time.time() * 1000
    assert "target 0.01 ms, over" in closed["reason"] and "requests" in closed["reason"], closed
    wait_for("it opens again by itself", lambda: policy(machine)["training_threads"] == CPUS, timeout=10)
    opened = next(change for change in policy(machine)["gate_changes"] if change["change"] == "opened")
    assert opened["from"] < opened["to"] <= CPUS and opened["last_ms"] >= closed["first_ms"]
    after = moves()
    assert after["closed"] > before["closed"] and after["opened"] > before["opened"]
    kept = [change["last_ms"] for change in policy(machine)["gate_changes"]]
    assert kept == sorted(kept, reverse=True) and len(kept) <= 200
    text = machine.cli("policy", "show").out
    assert "closed" in text and "opened" in text and "tandem policy set --set gate=false" in text, text

    # Whoever does not want it turns it off; it cannot be undone, since it has ended by itself.
    machine.cli("policy", "set", "--set", "gate=false")
    off = moves()
    with Asking(machine, threads=2) as asking:
        wait_for("answers", lambda: len(asking.answers) > 200)
        assert policy(machine)["training_threads"] == CPUS
    assert moves() == off and not policy(machine)["gate"] and "gate        off" in machine.cli("policy", "show").out


def test_there_is_nothing_to_undo_before_the_policy_decided_something(new_server):
    server = new_server().start()
    result = server.cli("policy", "undo", check=False)
    assert result.code == 5 and "nothing to undo" in result.err


# --- pause, release, queue ---

def comes_to_rest(server, job):
    """A pause freezes at once; the trainer says that it rests once it was thawed."""
    wait_for("it rests", lambda: server.job(job)["progress"]["phase"].startswith("paused"))


def test_a_paused_job_computes_nothing_and_goes_on_without_a_changed_byte(machine, spec, undisturbed):
    job = submit(machine, spec(**STEADY))
    trainer = running(machine, job)["pid"]
    machine.cli("jobs", "pause", job)
    state_is(machine, job, "paused")
    comes_to_rest(machine, job)
    before, step = cpu_seconds(trainer), machine.job(job)["progress"]["step"]
    time.sleep(1)  # what is measured is what happens meanwhile
    assert cpu_seconds(trainer) - before < 0.05
    assert machine.job(job)["progress"]["step"] == step and machine.job(job)["pid"] == trainer
    told = explain(machine, job)
    assert "paused" in told["waits_for"] and told["would_start"] == f"tandem jobs resume {job}"
    machine.cli("jobs", "resume", job)
    wait_for("it goes on", lambda: machine.job(job)["progress"]["step"] > step)
    assert succeeded(machine, job) == undisturbed


@pytest.mark.parametrize("settled", [True, False], ids=["at rest", "still frozen"])
def test_a_daemon_killed_during_a_pause_leaves_no_trainer_and_the_job_goes_on(new_server, squares, spec, undisturbed, settled):
    server = new_server().start()
    server.cli("dataset", "add", "squares", squares)
    job = submit(server, spec(**STEADY))
    # The checkpoint of step 20 is written beside the training; that of step 40 is begun only when the daemon knows of it.
    trainer = wait_for("a checkpoint", lambda: (j := server.job(job))["progress"]["step"] > 40 and j)["pid"]
    server.cli("jobs", "pause", job)
    state_is(server, job, "paused")
    if settled:
        comes_to_rest(server, job)
        server.kill()
        wait_for("its trainer is gone", lambda: not alive(trainer))
        server.start()
    else:
        server.kill()
        server.start()
        wait_for("the next daemon ends it", lambda: not alive(trainer))
    shown = server.job(job)
    assert shown["state"] == "queued" and shown["progress"]["step"] >= 20 and "resume" in explain(server, job)["would_start"], shown
    server.cli("jobs", "resume", job)
    assert succeeded(server, job) == undisturbed


def test_a_released_job_gives_back_everything_and_waits_until_it_is_resumed(machine, spec, undisturbed):
    job = submit(machine, spec(**STEADY))
    trainer = wait_for("some steps", lambda: (j := machine.job(job))["progress"]["step"] > 5 and j)["pid"]
    machine.cli("jobs", "release", job)
    shown = state_is(machine, job, "queued")
    assert not alive(trainer) and shown["pid"] == 0
    step = shown["progress"]["step"]
    assert step > 5, "no step is lost"
    events = explain(machine, job)["events"]
    assert any(f"its owner asked for its resources back; goes on from step {step}" == event["reason"] for event in events), events
    told = wait_for("the reason", lambda: (e := explain(machine, job))["waits_for"] and e)
    assert told["would_start"] == f"tandem jobs resume {job}" and told["job"]["state"] == "queued"
    assert machine.cli("jobs", "release", job, check=False).code == 5, "it holds nothing any more"
    machine.cli("jobs", "resume", job)
    assert running(machine, job)["progress"]["step"] >= step
    assert succeeded(machine, job) == undisturbed


def test_two_jobs_run_beside_each_other_and_make_the_bytes_that_each_makes_alone(new_server, squares, spec, undisturbed):
    server = new_server("--set", "training.max_jobs=2").start()
    server.cli("dataset", "add", "squares", squares)
    jobs = [submit(server, spec(f"{i}.yaml", **{**STEADY, "register": {**STEADY["register"], "model": f"m{i}"}})) for i in range(3)]
    both = wait_for("two run at once", lambda: (a := [server.job(j) for j in jobs])[0]["progress"]["step"] > 0 and a[1]["progress"]["step"] > 0 and a)
    assert [job["state"] for job in both] == ["running", "running", "queued"], both
    assert both[0]["pid"] != both[1]["pid"]
    assert "max_jobs" in explain(server, jobs[2])["waits_for"]
    server.cli("jobs", "cancel", jobs[2])
    assert [succeeded(server, job) for job in jobs[:2]] == [undisturbed] * 2


def test_a_job_of_much_higher_priority_takes_the_seat_of_a_lower_one(machine, spec, undisturbed):
    low = submit(machine, spec("low.yaml", **STEADY))
    running(machine, low)
    equal = submit(machine, spec("equal.yaml", **{**STEADY, "priority": 9, "register": None, "steps": 5}))
    high = submit(machine, spec("high.yaml", **{**STEADY, "priority": 10, "register": None, "steps": 10}))
    given = wait_for("the lower one is back in the queue", lambda: [e for e in explain(machine, low)["events"] if e["state"] == "queued"][:-1])
    assert f"makes room for job {high}, whose priority is 10" in given[0]["reason"] and "goes on from step" in given[0]["reason"]
    succeeded(machine, high)
    succeeded(machine, equal)
    assert succeeded(machine, low) == undisturbed
    starts = [min(e["when_ms"] for e in explain(machine, j)["events"] if e["state"] == "running") for j in (low, high, equal)]
    assert starts == sorted(starts), "a difference below 10 takes nobody's seat; the higher one goes first"


def test_a_job_out_of_time_ends_as_timed_out_and_keeps_its_checkpoint(machine, spec):
    job = submit(machine, spec(**{**ENDLESS, "time_limit": "10s"}))  # a trainer needs some of it to begin
    end = state_is(machine, job, "timed_out", "failed", "succeeded")
    assert end["state"] == "timed_out" and "time limit is 10.0 s" in end["reason"], end
    told = {event["state"]: event["when_ms"] for event in explain(machine, job)["events"]}
    assert 9900 < told["stopping"] - told["running"] < 15_000, "of running time"
    step = int(end["reason"].split("checkpoint of step ")[1].split()[0])
    assert step > 0
    kept = [file for file in (machine.folder / "data" / "checkpoints").rglob("*") if file.is_file() and str(step) in file.name]
    assert kept, list((machine.folder / "data" / "checkpoints").rglob("*"))
    assert explain(machine, job)["would_start"].startswith("submitting its spec again")
    assert machine.cli("jobs", "show", job).code == 0 and "timed_out" in machine.cli("jobs", "show", job).out


@pytest.mark.parametrize("how, held", [("release", "queued"), ("pause", "paused")])
def test_time_in_which_a_job_does_not_run_is_not_of_its_time_limit(machine, spec, how, held):
    job = submit(machine, spec(**{**ENDLESS, "time_limit": "12s"}))  # two trainers need some of it to begin
    running(machine, job)
    begun = time.monotonic()
    machine.cli("jobs", how, job)
    state_is(machine, job, held)
    wait_for("longer than its limit", lambda: time.monotonic() > begun + 12)
    resumed = machine.job(job)["progress"]["step"]
    machine.cli("jobs", "resume", job)
    wait_for("it goes on", lambda: machine.job(job)["progress"]["step"] > resumed)
    state_is(machine, job, "timed_out")
