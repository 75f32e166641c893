package lapidary.bench;

import java.nio.file.Path;
import java.util.ArrayList;
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
 * Tokens per second of {@code lapidary.infer}: {@code DecodeSpeed MODEL [bf16|f32|nf4]}. Prompts of about 512 tokens, 64 new ones
 * each; the speed is that of the tokens behind the first.
 */
public final class DecodeSpeed {
    private static final int PROMPT = 512;
    private static final int NEW = 64;

    private DecodeSpeed() {}

    public static void main(String[] args) {
        Path folder = Path.of(args[0]);
        String form = args.length > 1 ? args[1] : "bf16";
        LoadOptions options =
                switch (form) {
                    case "bf16" -> LoadOptions.DEFAULT;
                    case "f32" -> LoadOptions.DEFAULT.withDtype(DType.F32);
                    case "nf4" -> LoadOptions.DEFAULT.withNf4();
                    default -> throw new IllegalArgumentException(form + " is none of bf16, f32, nf4");
                };
        try (Device device = CpuDevice.open();
                LanguageModel model = LanguageModel.load(folder, options, device)) {
            System.out.println(folder + " " + form + ", " + device.describe());
            run(model, 1, 0);
            for (int batch : new int[] {1, 8}) {
                run(model, batch, 1);
                run(model, batch, 2);
            }
        }
    }

    /** @param seed makes prompts that no earlier run has left in the cache; 0 for a run that warms up */
    private static void run(LanguageModel model, int batch, int seed) {
        List<List<Message>> prompts = new ArrayList<>();
        for (int i = 0; i < batch; i++) {
            StringBuilder text = new StringBuilder("Run " + seed + batch + i + ": ");
            while (model.countTokens(List.of(Message.of("user", text.toString()))) < PROMPT) {
                text.append("the quick brown fox ").append(text.length()).append(' ');
            }
            prompts.add(List.of(Message.of("user", text.toString())));
        }
        double reading = seconds(model, prompts, 1); // what follows finds the prompts in the cache
        double first = seconds(model, prompts, 1);
        double decoding = seconds(model, prompts, NEW + 1) - first;
        if (seed > 0) {
            System.out.printf(
                    Locale.ROOT,
                    "batch %d: prompt %.0f tokens/s, decode %.1f tokens/s%n",
                    batch,
                    batch * PROMPT / reading,
                    batch * NEW / decoding);
        }
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
