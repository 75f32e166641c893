package lapidary.train;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import java.util.zip.CRC32C;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.JsonWriter;

/**
 * The folders {@code checkpoint-<step>} of an output folder. One that has its final name is complete: it is filled under
 * a hidden name, forced to the disk and renamed. {@code run_state.json} in it lists every other file with its length and CRC-32C,
 * so that what a disk has damaged since is noticed; and it numbers checkpoints in the order of their writing, so that
 * neither clocks nor step numbers decide which is the newest.
 */
final class Checkpoints {
    static final String MANIFEST = "run_state.json";

    private static final String PREFIX = "checkpoint-";
    private static final Pattern NAME = Pattern.compile("checkpoint-(\\d{1,9})");
    private static final Pattern LEFT = Pattern.compile("\\.(checkpoint-\\d{1,9})\\.(part|old|push)");
    private static final long MAX_MANIFEST = 64L << 20; // bytes

    private final Path output;

    Checkpoints(Path output) {
        this.output = output;
    }

    /** A complete checkpoint. */
    record Saved(Path folder, int step, long sequence, Json manifest) {}

    /** Clears away what a killed run left half-written; a folder set aside by it gets its name back. */
    void clearLeftovers() {
        for (Path path : inside()) {
            Matcher name = LEFT.matcher(path.getFileName().toString());
            if (!name.matches()) {
                continue;
            }
            try {
                Path target = output.resolve(name.group(1));
                if (name.group(2).equals("old") && !Files.exists(target, LinkOption.NOFOLLOW_LINKS)) {
                    Files.move(path, target, StandardCopyOption.ATOMIC_MOVE);
                } else {
                    AtomicFile.deleteTree(path);
                }
            } catch (IOException | UncheckedIOException e) {
                throw new FormatException(
                        "cannot clear away " + path + " that a killed run left: " + e.getMessage(), e);
            }
        }
    }

    private List<Path> inside() {
        if (!Files.isDirectory(output)) {
            return List.of();
        }
        try (Stream<Path> list = Files.list(output)) {
            return list.sorted().toList();
        } catch (IOException | UncheckedIOException e) {
            throw new FormatException("cannot list " + output + ": " + e.getMessage(), e);
        }
    }

    /** Every folder that looks like a checkpoint, whoever wrote it and in whatever state. */
    private List<Path> named() {
        return inside().stream()
                .filter(path -> NAME.matcher(path.getFileName().toString()).matches() && Files.isDirectory(path))
                .toList();
    }

    /** Names of the checkpoints of this program, oldest first. */
    List<String> names() {
        return readable(e -> {}).stream()
                .map(saved -> saved.folder().getFileName().toString())
                .toList();
    }

    /** Checkpoints of this program whose manifest can be read, oldest first. */
    private List<Saved> readable(Consumer<FormatException> others) {
        List<Saved> readable = new ArrayList<>();
        for (Path folder : named()) {
            if (isOwn(folder)) {
                try {
                    readable.add(read(folder));
                } catch (FormatException e) {
                    others.accept(e);
                }
            }
        }
        readable.sort(Comparator.comparingLong(Saved::sequence).thenComparingInt(Saved::step));
        return readable;
    }

    /** Whether this program wrote it: no other puts an optimiser into safetensors, so one without a manifest lost it. */
    static boolean isOwn(Path folder) {
        return Files.exists(folder.resolve(MANIFEST)) || Files.exists(folder.resolve(Checkpointer.OPTIMIZER));
    }

    private static Saved read(Path folder) {
        Path file = folder.resolve(MANIFEST);
        if (!Files.exists(file)) {
            throw new FormatException("checkpoint " + folder + " is damaged: " + MANIFEST + " is missing");
        }
        Json json = Json.parse(file.toString(), Json.readBytes(file, MAX_MANIFEST));
        return new Saved(folder, json.get("step").intBetween(0, Integer.MAX_VALUE), json.integer("sequence"), json);
    }

    /**
     * The newest checkpoint that is whole.
     *
     * @param notice told of newer ones that are damaged
     * @return empty where there is none of this program, damaged or not
     * @throws FormatException where all are damaged
     */
    Optional<Saved> newest(Consumer<String> notice) {
        List<FormatException> damaged = new ArrayList<>();
        List<Saved> saved = readable(damaged::add);
        for (int i = saved.size() - 1; i >= 0; i--) {
            try {
                verify(saved.get(i));
                damaged.forEach(e -> notice.accept(e.getMessage() + "; going on from an older checkpoint"));
                return Optional.of(saved.get(i));
            } catch (FormatException e) {
                damaged.add(e);
            }
        }
        if (!damaged.isEmpty()) {
            throw new FormatException("no checkpoint in " + output + " can be gone on from: "
                    + damaged.get(0).getMessage());
        }
        return Optional.empty();
    }

