# The CUDA backend, one shared library with its kernel table, where there is an nvcc; and the same sources as C++ over the
# emulation, for tests on machines without a GPU (native/test/emulation).
file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda/*.cu)

# Ampere, Ada, Hopper, Blackwell of the data centre and of the desk; PTX for what comes after.
set(LAPIDARY_CUDA_ARCHITECTURES "80-real;89-real;90a-real;100-real;120-real;120-virtual"
    CACHE STRING "what the CUDA library is compiled for")
option(LAPIDARY_CUDA "build the CUDA library where there is an nvcc" ON)

include(CheckLanguage)
if(LAPIDARY_CUDA)
  check_language(CUDA)
endif()
if(CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_ARCHITECTURES ${LAPIDARY_CUDA_ARCHITECTURES})
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  add_library(lapidary_cuda SHARED ${cuda_sources})
  target_include_directories(lapidary_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/include)
  target_compile_options(lapidary_cuda PRIVATE -O3 "SHELL:-Werror all-warnings" "SHELL:-Xcompiler -Wall,-Wextra,-Werror")
  # The runtime inside: no other library is needed to load this one.
  set_target_properties(lapidary_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static CUDA_VISIBILITY_PRESET hidden
                        LIBRARY_OUTPUT_DIRECTORY ${LAPIDARY_OUTPUT})
  target_link_options(lapidary_cuda PRIVATE -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL)
else()
  message(STATUS "no nvcc, or not wanted: the CUDA library is left out")
endif()

# Three builds of the emulation, because each sees what the others do not: README.md there.
set(emulation ${CMAKE_CURRENT_SOURCE_DIR}/test/emulation)
function(emulated variant machine_options kernel_options link_options)
  add_library(machine_${variant} OBJECT EXCLUDE_FROM_ALL ${emulation}/cuda_on_cpu.cpp ${ARGN})
  target_compile_options(machine_${variant} PRIVATE ${machine_options})
  foreach(target lapidary_emulated_${variant} emulation_test_${variant})
    if(target MATCHES "^lapidary")
      add_library(${target} SHARED EXCLUDE_FROM_ALL)
      foreach(source ${cuda_sources})
        # A copy of the name, because a source has one language in a folder, and nvcc has the original.
        get_filename_component(name ${source} NAME_WE)
        set(unit ${CMAKE_BINARY_DIR}/emulation/${name}.cpp)
        file(CONFIGURE OUTPUT ${unit} CONTENT "#include \"${source}\"\n" @ONLY)
        target_sources(${target} PRIVATE ${unit})
      endforeach()
      target_link_options(${target} PRIVATE -Wl,-z,defs)
    else()
      add_executable(${target} EXCLUDE_FROM_ALL ${emulation}/emulation_test.cpp)
    endif()
    target_link_libraries(${target} PRIVATE machine_${variant})
    set_target_properties(${target} machine_${variant} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/emulation
                          RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/emulation POSITION_INDEPENDENT_CODE ON)
    foreach(part ${target} machine_${variant})
      target_include_directories(${part} PRIVATE ${emulation} ${CMAKE_CURRENT_SOURCE_DIR}/cuda
                                 ${CMAKE_CURRENT_SOURCE_DIR}/include)
      # Kernels reinterpret memory as wider types, which C++ calls undefined and nvcc allows.
      target_compile_options(${part} PRIVATE -g -Wall -Wextra -Werror -Wno-unknown-pragmas -fno-strict-aliasing
                             -ffp-contract=off -fno-gnu-unique)
    endforeach()
    target_compile_options(${target} PRIVATE ${machine_options} ${kernel_options})
    target_link_options(${target} PRIVATE ${link_options})
  endforeach()
endfunction()

set(sanitize -fsanitize=address,undefined)
set(contract -ffp-contract=fast)  # as nvcc does
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND contract -mavx2 -mfma)
endif()
emulated(plain "-O2" "${contract}" "")
add_test(NAME emulation_test COMMAND emulation_test_plain)
add_dependencies(native_tests emulation_test_plain)
emulated(asan "-O1;${sanitize};-fno-sanitize-recover=undefined" "" "${sanitize}")
# Linked without -fsanitize=thread: race_check.cpp answers the calls, of which the guards of the host's statics are none.
emulated(race "-O1" "-fsanitize=thread;-fno-threadsafe-statics" "" ${emulation}/race_check.cpp)
