"""TorchServe: one worker a core, raw bytes. Also its handler, which needs nothing of TorchServe."""

import json
import shutil

from peer import CORES, ONNXRUNTIME, NotMeasured, Peer, Request, free_port, model_function

_run = None


def handle(data, context):  # what the workers call; first without data
    global _run
    import numpy
    if _run is None:
        settings = json.loads(open(f"{context.system_properties['model_dir']}/peer.json").read())
        _run = model_function(settings["file"]), settings["shape"]
    if data is None:
        return None
    run, shape = _run
    return [run(numpy.frombuffer(item["body"], numpy.float32).reshape(shape)).tobytes() for item in data]


class TorchServe(Peer):
    name, packages = "torchserve", ("torchserve==0.12.0", "torch-model-archiver==0.12.0", "torch==2.13.0+cpu", "setuptools==80.9.0", "pyyaml==6.0.3",
                                      ONNXRUNTIME)
    clients = ("wrk own",)
    ready_path = "/ping"

    def install(self):
        if not shutil.which("java"):
            raise NotMeasured("needs Java, which is not installed (package default-jre-headless)")
        super().install()

    def prepare(self):
        model = self.folder / "store" / self.model.name
        (model / "MAR-INF").mkdir(parents=True)
        shutil.copy(__file__, model / "torchserve_peer.py")
        (model / "peer.json").write_text(json.dumps({"file": str(self.model.file), "shape": self.model.shape}))
        (model / "MAR-INF/MANIFEST.json").write_text(json.dumps({
            "runtime": "python", "archiverVersion": "0.12.0",
            "model": {"modelName": self.model.name, "handler": "torchserve_peer.py:handle", "modelVersion": "1.0"}}))
        settings = {"inference_address": f"http://127.0.0.1:{self.port}", "management_address": f"http://127.0.0.1:{free_port()}",
                    "metrics_address": f"http://127.0.0.1:{free_port()}", "default_workers_per_model": CORES, "disable_token_authorization": "true",
                    "enable_grpc": "false"}
        (self.folder / "config.properties").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return [self.home / "bin/torchserve", "--foreground", "--model-store", self.folder / "store", "--models",
                f"{self.model.name}={self.model.name}", "--ts-config", self.folder / "config.properties", "--disable-token-auth", "--ncs"]

    def request(self):
        return Request(f"/predictions/{self.model.name}", self.model.binary(), {"Content-Type": "application/octet-stream"})
