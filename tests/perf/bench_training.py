"""Images/s of `tandem-trainer train` beside the same network in Python PyTorch, on the same cores, in turns.

One thread means one core (affinity), for both sides and with all that they do besides. Both get the same batches of
Fashion-MNIST from memory, without augmentation. tandem's first steps count; PyTorch's do not.
"""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from measure import FASHION, Goal, Part, Window

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 60
QUIET = 0.05  # the share of other processes from which figures are not to be trusted
SPEC = """name: bench
model: {{architecture: resnet8}}
dataset: fashion-mnist
steps: {steps}
batch: 128
optimizer: {{name: sgd, lr: 0.05}}
schedule: {{name: constant}}
seed: 1
"""
TUNED = ("channels_last", "bf16", "channels_last+bf16", "compile", "compile+channels_last+bf16")


def python_with_torch():
    """(path of a Python that has PyTorch, why not). Made on the first call, beside the libraries of scripts/setup."""
    version = re.search(r"^TORCH_VERSION=(\S+)", (HERE / "../../scripts/versions.sh").read_text(), re.M).group(1)
    sdk = os.environ.get("TANDEM_SDK") or pathlib.Path.home() / ".cache/tandem/sdk"
    venv = pathlib.Path(sdk).parent / "bench-venv"
    python, stamp = venv / "bin/python", venv / ".tandem-packages"
    wanted = f"torch=={version}+cpu numpy"
    if stamp.exists() and stamp.read_text() == wanted:
        return python, None
    print(f"making a Python environment with PyTorch {version} in {venv} (200 MB to fetch, 1 GB on disk)", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", venv], capture_output=True, text=True)
    if made.returncode != 0:
        return None, "python3 -m venv failed (package python3-venv): " + made.stderr.strip()[-300:]
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted.split()]
    for index in ((), ("--extra-index-url", os.environ.get("TANDEM_TORCH_INDEX", "https://download.pytorch.org/whl/cpu"))):
        made = subprocess.run([*install, *index], capture_output=True, text=True)
        if made.returncode == 0:
            stamp.write_text(wanted)
            return python, None
    return None, f"PyTorch {version} could not be installed: " + made.stderr.strip()[-300:]


def has_bf16():
    return bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", pathlib.Path("/proc/cpuinfo").read_text()))


def run_on(cores, command):
    """Images/s that the last line of `command` names, the stolen share of CPU time, and that of other processes."""
    use = sorted(os.sched_getaffinity(0))[:cores]
    before = os.times()
    with Window() as window:
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, use))
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-600:])
    after = os.times()
    own = after.children_user + after.children_system - before.children_user - before.children_system
    others = max(0.0, window.busy_seconds - own) / (window.seconds * os.cpu_count())
    return json.loads(done.stdout.strip().split("\n")[-1])["images_per_s"], window.steal, others


def tandem_command(bin_dir, folder, precision, threads):
    return [bin_dir / "tandem-trainer", "train", folder / "spec.yaml", "--dataset-json", folder / "data.json", "--inspect",
            "--out", folder / "out.onnx", "--threads", str(threads), "--set", f"precision={precision}"]


def contestants(bin_dir, folder, python):
    """Name -> (cores, command)."""
    found = {}
    for cores in range(1, min(2, len(os.sched_getaffinity(0))) + 1):
        for precision in ("fp32", "bf16") if has_bf16() else ("fp32",):
            found[f"tandem {precision}, {cores}"] = cores, tandem_command(bin_dir, folder, precision, cores)
        for variant in ("default", *TUNED) if python else ():
            if "bf16" in variant and not has_bf16():
                continue
            command = [python, HERE / "pytorch_baseline.py", variant, "--steps", str(STEPS), "--data", FASHION]
            found[f"pytorch {variant}, {cores}"] = cores, command
    return found


def goals_of(speed):
    """The goals that these median images/s allow to be judged."""
    goals = []

    def compare(name, a, b, bound):
        if a in speed and b in speed:
            goals.append(Goal(name, speed[a] / speed[b], bound))

    for cores in (1, 2):
        where = f"{cores} core{'s' if cores > 1 else ''}"
        compare(f"training, {where}: tandem fp32 / PyTorch default", f"tandem fp32, {cores}", f"pytorch default, {cores}", 1.0)
        compare(f"training, {where}: the same, the goal beyond", f"tandem fp32, {cores}", f"pytorch default, {cores}", 1.1)
        compare(f"training, {where}: bf16 / fp32", f"tandem bf16, {cores}", f"tandem fp32, {cores}", 1.4)
    for precision in ("fp32", "bf16"):
        compare(f"training, {precision}: 2 threads / 1", f"tandem {precision}, 2", f"tandem {precision}, 1", 1.85)
    return goals


def tuned_lines(speed):
    """PyTorch's best settings beside tandem's best: no goal, but what a careful user would compare with."""
    for cores in (1, 2):
        tuned = {name: value for name, value in speed.items() if re.fullmatch(rf"pytorch .*, {cores}", name)}
        ours = {name: value for name, value in speed.items() if re.fullmatch(rf"tandem .*, {cores}", name)}
        for kind, keep in (("fp32", lambda name: "bf16" not in name), ("any precision", lambda _: True)):
            theirs_best, ours_best = (max(filter(keep, all_), key=all_.get, default=None) for all_ in (tuned, ours))
            if theirs_best:
                yield f"{speed[ours_best] / speed[theirs_best]:.2f} x  {ours_best} / {theirs_best} (best of PyTorch, {kind})"


def measure(bin_dir, rounds):
    if not FASHION.is_dir():
        raise SystemExit(f"error: {FASHION} is missing; scripts/setup installs it (package dataset-fashion-mnist)")
    python, why_not = python_with_torch()
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        folder = pathlib.Path(folder)
        (folder / "spec.yaml").write_text(SPEC.format(steps=STEPS))
        (folder / "data.json").write_text(json.dumps({"name": "fashion-mnist", "path": str(FASHION), "format": "idx"}))
        return compete(contestants(bin_dir, folder, python), rounds, why_not)


def compete(commands, rounds, why_not):
    runs = {name: [] for name in commands}
    notes = [f"PyTorch left out: {why_not}"] if why_not else []
    steal = others = 0.0
    for turn in range(rounds):
        for name in [name for name in commands if name in runs]:
            try:
                value, stolen, busy = run_on(*commands[name])
            except RuntimeError as error:
                if name.startswith("tandem"):
                    raise SystemExit(f"error: {name}: {error}") from error
                del runs[name]
                notes.append(f"{name} left out: {str(error).splitlines()[-1]}")
                continue
            runs[name].append(value)
            steal, others = max(steal, stolen), max(others, busy)
            print(f"  round {turn + 1}  {name:37} {value:6.0f} images/s  steal {stolen:.1%}  others {busy:.0%}", file=sys.stderr, flush=True)
    speed = {name: statistics.median(values) for name, values in runs.items()}
    lines = [*tuned_lines(speed), *notes]
    if others > QUIET:
        lines.append(f"not quiet: other processes took up to {others:.0%} of the CPU time; measure again")
    lines += [f"{speed[name]:8.0f} images/s  {name} (of {' '.join(f'{value:.0f}' for value in runs[name])})" for name in speed]
    return Part(goals_of(speed), {"images_per_s": runs, "others": others}, lines, steal)
