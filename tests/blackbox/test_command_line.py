"""What a person at the terminal meets: Ctrl-C while a job is followed, a server elsewhere, a machine of which only a
part may be used."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import signal
import shutil
import socket
import subprocess
import termios

import pytest

import onnx_files as onnx
from conftest import BIN, wait_for

ENDLESS = {"epochs": None, "steps": 1_000_000, "register": None}


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, server, *args):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen([str(BIN / "tandem"), *map(str, args)], stdin=slave, stdout=slave, stderr=slave,
                                        start_new_session=True, env={**os.environ, "TANDEM_URL": server.url, "TERM": "xterm"},
                                        preexec_fn=self.take_terminal)
        os.close(slave)
        os.set_blocking(self.master, False)
        self.text = ""

    @staticmethod
    def take_terminal():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def type(self, keys):
        os.write(self.master, keys.encode())

    def shows(self, words):
        """Whether the words were printed by now."""
        with contextlib.suppress(OSError):  # nothing more; the other end was closed
            while piece := os.read(self.master, 1 << 16):  # a terminal gives no more than 4 kB at a time
                self.text += piece.decode(errors="replace")
        return words in self.text

    def end(self):
        wait_for("it ends", lambda: self.shows("\0") or self.process.poll() is not None)
        self.shows("\0")
        os.close(self.master)
        return self.process.returncode


@pytest.fixture
def followed(server, squares, spec):
    """An endless job, followed on a terminal."""
    server.cli("dataset", "add", "squares", squares)
    terminal = Terminal(server, "train", spec(**ENDLESS), "--follow")
    wait_for("steps of the job", lambda: (terminal.shows("loss") or True) and (jobs := server.cli("jobs", "list", "--json").json["jobs"]) and
             jobs[0]["progress"]["step"] > 10)
    wait_for("its progress is shown", lambda: terminal.shows("loss"))
    yield server, terminal
    if terminal.process.poll() is None:
        terminal.process.kill()
        terminal.process.wait()


QUESTION = "[d]etach and let the job run, [c]ancel it, or Enter to go on watching?"


@pytest.mark.parametrize("answer", ["d\n", "\x03", "\x04"], ids=["d", "Ctrl-C again", "end of input"])
def test_ctrl_c_lets_the_job_run_on_request(followed, answer):
    server, terminal = followed
    terminal.type("\x03")
    wait_for("the question", lambda: terminal.shows(QUESTION))
    terminal.type(answer)
    assert terminal.end() == 0
    assert "detached: job 1 goes on" in terminal.text
    step = server.job(1)["progress"]["step"]
    wait_for("it goes on", lambda: server.job(1)["progress"]["step"] > step)


def test_ctrl_c_cancels_the_job_on_request(followed):
    server, terminal = followed
    terminal.type("\x03")
    wait_for("the question", lambda: terminal.shows(QUESTION))
    terminal.type("c\n")
    assert terminal.end() == 6, terminal.text
    assert server.job(1)["state"] == "cancelled" and "cancelled" in terminal.text.split(QUESTION)[1]


def test_ctrl_c_is_forgotten_after_enter(followed):
    server, terminal = followed
    terminal.type("\x03")
    wait_for("the question", lambda: terminal.shows(QUESTION))
    terminal.type("\n")
    before = len(terminal.text)
    wait_for("progress again", lambda: terminal.shows("\0") or "loss" in terminal.text[before:])
    terminal.type("\x03")
    wait_for("the question again", lambda: terminal.shows("\0") or terminal.text.count(QUESTION) == 2)
    terminal.type("d\n")
    assert terminal.end() == 0


def test_ctrl_c_without_a_terminal_lets_the_job_run(server, squares, spec):
    server.cli("dataset", "add", "squares", squares)
    process = subprocess.Popen([str(BIN / "tandem"), "train", str(spec(**ENDLESS)), "--follow", "--json"], text=True,
                               env={**os.environ, "TANDEM_URL": server.url}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    wait_for("steps of the job", lambda: (jobs := server.cli("jobs", "list", "--json").json["jobs"]) and jobs[0]["progress"]["step"] > 10)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "detached" in err
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["job"] == 1 and lines[-1]["state"] == "running"
    assert server.job(1)["state"] == "running"


def own_address():
    """An address of this machine that is not on loopback; none if it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: asks for the route only
            return None if probe.getsockname()[0].startswith("127.") else probe.getsockname()[0]
        except OSError:
            return None


