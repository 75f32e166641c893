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

    /** For tests of whole models and of what a device brings along, such as its matrix products: not the emulated one. */
    public static List<Device> all() {
        return ALL.stream().filter(device -> !device.name().equals("emulated")).toList();
    }

    /** For tests of kernels: the emulated one too, whose matrix products are the processor's. */
    public static List<Device> kernels() {
        return ALL;
    }

    /** For tests of attention, of which cards of Hopper's kind have kernels of their own. */
    public static List<Device> attention() {
        List<Device> devices = new ArrayList<>(ALL);
        if (ALL.stream().anyMatch(device -> device.name().equals("emulated"))) {
            devices.add(Hopper.DEVICE);
        }
        return devices;
    }

    private static final class Hopper {
        static final Device DEVICE = EmulatedDevice.openHopper();
    }

    private static List<Device> open() {
        List<Device> devices = new ArrayList<>();
        for (String name : System.getProperty("test.devices", "cpu,emulated").split(",")) {
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
