package lapidary.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class CudaLibrariesTest {
    private static final Path KERNELS = Path.of("/kernels.so");

    @TempDir
    private Path root;

    private final Map<String, String> environment = new HashMap<>();

    private void put(String... files) throws IOException {
        for (String file : files) {
            Path path = root.resolve(file);
            Files.createDirectories(path.getParent());
            Files.createFile(path);
        }
    }

    private CudaLibraries.Search search() {
        return CudaLibraries.search(new CudaPlaces(root, environment), KERNELS);
    }

    @ParameterizedTest
    @CsvSource({
        "CUDA_HOME,cuda,cuda/lib64,cuda/lib64",
        "CUDA_PATH,cuda,cuda/targets/x86_64-linux/lib,cuda/targets/x86_64-linux/lib",
        "LD_LIBRARY_PATH,libs,libs,libs",
        "VIRTUAL_ENV,venv,venv/lib/python3.12/site-packages/nvidia/cu13/lib,"
                + "venv/lib/python3.12/site-packages/nvidia/cu13/lib",
        "VIRTUAL_ENV,venv,venv/lib/python3.11/site-packages/nvidia/cuda_runtime/lib,"
                + "venv/lib/python3.11/site-packages/nvidia/cublas/lib",
        "CONDA_PREFIX,conda,conda/lib,conda/lib",
        "NONE,none,usr/local/cuda/lib64,usr/local/cuda/lib64",
        "NONE,none,usr/local/cuda-12.8/lib64,usr/lib/x86_64-linux-gnu",
        "NONE,none,usr/lib64,usr/lib64"
    })
    void findsBothInTheUsualPlaces(String variable, String value, String runtime, String blas) throws IOException {
        for (int major : new int[] {12, 13}) {
            put(runtime + "/libcudart.so." + major, blas + "/libcublasLt.so." + major);
            environment.put(variable, "relative:" + root.resolve(value));
            CudaLibraries.Search found = search();
            assertEquals(
                    new CudaLibraries(
                            root.resolve(runtime).resolve("libcudart.so." + major),
                            root.resolve(blas).resolve("libcublasLt.so." + major),
                            KERNELS),
                    found.libraries());
            assertTrue(found.missing().isEmpty());
        }
    }

    @Test
    void findsThePythonThatIsOnThePath() throws IOException {
        put(
                "env/bin/python3",
                "env/lib/python3.12/site-packages/nvidia/cu13/lib/libcudart.so.13",
                "env/lib/python3.12/site-packages/nvidia/cu13/lib/libcublasLt.so.13");
        environment.put("PATH", root + "/nowhere:" + root.resolve("env/bin"));
        assertTrue(search().missing().isEmpty());
    }

    @Test
    void findsWhatTheLoaderIsToldOf() throws IOException {
        put("etc/ld.so.conf.d/cuda.conf", "far/away/libcudart.so.13", "far/away/libcublasLt.so.13");
        Files.writeString(root.resolve("etc/ld.so.conf.d/cuda.conf"), "# a comment\n/far/away\n");
        assertTrue(search().missing().isEmpty());
    }

    @Test
    void theUsersChoiceGoesFirst() throws IOException {
        put("mine/lib64/libcudart.so.13", "mine/lib64/libcublasLt.so.13");
        put("usr/local/cuda/lib64/libcudart.so.13", "usr/local/cuda/lib64/libcublasLt.so.13");
        environment.put("CUDA_HOME", root.resolve("mine").toString());
        assertEquals(
                root.resolve("mine/lib64/libcudart.so.13"), search().libraries().runtime());
    }

    @Test
    void twoMajorVersionsAreNotMixed() throws IOException {
        put("usr/lib64/libcudart.so.13", "usr/lib64/libcublasLt.so.12");
        CudaLibraries.Search mixed = search();
        assertNull(mixed.libraries());
        assertEquals(
                "runtime and cuBLASLt are of different major versions",
                mixed.missing().get(0));
        put("usr/lib64/libcudart.so.12");
        assertEquals(
                root.resolve("usr/lib64/libcudart.so.12"), search().libraries().runtime());
    }

    @Test
    void whatIsMissingIsNamed() throws IOException {
        put("usr/lib64/libcudart.so.13");
        CudaLibraries.Search search = search();
        assertEquals(
                "libcublasLt.so.13 (or .12) is not on this machine",
                search.missing().get(0));
        assertTrue(search.found()
                .contains(root.resolve("usr/lib64/libcudart.so.13").toString()));
    }

    @Test
    void aStrangeEnvironmentIsNobodysFolder() {
        environment.put("CUDA_HOME", "\0:relative::");
        environment.put("PATH", "/");
        environment.put("LD_LIBRARY_PATH", ":::");
        assertNull(search().libraries());
    }

    @Test
    void aDriverShowsItselfByItsFiles() throws IOException {
        CudaPlaces places = new CudaPlaces(root, environment);
        assertFalse(places.hasDriver());
        assertTrue(CudaDevice.probe(places).missing().get(0).startsWith("no NVIDIA driver shows itself"));
        put("dev/nvidiactl");
        assertTrue(places.hasDriver());
    }
}
