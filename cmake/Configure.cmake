# cmake -DSOURCE=DIR -DBUILD=DIR -DOUTPUT=DIR -P Configure.cmake: configures a release build.
# CMake refuses a build folder that was made for another place, as one is after its checkout was moved or copied; such a
# folder is begun afresh.
foreach(needed SOURCE BUILD OUTPUT)
  if(NOT ${needed})
    message(FATAL_ERROR "-D${needed}=DIR is missing")
  endif()
endforeach()

set(fresh "")
if(EXISTS ${BUILD}/CMakeCache.txt)
  set(entries CMAKE_HOME_DIRECTORY CMAKE_CACHEFILE_DIR)
  set(places ${SOURCE} ${BUILD})
  foreach(entry place IN ZIP_LISTS entries places)
    file(STRINGS ${BUILD}/CMakeCache.txt line REGEX "^${entry}:INTERNAL=")
    string(REGEX REPLACE "^[^=]*=" "" made_for "${line}")
    file(REAL_PATH "${made_for}" made_for)
    file(REAL_PATH "${place}" here)
    if(NOT made_for STREQUAL here)
      message(STATUS "the native build folder was made for ${made_for}: starting afresh")
      set(fresh --fresh)
    endif()
  endforeach()
endif()

execute_process(
  COMMAND ${CMAKE_COMMAND} -S ${SOURCE} -B ${BUILD} ${fresh} -DCMAKE_BUILD_TYPE=Release -DLAPIDARY_OUTPUT=${OUTPUT}
  RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "configuring ${SOURCE} failed")
endif()
