"""Writes ONNX files field by field, so that tests can make the ones that no exporter would write."""

import struct

FLOAT, INT32, INT64, FLOAT16 = 1, 6, 7, 10


def _varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def _field(number, value):
    """A protobuf field: an int, or bytes, text or a message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _each(number, values):
    return b"".join(_field(number, value) for value in values)


def attribute(name, value):
    """An int or a list of ints."""
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, 2)
    return _field(1, name) + _each(8, value) + _field(20, 7)


def node(op, inputs, outputs, name="", domain="", **attributes):
    made = _each(1, inputs) + _each(2, outputs) + _field(3, name or op.lower()) + _field(4, op)
    made += b"".join(_field(5, attribute(key, value)) for key, value in attributes.items())
    return made + (_field(7, domain) if domain else b"")


def tensor(name, shape, values, dtype=FLOAT):
    data = struct.pack(f"<{len(values)}{ {FLOAT: 'f', FLOAT16: 'e'}.get(dtype, 'q')}", *values)
    return _each(1, shape) + _field(2, dtype) + _field(8, name) + _field(9, data)


def external_tensor(name, shape, **entries):
    """A float tensor whose bytes are elsewhere: location, offset, length as given."""
    pairs = [_field(1, key) + _field(2, str(value)) for key, value in entries.items()]
    return _each(1, shape) + _field(2, FLOAT) + _field(8, name) + _each(13, pairs) + _field(14, 1)


def value(name, shape, dtype=FLOAT):
    """An input or output; a dimension is a number or a name."""
    dims = [_field(1, _field(2 if isinstance(dim, str) else 1, dim)) for dim in shape]
    return _field(1, name) + _field(2, _field(1, _field(1, dtype) + _field(2, b"".join(dims))))


def model(nodes, inputs, outputs, initializers=(), opset=17, ir=8):
    graph = _each(1, nodes) + _field(2, "graph") + _each(5, initializers) + _each(11, inputs) + _each(12, outputs)
    return _field(1, ir) + _field(8, _field(1, "") + _field(2, opset)) + _field(7, graph)


def chain(op, shape=("N", 4), initializers=(), inputs=("x",), opset=17, **attributes):
    """A model of one node, x -> y."""
    return model([node(op, inputs, ["y"], name="the_node", **attributes)], [value("x", shape)], [value("y", shape)],
                 initializers, opset)


def linear(weight, features=4, classes=2):
    """x [N, features] times the tensor `weight` (named w)."""
    return model([node("MatMul", ["x", "w"], ["y"], name="product")], [value("x", ["N", features])],
                 [value("y", ["N", classes])], [weight])


def identity(dtype=FLOAT, shape=("N", 4)):
    """x -> y, of any type."""
    return model([node("Identity", ["x"], ["y"])], [value("x", shape, dtype)], [value("y", shape, dtype)])


def accumulator(width=1):
    """Adds up what a sequence sends: total = x + sum_in = sum_out, and START comes back as `began`."""
    nodes = [node("Add", ["x", "sum_in"], ["total"]), node("Identity", ["total"], ["sum_out"], name="state"), node("Cast", ["START"], ["began"], to=FLOAT)]
    inputs = [value("x", ["N", width]), value("sum_in", ["N", width]), value("START", ["N", 1], INT32)]
    outputs = [value("total", ["N", width]), value("sum_out", ["N", width]), value("began", ["N", 1])]
    return model(nodes, inputs, outputs)
