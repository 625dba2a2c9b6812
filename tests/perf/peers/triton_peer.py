"""Triton 2.51 as NVIDIA's wheel carries it: the Python backend only, one instance a core. Also the backend's model.py."""

import json
import shutil
import sysconfig

from peer import CORES, HERE, ONNXRUNTIME, Peer, model_function

CONFIG = """name: "{name}"
backend: "python"
max_batch_size: 0
input [{{ name: "{input}" data_type: TYPE_FP32 dims: [ {dims} ] }}]
output [{{ name: "{output}" data_type: TYPE_FP32 dims: [ {out_dims} ] }}]
instance_group [{{ count: {instances} kind: KIND_CPU }}]
parameters {{ key: "file" value: {{ string_value: "{file}" }} }}
"""


class TritonPythonModel:  # what the backend looks for
    def initialize(self, args):
        import triton_python_backend_utils as utils  # of the backend
        config = json.loads(args["model_config"])
        self.utils, self.input, self.output = utils, config["input"][0]["name"], config["output"][0]["name"]
        self.run = model_function(config["parameters"]["file"]["string_value"])

    def execute(self, requests):
        utils = self.utils
        arrays = [utils.get_input_tensor_by_name(request, self.input).as_numpy() for request in requests]
        return [utils.InferenceResponse([utils.Tensor(self.output, self.run(array))]) for array in arrays]


class Triton(Peer):
    name, packages = "triton", ("nvidia-pytriton==0.7.0", ONNXRUNTIME)
    clients = ("perf_analyzer http", "perf_analyzer grpc")
    ready_path = "/v2/health/ready"

    @property
    def site(self):
        return self.home / f"lib/python{sysconfig.get_python_version()}/site-packages"

    def prepare(self):
        server = self.site / "pytriton/tritonserver"
        backends = self.folder / "backends"
        shutil.copytree(server / "backends", backends)
        shutil.copy(server / f"python_backend_stubs/{sysconfig.get_python_version()}/triton_python_backend_stub", backends / "python")
        model = self.folder / "models" / self.model.name
        (model / "1").mkdir(parents=True)
        dims = lambda shape: ", ".join(["-1", *map(str, shape)])
        (model / "config.pbtxt").write_text(CONFIG.format(
            name=self.model.name, input=self.model.input, output=self.model.output, file=self.model.file, instances=CORES,
            dims=dims(self.model.shape[1:]), out_dims=dims(self.model.answer_shape[1:])))
        (model / "1/model.py").write_text(f"import sys\nsys.path[:0] = {[str(HERE), str(self.site)]}\nfrom triton_peer import TritonPythonModel\n")
        return [server / "bin/tritonserver", f"--model-repository={self.folder / 'models'}", f"--backend-directory={backends}",
                "--http-address=127.0.0.1", f"--http-port={self.port}", "--grpc-address=127.0.0.1", f"--grpc-port={self.grpc_port}",
                "--allow-metrics=false"]

    def environment(self):
        return {"LD_LIBRARY_PATH": f"{self.site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"}
