# The outside libraries, each as one target. Order matters: Protobuf before anything of LibTorch (docs/decisions/0002).
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(absl REQUIRED CONFIG)
find_package(spdlog REQUIRED CONFIG)
find_package(nlohmann_json REQUIRED CONFIG)
find_package(yaml-cpp REQUIRED CONFIG)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(GTest)
pkg_check_modules(TURBOJPEG REQUIRED IMPORTED_TARGET libturbojpeg)
pkg_check_modules(PNG REQUIRED IMPORTED_TARGET libpng)
if(NOT TANDEM_TRAINER_ONLY)
  find_package(SQLite3 REQUIRED)
  find_package(Boost 1.81 REQUIRED)
  find_package(simdjson REQUIRED CONFIG)
  find_package(CLI11 REQUIRED CONFIG)
  find_package(prometheus-cpp REQUIRED CONFIG)
  find_package(gRPC REQUIRED CONFIG)
  find_package(OpenVINO REQUIRED COMPONENTS Runtime PATHS "${TANDEM_SDK}/openvino/cmake" NO_DEFAULT_PATH)
endif()

if(TANDEM_WITH_TORCH)
  # LibTorch from its wheel. -idirafter: its include folder also ships other libraries' headers.
  add_library(sdk_torch INTERFACE)
  target_compile_options(sdk_torch INTERFACE "SHELL:-idirafter ${TANDEM_SDK}/torch/include"
                                             "SHELL:-idirafter ${TANDEM_SDK}/torch/include/torch/csrc/api/include")
  target_link_libraries(sdk_torch INTERFACE -Wl,--no-as-needed "${TANDEM_SDK}/torch/lib/libtorch.so"
                        "${TANDEM_SDK}/torch/lib/libtorch_cpu.so" -Wl,--as-needed "${TANDEM_SDK}/torch/lib/libc10.so")
  target_link_options(sdk_torch INTERFACE "-Wl,-rpath,${TANDEM_SDK}/torch/lib")
endif()

# The plug-in interface: the header alone.
add_library(tandem_engine_abi INTERFACE)
target_include_directories(tandem_engine_abi INTERFACE "${CMAKE_SOURCE_DIR}/include")
