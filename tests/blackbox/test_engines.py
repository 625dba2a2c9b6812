"""The engines: what OpenVINO, ONNX Runtime and the torch plug-in serve, that they agree, and what they refuse."""

import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import onnx_files
from conftest import BIN
from engine_plugin import INVALID_ARGUMENT, EngineError, Plugin, dtype_number

EXPORTS = pathlib.Path(__file__).resolve().parents[1] / "exports"
FIXTURES = EXPORTS / "engines"
TENSORFLOW = FIXTURES / "tensorflow"
FILES = sorted(path.name[: -len(".onnx")] for path in (EXPORTS / "data").glob("*.onnx") if not path.name.startswith("train."))
ARCHITECTURES = {"mlp": (1, 16, 16), "lenet": (1, 16, 16), "resnet8": (1, 16, 16), "resnet20": (3, 16, 16), "resnet18": (3, 16, 16)}
ENGINES = ("openvino", "onnxruntime", "torch")
TOLERANCE = 1e-4  # times max(1, |value|)


def host(*arguments, env=None):
    return subprocess.run([str(BIN / "tandem-engine-host"), *map(str, arguments)], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **(env or {})})


def run(model, engine, folder, **inputs):
    """The outputs by name."""
    np.savez(folder / "in.npz", **inputs)
    process = host("model", "run", model, "--engine", engine, "--inputs", folder / "in.npz", "--out", folder / "out.npz")
    assert process.returncode == 0, process.stderr
    with np.load(folder / "out.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.parametrize("engine", ["reference", "openvino"])
def test_inputs_may_be_a_folder_of_tensor_protos(tmp_path, engine):
    """As the ONNX tests keep them: input_0.pb, input_1.pb."""
    model = write(tmp_path, onnx_files.model([onnx_files.node("Sub", ["x", "z"], ["y"], name="minus")], [onnx_files.value("x", ["N", 4]), onnx_files.value("z", ["N", 4])],
                                       [onnx_files.value("y", ["N", 4])]))
    x, z = np.arange(8, dtype=np.float32).reshape(2, 4), np.full((2, 4), 0.5, np.float32)
    folder = tmp_path / "inputs"
    folder.mkdir()
    for i, (name, array) in enumerate((("x", x), ("z", z))):
        (folder / f"input_{i}.pb").write_bytes(onnx_files.tensor(name, array.shape, array.ravel().tolist()))
    command = [BIN / "tandem", "model", "run", model, "--engine", engine, "--inputs", folder, "--out", tmp_path / "out.npz"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    with np.load(tmp_path / "out.npz") as arrays:
        assert np.array_equal(arrays["y"], x - z)
    (folder / "input_1.pb").write_bytes(b"no tensor")
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode != 0 and "input_1.pb" in process.stderr, process.stderr


def refusal(model, engine, folder, *arguments, env=None):
    """The line with which preparing fails: the server takes the last one, libraries may write before it."""
    out = folder / "prepared"
    out.mkdir(exist_ok=True)
    process = host("prepare", "--engine", engine, "--model", model, "--out", out, *arguments, env=env)
    assert process.returncode == 1, (process.returncode, process.stderr)
    return process.stderr.strip().splitlines()[-1]


def assert_close(value, expected, tolerance=TOLERANCE):
    assert value.shape == expected.shape
    assert np.all(np.abs(value - expected) < tolerance * np.maximum(1, np.abs(expected))), np.abs(value - expected).max()


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "mlp.onnx"
    assert host("model", "new", "--arch", "mlp", "--input", "4", "--classes", "3", "--out", path).returncode == 0
    return path


def write(folder, model):
    (folder / "model.onnx").write_bytes(model)
    return folder / "model.onnx"


def test_all_engines_are_found():
    engines = {engine["name"]: engine for engine in json.loads(host("engines", "--json").stdout)}
    assert engines.keys() >= {"echo", *ENGINES}
    assert not any(engines[name]["error"] for name in ENGINES)
    assert all(engines[name]["version"][0].isdigit() for name in ENGINES)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_engines_agree_on_what_model_new_makes_at_any_batch(arch, tmp_path):
    shape = ARCHITECTURES[arch]
    model = tmp_path / "model.onnx"
    made = host("model", "new", "--arch", arch, "--input", "x".join(map(str, shape)), "--classes", 10, "--out", model)
    assert made.returncode == 0, made.stderr
    images = np.random.default_rng(1).random((3, *shape), dtype=np.float32)
    answers = {}
    for engine in ENGINES:
        answers[engine] = run(model, engine, tmp_path, input=images)["logits"]
        assert_close(run(model, engine, tmp_path, input=images[1:2])["logits"], answers[engine][1:2])
    assert_close(answers["openvino"], answers["torch"])
    assert_close(answers["onnxruntime"], answers["torch"])


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_onnxruntime_and_torch_give_what_pytorch_gives(name, tmp_path):
    network, way = name.split(".")
    with np.load(EXPORTS / f"data/{network}.npz") as arrays:
        inputs, expected = arrays["input"], arrays.get(f"output.{way}", arrays["output"])
    model = EXPORTS / f"data/{name}.onnx"
    assert_close(run(model, "torch", tmp_path, input=inputs)["output"], expected)
    if network == "pooling" and way.startswith("script"):  # a convolution with dilation and auto_pad: found before it is served
        assert "Dilation not supported for AutoPadType::SAME_UPPER" in refusal(model, "onnxruntime", tmp_path)
    else:
        assert_close(run(model, "onnxruntime", tmp_path, input=inputs)["output"], expected)


@pytest.mark.parametrize("name", ("trees", "logistic"))
def test_onnxruntime_gives_the_probabilities_of_scikit_learn(name, tmp_path):
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        x, probabilities = arrays["x"], arrays["probabilities"]
    answer = run(FIXTURES / f"{name}.onnx", "onnxruntime", tmp_path, X=x)
    assert np.abs(answer["probabilities"] - probabilities).max() <= 1e-5
    assert answer["label"].dtype == np.int64
    assert np.array_equal(answer["label"], probabilities.argmax(1))


@pytest.mark.parametrize("engine", ("openvino", "torch"))
def test_trees_are_refused_by_name_where_they_cannot_be_served(engine, tmp_path):
    assert "TreeEnsembleClassifier" in refusal(FIXTURES / "trees.onnx", engine, tmp_path)


def test_an_export_with_a_zipmap_is_refused_with_the_cure(tmp_path):
    text = refusal(FIXTURES / "zipmap.onnx", "onnxruntime", tmp_path)
    assert "output 'output_probability'" in text
    assert "options={'zipmap': False}" in text


def test_text_goes_in_and_comes_out_byte_for_byte(tmp_path):
    answers = json.loads((FIXTURES / "words.json").read_text())
    rows = np.array([[text.encode() for text in row] for row in answers["rows"]], dtype=object)
    plugin = Plugin("onnxruntime")
    with plugin.load(plugin.prepare(FIXTURES / "words.onnx", tmp_path / "prepared")) as model:
        assert model.tensors(False) == [("words", 8, [-1, 2])]
        labels, probabilities = model.run(rows)
        assert [label.decode() for label in labels] == answers["labels"]
        assert np.abs(probabilities - np.array(answers["probabilities"])).max() <= 1e-5


@pytest.mark.parametrize("data,text", ((b"\3\0\0\0abc\3\0\0\0d", "ends in element 1 of 2"), (b"\1\0\0\0a", "ends in element 1 of 2"),
                                       (b"\xff\xff\xff\xffab\0\0\0\0", "ends in element 0 of 2"), (b"\0\0\0\0\0\0\0\0x", "1 bytes after")))
def test_broken_text_is_refused(data, text, tmp_path):
    plugin = Plugin("onnxruntime")
    with plugin.load(plugin.prepare(FIXTURES / "words.onnx", tmp_path / "prepared")) as model:
        with pytest.raises(EngineError, match=text) as error:
            model.run(np.array([[b"", b""]], dtype=object), data=data)
        assert error.value.code == INVALID_ARGUMENT
        assert len(model.run(np.array([[b"red", b"small"]], dtype=object))[0]) == 1, "the next run is well"


@pytest.mark.parametrize("dtype", (np.float32, np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64, np.bool_, np.float16, np.float64, np.uint32,
                                   np.uint64))
@pytest.mark.parametrize("rows", (0, 3))
def test_onnxruntime_carries_every_type(dtype, rows, tmp_path):
    array = (np.arange(rows * 4) % 2).astype(dtype).reshape(rows, 4)
    number = dtype_number(array)
    graph = onnx_files.model([onnx_files.node("Identity", ["x"], ["y"])], [onnx_files.value("x", ["N", 4], number)],
                             [onnx_files.value("y", ["N", 4], number)])
    plugin = Plugin("onnxruntime")
    with plugin.load(plugin.prepare(write(tmp_path, graph), tmp_path / "prepared")) as model:
        (answer,) = model.run(array)
        assert answer.dtype == dtype
        assert np.array_equal(answer, array)


@pytest.mark.parametrize("engine", ENGINES)
def test_several_threads_give_the_same(engine, mlp, tmp_path):
    plugin = Plugin(engine)
    folder = plugin.prepare(mlp, tmp_path / "prepared")
    assert plugin.estimate(folder) > mlp.stat().st_size
    x = np.random.default_rng(1).random((64, 4), dtype=np.float32)
    with plugin.load(folder) as one, plugin.load(folder, threads=2) as two:
        assert one.tensors(False) == [("input", 1, [-1, 4])]
        assert one.tensors(True) == [("logits", 1, [-1, 3])]
        (expected,) = one.run(x)
        assert_close(two.run(x)[0], expected)
        assert np.array_equal(one.run(x)[0], expected), "one thread again"


@pytest.mark.parametrize("engine", ENGINES)
def test_instances_run_at_the_same_time(engine, mlp, tmp_path):
    plugin = Plugin(engine)
    inputs = [np.random.default_rng(seed).random((seed + 1, 4), dtype=np.float32) for seed in range(4)]
    with plugin.load(plugin.prepare(mlp, tmp_path / "prepared")) as model:
        expected = [model.run(x)[0] for x in inputs]
        instances = [model.make_instance() for _ in inputs]

        def repeat(i):
            return all(np.array_equal(model.run(inputs[i], instance=instances[i])[0], expected[i]) for _ in range(200))

        with concurrent.futures.ThreadPoolExecutor(len(inputs)) as pool:
            assert all(pool.map(repeat, range(len(inputs))))


@pytest.mark.parametrize("dtype,large", ((np.int64, 2**31), (np.int64, -(2**31) - 1), (np.int64, 2**40), (np.uint64, 2**31), (np.uint64, 2**63)))
def test_openvino_refuses_whole_numbers_that_it_would_cut_to_32_bits(dtype, large, tmp_path):
    small = np.array([[1, 2**31 - 1, 0], [5, 6, 7]], dtype)
    number = dtype_number(small)
    graph = onnx_files.model([onnx_files.node("Identity", ["x"], ["y"])], [onnx_files.value("x", ["N", 3], number)],
                             [onnx_files.value("y", ["N", 3], number)])
    beyond = small.copy()
    beyond[1, 1] = large
    openvino, onnxruntime = Plugin("openvino"), Plugin("onnxruntime")
    file = write(tmp_path, graph)
    with openvino.load(openvino.prepare(file, tmp_path / "openvino")) as model:
        with pytest.raises(EngineError, match=f"input 'x' has {large} at index 4, .* engine onnxruntime computes in 64") as error:
            model.run(beyond)
        assert error.value.code == INVALID_ARGUMENT
        assert np.array_equal(model.run(small)[0], small), "the next run is well"
    with onnxruntime.load(onnxruntime.prepare(file, tmp_path / "onnxruntime")) as model:
        assert np.array_equal(model.run(beyond)[0], beyond)


def threads_of_a_process(engine, folder, threads):
    """How many threads a process has after a large run, apart from those that it begins with."""
    script = """if True:
        import os, sys, numpy as np
        from engine_plugin import Plugin
        engine, folder, threads = sys.argv[1:]
        plugin = Plugin(engine)
        before = len(os.listdir("/proc/self/task"))
        with plugin.load(folder, threads=threads) as model:
            model.run(np.ones((64, 1, 64, 64), np.float32))
            print(len(os.listdir("/proc/self/task")) - before)
    """
    process = subprocess.run([sys.executable, "-c", script, engine, str(folder), str(threads)], capture_output=True, text=True, timeout=120,
                             cwd=pathlib.Path(__file__).parent, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    assert process.returncode == 0, process.stderr
    return int(process.stdout)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_has_the_threads_that_were_asked_for(engine, tmp_path):
    model = tmp_path / "model.onnx"
    assert host("model", "new", "--arch", "resnet8", "--input", "1x64x64", "--classes", "10", "--out", model).returncode == 0
    folder = Plugin(engine).prepare(model, tmp_path / "prepared")
    one, two = (threads_of_a_process(engine, folder, threads) for threads in (1, 2))
    assert two > one
    assert one == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("threads", ("0", "65", "two", "1.5", "", "-1"))
def test_a_number_of_threads_that_is_none_is_refused(engine, threads, mlp, tmp_path):
    plugin = Plugin(engine)
    folder = plugin.prepare(mlp, tmp_path / "prepared")
    with pytest.raises(EngineError, match=f"threads is '{threads}', must be a number from 1 to 64"):
        plugin.load(folder, threads=threads)


@pytest.mark.parametrize("engine,there", (("openvino", "OpenVINO finds CPU, and takes AUTO"), ("onnxruntime", "built for CPU"),
                                          ("torch", "LibTorch finds CPU; this LibTorch is the CPU build")))
@pytest.mark.parametrize("device", ("CUDA", "NPU.7", "Abacus", "AUTO:CPU,Abacus"))
def test_a_device_that_is_not_there_is_refused_with_those_there_are(engine, there, device, mlp, tmp_path):
    text = refusal(mlp, engine, tmp_path, "--device", device)
    assert f"device '{device}' is not there" in text
    assert there in text


@pytest.mark.parametrize("device", ("AUTO", "AUTO:CPU"))
def test_openvino_chooses_a_device_by_itself(device, mlp, tmp_path):
    plugin = Plugin("openvino")
    folder = plugin.prepare(mlp, tmp_path / "prepared", device=device)
    x = np.ones((2, 4), np.float32)
    with plugin.load(folder, device=device) as chosen, plugin.load(folder, device="CPU") as same:
        assert np.array_equal(chosen.run(x)[0], same.run(x)[0])


@pytest.mark.parametrize("engine", ("onnxruntime", "torch"))
def test_a_precision_that_an_engine_does_not_offer_is_refused(engine, mlp, tmp_path):
    assert "precision 'bf16' is not offered" in refusal(mlp, engine, tmp_path, "--precision", "bf16")


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_no_model_is_refused_in_one_line_that_names_it(engine, mlp, tmp_path):
    (tmp_path / "text.onnx").write_text("this is not a model")
    assert "text.onnx" in refusal(tmp_path / "text.onnx", engine, tmp_path)
    (tmp_path / "half.onnx").write_bytes(mlp.read_bytes()[:500])
    refusal(tmp_path / "half.onnx", engine, tmp_path)
    assert "absent.onnx" in refusal(tmp_path / "absent.onnx", engine, tmp_path)


def matrix():
    return onnx_files.tensor("w", (4, 2), [1.0] * 8)


def value(name, *shape):
    return onnx_files.value(name, shape)


# Graphs of inputs x (and z), what they take, and what they do not though it fits the signature.
FREE_SIZES = {
    "a free size meets a constant matrix": (
        onnx_files.model([onnx_files.node("MatMul", ["x", "w"], ["y"])], [value("x", "N", "M")], [value("y", "N", 2)], [matrix()]),
        [(2, 4)], [[(2, 5)], [(2, 3)], [(2, 0)], [(1, 400)]]),
    "the batch meets a constant matrix": (
        onnx_files.model([onnx_files.node("Transpose", ["x"], ["t"]), onnx_files.node("MatMul", ["t", "w"], ["y"])], [value("x", "N", 3)],
                         [value("y", 3, 2)], [matrix()]),
        [(4, 3)], [[(3, 3)], [(1, 3)], [(64, 3)]]),
    "inputs differ": (
        onnx_files.model([onnx_files.node("Add", ["x", "z"], ["y"])], [value("x", "N", 4), value("z", "M", 4)], [value("y", "K", 4)]),
        [(3, 4), (3, 4)], [[(2, 4), (3, 4)], [(5, 4), (2, 4)]]),
    "channels differ": (
        onnx_files.model([onnx_files.node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1])], [value("x", "N", "C", 2, 2)], [value("y", "N", 1, 2, 2)],
                         [onnx_files.tensor("w", (1, 3, 1, 1), [1.0] * 3)]),
        [(1, 3, 2, 2)], [[(1, 2, 2, 2)], [(1, 5, 2, 2)]]),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", FREE_SIZES)
def test_sizes_that_only_the_model_can_check_are_the_clients_mistake(engine, what, tmp_path):
    graph, good, bad = FREE_SIZES[what]
    plugin = Plugin(engine)
    with plugin.load(plugin.prepare(write(tmp_path, graph), tmp_path / "prepared")) as model:
        inputs = [np.random.default_rng(1).random(shape, dtype=np.float32) for shape in good]
        (expected,) = model.run(*inputs)
        for shapes in bad:
            with pytest.raises(EngineError) as error:
                model.run(*(np.ones(shape, np.float32) for shape in shapes))
            assert error.value.code == INVALID_ARGUMENT
            assert "\n" not in error.value.text
            assert np.array_equal(model.run(*inputs)[0], expected), "the next run is well"


@pytest.mark.parametrize("engine", ENGINES)
def test_instances_check_sizes_at_the_same_time(engine, tmp_path):
    plugin = Plugin(engine)
    with plugin.load(plugin.prepare(write(tmp_path, FREE_SIZES["a free size meets a constant matrix"][0]), tmp_path / "prepared")) as model:
        instances = [0, *(model.make_instance() for _ in range(3))]

        def ask(instance):
            for rows in range(1, 41):
                (sums,) = model.run(np.ones((rows, 4), np.float32), instance=instance)
                assert sums.shape == (rows, 2) and (sums == 4).all()
                with pytest.raises(EngineError) as error:
                    model.run(np.ones((rows, 5), np.float32), instance=instance)
                assert error.value.code == INVALID_ARGUMENT

        with concurrent.futures.ThreadPoolExecutor(len(instances)) as pool:
            list(pool.map(ask, instances))


@pytest.mark.parametrize("library,text", (("/absent/libonnxruntime.so.1", "ONNX Runtime is not installed"), ("libz.so.1", "is no ONNX Runtime")))
def test_without_its_library_onnxruntime_says_what_to_do(library, text, mlp, tmp_path):
    env = {"TANDEM_ONNXRUNTIME": library}
    assert text in refusal(mlp, "onnxruntime", tmp_path, env=env)
    (engine,) = (engine for engine in json.loads(host("engines", "--json", env=env).stdout) if engine["name"] == "onnxruntime")
    assert engine["version"] == "not installed"


def test_without_libtorch_the_torch_engine_says_what_to_do(mlp, tmp_path):
    shutil.copy(BIN / "libtandem_engine_torch.so", tmp_path)  # without its other half
    text = refusal(mlp, "torch", tmp_path, env={"TANDEM_ENGINE_PATH": str(tmp_path)})
    assert "LibTorch cannot be loaded" in text
    assert "run scripts/setup" in text


def test_all_engines_live_in_one_process_and_listing_them_loads_no_libtorch(mlp, tmp_path):
    script = """if True:
        import pathlib, sys, numpy as np
        from engine_plugin import Plugin
        plugins = {name: Plugin(name) for name in ("torch", "openvino", "onnxruntime")}
        for name, plugin in plugins.items():
            assert plugin.api.name().decode() == name and plugin.api.version()
        assert "libtorch" not in pathlib.Path("/proc/self/maps").read_text()
        answers = []
        for name, plugin in plugins.items():
            with plugin.load(plugin.prepare(sys.argv[1], f"{sys.argv[2]}/{name}")) as model:
                answers.append(model.run(np.ones((1, 4), np.float32))[0])
        assert max(np.abs(answer - answers[0]).max() for answer in answers) < 1e-4
    """
    process = subprocess.run([sys.executable, "-c", script, str(mlp), str(tmp_path)], capture_output=True, text=True, timeout=120,
                             cwd=pathlib.Path(__file__).parent)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name,x,y", (("saved_model", "x", "y"), ("frozen.pb", "x:0", "Identity:0"),
                                      ("lite.tflite", "serving_default_x:0", "StatefulPartitionedCall:0")))
@pytest.mark.parametrize("as_artifact", (False, True))
def test_openvino_serves_the_files_of_tensorflow(name, x, y, as_artifact, tmp_path):
    path = TENSORFLOW / name
    if as_artifact:  # stored under its hash, without an extension
        path = tmp_path / "0123456789abcdef"
        (shutil.copytree if (TENSORFLOW / name).is_dir() else shutil.copyfile)(TENSORFLOW / name, path)
    with np.load(TENSORFLOW / "answers.npz") as arrays:
        answer = run(path, "openvino", tmp_path, **{x: arrays["x"]})
        assert answer.keys() == {y}
        assert np.abs(answer[y] - arrays["y"]).max() <= 1e-5


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path):
    folder = tmp_path / "nothing"
    folder.mkdir()
    assert "nothing" in refusal(folder, "openvino", tmp_path)
