# The CPU backend: one shared library that exports its kernel table and its image table.
# Instruction sets are chosen at run time, function by function (see KT_CLONES in context.h and the target attributes of
# hand-written variants), so the library itself is compiled for the platform's base.
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
# The reference rounds products before it adds them; where it joins the two, the optimisers say so themselves.
set(cpu ${CMAKE_CURRENT_SOURCE_DIR}/cpu)
set_source_files_properties(${cpu}/rms_norm_rope.cpp ${cpu}/adamw.cpp ${cpu}/adamw_8bit.cpp ${cpu}/sgd.cpp
                            PROPERTIES COMPILE_OPTIONS -ffp-contract=off)
# Restored scales are rounded after the product and again after the sum.
file(GLOB nf4_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cpu/nf4*.cpp
     ${CMAKE_CURRENT_SOURCE_DIR}/test/nf4*.cpp)
set_source_files_properties(${nf4_sources} PROPERTIES COMPILE_OPTIONS -ffp-contract=off)
# A resize's weights are rounded as its libraries round them; sums of a damaged file's coefficients wrap around.
set_source_files_properties(${cpu}/image_resize.cpp PROPERTIES COMPILE_OPTIONS -ffp-contract=off)
set_source_files_properties(${cpu}/image_jpeg_transform.cpp PROPERTIES COMPILE_OPTIONS -fwrapv)
target_link_libraries(lapidary_cpu PRIVATE OpenMP::OpenMP_CXX)
target_link_options(lapidary_cpu PRIVATE -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_options(lapidary_cpu PRIVATE -mprefer-vector-width=512)
endif()

set_target_properties(lapidary_cpu PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${LAPIDARY_OUTPUT})

# The same library as processors of lower levels have it, for the engine's tests of kernels: native/test/level.cpp.
add_custom_target(cpu_levels)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  foreach(level scalar avx2)
    set(library lapidary_cpu_${level})
    add_library(${library} SHARED EXCLUDE_FROM_ALL ${CMAKE_CURRENT_SOURCE_DIR}/test/level.cpp $<TARGET_OBJECTS:lapidary_cpu>)
    target_compile_options(${library} PRIVATE -O3 -Wall -Wextra -Werror)
    target_link_libraries(${library} PRIVATE OpenMP::OpenMP_CXX)
    target_link_options(${library} PRIVATE -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL
                        -Wl,--wrap=__cpu_indicator_init)
    set_target_properties(${library} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/levels)
    add_dependencies(cpu_levels ${library})
  endforeach()
  target_compile_definitions(lapidary_cpu_scalar PRIVATE LEVEL=2)
  target_compile_definitions(lapidary_cpu_avx2 PRIVATE LEVEL=3)
endif()

# What the engine's tests cannot reach: variants for other instruction sets than the one chosen here. `mvn test` builds and
# runs these; by hand: cmake --build <folder> --target native_tests && ctest --test-dir <folder>. math_test goes through
# all floats, which takes minutes, and is run by hand only.
add_custom_target(native_tests)
foreach(test math_test nf4_test nf4_linear_test team_test turns_test)
  add_executable(${test} EXCLUDE_FROM_ALL ${CMAKE_CURRENT_SOURCE_DIR}/test/${test}.cpp)
  target_include_directories(${test} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/include ${CMAKE_CURRENT_SOURCE_DIR}/cpu)
  target_compile_options(${test} PRIVATE -O3 -Wall -Wextra -Werror -fno-math-errno -fno-trapping-math)
  target_link_libraries(${test} PRIVATE OpenMP::OpenMP_CXX)
  if(NOT test STREQUAL math_test)
    add_dependencies(native_tests ${test})
    add_test(NAME ${test} COMMAND ${test})
  endif()
endforeach()
foreach(test nf4_test nf4_linear_test turns_test)
  target_sources(${test} PRIVATE ${cpu}/context.cpp ${cpu}/memory.cpp ${cpu}/team.cpp)
endforeach()
target_sources(team_test PRIVATE ${cpu}/team.cpp)

# The image members on damaged files, whose way to a wrong address no test in Java would notice.
file(GLOB image_sources CONFIGURE_DEPENDS ${cpu}/image_*.cpp)
add_executable(image_test EXCLUDE_FROM_ALL ${CMAKE_CURRENT_SOURCE_DIR}/test/image_test.cpp ${image_sources})
target_include_directories(image_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/include)
target_compile_options(image_test PRIVATE -O1 -g -Wall -Wextra -Werror -fno-math-errno -fno-trapping-math
                       -fsanitize=address,undefined -fno-sanitize-recover=all)
target_link_options(image_test PRIVATE -fsanitize=address,undefined)
target_link_libraries(image_test PRIVATE OpenMP::OpenMP_CXX)
add_dependencies(native_tests image_test)
set(jpegs ${CMAKE_CURRENT_SOURCE_DIR}/../java/engine/src/test/resources/lapidary/image)
add_test(NAME image_test COMMAND image_test ${jpegs}/jpeg-420-33x31.jpg ${jpegs}/jpeg-420-33x31-progressive.jpg
         ${jpegs}/jpeg-411-7x5-progressive.jpg ${jpegs}/jpeg-420-100x75.jpg)
