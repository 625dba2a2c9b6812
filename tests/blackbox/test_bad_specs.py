"""Job specs that are wrong: refused before anything starts, by line, column and key; and jobs that fail while they run."""

import numpy as np
import pytest

import onnx_files as onnx
from conftest import make_images, write_idx

HEAD = "dataset: squares\nmodel: {architecture: mlp}\n"  # the first two lines of a good spec


@pytest.fixture(scope="module")
def ready(shared, squares):
    shared.cli("dataset", "add", "squares", squares)
    return shared


@pytest.fixture(autouse=True)
def goes_on(ready):
    jobs = ready.cli("jobs", "list", "--json").json
    yield
    ready.assert_well()
    after = ready.cli("jobs", "list", "--json").json
    assert [j for j in after["jobs"] if j["job"] in [b["job"] for b in jobs["jobs"]]] == jobs["jobs"]


def refuse(server, tmp_path, text, *args):
    """The message about a spec that must be refused, and make no job."""
    jobs = server.cli("jobs", "list", "--json").json
    path = tmp_path / "job.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    result = server.cli("train", path, *args, check=False)
    assert result.code in (1, 4, 5), (result.code, result.out, result.err)
    assert server.cli("jobs", "list", "--json").json == jobs
    assert len(result.err) < 1000, "a message is to be read by people"
    return result.err


@pytest.mark.parametrize("line, place, words", [
    ("epoch: 3", "3:1", ["'epoch'", "'epochs'"]),
    ("optimizer: {nam: sgd}", "3:13", ["'nam'", "'optimizer'", "'name'"]),
    ("optimizer: {name: sdg}", "3:19", ["optimizer.name", "'sgd'"]),
    ("register: {model: m, promote_if: {metrik: loss}}", "3:35", ["'metrik'", "'metric'"]),
    ("zzz: 1", "3:1", ["'zzz'", "known keys"]),
    ("epochs: many", "3:9", ["epochs is 'many'", "whole number"]),
    ("epochs: 0", "3:9", ["epochs is '0'", "from 1"]),
    ("epochs: -1", "3:9", ["epochs"]),
    ("epochs: 99999999999999999999", "3:9", ["epochs"]),
    ("epochs: [1, 2]", "3:9", ["epochs is a list"]),
    ("batch: 2.5", "3:8", ["batch is '2.5'"]),
    ("optimizer: {name: sgd, lr: fast}", "3:28", ["optimizer.lr is 'fast'"]),
    ("optimizer: {name: sgd, lr: .nan}", "3:28", ["optimizer.lr"]),
    ("optimizer: {name: sgd, lr: -1}", "3:28", ["optimizer.lr"]),
    ("optimizer: {name: adamw, momentum: 0.9}", "3:36", ["momentum", "no effect with adamw"]),
    ("seed: -1", "3:7", ["seed"]),
    ("precision: fp8", "3:12", ["precision", "bf16"]),
    ("time_budget: soon", "3:14", ["time_budget", "90s"]),
    ("resources: {memory: lots}", "3:21", ["resources.memory", "512MB"]),
    ("augment: [flop]", "3:11", ["augment", "'flip'"]),
    ("micro_batch: 64\nbatch: 32", "3:14", ["micro_batch is 64", "batch of 32"]),
    ("epochs: 1\nsteps: 1", "4:8", ["'epochs'", "'steps'", "exclude each other"]),
    ("epochs: 1\nepochs: 2", "4:1", ["'epochs'", "twice"]),
    ("name: ../../etc/passwd", "3:7", ["name"]),
    ("register: {model: m, promote_if: {metric: accuracy, better_than: 7}}", "3:11", ["better_than is 7", "0 to 1"]),
])
def test_a_wrong_key_or_value_is_named_with_its_place(ready, tmp_path, line, place, words):
    error = refuse(ready, tmp_path, HEAD + line + "\n")
    assert f"job.yaml:{place}:" in error, error
    assert all(word in error for word in words), error