def test_a_data_set_goes_over_the_network_to_a_server_elsewhere(new_server, squares, tmp_path):
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    tokens = tmp_path / "tokens"
    tokens.write_text("alice:a-secret-of-alice-1\n")
    tokens.chmod(0o600)
    server = new_server("--http", "0.0.0.0:0", "--token-file", tokens).start()
    server.url = server.url.replace("0.0.0.0", address)
    token = {"TANDEM_TOKEN": "a-secret-of-alice-1"}

    named = {"dataset": {"name": "named", "path": str(squares), "format": "idx"}}
    status, error = server.request("POST", "/api/v1/datasets", named, {"Authorization": "Bearer " + token["TANDEM_TOKEN"]})
    assert status == 403 and b"upload" in error, error
    sent = server.cli("dataset", "add", "Kleidung-ä", squares, "--json", env=token).json
    kept = pathlib.Path(sent["path"])
    assert kept.is_relative_to(server.folder / "data") and kept != squares
    assert sent["train"] + sent["val"] == 800 and sent["test"] == 200 and sent["classes"] == 4
    assert sorted(file.name for file in kept.rglob("*.gz")) == sorted(file.name for file in squares.iterdir())
    server.cli("dataset", "delete", "Kleidung-ä", env=token)
    assert not kept.exists() and len(list(squares.iterdir())) == 4


def check(server, name):
    return [check for check in server.cli("doctor", "--json", check=False).json["checks"] if check["name"] == name][0]["detail"]


def test_only_the_cpus_that_the_daemon_may_run_on_are_used(new_server, squares, spec):
    one = min(os.sched_getaffinity(0))
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {one})
    try:
        server = new_server().start()
    finally:
        os.sched_setaffinity(0, allowed)
    assert check(server, "cpu").startswith("1 usable of ")
    server.cli("dataset", "add", "squares", squares)
    refused = server.cli("train", spec(resources={"threads": 2}), check=False)
    assert refused.code == 1 and "resources.threads is 2, training has 1" in refused.err, refused.err


def control_group_of_this_process():
    """The folder of the group that has the cpu controller: version 1 where that is mounted, else 2."""
    v1 = pathlib.Path("/sys/fs/cgroup/cpu")
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(",") if v1.is_dir() else not controllers:
            return (v1 if v1.is_dir() else pathlib.Path("/sys/fs/cgroup")) / path.lstrip("/")
    pytest.skip("no control groups here")


