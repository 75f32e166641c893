# cmake -DBUILD=DIR [-DTARGETS=A;B] -P Build.cmake: builds what is configured there, or the targets, on all cores. Make alone
# would start every compiler at once.
if(NOT BUILD)
  message(FATAL_ERROR "-DBUILD=DIR is missing")
endif()
if(TARGETS)
  set(targets --target ${TARGETS})
endif()
cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${BUILD} ${targets} --parallel ${cores} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "building ${BUILD} failed")
endif()
