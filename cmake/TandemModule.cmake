# One static library per module, with its unit tests beside the source.
#
#   tandem_module(graph DEPS base telemetry LIBS protobuf::libprotobuf)
#
# Sources are all src/<name>/**.cc but *_test.cc; the tests become one executable <name>_test, run by ctest.
# DEPS are other modules (scripts/deps_check holds the list of allowed edges), LIBS outside libraries.
set(TANDEM_TRAINER_MODULES base telemetry spec messaging graph data interpreter training)
set(TANDEM_ALL_MODULES base telemetry spec scheduling messaging storage isolation graph data client api engine interpreter
    jobs registry accounting serving training daemon)
set(TANDEM_MODULES ${TANDEM_ALL_MODULES})
if(TANDEM_TRAINER_ONLY)
  set(TANDEM_MODULES ${TANDEM_TRAINER_MODULES})
endif()
if(NOT TANDEM_WITH_TORCH)
  list(REMOVE_ITEM TANDEM_MODULES interpreter training)
endif()

function(tandem_module name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS;TEST_LIBS;TEST_HEADERS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.h")
  # A folder with a CMakeLists.txt of its own is a library of its own (src/api/grpc).
  file(GLOB nested CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*/CMakeLists.txt")
  foreach(list_file IN LISTS nested)
    get_filename_component(folder "${list_file}" DIRECTORY)
    list(FILTER sources EXCLUDE REGEX "^${folder}/")
    list(FILTER headers EXCLUDE REGEX "^${folder}/")
  endforeach()
  # TEST_HEADERS need TEST_LIBS, which the library's users do not have.
  foreach(header IN LISTS ARG_TEST_HEADERS)
    list(REMOVE_ITEM headers "${CMAKE_CURRENT_SOURCE_DIR}/${header}")
  endforeach()
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  set(dep_targets ${ARG_DEPS})
  list(TRANSFORM dep_targets PREPEND "tandem_")
  if(sources)
    add_library(tandem_${name} STATIC ${sources})
    set(scope PUBLIC)
  else()
    add_library(tandem_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_sources(tandem_${name} ${scope} FILE_SET HEADERS BASE_DIRS "${CMAKE_SOURCE_DIR}/src" FILES ${headers})
  target_link_libraries(tandem_${name} ${scope} ${dep_targets} ${ARG_LIBS} Threads::Threads)
  if(scope STREQUAL "PUBLIC")
    set_target_properties(tandem_${name} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  endif()
  if(tests AND GTest_FOUND)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE tandem_${name} ${ARG_TEST_LIBS} GTest::gmock GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE TANDEM_SOURCE_DIR="${CMAKE_SOURCE_DIR}" TANDEM_SDK_DIR="${TANDEM_SDK}"
                               TANDEM_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
    add_test(NAME ${name} COMMAND ${name}_test)
    # OpenVINO's TBB else opens a library of its own with RTLD_DEEPBIND, which sanitizers refuse.
    set_tests_properties(${name} PROPERTIES TIMEOUT 300 ENVIRONMENT
      "TBB_ENABLE_SANITIZERS=1;LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/lsan.supp:print_suppressions=0")
  endif()
endfunction()
