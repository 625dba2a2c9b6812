"""A plug-in as its host sees it: include/tandem/engine.h in Python, for what the programs have no flag for."""

import ctypes
import pathlib

import numpy as np

from conftest import PLUGINS

MAX_RANK = 8
ABI = 1
TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64,
         12: np.uint32, 13: np.uint64}
STRING = 8
OK, INVALID_ARGUMENT, NOT_FOUND, INTERNAL, UNAVAILABLE = 0, 3, 5, 13, 14

Shape = ctypes.c_int64 * MAX_RANK


class Signature(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32), ("shape", Shape)]

    def text(self):
        return self.name.decode(), self.dtype, list(self.shape[: self.rank])


class Input(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("byte_size", ctypes.c_size_t), ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32), ("shape", Shape)]


Allocate = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_int64),
                            ctypes.c_size_t)


class Request(ctypes.Structure):
    _fields_ = [("inputs", ctypes.POINTER(Input)), ("input_count", ctypes.c_int32), ("context", ctypes.c_void_p), ("allocate", Allocate),
                ("code", ctypes.c_int32)]


class Option(ctypes.Structure):
    _fields_ = [("key", ctypes.c_char_p), ("value", ctypes.c_char_p)]


def function(result, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)


Code, Object, Options = ctypes.c_int32, ctypes.c_void_p, ctypes.POINTER(Option)


class Api(ctypes.Structure):
    _fields_ = [
        ("abi", ctypes.c_uint32),
        ("name", function(ctypes.c_char_p)),
        ("version", function(ctypes.c_char_p)),
        ("prepare", function(Code, ctypes.c_char_p, ctypes.c_char_p, Options)),
        ("estimate", function(Code, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint64))),
        ("load", function(Code, ctypes.c_char_p, Options, ctypes.POINTER(Object))),
        ("unload", function(None, Object)),
        ("signature", function(Code, Object, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(Signature))),
        ("make_instance", function(Code, Object, ctypes.POINTER(Object))),
        ("free_instance", function(None, Object)),
        ("run", function(Code, Object, ctypes.POINTER(Request), ctypes.c_int32)),
        ("last_error", function(ctypes.c_char_p)),
    ]


class EngineError(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


def aligned(data):
    """The bytes at an address that is a multiple of 64, as the interface promises."""
    memory = np.empty(len(data) + 64, np.uint8)
    start = -memory.ctypes.data % 64
    memory[start: start + len(data)] = np.frombuffer(data, np.uint8)
    return memory[start: start + len(data)]


def to_bytes(array):
    """What the wire carries: elements, and of text each one's length before it."""
    if array.dtype != object:
        return array.tobytes()
    return b"".join(len(text).to_bytes(4, "little") + text for text in array.reshape(-1))


def from_bytes(data, dtype, shape):
    if dtype != STRING:
        return np.frombuffer(data, TYPES[dtype]).reshape(shape)
    texts, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at: at + 4], "little")
        texts.append(data[at + 4: at + 4 + size])
        at += 4 + size
    return np.array(texts, dtype=object).reshape(shape)


def dtype_number(array):
    return STRING if array.dtype == object else next(number for number, type in TYPES.items() if array.dtype == type)


class Plugin:
    def __init__(self, name):
        library = ctypes.CDLL(str(PLUGINS / f"libtandem_engine_{name}.so"))
        library.tandem_engine_entry.restype = ctypes.POINTER(Api)
        self.api = library.tandem_engine_entry(ABI).contents
        assert not library.tandem_engine_entry(ABI + 1)

    def check(self, code):
        if code != OK:
            raise EngineError(code, self.api.last_error().decode())

    @staticmethod
    def options(options):
        pairs = [(key.encode(), str(value).encode()) for key, value in options.items()]
        return (Option * (len(pairs) + 1))(*pairs, (None, None))

    def prepare(self, model, folder, **options):
        pathlib.Path(folder).mkdir()
        self.check(self.api.prepare(str(model).encode(), str(folder).encode(), self.options(options)))
        return folder

    def estimate(self, folder):
        size = ctypes.c_uint64()
        self.check(self.api.estimate(str(folder).encode(), ctypes.byref(size)))
        return size.value

    def load(self, folder, **options):
        return Model(self, folder, options)


class Model:
    """A loaded model with one instance, more on demand. A context manager."""

    def __init__(self, plugin, folder, options):
        self.plugin, self.api = plugin, plugin.api
        self.model, self.instances = Object(), []
        plugin.check(self.api.load(str(folder).encode(), plugin.options(options), ctypes.byref(self.model)))
        self.make_instance()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for instance in self.instances:
            self.api.free_instance(instance)
        self.api.unload(self.model)

    def make_instance(self):
        """Its number, for run."""
        instance = Object()
        self.plugin.check(self.api.make_instance(self.model, ctypes.byref(instance)))
        self.instances.append(instance)
        return len(self.instances) - 1

    def tensors(self, is_output):
        signatures = []
        while True:
            signature = Signature()
            if self.api.signature(self.model, is_output, len(signatures), ctypes.byref(signature)) == NOT_FOUND:
                return signatures
            signatures.append(signature.text())

    def run(self, *arrays, instance=0, data=None):
        """The outputs. `data`: bytes of the only input that are not those of its array."""
        buffers = [aligned(to_bytes(array) if data is None else data) for array in arrays]
        inputs = (Input * len(arrays))()
        for one, array, buffer in zip(inputs, arrays, buffers):
            one.data, one.byte_size = buffer.ctypes.data, len(buffer)
            one.dtype, one.rank, one.shape = dtype_number(array), array.ndim, Shape(*array.shape)
        outputs = {}

        def allocate(_, index, dtype, rank, shape, size):
            outputs[index] = (aligned(bytes(size)), dtype, [shape[i] for i in range(rank)])
            return outputs[index][0].ctypes.data if size else ctypes.addressof(inputs)

        request = Request(inputs, len(arrays), None, Allocate(allocate), OK)
        code = self.api.run(self.instances[instance], ctypes.byref(request), 1)
        assert code == request.code
        self.plugin.check(code)
        return [from_bytes(outputs[i][0].tobytes(), *outputs[i][1:]) for i in range(len(outputs))]
