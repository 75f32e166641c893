package lapidary.cli;

import lapidary.device.CpuDevice;
import lapidary.device.Device;
import lapidary.device.DeviceException;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;

/** The device that {@code --device} names. */
final class Devices {
    private Devices() {}

    static Device open(String name, CommandLine commandLine) {
        return switch (name) {
            case "auto", "cpu" -> CpuDevice.open();
            case "cuda" -> throw new DeviceException("--device cuda: this build has no CUDA device; use --device cpu");
            default -> throw new ParameterException(commandLine, "--device " + name + " is none of auto, cpu, cuda");
        };
    }
}
