package lapidary.hub;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

/**
 * The tests' Hub as a program, for {@code bench/hub/check.py}: prints its address and serves until its input ends. The token
 * {@code hf_test} belongs to the user {@code me}.
 *
 * <p>Arguments: bytes of a part of a multipart upload (0: in one piece), and pairs of a repository
 * ({@code models/org/name}) and a folder that it starts with.
 */
public final class HubServer {
    private HubServer() {}

    public static void main(String[] arguments) throws Exception {
        try (FakeHub hub = new FakeHub()) {
            hub.partSize = Integer.parseInt(arguments[0]);
            hub.user("hf_test", "me");
            for (int i = 1; i + 1 < arguments.length; i += 2) {
                Map<String, byte[]> files = new TreeMap<>();
                for (Map.Entry<String, Path> file :
                        Push.files(Path.of(arguments[i + 1])).entrySet()) {
                    files.put(file.getKey(), Files.readAllBytes(file.getValue()));
                }
                hub.repo(arguments[i]).commit("start", files);
            }
            hub.faults.add(Fault.cut("GET /cdn/", 2, 10_000)); // both clients meet a cut connection
            System.out.println(hub.endpoint());
            System.out.flush();
            while (System.in.read() >= 0) { // each line asks which ranges were asked for
                System.out.println(hub.seen.stream()
                        .map(seen -> seen.headers().getOrDefault("range", "all"))
                        .collect(Collectors.joining(" ")));
                System.out.flush();
            }
        }
    }
}
