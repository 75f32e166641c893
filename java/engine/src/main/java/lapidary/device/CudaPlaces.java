package lapidary.device;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.MalformedInputException;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * Where CUDA's libraries may lie, the user's own choice first: {@code CUDA_HOME} and {@code CUDA_PATH}, the loader's path,
 * the {@code nvidia} packages of Python environments, the system's CUDA folders, the loader's usual folders.
 *
 * @param root {@code /}, or a folder that stands for it
 * @param environment the process's variables
 */
record CudaPlaces(Path root, Map<String, String> environment) {
    static CudaPlaces ofThisMachine() {
        return new CudaPlaces(Path.of("/"), System.getenv());
    }

    /**
     * Whether a driver for NVIDIA's cards shows itself: the quick question before anything of CUDA is looked for. WSL has
     * its own device file.
     */
    boolean hasDriver() {
        return Files.exists(root.resolve("dev/nvidiactl"))
                || Files.exists(root.resolve("dev/nvidia0"))
                || Files.exists(root.resolve("proc/driver/nvidia/version"))
                || Files.exists(root.resolve("dev/dxg"));
    }

    /** The first of these files in the order of the folders. */
    Optional<Path> find(String fileName) {
        return folders().stream()
                .map(folder -> folder.resolve(fileName))
                .filter(Files::isRegularFile)
                .findFirst();
    }

    /** Folders to look in, in this order; each exists. */
    List<Path> folders() {
        Set<Path> folders = new LinkedHashSet<>();
        for (String name : List.of("CUDA_HOME", "CUDA_PATH")) {
            variable(name).forEach(home -> addToolkit(folders, home));
        }
        folders.addAll(variable("LD_LIBRARY_PATH"));
        for (String name : List.of("VIRTUAL_ENV", "CONDA_PREFIX")) {
            variable(name).forEach(prefix -> addPython(folders, prefix));
        }
        for (Path bin : variable("PATH")) {
            if (Files.exists(bin.resolve("python3")) && bin.getParent() != null) {
                addPython(folders, bin.getParent());
            }
        }
        variable("HOME").forEach(home -> addPython(folders, home.resolve(".local")));
        addToolkit(folders, root.resolve("usr/local/cuda"));
        for (Path toolkit : newestFirst(root.resolve("usr/local"), "cuda-*")) {
            addToolkit(folders, toolkit);
        }
        addToolkit(folders, root.resolve("opt/cuda"));
        folders.addAll(loaderFolders());
        for (String usual :
                List.of("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64", "usr/lib")) {
            folders.add(root.resolve(usual));
        }
        return folders.stream().filter(Files::isDirectory).toList();
    }

    /** Existing folders of a variable that holds one or several, separated by colons. */
    private List<Path> variable(String name) {
        List<Path> paths = new ArrayList<>();
        for (String part : environment.getOrDefault(name, "").split(":")) {
            if (part.startsWith("/")) {
                path(part).filter(Files::isDirectory).ifPresent(paths::add);
            }
        }
        return paths;
    }

    private static Optional<Path> path(String text) {
        try {
            return Optional.of(Path.of(text));
        } catch (InvalidPathException e) { // nobody's folder, so nothing is there
            return Optional.empty();
        }
    }

    private static void addToolkit(Set<Path> folders, Path toolkit) {
        folders.add(toolkit.resolve("lib64"));
        folders.add(toolkit.resolve("targets/x86_64-linux/lib"));
        folders.add(toolkit.resolve("lib"));
    }

    /** What {@code pip install nvidia-...} leaves: one folder a major version, or before CUDA 13 one a library. */
    private static void addPython(Set<Path> folders, Path prefix) {
        folders.add(prefix.resolve("lib")); // where conda puts libraries
        for (Path python : newestFirst(prefix.resolve("lib"), "python3*")) {
            for (String packages : List.of("site-packages", "dist-packages")) {
                Path nvidia = python.resolve(packages).resolve("nvidia");
                for (Path part : newestFirst(nvidia, "cu[0-9]*")) {
                    folders.add(part.resolve("lib"));
                }
                folders.add(nvidia.resolve("cuda_runtime/lib"));
                folders.add(nvidia.resolve("cublas/lib"));
            }
        }
    }

    /** What {@code /etc/ld.so.conf.d} names. */
    private List<Path> loaderFolders() {
        List<Path> folders = new ArrayList<>();
        for (Path file : newestFirst(root.resolve("etc/ld.so.conf.d"), "*.conf")) {
            try {
                for (String line : Files.readAllLines(file)) {
                    if (line.startsWith("/")) {
                        path(line.strip().substring(1)).ifPresent(folder -> folders.add(root.resolve(folder)));
                    }
                }
            } catch (MalformedInputException e) {
                continue; // not a list of folders
            } catch (IOException e) {
                continue; // not for this user to read
            }
        }
        return folders;
    }

    /** Matching entries, in falling order of their names. */
    private static List<Path> newestFirst(Path folder, String glob) {
        List<Path> found = new ArrayList<>();
        if (Files.isDirectory(folder)) {
            try (DirectoryStream<Path> entries = Files.newDirectoryStream(folder, glob)) {
                entries.forEach(found::add);
            } catch (IOException | DirectoryIteratorException | UncheckedIOException e) {
                return List.of(); // not for this user to read
            }
        }
        found.sort(Collections.reverseOrder());
        return found;
    }
}
