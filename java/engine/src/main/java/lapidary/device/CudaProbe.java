package lapidary.device;

import java.util.List;

/**
 * What of CUDA is on this machine, for people.
 *
 * @param found devices and libraries, a line each
 * @param missing why CUDA cannot be used and what would help, a line each; empty where it can be
 */
public record CudaProbe(List<String> found, List<String> missing) {
    public CudaProbe {
        found = List.copyOf(found);
        missing = List.copyOf(missing);
    }

    public boolean isUsable() {
        return missing.isEmpty();
    }
}