@pytest.mark.parametrize("text, words", [
    ("", ["model is missing"]),
    ("- a\n- b\n", ["a job spec is a map"]),
    ("just words", ["a job spec is a map"]),
    ("dataset: squares\n", ["model is missing"]),
    ("model: {architecture: mlp}\n", ["'dataset' is missing", "dataset list"]),
    ("dataset: squares\nmodel: {architecture: mlp, from: a/1}\n", ["'architecture' and 'from' exclude each other"]),
    ("a: [1, 2\nb: }{\n", ["job.yaml:2", "not valid YAML"]),
    ("a:\n\t- b\n", ["job.yaml:2", "not valid YAML"]),
    ("a: &x [*x]\n", ["job.yaml:1", "not supported"]),
    ("a: !!python/object:os.system x\n", ["job.yaml:1", "tag", "not supported"]),
    (HEAD + "---\n" + HEAD, ["more than one YAML document"]),
    ("[" * 100000, ["nested deeper than"]),
    ("{a: " * 100000, ["nested deeper than"]),
    ("- " * 100000, ["nested deeper than"]),
    ("a: " + "x" * 3_000_000, ["job.yaml", "larger than"]),
    ("x: [" + "1," * 200_000 + "1]", ["limit"]),
    (b"dataset: \xff\xfe\n", ["job.yaml", "not UTF-8"]),
    (b"dataset: a\0b\n", ["NUL byte"]),
    (bytes(range(256)) * 10, ["job.yaml"]),
], ids=lambda value: repr(value[:20]) if isinstance(value, (str, bytes)) else "")
def test_what_is_no_spec_is_refused(ready, tmp_path, text, words):
    error = refuse(ready, tmp_path, text)
    assert all(word in error for word in words), error


@pytest.mark.parametrize("overrides, words", [
    (["epochs"], ["'epochs'", "key.path=value"]),
    (["=3"], ["key.path=value"]),
    (["epoch=3"], ["'epoch'", "'epochs'"]),
    (["optimizer.lr=fast"], ["--set optimizer.lr=fast", "optimizer.lr is 'fast'"]),
    (["dataset.name=x"], ["'dataset' is not a map"]),
    (["epochs=1", "steps=[}"], ["--set steps=[}", "not valid YAML"]),
    (["a." * 5000 + "b=1"], ["too long"]),
    (["model.=mlp"], ["ends with a dot"]),
])
def test_a_wrong_override_is_named(ready, tmp_path, overrides, words):
    error = refuse(ready, tmp_path, HEAD, *(word for one in overrides for word in ("--set", one)))
    assert all(word in error for word in words), error


@pytest.mark.parametrize("line, words", [
    ("dataset: square", ["'square'", "'squares'"]),
    ("model: {from: nobody}", ["no model 'nobody'"]),
    ("model: {from: nobody/3}", ["no model 'nobody'"]),
    ("model: {from: 'a b@c'}", ["model.from", "'a b@c'", "NAME@ALIAS"]),
    ("model: {onnx: /nowhere/m.onnx}", ["model.onnx", "/nowhere/m.onnx", "No such file"]),
    ("model: {onnx: /dev/zero}", ["model.onnx", "/dev/zero", "no regular file"]),
    ("model: {architecture: mlp, classes: 2}", ["model.classes is 2", "'squares' has 4"]),
    ("model: {architecture: mlp, input: 3x32x32}", ["model.input is [3,32,32]", "'squares' are [1,16,16]"]),
    ("resources: {threads: 999}", ["resources.threads is 999", "training.threads"]),
    ("resources: {memory: 900TB}", ["900", "training.memory"]),
])
def test_what_does_not_fit_the_server_is_refused(ready, tmp_path, line, words):
    key = line.split(":")[0]
    rest = "".join(row + "\n" for row in HEAD.splitlines() if not row.startswith(key + ":"))
    error = refuse(ready, tmp_path, rest + line + "\n")
    assert all(word in error for word in words), error


def test_the_spec_file_itself_is_missing(ready, tmp_path):
    result = ready.cli("train", tmp_path / "nowhere.yaml", check=False)
    assert result.code != 0 and "nowhere.yaml" in result.err and "No such file" in result.err