    /** The folder of the newest checkpoint that another program wrote, by step; for a word about it. */
    Optional<Path> foreign() {
        return named().stream().filter(folder -> !isOwn(folder)).max(Comparator.comparingInt(Checkpoints::step));
    }

    private static int step(Path folder) {
        Matcher name = NAME.matcher(folder.getFileName().toString());
        return name.matches() ? Integer.parseInt(name.group(1)) : 0;
    }

    /**
     * A checkpoint by its folder, every file of it checked.
     *
     * @throws FormatException where it is damaged
     */
    static Saved open(Path folder) {
        Saved saved = read(folder);
        verify(saved);
        return saved;
    }

    private static void verify(Saved saved) {
        Json files = saved.manifest().get("files");
        for (String name : files.keys()) {
            if (name.contains("/") || name.contains("\\") || name.startsWith("..")) {
                throw files.error("lists " + name + ", which is not a file of the folder");
            }
            Path file = saved.folder().resolve(name);
            Json expected = files.get(name);
            if (!Files.isRegularFile(file)) {
                throw new FormatException("checkpoint " + saved.folder() + " is damaged: " + name + " is missing");
            }
            try {
                long size = Files.size(file);
                if (size != expected.integer("bytes")) {
                    throw new FormatException("checkpoint " + saved.folder() + " is damaged: " + name + " has " + size
                            + " bytes, expected " + expected.integer("bytes"));
                }
                if (!checksum(file).equals(expected.string("crc32c"))) {
                    throw new FormatException("checkpoint " + saved.folder() + " is damaged: the bytes of " + name
                            + " are not those that were written");
                }
            } catch (IOException e) {
                throw new FormatException("cannot read " + file + ": " + e.getMessage(), e);
            }
        }
    }

    private static String checksum(Path file) throws IOException {
        CRC32C sum = new CRC32C();
        ByteBuffer piece = ByteBuffer.allocateDirect(1 << 20);
        try (FileChannel in = FileChannel.open(file, StandardOpenOption.READ)) {
            while (in.read(piece) >= 0) {
                sum.update(piece.flip());
                piece.clear();
            }
        }
        return String.format("%08x", sum.getValue());
    }

    /**
     * Writes the checkpoint of a step.
     *
     * @param state what run_state.json says beside the list of files
     * @throws FormatException where it cannot be written; no other checkpoint has then been touched
     */
    Path write(int step, AtomicFile.Filling filling, Map<String, Object> state) {
        long sequence =
                1 + readable(e -> {}).stream().mapToLong(Saved::sequence).max().orElse(0);
        Path target = folder(step);
        AtomicFile.writeFolder(target, folder -> {
            filling.writeTo(folder);
            Map<String, Object> files = new LinkedHashMap<>();
            try (Stream<Path> list = Files.list(folder)) {
                for (Path file : list.sorted().toList()) {
                    Map<String, Object> entry = new LinkedHashMap<>();
                    entry.put("bytes", Files.size(file));
                    entry.put("crc32c", checksum(file));
                    files.put(file.getFileName().toString(), entry);
                }
            }
            Map<String, Object> manifest = new LinkedHashMap<>();
            manifest.put("step", step);
            manifest.put("sequence", sequence);
            manifest.putAll(state);
            manifest.put("files", files);
            AtomicFile.writeString(folder.resolve(MANIFEST), JsonWriter.indented(manifest) + "\n");
        });
        return target;
    }

    Path folder(int step) {
        return output.resolve(PREFIX + step);
    }

    /**
     * Deletes the oldest checkpoints of this program beyond {@code limit}; never the newest, and never {@code best}.
     *
     * @param limit how many may stay, or 0 for all
     * @param best step of the one to keep, or a negative number
     */
    void retain(int limit, int best) {
        if (limit <= 0) {
            return;
        }
        List<Path> saved = readable(e -> {}).stream().map(Saved::folder).toList();
        Path kept = folder(best);
        int enough = Math.max(limit, saved.indexOf(kept) >= 0 && saved.indexOf(kept) < saved.size() - 1 ? 2 : 1);
        int left = saved.size();
        for (int i = 0; i < saved.size() - 1 && left > enough; i++) {
            if (!saved.get(i).equals(kept)) {
                delete(saved.get(i));
                left--;
            }
        }
    }

    /** Deletes all checkpoints of this program, damaged ones too. */
    void clear() {
        named().stream().filter(Checkpoints::isOwn).forEach(this::delete);
    }

    /** The name goes first, so that a kill leaves no half of a checkpoint under it. */
    private void delete(Path folder) {
        Path hidden = output.resolve("." + folder.getFileName() + ".part");
        try {
            AtomicFile.deleteTree(hidden);
            Files.move(folder, hidden, StandardCopyOption.ATOMIC_MOVE);
            AtomicFile.deleteTree(hidden);
        } catch (IOException | UncheckedIOException e) {
            throw new FormatException("cannot delete the old checkpoint " + folder + ": " + e.getMessage(), e);
        }
    }
}
