#!/usr/bin/env python3
"""Makes tests/exports/data: networks as PyTorch exports them, and what PyTorch computes with them.

The results are kept in the repository; the tests (tests/blackbox/test_exports.py, src/training/pytorch_parity_test.cc)
need no PyTorch. Run it by hand after a change here or for a new version of PyTorch; the same versions give the same bytes:

    python3 -m venv /tmp/venv
    /tmp/venv/bin/pip install torch==2.13.0 numpy onnx==1.22.0 onnxscript     # the CPU build of torch is enough
    /tmp/venv/bin/python tests/exports/make_fixtures.py [--out DIR]

What it writes:
    <network>.npz           input, output: PyTorch's answer in eval mode, float32; output.<way> where the export itself
                            moved the network's BatchNorm statistics
    <network>.<way>.onnx    the network as exported that way, <way> from WAYS below (with .onnx.data beside where so)
    train.<network>.onnx    start of a training run, BatchNorm kept
    train.<network>.npz     images, labels of each step; gradient/<name> of the first step in float32; of a training in
                            float64 per optimiser: <optimiser>/losses, <optimiser>/after/<name> weights and statistics
"""

import argparse
import contextlib
import io
import pathlib
import warnings

import numpy as np
import onnx
import torch

import networks

BATCH, STEPS = 8, 10
PRESERVE = torch.onnx.TrainingMode.PRESERVE
FREE = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
AXES = {"dynamic_axes": {"input": {0: "batch"}, "output": {0: "batch"}}}
# The batch that fixed exports get: 1, what people's calls give.
ONE = {"fixed": True}

WAYS = {
    "dynamo": {"dynamo": True, **FREE},
    "dynamo_fixed": {"dynamo": True, **ONE},
    "dynamo_unoptimised": {"dynamo": True, "optimize": False, **FREE},
    "dynamo_unoptimised_fixed": {"dynamo": True, "optimize": False, **ONE},
    "dynamo_preserve": {"dynamo": True, "training": PRESERVE, "train": True, **FREE},
    "dynamo_external": {"dynamo": True, "external_data": True, **FREE},
    "script": {"dynamo": False, **AXES},
    "script_fixed": {"dynamo": False, **ONE},
    "script_preserve": {"dynamo": False, "training": PRESERVE, **AXES},
    "script_train": {"dynamo": False, "training": PRESERVE, "train": True, **AXES},
    "script_opset11": {"dynamo": False, "opset_version": 11, **AXES},
}


def worth_keeping(name, way):
    """Leaves out files that equal another way's, and large ones that show nothing new."""
    if way in ("script_preserve", "script_opset11"):
        return name in ("cnn", "residual", "mlp") or way == "script_opset11" and name == "pooling"
    if way in ("dynamo_preserve", "script_train"):
        return name in ("cnn", "residual", "mlp", "dropout") and (name, way) != ("residual", "dynamo_preserve")
    return (name, way) != ("residual", "dynamo_unoptimised_fixed")


def export(name, way, path):
    options = dict(WAYS[way])
    network = networks.make(name)
    network.train(options.pop("train", False))
    torch.manual_seed(2)
    example = torch.rand(1 if options.pop("fixed", False) else 2, *network.shape)
    options.setdefault("external_data", False)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (example,), str(path), input_names=["input"], output_names=["output"], **options)
    shorten(path, keep_metadata=name == "cnn")
    return network.eval()


def shorten(path, keep_metadata):
    """Stack traces hold the paths of the machine that made the file; the other metadata are large: one network shows them."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if keep_metadata and entry.key != "pkg.torch.onnx.stack_trace"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        node.doc_string = ""
    if not keep_metadata:
        for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
            del value.metadata_props[:]
    path.write_bytes(model.SerializeToString(deterministic=True))


def save(path, arrays):
    np.savez_compressed(path, **{name: np.asarray(value) for name, value in arrays.items()})


def images_for(name):
    torch.manual_seed(3)
    return torch.rand(5, *networks.NETWORKS[name].shape)


def answer(network, images):
    with torch.no_grad():
        return network(images).numpy()


def make_files(name, out):
    images = images_for(name)
    arrays = {"input": images.numpy(), "output": answer(networks.make(name), images)}
    for way in filter(lambda way: worth_keeping(name, way), WAYS):
        exported = answer(export(name, way, out / f"{name}.{way}.onnx"), images)
        if not np.array_equal(exported, arrays["output"]):
            arrays[f"output.{way}"] = exported
    save(out / f"{name}.npz", arrays)


OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.001, weight_decay=0.01),
}
TRAINED = ("residual", "mlp", "softmax", "pooling")


def loss_of(network, images, labels):
    logits = getattr(network, "logits", network)(images)
    return torch.nn.functional.cross_entropy(logits, labels)


def first_gradient(name, images, labels):
    network = networks.make(name).train()
    loss_of(network, images[0], labels[0]).backward()
    return {f"gradient/{key}": weight.grad.numpy() for key, weight in network.named_parameters()}


def train(name, optimiser, images, labels):
    """In float64: the loss of each step, and where the weights and statistics end."""
    network = networks.make(name).double().train()
    optimizer = OPTIMISERS[optimiser](network.parameters())
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(network, images[step].double(), labels[step])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    trained = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    after = {f"{optimiser}/after/{key}": value.numpy() for key, value in trained.items()}
    return {f"{optimiser}/losses": np.array(losses), **after}


def named_as_in(path, name, arrays):
    """TorchScript writes a Linear without bias as MatMul, its weight transposed under another name."""
    weights = {key: value.numpy() for key, value in networks.make(name).state_dict().items()}
    renamed = {}
    for tensor in onnx.load(path).graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if tensor.name not in weights and value.ndim == 2:
            renamed |= {key: tensor.name for key, weight in weights.items() if np.array_equal(weight.T, value)}
    result = {}
    for key, value in arrays.items():
        kind, _, weight = key.rpartition("/")
        result |= {f"{kind}/{renamed[weight]}": value.T} if weight in renamed else {key: value}
    return result


def reference_run(name):
    random = np.random.default_rng(7)
    shape = (STEPS, BATCH, *networks.NETWORKS[name].shape)
    images = torch.from_numpy(random.integers(0, 16, shape).astype(np.float32) / 16)  # packs well
    labels = torch.from_numpy(random.integers(0, 4, (STEPS, BATCH)))
    result = {"images": images.numpy(), "labels": labels.numpy(), **first_gradient(name, images, labels)}
    for optimiser in OPTIMISERS:
        result |= train(name, optimiser, images, labels)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "data")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    for name in networks.NETWORKS:
        make_files(name, out)
    for name in TRAINED:
        export(name, "script_preserve", out / f"train.{name}.onnx")
        save(out / f"train.{name}.npz", named_as_in(out / f"train.{name}.onnx", name, reference_run(name)))


if __name__ == "__main__":
    main()
