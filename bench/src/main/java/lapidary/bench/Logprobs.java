package lapidary.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import lapidary.autograd.Tape;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Json;
import lapidary.format.JsonWriter;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Gemma3Processor;
import lapidary.gemma3.PackedBatch;
import lapidary.gemma3.PeftAdapter;
import lapidary.gemma3.Rendered;
import lapidary.image.ImageDecoder;
import lapidary.image.ImagePreprocessor;
import lapidary.image.ImageSource;
import lapidary.image.Pixels;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/**
 * Prints the likeliest next tokens of prompts, in float32, for {@code bench/export/check.py} to compare with other programs:
 * a line of JSON a prompt, {@code ids} and {@code top}, a list of id, text and log-probability.
 *
 * <p>{@code java -cp target/benchmarks.jar lapidary.bench.Logprobs MODEL ADAPTER|- PROMPTS.jsonl}, where a prompt has
 * {@code text}, from {@code <bos>} on, and {@code images}, a list of paths.
 */
public final class Logprobs {
    private static final int TOP = 100;

    private Logprobs() {}

    public static void main(String[] args) throws IOException {
        Path folder = Path.of(args[0]);
        Gemma3Processor processor = Gemma3Processor.load(folder);
        try (Device device = CpuDevice.open();
                PeftAdapter adapter = args[1].equals("-") ? null : PeftAdapter.open(Path.of(args[1]));
                Gemma3 model = Gemma3.load(folder, device, DType.F32, adapter == null ? null : adapter.spec(), 0)) {
            if (adapter != null) {
                adapter.copyTo(model.parameters(), model.frame());
            }
            model.dropout().setTraining(false);
            for (String line : Files.readAllLines(Path.of(args[2]))) {
                Json prompt = Json.parse(args[2], line);
                List<Pixels> pixels = new ArrayList<>();
                for (Json image : prompt.get("images").elements()) {
                    pixels.add(ImagePreprocessor.read(folder)
                            .pixelValues(ImageDecoder.decode(ImageSource.of(Path.of(image.string())))));
                }
                Gemma3Processor.Encoded encoded = processor.encode(
                        new Rendered(prompt.string("text"), List.of(), List.of()), pixels.size(), false, false);
                PackedBatch.Row row = new PackedBatch.Row(encoded.ids(), encoded.tokenTypeIds(), pixels);
                System.out.println(JsonWriter.line(answer(model, processor, row)));
            }
        }
    }

    private static Map<String, Object> answer(Gemma3 model, Gemma3Processor processor, PackedBatch.Row row) {
        float[] logits;
        try (Frame frame = model.frame().child("prompt")) {
            Tensor hidden = model.forward(Tape.notRecording(frame), PackedBatch.of(List.of(row)), false);
            Tensor last = frame.empty(DType.F32, 1, model.lmHead().rows());
            int n = row.ids().length;
            frame.gemm().linear(last, hidden.slice(n - 1, n), model.lmHead(), Tensor.NONE);
            logits = last.toFloats();
        }
        double max = IntStream.range(0, logits.length)
                .mapToDouble(i -> logits[i])
                .max()
                .orElseThrow();
        double sum = IntStream.range(0, logits.length)
                .mapToDouble(i -> Math.exp(logits[i] - max))
                .sum();
        List<Object> top = new ArrayList<>();
        IntStream.range(0, logits.length)
                .boxed()
                .sorted(Comparator.comparingDouble(i -> -logits[i]))
                .limit(TOP)
                .forEach(id -> top.add(List.of(
                        id, processor.tokenizer().decode(new int[] {id}, false), logits[id] - max - Math.log(sum))));
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("ids", IntStream.of(row.ids()).boxed().toList());
        answer.put("top", top);
        return answer;
    }
}