@pytest.fixture
def one_cpu_quota():
    """This process is in a control group that gets one CPU's time in all, and so is what it starts."""
    home = control_group_of_this_process()
    group = home / f"tandem-test-{os.getpid()}"
    try:
        group.mkdir()
        for name, value in (("cpu.max", "100000 100000"), ("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "100000")):
            if (group / name).exists():
                (group / name).write_text(value)
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        if group.exists():
            group.rmdir()
        pytest.skip(f"no control group with a CPU quota can be made here: {error}")
    yield
    (home / "cgroup.procs").write_text(str(os.getpid()))
    wait_for("nobody is in the group", lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_a_quota_of_the_control_group_counts_as_fewer_cpus(one_cpu_quota, new_server):
    server = new_server().start()
    assert re.match(r"1 usable of \d+ CPUs \(cgroup quota 1\)", check(server, "cpu"))
    assert server.stop() == 0


def test_precision_auto_is_what_doctor_says_of_this_cpu(server, squares, spec):
    server.cli("dataset", "add", "squares", squares)
    end = server.train(spec(precision="auto", register=None))
    assert end["state"] == "succeeded", end
    expected = re.search(r"precision auto trains in (\w+)", check(server, "bf16"))[1]
    log = server.cli("jobs", "logs", end["job"]).out
    assert f"precision={expected}" in log, log


@pytest.mark.parametrize("words", [["version"], ["version", "--json"]])
def test_output_that_a_full_disk_does_not_take_is_an_error(words):
    with open("/dev/full", "wb") as full:
        process = subprocess.run([str(BIN / "tandem"), *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert process.returncode == 1 and "could not be written" in process.stderr, process


def test_a_model_file_is_shown_and_checked_without_a_server(tmp_path):
    def tandem(*words):
        process = subprocess.run([str(BIN / "tandem"), "model", *map(str, words)], capture_output=True, text=True, timeout=120)
        return process.returncode, process.stdout, process.stderr

    file = tmp_path / "lenet.onnx"
    assert tandem("new", "--arch", "lenet", "--input", "1x28x28", "--classes", "10", "--out", file)[:2] == (0, f"{file}: 248 kB\n")
    code, text, _ = tandem("show", file)
    assert code == 0
    for words in ("input  FP32 [N,1,28,28]", "logits  FP32 [N,10]", "61,708, trainable 61,706", "416,520 a sample", "opset 17"):
        assert words in text, text
    shown = json.loads(tandem("show", file, "--json")[1])
    assert shown["macs"] == 416520 and shown["operators"]["Conv"] == 2 and {check["where"] for check in shown["checks"]} >= {"graph", "trainer", "openvino"}
    odd = tmp_path / "odd.onnx"
    odd.write_bytes(onnx.chain("Cos"))
    (trainer,) = (check for check in json.loads(tandem("show", odd, "--json")[1])["checks"] if check["where"] == "trainer")
    assert not trainer["ok"] and "Cos" in str(trainer["missing"]) + trainer["error"], "what is missing where"
    code, text, error = tandem("check", odd)
    assert code != 0 and "Cos" in text + error
    odd.write_bytes(b"no model")
    code, _, error = tandem("show", odd)
    assert code != 0 and "odd.onnx" in error and "not an ONNX file" in error, error


# How a shell is asked what it would offer for the last word of a line; $0 is the script.
ASK_BASH = 'COMP_WORDS=(tandem "$@"); COMP_CWORD=$#; _tandem; printf "%s\\n" "${COMPREPLY[@]}"'
ASK = {
    "bash": ["bash", "-c", f'source "$0"; {ASK_BASH}'],
    "zsh": ["zsh", "-f", "-c", f'autoload -Uz compinit && compinit -D -u; source "$0"; emulate sh; {ASK_BASH}'],
    "fish": ["fish", "-c", 'source $argv[1]; complete -C "tandem $argv[2]"'],
}


@pytest.mark.parametrize("shell", ASK)
def test_shells_know_commands_options_and_choices(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    script = tmp_path / "script"
    script.write_text(subprocess.run([BIN / "tandem", "completion", shell], capture_output=True, text=True, check=True).stdout)

    def offered(line):
        words = [line] if shell == "fish" else line.split(" ")
        if shell == "bash":  # which takes words apart at = and :
            words = [piece for word in words for piece in ([part for part in re.split("([=:]+)", word) if part] or [""])]
        asked = subprocess.run([*ASK[shell], script, *words], capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(tmp_path)})
        return {answer.split("\t")[0] for answer in asked.stdout.splitlines()}

    for line, wanted in (("completion ", {"bash", "zsh", "fish"}), ("jobs rel", {"release"}), ("jobs --ur", {"--url"}),
                         ("--url http://127.0.0.1:8000 jobs rel", {"release"}), ("--url=http://127.0.0.1:8000 --json jobs rel", {"release"}),
                         ("serve --model-c", {"--model-control"}), ("serve --tok", {"--token-file"}), ("simulate --str", {"--strength"}),
                         ("model new --arc", {"--arch"}), ("model run --inp", {"--inputs"}), ("model check m.onnx --js", {"--json"}),
                         ("--token t model show --js", {"--json"})):
        assert offered(line) == wanted, line
