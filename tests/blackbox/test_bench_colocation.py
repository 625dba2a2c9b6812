"""tandem bench colocation, in small: what it says is whole and consistent, and nothing of it is left behind."""

import json
import os
import signal
import subprocess
import time
import xml.etree.ElementTree

import pytest

from conftest import BIN, wait_for

MODES = ["alone", "alone_warm", "tandem", "tandem_2jobs", "unmanaged"]


@pytest.fixture
def bench(tmp_path):
    """Runs it with a TMPDIR of its own, which must be empty afterwards."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    def run(*args, check=True, timeout=600):
        done = subprocess.run([str(BIN / "tandem"), "bench", "colocation", *map(str, args)], capture_output=True, text=True,
                              timeout=timeout, env={**os.environ, "TMPDIR": str(temporary)}, stdin=subprocess.DEVNULL)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        assert left_behind(temporary) == []
        return done

    run.temporary = temporary
    return run


def left_behind(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith("tandem-") and not path.name.startswith("tandem-isolation")]


def processes_below(folder):
    """Daemons whose command line names something in the folder."""
    found = []
    for path in os.listdir("/proc"):
        if path.isdigit():
            try:
                with open(f"/proc/{path}/cmdline", "rb") as file:
                    text = file.read()
                if str(folder).encode() in text and b"tandemd\0" in text:
                    found.append(int(path))
            except OSError:
                pass
    return found


def check_window(window):
    assert 0 < window["p50_ms"] <= window["p99_ms"] <= window["p999_ms"] <= window["max_ms"]
    assert window["failures"] == 0
    assert window["requests"] == 300
    assert window["answered_per_s"] > 0 and window["seconds"] > 0
    cpu = window["cpu"]
    assert all(0 <= cpu[part] <= 1 for part in ("serving", "training", "client", "idle", "steal")), cpu
    # The kernel counts in ticks of 10 ms, and the figures are read one after the other.
    assert cpu["serving"] + cpu["training"] + cpu["idle"] <= 1.05 + 0.01 / window["seconds"]
    assert window["client_delay_p50_us"] <= window["client_delay_p99_us"]
    beside = window["mode"] in ("tandem", "tandem_2jobs", "unmanaged")
    assert (window["conservation"] is not None) == beside
    if beside:
        # Without isolation the gate may keep training closed for 2 s while requests run.
        may_stand = window["mode"] == "unmanaged" and window["seconds"] < 2.1
        assert (0 if may_stand else 1e-6) <= window["conservation"] <= 1
        assert may_stand or cpu["training"] > 0


def test_one_mode_alone_is_measured_and_named_quick(bench):
    done = bench("--quick", "--rounds", 1, "--requests", 300, "--loads", 20, "--modes", "alone", "--json")
    result = json.loads(done.stdout)
    assert result["quick"] is True and result["rounds"] == 1
    if result["lost_windows"]:
        pytest.skip("the host took CPU time away from every try")
    assert [(w["mode"], w["load"]) for w in result["windows"]] == [("alone", 0.2)]
    check_window(result["windows"][0])
    assert result["goals"] == [] and result["every_byte_equal"] is None
    assert result["capacity"]["per_s"] == sorted(result["capacity"]["measured"])[1]
    assert "quick" in bench("--quick", "--rounds", 1, "--requests", 50, "--loads", 20, "--modes", "alone").stdout


@pytest.mark.parametrize("args, word", [(("--modes", "alone_warn"), "alone_warm"), (("--loads", "150"), "150"),
                                        (("--rounds", "1.5"), "--rounds"), (("--rung", "best"), "best")])
def test_wrong_words_are_usage_errors_before_anything_starts(bench, args, word):
    done = bench(*args, check=False)
    assert done.returncode == 2
    assert word in done.stderr


def test_a_file_that_is_no_model_is_refused(bench, tmp_path):
    file = tmp_path / "no.onnx"
    file.write_bytes(b"this is no model")
    done = bench("--quick", "--model", file, check=False)
    assert done.returncode == 1 and "no.onnx" in done.stderr


def test_interrupted_it_ends_its_server_and_removes_its_folder(bench):
    process = subprocess.Popen([str(BIN / "tandem"), "bench", "colocation"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env={**os.environ, "TMPDIR": str(bench.temporary)}, stdin=subprocess.DEVNULL, text=True)
    wait_for("its server", lambda: processes_below(bench.temporary))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1
    assert "interrupted" in process.stderr.read()
    assert processes_below(bench.temporary) == []
    assert left_behind(bench.temporary) == []


def test_interrupted_after_a_whole_round_it_gives_what_it_has(bench):
    command = [str(BIN / "tandem"), "bench", "colocation", "--quick", "--rounds", "100", "--requests", "50", "--loads", "20", "--modes", "alone", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(bench.temporary)},
                               stdin=subprocess.DEVNULL, text=True)
    for line in process.stderr:
        if line.startswith("round 2 "):
            break
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    result = json.loads(stdout)
    assert process.returncode == 1
    assert result["interrupted"] and 1 <= result["rounds"] < 100
    assert len(result["windows"]) + result["lost_windows"] >= result["rounds"]
    assert left_behind(bench.temporary) == []


def test_killed_outright_its_server_ends_too(bench):
    process = subprocess.Popen([str(BIN / "tandem"), "bench", "colocation"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, "TMPDIR": str(bench.temporary)}, stdin=subprocess.DEVNULL)
    wait_for("its server", lambda: processes_below(bench.temporary))
    process.kill()
    process.wait()
    wait_for("the end of its server", lambda: not processes_below(bench.temporary))


@pytest.mark.slow
def test_all_modes_give_a_whole_and_consistent_result(bench, tmp_path):
    out, plot = tmp_path / "co.json", tmp_path / "co.svg"
    began = time.time()
    done = bench("--quick", "--rounds", 1, "--requests", 300, "--loads", "10,25", "--deterministic-check", "--out", out, "--plot", plot)
    result = json.loads(out.read_text())
    assert 0 < result["seconds"] <= time.time() - began
    assert len(result["windows"]) + result["lost_windows"] == len(MODES) * 2
    for window in result["windows"]:
        check_window(window)
    assert [(s["mode"], s["load"]) for s in result["summary"]] == [(mode, load) for load in (0.1, 0.25) for mode in MODES]
    assert set(result["modes"]) == set(MODES)
    assert result["modes"]["unmanaged"]["rung"] == "off"
    assert result["modes"]["tandem"]["rung"] in ("realtime", "cgroup-weight", "autogroup", "nice")
    same = result["every_byte_equal"]
    assert same["same"] and len(same["alone_sha256"]) == 64 and len(same["alone_final_loss_bits"]) == 16
    for goal in result["goals"]:
        assert goal["reached"] == (goal["value"] >= goal["bound"] if goal["at_least"] else goal["value"] <= goal["bound"])
        assert goal["name"] in done.stdout
    assert "every byte equal" in done.stdout
    assert xml.etree.ElementTree.parse(plot).getroot().tag.endswith("svg")
