# The CPU backend: one shared library with one exported symbol, its kernel table.
# Files named *_avx2.cpp, *_avx512.cpp, *_avx512bf16.cpp hold the variants of one instruction set and are chosen at run
# time; everything else is compiled for the platform's base.
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)

find_package(OpenMP REQUIRED COMPONENTS CXX)

file(GLOB cpu_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cpu/*.cpp)
add_library(lapidary_cpu SHARED ${cpu_sources})
target_include_directories(lapidary_cpu PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/include)
target_compile_options(lapidary_cpu PRIVATE -O3 -Wall -Wextra -Werror -fno-math-errno -fno-trapping-math)
target_link_libraries(lapidary_cpu PRIVATE OpenMP::OpenMP_CXX)
target_link_options(lapidary_cpu PRIVATE -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  foreach(source ${cpu_sources})
    if(source MATCHES "_avx2\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
    elseif(source MATCHES "_avx512\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mfma;-mprefer-vector-width=512")
    elseif(source MATCHES "_avx512bf16\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512bf16;-mfma;-mprefer-vector-width=512")
    endif()
  endforeach()
endif()

set_target_properties(lapidary_cpu PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${LAPIDARY_OUTPUT})
