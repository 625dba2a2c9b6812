"""Model files that are damaged, hostile or not supported: each is refused by name, and what was served is served on."""

import json
import os

import pytest

import onnx_files as onnx

GOOD = onnx.linear(onnx.tensor("w", [4, 2], [1, 0, 0, 1, 1, 0, 0, 1]))


def relu_pair(first_input, second_input, outputs=("a", "b")):
    nodes = [onnx.node("Relu", [first_input], ["a"], "first"), onnx.node("Relu", [second_input], ["b"], "second")]
    return onnx.model(nodes, [onnx.value("x", [1])], [onnx.value(name, [1]) for name in outputs])


def weight(shape, values=8, dtype=onnx.FLOAT):
    return onnx.linear(onnx.tensor("w", shape, [1] * values, dtype))


REFUSED = {
    "empty": (b"", ["empty"]),
    "text": (b"I am no model.\n" * 20, ["not an ONNX file"]),
    "zeros": (bytes(1000), ["not an ONNX file", "byte 1"]),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), ["not an ONNX file"]),
    "cut-in-half": (GOOD[:len(GOOD) // 2], ["cut short"]),
    "cut-at-the-end": (GOOD[:-1], ["cut short"]),
    "no-graph": (b"\x08\x08", ["no graph"]),
    "cycle": (relu_pair("b", "a"), ["cycle", "'first'", "'second'"]),
    "cycle-of-one": (onnx.chain("Relu", inputs=["y"]), ["cycle", "'the_node'"]),
    "input-of-nowhere": (onnx.chain("Relu", inputs=["lost"]), ["'the_node'", "'lost'", "made by no node"]),
    "output-of-nowhere": (relu_pair("x", "x", ["lost"]), ["'lost'", "made by no node"]),
    "unsorted": (relu_pair("b", "x"), ["'first'", "sorted"]),
    "made-twice": (onnx.model([onnx.node("Relu", ["x"], ["y"], name) for name in ("first", "second")],
                              [onnx.value("x", [1])], [onnx.value("y", [1])]), ["'second'", "'y'", "already made"]),
    "no-output": (onnx.model([onnx.node("Relu", ["x"], ["y"])], [onnx.value("x", [1])], []), ["no output"]),
    "old-opset": (onnx.chain("Relu", opset=9), ["opset 9", "11 to 21", "export the model again"]),
    "future-opset": (onnx.chain("Relu", opset=99), ["opset 99", "11 to 21"]),
    "future-ir": (onnx.model([onnx.node("Relu", ["x"], ["y"])], [onnx.value("x", [1])], [onnx.value("y", [1])], ir=99),
                  ["IR version 99"]),
    "foreign-domain": (onnx.model([onnx.node("Relu", ["x"], ["y"], "mine", domain="com.example")],
                                  [onnx.value("x", [1])], [onnx.value("y", [1])]), ["'mine'", "'com.example'"]),
    "weight-too-short": (weight([4, 2], values=7), ["'w'", "[4,2]", "32 bytes", "28"]),
    "weight-too-long": (weight([4, 2], values=9), ["'w'", "32 bytes", "36"]),
    "negative-dimension": (weight([-4, 2]), ["'w'", "negative"]),
    "overflowing-shape": (weight([1 << 40, 1 << 40]), ["'w'", "too many elements"]),
    "huge-shape": (weight([1 << 30, 4]), ["'w'", "2 GB"]),
}


@pytest.fixture(scope="module")
def serving(shared, tmp_path_factory):
    """The shared daemon, with a model that must go on serving."""
    file = tmp_path_factory.mktemp("models") / "good.onnx"
    file.write_bytes(GOOD)
    shared.cli("models", "import", "good", file)
    shared.cli("models", "deploy", "good")
    return shared


@pytest.fixture(autouse=True)
def goes_on(serving):
    yield
    serving.assert_well()
    request = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    status, body = serving.request("POST", "/v2/models/good/infer", request)
    assert status == 200 and json.loads(body)["outputs"][0]["data"] == [4, 6]
    models = serving.cli("models", "show", "good", "--json").json
    assert models["aliases"] == {"champion": 1} and models["versions"][0]["state"] == "READY"


def import_bytes(server, name, data):
    return server.request("POST", f"/api/v1/models/{name}/versions?source={name}.onnx", data)


@pytest.mark.parametrize("name", REFUSED)
def test_an_unusable_file_is_refused_by_name(serving, name):
    data, words = REFUSED[name]
    status, body = import_bytes(serving, name, data)
    error = json.loads(body)["error"]
    assert status == 400, (status, error)
    assert all(word in error for word in [f"'{name}.onnx'", *words]), error
    assert "upload-" not in error, "the server's own temporary file means nothing to the caller"
    assert serving.request("GET", f"/api/v1/models/{name}")[0] == 404, "no version may be left of it"


def test_every_cut_and_many_flips_end_in_an_answer(serving):
    """Whatever the bytes: refused, or taken as the model that they are."""
    for end in range(1, len(GOOD), 24):
        assert import_bytes(serving, "cut", GOOD[:end])[0] == 400
    for place in range(0, len(GOOD), 18):
        flipped = bytearray(GOOD)
        flipped[place] ^= 0xFF
        assert import_bytes(serving, "flipped", bytes(flipped))[0] in (200, 400)


def test_the_command_line_names_the_file(serving, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(GOOD[:-1])
    for file, code, words in ((broken, 1, "cut short"), (tmp_path / "missing.onnx", 4, "No such file"),
                              (tmp_path, 1, "without saved_model.pb")):
        result = serving.cli("models", "import", "broken", file, check=False)
        assert result.code == code and str(file) in result.err and words in result.err, result.err
    result = serving.cli("models", "import", "broken", broken, "--json", check=False)
    assert "cut short" in result.json["error"] and result.json["exit_code"] == 1


@pytest.mark.parametrize("name, words", [
    ("../evil", ["model name"]), (".hidden", ["model name"]), ("with space", ["model name", "not allowed"]),
    ("x" * 200, ["too long"])])
def test_a_model_name_that_is_no_name_is_refused(serving, tmp_path, name, words):
    file = tmp_path / "good.onnx"
    file.write_bytes(GOOD)
    result = serving.cli("models", "import", name, file, check=False)
    assert result.code != 0 and all(word in result.err for word in words), result.err


# --- data files beside the model ---

@pytest.fixture
def folder(tmp_path):
    """m/ with the model; secret.bin lies outside."""
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


def import_external(server, folder, **entries):
    file = folder / "model.onnx"
    file.write_bytes(onnx.linear(onnx.external_tensor("w", [4, 2], **entries)))
    return server.cli("models", "import", "external", file, check=False)


@pytest.mark.parametrize("location", ["../secret.bin", "a/../../secret.bin", "/dev/zero", "/etc/hostname"])
def test_external_data_outside_the_folder_are_refused(serving, folder, location):
    result = import_external(serving, folder, location=location)
    assert result.code == 1
    assert "'w'" in result.err and f"'{location}'" in result.err and "outside the model's folder" in result.err


def test_external_data_behind_a_link_are_refused(serving, folder):
    (folder / "link.bin").symlink_to("../secret.bin")
    result = import_external(serving, folder, location="link.bin")
    assert result.code == 1 and "'link.bin' is a link that leads out" in result.err


def test_external_data_that_are_missing_short_or_no_file_are_named(serving, folder):
    (folder / "short.bin").write_bytes(bytes(31))
    os.mkfifo(folder / "pipe")
    cases = [
        ({"location": "lost.bin"}, "'lost.bin' cannot be found"),
        ({"location": "short.bin"}, "past the end of its data file 'short.bin' (31 bytes)"),
        ({"location": "short.bin", "offset": 1 << 62}, "past the end"),
        ({"location": "short.bin", "offset": "-4"}, "offset is '-4'"),
        ({"location": "short.bin", "length": "much"}, "length is 'much'"),
        ({"location": "pipe"}, "'pipe' is not a regular file"),
        ({"location": "."}, "not a regular file"),
        ({"location": ""}, "no usable name"),
    ]
    for entries, words in cases:
        result = import_external(serving, folder, **entries)
        assert result.code == 1 and "'w'" in result.err and words in result.err, (entries, result.err)


def test_an_upload_cannot_reach_files_of_the_server(serving):
    for location in ("lock", "../tandem.db", str(serving.folder / "data" / "tandem.db")):
        status, body = import_bytes(serving, "thief", onnx.linear(onnx.external_tensor("w", [1], location=location)))
        assert status == 400 and "'w'" in json.loads(body)["error"], body


# --- files that can be read, but not served or trained ---

def import_and_deploy(server, name, data):
    assert import_bytes(server, name, data)[0] == 200
    return server.cli("models", "deploy", name, check=False)


def test_an_unknown_operator_imports_and_is_named_with_the_engine_when_deployed(serving, tmp_path):
    data = onnx.chain("Frobnicate")
    result = import_and_deploy(serving, "unknown", data)
    assert result.code == 5
    assert "'unknown' version 1" in result.err and "'openvino'" in result.err and "Frobnicate" in result.err
    shown = serving.cli("models", "show", "unknown", "--json").json
    assert shown["aliases"] == {} and shown["versions"][0]["state"] == "UNAVAILABLE"
    file = tmp_path / "unknown.onnx"
    file.write_bytes(data)
    checked = serving.cli("model", "check", file, check=False)
    assert "Frobnicate" in checked.out + checked.err


def test_shapes_that_do_not_fit_are_named_when_deployed(serving):
    result = import_and_deploy(serving, "misfit", weight([3, 2], values=6))
    assert result.code == 5 and "'misfit' version 1" in result.err and "MatMul" in result.err, result.err


def test_a_broken_new_version_leaves_the_old_one_serving(serving):
    assert import_bytes(serving, "good", onnx.chain("Frobnicate"))[0] == 200
    result = serving.cli("models", "deploy", "good/2", check=False)
    assert result.code == 5 and "Frobnicate" in result.err
    serving.cli("models", "delete", "good/2")


def test_what_is_not_there_is_named(serving):
    for reference, words in (("nobody", "no model 'nobody'"), ("good/9", "no version 9"), ("good@nobody", "'nobody'")):
        result = serving.cli("models", "deploy", reference, check=False)
        assert result.code == 4 and words in result.err, result.err
