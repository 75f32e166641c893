package lapidary.serve;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.UnixOperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.Socket;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import lapidary.DeviceTest;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.JsonWriter;
import lapidary.infer.LanguageModel;
import lapidary.infer.LoadOptions;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.MethodSource;

/** Many requests: nothing is left of them, and adapters that are swapped meanwhile are never mixed. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
@Timeout(value = 600, unit = TimeUnit.SECONDS) // until something counts as hanging
final class LoadTest extends DeviceTest {
    private static final String HOW_MANY = "How many shapes are there?";

    /** {@code -Dtest.swaps=300} for a minute of them. */
    private static final int SWAPS = Integer.getInteger("test.swaps", 8);

    private static final int CHATS = 16;

    /** What a JVM's heap differs by after a collection where nothing is left; a request has 20 KB of body alone. */
    private static final long HEAP_NOISE = 1 << 20;

    /** The pool hands out blocks that are up to an eighth larger than what is asked for. */
    private static final int POOL_SLACK = 8;

    @TempDir
    private Path folder;

    private LanguageModel model;
    private ChatServer server;
    private Client client;

    LoadTest(Device device) {
        super(device);
    }

    @BeforeEach
    void serve() {
        model = LanguageModel.load(
                Demo.BASE, LoadOptions.DEFAULT.withDtype(DType.F32).withContextLength(300), device);
        server = ChatServer.start(
                model, ServerOptions.DEFAULT.withAddress("127.0.0.1", 0).withModelName("tiny"), line -> {});
        client = new Client(server);
    }

    @AfterEach
    void end() {
        client.close();
        server.close();
        model.close();
    }

    private record Held(long heap, long device, long files, long platformThreads) {}

    @Test
    void nothingIsLeftOfAThousandRequests() throws Exception {
        model.attach("counts", Demo.ADAPTER);
        long weights = device.pool().inUse();
        requests(100);
        Held before = held();
        requests(900);
        Held after = held();
        long slack = (before.device() - weights) / POOL_SLACK;
        assertEquals(before.device(), after.device(), slack, before + " and then " + after);
        assertTrue(after.heap() < before.heap() + HEAP_NOISE, before + " and then " + after);
        assertTrue(after.files() <= before.files(), before + " and then " + after);
        assertTrue(after.platformThreads() <= before.platformThreads() + 1, before + " and then " + after);
    }

    /** Answers, streams, pictures, mistakes, and clients that leave. */
    private void requests(int count) throws Exception {
        try (ExecutorService threads = Executors.newFixedThreadPool(4)) {
            List<Future<?>> all = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                int number = i;
                all.add(threads.submit(() -> request(number)));
            }
            for (Future<?> one : all) {
                one.get();
            }
        }
    }

    private Void request(int number) throws IOException, InterruptedException {
        String name = number % 2 == 0 ? "tiny" : "counts";
        Map<String, Object> body = Client.chat(name, "x".repeat(20_000) + number, "max_tokens", 4);
        switch (number % 5) {
            case 0 -> assertEquals(400, client.ask(body).status()); // longer than the context
            case 1 -> {
                try (Socket socket =
                        client.open(JsonWriter.compact(Client.chat("tiny", "Number " + number, "stream", true)))) {
                    Client.readUntil(socket, "data: ");
                }
            }
            case 2 -> assertEquals(
                    400, client.ask(Client.chat(name, "Hi", "n", 2)).status());
            case 3 -> {
                body = Client.chat(name, "Number " + number, "max_tokens", 4, "stream", true);
                assertEquals(200, client.ask(body).status());
            }
            default -> {
                body = Client.chat(name, Client.withPicture(HOW_MANY, number % 3), "max_tokens", 4);
                assertEquals(200, client.ask(body).status());
            }
        }
        return null;
    }

    /** After the same eight requests as ever, which are what the model has kept. */
    private Held held() throws IOException, InterruptedException {
        for (char letter = 'a'; letter < 'a' + LoadOptions.DEFAULT.batchSize(); letter++) {
            Client.Reply reply = client.ask(
                    Client.chat("tiny", String.valueOf(letter).repeat(20 * (letter - 'a' + 1)), "max_tokens", 4));
            assertEquals(200, reply.status(), reply.body());
        }
        client.close(); // with its connections
        client = new Client(server);
        client.await("lapidary_chats", 0);
        long heap = Long.MAX_VALUE;
        for (int i = 0; i < 4; i++) {
            System.gc();
            Thread.sleep(50);
            Runtime runtime = Runtime.getRuntime();
            heap = Math.min(heap, runtime.totalMemory() - runtime.freeMemory());
        }
        UnixOperatingSystemMXBean system = (UnixOperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return new Held(
                heap,
                device.pool().inUse(),
                system.getOpenFileDescriptorCount(),
                ManagementFactory.getThreadMXBean().getThreadCount());
    }

    @Test
    void everyAnswerIsOfOneAdapterWhole() throws Exception {
        Path opposite = Demo.opposite(folder.resolve("opposite"));
        List<List<String>> answers = new ArrayList<>();
        for (Path adapter : List.of(Demo.ADAPTER, opposite)) {
            model.attach("swapped", adapter);
            List<String> own = new ArrayList<>();
            for (int picture = 0; picture < 3; picture++) {
                own.add(client.ask(Client.chat("swapped", Client.withPicture(HOW_MANY, picture)))
                        .content());
            }
            answers.add(own);
        }
        for (int picture = 0; picture < 3; picture++) {
            assertTrue(!answers.get(0).get(picture).equals(answers.get(1).get(picture)), answers.toString());
        }
        AtomicBoolean enough = new AtomicBoolean();
        List<Future<int[]>> chats = new ArrayList<>();
        int[] all = new int[2];
        try (ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
            for (int i = 0; i < CHATS; i++) {
                int picture = i % 3;
                boolean stream = i % 2 == 0;
                chats.add(threads.submit(() -> chat(picture, stream, answers, enough)));
            }
            for (int swap = 0; swap < SWAPS; swap++) {
                model.attach("swapped", swap % 2 == 0 ? Demo.ADAPTER : opposite);
                Thread.sleep(200);
            }
            enough.set(true);
            for (Future<int[]> chat : chats) {
                int[] seen = chat.get();
                all[0] += seen[0];
                all[1] += seen[1];
            }
        }
        assertTrue(all[0] > 0 && all[1] > 0, all[0] + " answers of one adapter, " + all[1] + " of the other");
        System.getLogger("test").log(System.Logger.Level.INFO, SWAPS + " swaps: " + all[0] + " and " + all[1]);
    }

    /** How many answers were the first adapter's, and how many the second's; there are no others. */
    private int[] chat(int picture, boolean stream, List<List<String>> answers, AtomicBoolean enough)
            throws IOException, InterruptedException {
        int[] seen = new int[2];
        while (!enough.get()) {
            Client.Reply reply =
                    client.ask(Client.chat("swapped", Client.withPicture(HOW_MANY, picture), "stream", stream));
            assertEquals(200, reply.status(), reply.body());
            String answer = stream ? reply.streamed() : reply.content();
            int which = answer.equals(answers.get(0).get(picture)) ? 0 : 1;
            assertEquals(answers.get(which).get(picture), answer);
            seen[which]++;
        }
        return seen;
    }
}
