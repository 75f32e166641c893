package lapidary.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import lapidary.device.CpuDevice;
import lapidary.device.CudaDevice;
import lapidary.device.CudaProbe;
import lapidary.device.Device;
import lapidary.device.DeviceException;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Spec;

/** {@code engine info}: what this program found on this machine. */
@Command(
        name = "info",
        header = "Prints version, JDK, devices, native libraries and where they come from.",
        mixinStandardHelpOptions = true)
final class Info implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    /** The version in the jar's manifest. */
    static final class Version implements IVersionProvider {
        @Override
        public String[] getVersion() {
            return new String[] {"Lapidary " + version()};
        }

        static String version() {
            String version = Engine.class.getPackage().getImplementationVersion();
            return version == null ? "(not run from the jar)" : version;
        }
    }

    @Override
    public Integer call() {
        PrintWriter out = spec.commandLine().getOut();
        out.println("Lapidary     " + Version.version());
        out.println("JDK          " + Runtime.version() + " (" + System.getProperty("java.home") + ")");
        out.println("system       " + System.getProperty("os.name") + " " + System.getProperty("os.arch") + ", "
                + Runtime.getRuntime().availableProcessors() + " processors, Java heap up to "
                + (Runtime.getRuntime().maxMemory() >> 20) + " MiB");
        try (Device cpu = CpuDevice.open()) {
            out.println("device cpu   " + cpu.describe());
            for (Path library : CpuDevice.libraries()) {
                out.println("             " + library);
            }
        } catch (DeviceException e) {
            out.println("device cpu   missing: " + e.getMessage());
        }
        cuda(out);
        out.flush();
        return 0;
    }

    private static void cuda(PrintWriter out) {
        CudaProbe cuda = CudaDevice.probe();
        String label = "device cuda  ";
        for (String missing : cuda.missing()) {
            out.println(label + "missing: " + missing);
            label = "             ";
        }
        for (String found : cuda.found()) {
            out.println(label + found);
            label = "             ";
        }
    }
}
