"""The limits of sides and jobs against the kernel that holds them: CPUs, memory, the disk, and the part of a ratio."""

import os
import pathlib
import re
import time

import pytest

import onnx_files as onnx
from conftest import wait_for
from rogue_trainer import rogue_runs, rogue_server
from sharing_tools import (CPUS, ENDLESS, Asking, bring_hot, cpu_seconds, cpus_in_a_window, group_cpu_seconds, let_run, limit_file, limits_of, machine,
                           number_in, policy, prepared, running, set_policy, state_is, submit, usable_memory, words_in)

PAGE = os.sysconf("SC_PAGE_SIZE")  # the kernel rounds limits of memory to pages


# --- CPUs ---

@pytest.mark.parametrize("side", ["policy: latency_first\n", "lend: false\ntraining: {cpu: 75%}\n"], ids=["alone", "below a larger wall of its side"])
def test_a_job_uses_no_more_cpus_than_its_own_limit(machine, spec, side):
    cap = 0.25 * CPUS
    set_policy(machine, side)
    trainer = running(machine, submit(machine, spec(**ENDLESS, resources={"cpu": cap})))["pid"]
    stat = limit_file(trainer, "cpu.stat", "cpu.stat")
    let_run(trainer)

    def read():
        words = words_in(stat)
        return time.monotonic(), group_cpu_seconds(trainer), words["nr_periods"], words["nr_throttled"]

    capped_seconds = 0
    for _ in range(10):
        before = read()
        time.sleep(1)  # what is measured is what happens meanwhile
        elapsed, used, periods, throttled = (b - a for a, b in zip(before, read()))
        assert used / elapsed <= 1.03 * cap
        # Other programs may have kept it from using its part: only a period that ended at the cap says that it had all.
        assert used / elapsed >= 0.95 * cap * throttled / max(periods, 1)
        capped_seconds += throttled > 0.9 * periods
        if capped_seconds == 3:
            return
    pytest.skip("other programs use the CPUs of this machine: the job did not come to its limit")


def test_training_runs_in_its_part_of_a_ratio_and_stands_still_in_the_rest(machine, spec):
    every, part = 2, 0.7
    set_policy(machine, f"ratio: {{training: {part:.0%}, every: {every}s}}\n")
    trainer = running(machine, submit(machine, spec(**ENDLESS)))["pid"]
    let_run(trainer)
    used, foreign = cpus_in_a_window(2 * every, lambda: cpu_seconds(trainer), [trainer])
    assert 0.8 * part * CPUS - foreign <= used <= 1.08 * part * CPUS

    def phase():
        return time.time() % every

    seen = 0
    for _ in range(20):
        # Behind the edge: the control loop's look, the gate's, and the end of the micro-batches that were begun.
        wait_for("training's part is over", lambda: part * every + 0.25 < phase() < part * every + 0.3, timeout=60)
        before, begun = cpu_seconds(trainer), time.time()
        time.sleep(max(0, every - 0.05 - phase()))  # what is measured is what happens meanwhile
        used = cpu_seconds(trainer) - before
        if time.time() - begun >= every or phase() < part * every:
            continue  # this test was kept waiting, and saw the next period
        assert used <= 0.03, "its listener and timers"
        seen += 1
        if seen == 2:
            break
    assert seen == 2, "this test was kept waiting in all but one of 20 periods"


# --- memory ---

def test_the_memory_that_training_may_have_stands_in_the_kernel(machine, spec):
    trainer = running(machine, submit(machine, spec(**ENDLESS)))["pid"]
    most = limit_file(trainer, "memory.limit_in_bytes", "memory.max", side=True)
    high = limit_file(trainer, "memory.soft_limit_in_bytes", "memory.high", side=True)
    free = number_in(most)
    share = 0.4 * usable_memory()
    if free < share:
        pytest.skip(f"a control group leaves this machine's programs {free} bytes: shares are parts of that")

    set_policy(machine, "lend: false\ntraining: {cpu: 50%, memory: 40%}\n")
    wait_for("a wall", lambda: number_in(most) == pytest.approx(share, abs=PAGE), timeout=5)
    assert number_in(high) == float("inf"), "beside a wall it would say nothing"
    set_policy(machine, "lend: true\ntraining: {cpu: 50%, memory: 40%}\n")
    wait_for("lent: it may have what is idle, and gives it back first", lambda: number_in(high) == pytest.approx(share, abs=PAGE), timeout=5)
    assert number_in(most) == free
    set_policy(machine, "lend: false\ntraining: {cpu: 50%}\nserving: {memory: 60%}\n")
    wait_for("what serving is not sure of", lambda: number_in(most) == pytest.approx(share, abs=PAGE), timeout=5)
    set_policy(machine)
    wait_for("no wall", lambda: number_in(most) == free, timeout=5)


def test_the_memory_that_a_job_may_have_stands_in_the_kernel(machine, spec):
    trainer = running(machine, submit(machine, spec(**ENDLESS, resources={"memory": "2GB"})))["pid"]
    assert number_in(limit_file(trainer, "memory.limit_in_bytes", "memory.max")) == pytest.approx(2e9, abs=PAGE)


