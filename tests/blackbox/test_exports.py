"""Files as PyTorch 2.13 exports them (tests/exports) are checked, run, trained and served, and agree with PyTorch."""

import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import tritonclient.http as triton

from conftest import BIN, FULL, Server, make_images, wait_for

pytestmark = pytest.mark.slow

DATA = pathlib.Path(__file__).resolve().parents[1] / "exports/data"
FILES = sorted(path.name[: -len(".onnx")] for path in DATA.glob("*.onnx") if not path.name.startswith("train."))
# Enough for each way and each network once; all of them in the full run.
TRAINED = FILES if FULL else ["cnn.dynamo_fixed", "cnn.dynamo_external", "residual.dynamo", "residual.script_preserve", "residual.script_train",
                              "mlp.script_opset11", "mlp.dynamo_unoptimised", "softmax.script_fixed", "dropout.dynamo_preserve",
                              "pooling.dynamo_unoptimised_fixed"]
ARCHITECTURES = {"mlp": (1, 16, 16), "lenet": (1, 16, 16), "resnet8": (1, 16, 16), "resnet20": (3, 16, 16), "resnet18": (3, 16, 16)}
TOLERANCE = 1e-4  # times max(1, |value|)


def program(*arguments):
    process = subprocess.run([str(BIN / "tandem"), *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, f"tandem {arguments}\n{process.stdout}\n{process.stderr}"
    return process.stdout


def assert_close(value, expected):
    assert value.shape == expected.shape
    assert np.all(np.abs(value - expected) < TOLERANCE * np.maximum(1, np.abs(expected))), np.abs(value - expected).max()


def run(model, inputs, engine, folder):
    np.savez(folder / "in.npz", input=inputs)
    program("model", "run", model, "--inputs", folder / "in.npz", "--engine", engine, "--out", folder / "out.npz")
    with np.load(folder / "out.npz") as arrays:
        (name,) = arrays.files
        return arrays[name]


def agreed(model, inputs, folder):
    """The answer of the trainer's interpreter, which OpenVINO's is equal to."""
    reference = run(model, inputs, "reference", folder)
    assert_close(run(model, inputs, "openvino", folder), reference)
    return reference


def answer(name):
    """Five samples, and PyTorch's outputs."""
    network, way = name.split(".")
    with np.load(DATA / f"{network}.npz") as arrays:
        return arrays["input"], arrays.get(f"output.{way}", arrays["output"])


@pytest.mark.parametrize("name", FILES)
def test_an_exported_file_gives_what_pytorch_gives(name, tmp_path):
    inputs, expected = answer(name)
    assert_close(agreed(DATA / f"{name}.onnx", inputs, tmp_path), expected)
    if "fixed" in name:  # at its own batch too
        assert_close(agreed(DATA / f"{name}.onnx", inputs[:1], tmp_path), expected[:1])


@pytest.mark.parametrize("name", TRAINED)
def test_model_check_finds_nothing_missing(name):
    result = json.loads(program("model", "check", DATA / f"{name}.onnx", "--json"))
    assert result["ok"], result


def add_samples(server, name, shape, count=64, classes=4):
    """Registers a data set of samples of this shape; the class shifts their mean."""
    random = np.random.default_rng(3)
    folder = server.folder / f"data-{name}"
    folder.mkdir()
    for split, samples in (("train", count), ("test", 16)):
        labels = random.integers(0, classes, samples)
        images = random.random((samples, *shape), dtype=np.float32) / 2 + labels.reshape(-1, *[1] * len(shape)).astype(np.float32) / 8
        np.save(folder / f"x_{split}.npy", images)
        np.save(folder / f"y_{split}.npy", labels)
    server.cli("dataset", "add", name, folder, "--format", "npy")


def write_job(server, name, dataset, model, **more):
    path = server.folder / f"{name}.yaml"
    spec = {"name": name, "model": model, "dataset": dataset, "steps": 4, "batch": 16, "precision": "fp32", "seed": 1,
            "optimizer": {"name": "sgd", "lr": 0.02}, "register": {"model": name, "alias": "champion"}, **more}
    path.write_text(json.dumps(spec))
    return path


def served(server, model, images):
    client = triton.InferenceServerClient(server.ready["http"])
    wait_for(f"model {model}", lambda: client.is_model_ready(model))
    tensor = triton.InferInput("input", images.shape, "FP32")
    tensor.set_data_from_numpy(images)
    (output,) = client.infer(model, [tensor]).get_response()["outputs"]
    return client.infer(model, [tensor]).as_numpy(output["name"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("exports") / "server").start()
    for network in sorted({name.split(".")[0] for name in FILES}):
        add_samples(server, network, answer(f"{network}.dynamo")[0].shape[1:])
    yield server
    server.close()


@pytest.mark.parametrize("name", TRAINED)
def test_an_exported_file_is_trained_and_served(shared, name, tmp_path):
    model = name.replace(".", "-")
    inputs, before = answer(name)
    end = shared.train(write_job(shared, model, name.split(".")[0], {"onnx": str(DATA / f"{name}.onnx")}))
    assert end["state"] == "succeeded" and end["deploy"] == "promoted", end
    shared.cli("models", "export", model, "--out", tmp_path / "trained.onnx")
    after = agreed(tmp_path / "trained.onnx", inputs, tmp_path)
    assert np.abs(after - before).max() > 1e-4  # it learned something
    assert_close(served(shared, model, inputs), after)


def test_external_data_are_joined_on_import(shared, tmp_path):
    name = "cnn.dynamo_external"
    assert (DATA / f"{name}.onnx.data").exists()
    shared.cli("models", "import", "joined", DATA / f"{name}.onnx")
    shared.cli("models", "deploy", "joined")
    inputs, expected = answer(name)
    assert_close(served(shared, "joined", inputs), expected)
    shared.cli("models", "export", "joined", "--out", tmp_path / "one.onnx")
    assert_close(agreed(tmp_path / "one.onnx", inputs, tmp_path), expected)


def test_missing_external_data_are_named(shared, tmp_path):
    shutil.copy(DATA / "cnn.dynamo_external.onnx", tmp_path)
    result = shared.cli("models", "import", "broken", tmp_path / "cnn.dynamo_external.onnx", check=False)
    assert result.code != 0 and "cnn.dynamo_external.onnx.data" in result.err


def test_a_file_exported_for_a_batch_of_one_serves_any(shared):
    name = "softmax.dynamo_fixed"
    shared.cli("models", "import", "fixed", DATA / f"{name}.onnx")
    shared.cli("models", "deploy", "fixed")
    inputs, expected = answer(name)
    assert_close(served(shared, "fixed", inputs), expected)


@pytest.mark.parametrize("architecture", [pytest.param(name, marks=[pytest.mark.slow] if name == "resnet18" else []) for name in ARCHITECTURES])
def test_the_engines_agree_on_each_architecture_before_and_after_training(shared, architecture, tmp_path):
    shape = ARCHITECTURES[architecture]
    start, name = tmp_path / "start.onnx", f"new-{architecture}"
    program("model", "new", "--arch", architecture, "--input", "x".join(map(str, shape)), "--classes", 4, "--out", start)
    images = make_images(5, seed=6)[0].astype(np.float32).reshape(5, 1, 16, 16).repeat(shape[0], 1) / 255
    before = agreed(start, images, tmp_path)
    add_samples(shared, name, shape)
    end = shared.train(write_job(shared, name, name, {"onnx": str(start)}))
    assert end["state"] == "succeeded", end
    shared.cli("models", "export", name, "--out", tmp_path / "trained.onnx")
    after = agreed(tmp_path / "trained.onnx", images, tmp_path)
    assert np.abs(after - before).max() > 1e-4
    assert_close(served(shared, name, images), after)
