package lapidary;

import java.util.ArrayList;
import java.util.List;
import lapidary.device.CpuDevice;
import lapidary.device.CpuLevel;
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

    /** For tests of whole models and of what a device brings along, such as its matrix products: not those of kernels alone. */
    public static List<Device> all() {
        return ALL.stream()
                .filter(device -> !device.name().equals("emulated") && !CpuLevel.isOf(device))
                .toList();
    }

    /** For tests of kernels: the emulated one too, whose matrix products are the processor's. */
    public static List<Device> kernels() {
        return ALL;
    }

    /** For tests of attention, of which cards of Hopper's kind have kernels of their own. */
    public static List<Device> attention() {
        List<Device> devices = levels();
        if (has("emulated")) {
            devices.add(Hopper.DEVICE);
        }
        return devices;
    }

    /** For tests of kernels that are written for each level of the processor's instructions: the lower ones too. */
    public static List<Device> levels() {
        List<Device> devices = new ArrayList<>(ALL);
        if (has("cpu")) {
            devices.addAll(Lower.DEVICES);
        }
        return devices;
    }

    private static boolean has(String name) {
        return ALL.stream().anyMatch(device -> device.name().equals(name));
    }

    private static final class Lower {
        static final List<Device> DEVICES =
                CpuLevel.lower().stream().map(CpuLevel::open).toList();
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
                        case "scalar", "avx2" -> CpuLevel.open(name);
                        case "emulated" -> EmulatedDevice.open();
                        case "apart" -> FakeCuda.open();
                        case "cuda" -> CudaDevice.open();
                        default -> throw new IllegalArgumentException("no device " + name);
                    });
        }
        return List.copyOf(devices);
    }
}