def test_a_job_that_grows_over_the_memory_of_its_side_ends_alone_and_says_what_to_raise(rogue_server, spec):
    server = rogue_server("""
hoard = []
while True:
    hoard.append(bytearray(b"x" * 4_000_000))
    time.sleep(0.002)""", "--set", "stop_timeout=1s")
    if "memory" not in limits_of(server):
        pytest.skip("the kernel holds no memory limits here: no cgroup can be written")
    limit = 600e6
    set_policy(server, f"lend: false\ntraining: {{cpu: 50%, memory: {100 * limit / usable_memory():.4f}%}}\n")
    with Asking(server, pause=0.002) as asking:
        job = submit(server, spec(**ENDLESS))
        end = state_is(server, job, "failed", timeout=60)
    assert asking.codes() == {200}, "serving does not notice"
    assert end["attempt"] == 1 and "out of memory: peak" in end["reason"], end
    assert "limit 600 MB of all jobs; lower batch or micro_batch, or raise training.memory" in end["reason"], end
    server.assert_well()


def test_a_limit_below_what_runs_uses_holds_once_that_has_gone(rogue_server, spec):
    server = rogue_server('hoard = b"x" * 300_000_000\nprint("has it", flush=True)\ntime.sleep(600)', "--set", "stop_timeout=1s")
    job, trainer = rogue_runs(server, spec)
    most = limit_file(trainer, "memory.limit_in_bytes", "memory.max", side=True)
    wait_for("it has its memory", lambda: "has it" in server.cli("jobs", "logs", job).out)
    set_policy(server, f"lend: false\ntraining: {{cpu: 50%, memory: {100 * 100e6 / usable_memory():.4f}%}}\n")

    def refused():
        return any("uses and cannot give back" in sentence for sentence in policy(server)["not_enforced"])

    wait_for("it is refused", refused)
    assert number_in(most) > 300e6
    server.cli("jobs", "cancel", job)
    state_is(server, job, "cancelled")
    wait_for("it holds", lambda: number_in(most) < 150e6 and not refused(), timeout=30)
    server.assert_well()


def test_a_model_that_does_not_fit_into_servings_memory_is_refused_and_the_others_answer(new_server):
    server = new_server().start()
    bring_hot(server)
    told = re.search(r"loaded models take ([\d.]+) MB", set_policy(server, "serving: {memory: 0.001%}\n", check=False).err)
    loaded = float(told[1]) * 1e6
    side = 2 * 1024
    big = onnx.tensor("w", [side, side], [0.5] * side * side)
    status, body = server.request("POST", "/api/v1/models/big/versions?source=big.onnx", onnx.linear(big, side, side))
    assert status == 200, body
    share = 100 * (loaded + 8e6) / usable_memory()
    set_policy(server, f"lend: false\ntraining: {{cpu: 50%}}\nserving: {{memory: {share:.6f}%}}\n")
    with Asking(server) as asking:
        refused = wait_for("the wall", lambda: (r := server.cli("models", "deploy", "big", check=False)).code and r, timeout=10)
        wait_for("answers", lambda: len(asking.answers) > 20)
    assert asking.codes() == {200}
    assert "model 'big' version 1 needs" in refused.err and "(serving.memory)" in refused.err and "'hot' version 1" in refused.err, refused.err
    set_policy(server, f"lend: true\nserving: {{memory: {share:.6f}%}}\n")
    wait_for("lent: it may have what training does not use", lambda: not server.cli("models", "deploy", "big", check=False).code, timeout=10)


# --- the disk ---

def moved_bytes(pid):
    """That its process read from and wrote to disks."""
    words = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(words["read_bytes"]) + int(words["write_bytes"])


MB = 1_000_000
RATES = {  # what is limited, to what, what the trainer does, bytes of one operation, the greatest rate in bytes a second
    "disk_write": ("4MB/s", "os.pwrite(file, block, at)", 65536, 4 * MB),
    "disk_read": ("4MB/s", "os.preadv(file, [block], at)", 65536, 4 * MB),
    "disk_iops": ("100", "os.preadv(file, [block], at)", 4096, 100 * 4096),
}


@pytest.mark.parametrize("whose", ["job", "side"])
@pytest.mark.parametrize("limit", RATES)
def test_what_a_foreign_program_moves_past_the_page_cache_keeps_to_its_rate(rogue_server, spec, tmp_path, whose, limit):
    text, operation, block, rate = RATES[limit]
    server = rogue_server(f"""
import mmap
block = mmap.mmap(-1, {block})
size = 4 << 20
file = os.open({str(tmp_path / "moved")!r}, os.O_RDWR | os.O_CREAT, 0o600)
os.pwrite(file, bytes(size), 0)
os.fsync(file)
os.close(file)
file = os.open({str(tmp_path / "moved")!r}, os.O_RDWR | os.O_DIRECT)
print("moving", flush=True)
while True:
    for at in range(0, size, {block}):
        {operation}""", "--set", "stop_timeout=1s")
    if "disk rates" not in limits_of(server):
        why = [check["detail"] for check in server.cli("doctor", "--json", check=False).json["checks"]
               if check["name"] == "not enforced" and "disk" in check["detail"]]
        pytest.skip(f"the kernel holds no disk rates here: {why}")
    if whose == "side":
        set_policy(server, f"training: {{{limit}: {text}}}\n")
    job, trainer = rogue_runs(server, spec, **({"resources": {limit: text}} if whose == "job" else {}))
    let_run(trainer)
    wait_for("it moves bytes past the cache", lambda: "moving" in server.cli("jobs", "logs", job).out)
    at_begin = moved_bytes(trainer)
    wait_for("the first of them", lambda: moved_bytes(trainer) > at_begin)
    before, begun = moved_bytes(trainer), time.monotonic()
    time.sleep(3)  # what is measured is what happens meanwhile
    used = (moved_bytes(trainer) - before) / (time.monotonic() - begun)
    assert used <= 1.05 * rate + block / 3
    assert used >= 0.5 * rate, "a disk that others use may give less, not nothing"
