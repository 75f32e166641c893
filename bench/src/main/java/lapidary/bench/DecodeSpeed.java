package lapidary.bench;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.gemma3.Message;
import lapidary.infer.Generation;
import lapidary.infer.GenerationOptions;
import lapidary.infer.LanguageModel;
import lapidary.infer.LoadOptions;

/**
 * Tokens per second of {@code lapidary.infer}: {@code DecodeSpeed MODEL [bf16|f32|nf4 [BATCH...]]}, batches of 1 and 8 where none are
 * named. Prompts of about 512 tokens, 64 new ones each, in three rounds; the speed is that of the tokens behind the first. As a
 * machine's memory is not as fast at all times, it is measured before and after each round for as long as the round took.
 */
public final class DecodeSpeed {
    private static final int PROMPT = 512;
    private static final int NEW = 64;
    private static final int ROUNDS = 3;

    private DecodeSpeed() {}

    public static void main(String[] args) throws InterruptedException {
        Path folder = Path.of(args[0]);
        String form = args.length > 1 ? args[1] : "bf16";
        LoadOptions options =
                switch (form) {
                    case "bf16" -> LoadOptions.DEFAULT;
                    case "f32" -> LoadOptions.DEFAULT.withDtype(DType.F32);
                    case "nf4" -> LoadOptions.DEFAULT.withNf4();
                    default -> throw new IllegalArgumentException(form + " is none of bf16, f32, nf4");
                };
        int[] batches = args.length > 2
                ? Arrays.stream(args, 2, args.length)
                        .mapToInt(Integer::parseInt)
                        .toArray()
                : new int[] {1, 8};
        MemoryBandwidth memory = MemoryBandwidth.of(2);
        try (Device device = CpuDevice.open();
                LanguageModel model = LanguageModel.load(folder, options, device)) {
            System.out.println(folder + " " + form + ", " + device.describe());
            List<List<Message>> warmUp = prompts(model, 1, "Warm up");
            seconds(model, warmUp, 8);
            for (int batch : batches) {
                run(model, batch, memory);
            }
        }
    }

    private static void run(LanguageModel model, int batch, MemoryBandwidth memory) throws InterruptedException {
        List<List<Message>> prompts = prompts(model, batch, "Run");
        double reading = seconds(model, prompts, 1); // what follows finds the prompts in the cache
        System.out.printf(Locale.ROOT, "batch %d: prompt %.0f tokens/s%n", batch, batch * PROMPT / reading);
        double first = Double.MAX_VALUE;
        for (int round = 0; round < ROUNDS; round++) {
            first = Math.min(first, seconds(model, prompts, 1));
        }
        double before = memory.over(0.2);
        for (int round = 0; round < ROUNDS; round++) {
            double decoding = seconds(model, prompts, NEW + 1) - first;
            double after = memory.over(Math.min(decoding, 1));
            System.out.printf(
                    Locale.ROOT,
                    "batch %d: decode %.1f tokens/s, memory %.1f GB/s%n",
                    batch,
                    batch * NEW / decoding,
                    (before + after) / 2 / 1e9);
            before = after;
        }
    }

    private static List<List<Message>> prompts(LanguageModel model, int batch, String name) {
        List<List<Message>> prompts = new ArrayList<>();
        for (int i = 0; i < batch; i++) {
            StringBuilder text = new StringBuilder(name + " " + i + ": ");
            while (model.countTokens(List.of(Message.of("user", text.toString()))) < PROMPT) {
                text.append("the quick brown fox ").append(text.length()).append(' ');
            }
            prompts.add(List.of(Message.of("user", text.toString())));
        }
        return prompts;
    }

    private static double seconds(LanguageModel model, List<List<Message>> prompts, int newTokens) {
        long begun = System.nanoTime();
        List<Generation> generations = new ArrayList<>();
        for (List<Message> prompt : prompts) {
            generations.add(model.generate(prompt, GenerationOptions.GREEDY.withMaxNewTokens(newTokens)));
        }
        for (Generation generation : generations) {
            int tokens = generation.answer().tokenIds().size();
            if (tokens != newTokens) {
                throw new IllegalStateException("an answer ended after " + tokens + " of " + newTokens + " tokens");
            }
        }
        return (System.nanoTime() - begun) / 1e9;
    }
}
