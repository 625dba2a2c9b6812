"""SIGKILL at random moments: every job finishes, and every byte of the final model is as if nothing had happened."""

import os
import random
import signal
import time

import pytest

from conftest import FULL, wait_for

SEEDS = range(20) if FULL else range(3)


def job_spec(spec):
    return spec(model={"architecture": "resnet8"}, epochs=6, checkpoint={"every_steps": 7}, augment=["flip", {"crop": {"padding": 2}}])


def model_hash(server, version=1):
    return server.cli("models", "show", "squares", "--json").json["versions"][version - 1]["sha256"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, squares):
    """The hash of the model when nobody is killed; made once."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_kills_change_no_byte(new_server, squares, spec, undisturbed, seed):
    if "hash" not in undisturbed:
        calm = new_server(name="calm").start()
        calm.cli("dataset", "add", "squares", squares)
        assert calm.train(job_spec(spec))["state"] == "succeeded"
        undisturbed["hash"] = model_hash(calm)
        calm.stop()
    server = new_server("--set", "training.max_attempts=20").start()
    server.cli("dataset", "add", "squares", squares)
    job = server.cli("train", job_spec(spec), "--json").json["job"]
    dice = random.Random(seed)
    for _ in range(3):
        victim = dice.choice(["trainer", "daemon"])
        begun = server.job(job)["progress"]["step"]
        shown = wait_for("some progress", lambda: (j := server.job(job))["progress"]["step"] > begun + 3 and j or j["state"] == "succeeded" and j)
        time.sleep(dice.uniform(0, 0.3))
        if shown["state"] == "succeeded":
            break
        if victim == "trainer":
            try:
                os.kill(server.job(job)["pid"] or shown["pid"], signal.SIGKILL)
            except ProcessLookupError:
                pass
        else:
            server.kill()
            server.start()
    end = wait_for("the end", lambda: (j := server.job(job))["state"] in ("succeeded", "failed", "cancelled") and j, timeout=240)
    assert end["state"] == "succeeded", end
    assert model_hash(server) == undisturbed["hash"]
    assert len(server.cli("models", "show", "squares", "--json").json["versions"]) == 1