# --- jobs that start and cannot succeed ---

def test_a_loss_that_is_not_finite_fails_the_job_with_the_reason_and_no_version(ready, spec):
    job = spec("nan.yaml", optimizer={"name": "sgd", "lr": 1000, "momentum": 0.99}, epochs=20, batch=256, register={"model": "exploded"})
    end = ready.train(job)
    assert end["state"] == "failed", end
    shown = ready.job(end["job"])
    assert "loss" in shown["reason"] and "lr" in shown["reason"], shown["reason"]
    assert shown["attempt"] == 1, "the same numbers would come again: no retry"
    assert ready.cli("models", "show", "exploded", check=False).code == 4


def train_file(server, spec, tmp_path, data, dataset="squares"):
    file = tmp_path / "start.onnx"
    file.write_bytes(data)
    end = server.train(spec("file.yaml", model={"onnx": str(file)}, dataset=dataset, steps=1, epochs=None, register=None))
    assert end["state"] == "failed", end
    return server.job(end["job"])


@pytest.mark.parametrize("data, words", [
    (b"no model at all", ["start.onnx", "not an ONNX file"]),
    (onnx.linear(onnx.tensor("w", [4, 4], [0.5] * 16), classes=4), ["'x' takes [-1,4]", "[1,16,16]"]),
    (onnx.chain("Frobnicate", shape=("N", 1, 16, 16)), ["Frobnicate"]),
    (onnx.chain("Relu", shape=("N", 1, 16, 16)), ["train"]),
], ids=["garbage", "other shape", "unknown operator", "nothing to train"])
def test_a_start_file_that_cannot_be_trained_fails_the_job_at_once(ready, spec, tmp_path, data, words):
    shown = train_file(ready, spec, tmp_path, data)
    assert shown["attempt"] == 1, shown["reason"]
    assert all(word in shown["reason"] for word in words), shown["reason"]


def test_a_model_of_too_few_classes_names_both_numbers(ready, spec, tmp_path):
    nodes = [onnx.node("Flatten", ["x"], ["flat"]), onnx.node("MatMul", ["flat", "w"], ["y"])]
    data = onnx.model(nodes, [onnx.value("x", ["N", 1, 16, 16])], [onnx.value("y", ["N", 3])],
                      [onnx.tensor("w", [256, 3], [0.01] * 768)])
    shown = train_file(ready, spec, tmp_path, data)
    assert "3" in shown["reason"] and "4" in shown["reason"] and "class" in shown["reason"], shown["reason"]
    assert shown["attempt"] == 1


@pytest.mark.parametrize("entry", [onnx.FLOAT16, onnx.FLOAT], ids=["input in halves too", "behind a cast"])
def test_weights_in_half_precision_are_refused_by_name(ready, spec, tmp_path, entry):
    nodes = [onnx.node("Cast", ["x"], ["half"], to=onnx.FLOAT16), onnx.node("Flatten", ["half"], ["flat"]), onnx.node("MatMul", ["flat", "w"], ["y"])]
    data = onnx.model(nodes, [onnx.value("x", ["N", 1, 16, 16], entry)], [onnx.value("y", ["N", 4], onnx.FLOAT16)],
                      [onnx.tensor("w", [256, 4], [0.01] * 1024, onnx.FLOAT16)])
    shown = train_file(ready, spec, tmp_path, data)
    assert "initialiser 'w' is Half" in shown["reason"] and "export the model in float32" in shown["reason"], shown["reason"]


def test_a_data_set_that_changed_behind_the_servers_back_is_noticed(ready, spec, tmp_path):
    folder = tmp_path / "moving"
    folder.mkdir()
    for name, seed in (("train", 1), ("t10k", 2)):
        images, labels = make_images(40, seed)
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)
    ready.cli("dataset", "add", "moving", folder)
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.full(40, 9))
    end = ready.train(spec("moving.yaml", dataset="moving", register=None, steps=1, epochs=None))
    assert end["state"] == "failed"
    reason = ready.job(end["job"])["reason"]
    assert "'moving'" in reason and "changed" in reason, reason
