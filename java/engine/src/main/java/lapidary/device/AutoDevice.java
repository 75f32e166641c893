package lapidary.device;

import java.util.function.Consumer;

/** The device that a machine has: a GPU where its driver is, else the CPU. */
public final class AutoDevice {
    private AutoDevice() {}

    /**
     * Opens it.
     *
     * @param whyNotTheGpu told, where a GPU's driver is there but cannot be used, why the CPU is taken: never silently
     * @throws DeviceException the native libraries do not load
     */
    public static Device open(Consumer<String> whyNotTheGpu) {
        if (!CudaDevice.isLikely()) {
            return CpuDevice.open();
        }
        try {
            return CudaDevice.open();
        } catch (DeviceException e) {
            whyNotTheGpu.accept(e.getMessage());
            return CpuDevice.open();
        }
    }
}
