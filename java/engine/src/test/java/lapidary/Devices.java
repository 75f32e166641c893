package lapidary;

import java.util.ArrayList;
import java.util.List;
import lapidary.device.CpuDevice;
import lapidary.device.CudaDevice;
import lapidary.device.Device;
import lapidary.device.EmulatedDevice;
import lapidary.device.FakeCuda;

/**
 * The devices that tests run on, one instance each for the whole run. {@code -Dtest.devices=cpu,emulated} names those that
 * must be there: a missing one fails instead of being left out.
 */
public final class Devices {
    private static final List<Device> ALL = open();

    private Devices() {}

    public static List<Device> all() {
        return ALL;
    }

    private static List<Device> open() {
        List<Device> devices = new ArrayList<>();
        for (String name : System.getProperty("test.devices", "cpu").split(",")) {
            devices.add(
                    switch (name) {
                        case "cpu" -> CpuDevice.open();
                        case "emulated" -> EmulatedDevice.open();
                        case "apart" -> FakeCuda.open();
                        case "cuda" -> CudaDevice.open();
                        default -> throw new IllegalArgumentException("no device " + name);
                    });
        }
        return List.copyOf(devices);
    }
}
