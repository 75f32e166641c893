package lapidary.cli;

import java.io.PrintWriter;
import lapidary.device.CpuDevice;
import lapidary.device.CudaDevice;
import lapidary.device.Device;
import lapidary.device.DeviceException;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;

/** The device that {@code --device} names. */
final class Devices {
    private Devices() {}

    static Device open(String name, CommandLine commandLine) {
        return switch (name) {
            case "auto" -> CudaDevice.isLikely() ? cudaOrCpu(commandLine) : CpuDevice.open();
            case "cpu" -> CpuDevice.open();
            case "cuda" -> CudaDevice.open();
            default -> throw new ParameterException(commandLine, "--device " + name + " is none of auto, cpu, cuda");
        };
    }

    /** Where there is a driver a GPU is what the user expects, so a run on the CPU is never silent. */
    private static Device cudaOrCpu(CommandLine commandLine) {
        try {
            return CudaDevice.open();
        } catch (DeviceException e) {
            PrintWriter err = commandLine.getErr();
            err.println(
                    "This machine has a GPU's driver, but the run goes on the CPU (--device cpu says so without this"
                            + " line): " + e.getMessage());
            err.flush();
            return CpuDevice.open();
        }
    }
}
