package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@code engine serve} as a user starts it: what it prints, that it answers, and how it ends. */
@Timeout(value = 120, unit = TimeUnit.SECONDS) // until something counts as hanging
final class ServeProcessTest {
    private static final String MODEL = "src/main/resources/lapidary/demo/base";
    private static final String ADAPTER = "src/test/resources/lapidary/infer/adapter";
    private static final Pattern ADDRESS = Pattern.compile("serving (.*) at (http://\\S+)/v1\\R");

    @TempDir
    private Path folder;

    @Test
    void servesUntilItIsToldToEnd() throws IOException, InterruptedException {
        Path out = folder.resolve("stdout.txt");
        Path err = folder.resolve("stderr.txt");
        Process process = EngineProcess.start(
                out,
                err,
                List.of(
                        "serve",
                        "--model_name_or_path",
                        MODEL,
                        "--adapter",
                        "one=" + ADAPTER,
                        "--adapter=two=" + ADAPTER,
                        "--served_model_name",
                        "tiny",
                        "--port",
                        "0",
                        "--api_key",
                        "s3cret",
                        "--dtype",
                        "float32"));
        try (HttpClient client = HttpClient.newHttpClient()) {
            Matcher address = ADDRESS.matcher("");
            while (!address.find()) {
                assertTrue(process.isAlive(), Files.readString(err));
                Thread.sleep(50);
                address = ADDRESS.matcher(Files.readString(out));
            }
            assertEquals("tiny, one, two", address.group(1));
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(address.group(2) + "/v1/chat/completions"))
                    .POST(HttpRequest.BodyPublishers.ofString(
                            "{\"model\": \"two\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}],"
                                    + " \"max_tokens\": 3}"));
            assertEquals(401, send(client, request));
            assertEquals(200, send(client, request.header("Authorization", "Bearer s3cret")));
            process.destroy();
            assertEquals(0, process.waitFor(), "after SIGTERM, with nothing left to do");
        } finally {
            process.destroyForcibly();
        }
        String said = Files.readString(out);
        assertTrue(said.contains("POST /v1/chat/completions 200 "), said);
        assertTrue(said.endsWith("closing\n"), said);
        assertFalse(said.contains("s3cret"), said);
        assertEquals("", Files.readString(err));
    }

    private static int send(HttpClient client, HttpRequest.Builder request) throws IOException, InterruptedException {
        return client.send(request.build(), HttpResponse.BodyHandlers.ofString())
                .statusCode();
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "2||serve needs --model_name_or_path",
                "2|--model_name_or_path MODEL --adapter out|expected NAME=DIR",
                "2|--model_name_or_path MODEL --adapter a=x --adapter a=y|a is given twice",
                "2|--model_name_or_path MODEL --adapter base=x|has the model's own name",
                "2|--model_name_or_path MODEL --port 1 --port 2|--port is given twice",
                "2|--model_name_or_path MODEL --port 70000|port is 70000",
                "2|--model_name_or_path MODEL --max_body_size 5|expected a size like",
                "2|--model_name_or_path MODEL --max_body_size 5GB|maxBodyBytes",
                "2|--model_name_or_path MODEL --kept_cache_size -1|--kept_cache_size -1: expected a size like",
                "2|--model_name_or_path MODEL --api_key=|the API key is empty",
                "2|--model_name_or_path MODEL --batch_size 0|batchSize is 0",
                "1|--model_name_or_path MODEL --context_length 9000000|9000000",
                "1|--model_name_or_path MODEL --adapter a=nowhere|nowhere",
                "1|--model_name_or_path nowhere|nowhere",
                "1|--model_name_or_path MODEL --host no.such.host.invalid|cannot listen on no.such.host.invalid",
            })
    void saysInOneLineWhatIsWrong(int code, String options, String said) throws IOException, InterruptedException {
        List<String> arguments = new ArrayList<>(List.of("serve"));
        if (options != null) {
            arguments.addAll(List.of(options.replace("MODEL", MODEL).split(" ")));
        }
        EngineProcess run = EngineProcess.run(folder, arguments);
        assertEquals(code, run.code(), run.err());
        assertEquals(1, run.err().lines().count(), run.err());
        assertTrue(run.err().contains(said), run.err());
        assertEquals("", run.out());
    }
}
