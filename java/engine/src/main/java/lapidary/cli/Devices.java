package lapidary.cli;

import java.io.PrintWriter;
import lapidary.device.AutoDevice;
import lapidary.device.CpuDevice;
import lapidary.device.CudaDevice;
import lapidary.device.Device;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;

/** The device that {@code --device} names. */
final class Devices {
    private Devices() {}

    static Device open(String name, CommandLine commandLine) {
        return switch (name) {
            case "auto" -> AutoDevice.open(why -> tell(why, commandLine));
            case "cpu" -> CpuDevice.open();
            case "cuda" -> CudaDevice.open();
            default -> throw new ParameterException(commandLine, "--device " + name + " is none of auto, cpu, cuda");
        };
    }

    private static void tell(String why, CommandLine commandLine) {
        PrintWriter err = commandLine.getErr();
        err.println(
                "This machine has a GPU's driver, but the run goes on the CPU (--device cpu says so without this line): "
                        + why);
        err.flush();
    }
}
