# shellcheck shell=bash disable=SC2034
# Every version and hash that tandem depends on and that is not the distribution's. Read by scripts/setup and CMake.
# A wheel is NAME VERSION FILE SHA256 MEGABYTES; the file name is checked before the download, the hash after it.
TORCH_VERSION=2.13.0
TORCH_WHEEL="torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
TORCH_SHA256=6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b
TORCH_MB=192

OPENVINO_VERSION=2026.4.1
OPENVINO_WHEEL="openvino-2026.4.1-22982-cp311-cp311-manylinux_2_28_x86_64.whl"
OPENVINO_SHA256=2d22b1da03f7caf74df30e9f6417d0ab2f637e4a38e08e1dcd294d2c37407aaf
OPENVINO_MB=59

# 1.22.0 is the last wheel that carries the operator tests.
ONNX_VERSION=1.22.0
ONNX_WHEEL="onnx-1.22.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"
ONNX_SHA256=1d0a2bdb15eb2b3cb65c438f3423d9620d14fdce32f92380e6bb1b2e09568ef5
ONNX_MB=19

# Python packages of the black-box tests only.
TEST_PACKAGES="pytest==9.2.0 tritonclient[http]==2.73.0 numpy==2.4.6"
# Python that the test's reference values come from; only scripts/test --full and scripts/bench need it.
REFERENCE_PACKAGES="onnx==1.22.0 onnxscript==0.7.2"
