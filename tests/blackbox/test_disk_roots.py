"""Each side's files on a disk of their own: serving.folder and training.folder."""

import os
import pathlib
import re
import subprocess

import pytest

from conftest import wait_for
from sharing_tools import metrics

REQUEST = {"inputs": [{"name": "input", "shape": [1, 1, 16, 16], "datatype": "FP32", "data": [0.5] * 256}]}


@pytest.fixture
def other_disk(tmp_path):
    """A folder on a small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"mount is refused here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def used(server, side):
    return float(metrics(server).get(f'tandem_disk_area_used_bytes{{side="{side}"}}', 0))


def bytes_below(*folders):
    return sum(file.stat().st_size for folder in folders for file in pathlib.Path(folder).rglob("*") if file.is_file())


def answer(server):
    status, body = server.request("POST", "/v2/models/squares/infer", REQUEST)
    assert status == 200, body
    return body


def areas(server):
    """What `tandem status` says of both sides' parts of the disk."""
    return {area["side"]: area for area in server.cli("status", "--json").json["disk_areas"]}


def refused(server, *arguments):
    server.start(*arguments, wait=False)
    assert server.process.wait(30) != 0
    return server.log_text()


def test_models_on_one_disk_and_checkpoints_on_another(new_server, other_disk, squares, spec):
    training = other_disk.parent / "training"
    training.mkdir()
    roots = ["--set", f"serving.folder={other_disk}", "--set", f"training.folder={training}"]
    server = new_server().start(*roots)
    assert other_disk.stat().st_dev != training.stat().st_dev
    server.cli("dataset", "add", "squares", squares, "--copy")
    end = server.train(spec(checkpoint={"every_steps": 5}))
    assert end["state"] == "succeeded" and end["deploy"] == "promoted", end
    before = answer(server)
    sha256 = server.cli("models", "show", "squares", "--json").json["versions"][0]["sha256"]
    assert (other_disk / "artifacts/sha256" / sha256[:2] / sha256).is_file()
    assert not list((other_disk / "artifacts/incoming").iterdir())
    assert (training / "datasets/squares").is_dir() and (training / "checkpoints/job-1/trainer.log").is_file()
    assert {entry.name for entry in (server.folder / "data").iterdir() if entry.is_dir()} == {"run"}
    checks = [check["detail"] for check in server.cli("doctor", "--json", check=False).json["checks"] if check["name"] == "disk"]
    assert len(checks) == 3 and any(str(other_disk) in check and "serving.folder" in check for check in checks), checks

    # Areas are counted where they lie, and said to be nearly full before they are.
    server.kill()
    limit = int(bytes_below(other_disk / "artifacts") * 1.05)
    server.start(*roots, "--set", f"sharing.serving.disk_area={limit}")
    wait_for("the areas are measured", lambda: used(server, "serving"))
    wait_for("served again", lambda: server.request("POST", "/v2/models/squares/infer", REQUEST)[0] == 200)
    assert answer(server) == before
    assert 0.9 * limit < used(server, "serving") <= limit
    assert used(server, "training") == pytest.approx(bytes_below(training / "checkpoints", training / "datasets"), rel=0.05)
    notices = " ".join(server.cli("status", "--json").json["notices"])
    assert "the disk area of serving is almost full" in notices and "the disk area of training" not in notices
    assert f"the disk of serving.folder ('{other_disk}') has" in notices, "less than 1 GB"

    # The status says where each side's files are, what they take, and the limits that are set, those of this moment too.
    assert areas(server) == {"serving": {"side": "serving", "root": str(other_disk), "used_bytes": used(server, "serving"), "limit_bytes": limit},
                             "training": {"side": "training", "root": str(training), "used_bytes": used(server, "training"), "limit_bytes": 0}}
    size = r"\d\S* (bytes|kB|MB)"
    text = server.cli("status").out
    assert re.search(rf"^disk +serving {size} of {size} in {re.escape(str(other_disk))}$", text, re.MULTILINE), text
    assert re.search(rf"^disk +training {size} in {re.escape(str(training))}$", text, re.MULTILINE), text
    server.cli("policy", "set", "--set", "training.disk_area=1GB")
    assert areas(server)["training"]["limit_bytes"] == 1_000_000_000
    server.stop()

    # Another folder than before, and a disk that is not there, are said; nothing is served without its files.
    assert f"lay in '{other_disk}' before" in refused(server, "--set", f"training.folder={training}")
    assert f"lay in '{training}' before" in refused(server, "--set", f"serving.folder={other_disk}")
    subprocess.run(["umount", other_disk], check=True)
    assert "is its disk mounted?" in refused(server, *roots)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", other_disk], check=True)  # for the fixture's end


def test_a_root_that_a_running_server_uses_is_refused_with_its_name(new_server, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    first = new_server("--set", f"serving.folder={shared}", name="first").start()
    second = new_server(name="second")
    for key in ("serving.folder", "training.folder"):
        log = refused(second, "--set", f"{key}={shared}")
        assert f"{key} is '{shared}', which another server uses" in log and f"pid={first.process.pid} url={first.url}" in log, log
    assert "data folder of another server" in refused(second, "--set", f"serving.folder={first.folder / 'data'}")
    first.assert_well()


@pytest.mark.parametrize("place, words", [("none", "which is no folder; make it (mkdir -p"), ("server/data/run", "tandem keeps for itself")])
def test_a_root_that_cannot_work_is_refused(new_server, tmp_path, place, words):
    server = new_server().start()
    server.stop()
    log = refused(server, "--set", f"training.folder={tmp_path / place}")
    assert words in log and "training.folder" in log, log


def test_a_root_that_cannot_be_written_is_refused(new_server, tmp_path):
    folder = tmp_path / "sealed"
    folder.mkdir(mode=0o555)
    if os.geteuid() == 0:  # whom modes do not bind
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True)
        if mounted.returncode != 0:
            pytest.skip("mount is refused here")
    try:
        log = refused(new_server(), "--set", f"serving.folder={folder}")
        assert f"serving.folder is '{folder}', and cannot be written" in log, log
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", folder], check=True)
