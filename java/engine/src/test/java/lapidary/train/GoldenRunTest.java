package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import lapidary.DeviceTest;
import lapidary.autograd.Gradients;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Json;
import lapidary.format.Safetensors;
import lapidary.format.TensorEntry;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Nf4Options;
import lapidary.gemma3.PackedBatch;
import lapidary.gemma3.PeftAdapter;
import lapidary.gemma3.Precision;
import lapidary.image.FloatPixels;
import lapidary.image.Pixels;
import lapidary.nn.LoraSpec;
import lapidary.nn.Parameter;
import lapidary.op.LinearCrossEntropy;
import lapidary.optim.Optimizer;
import lapidary.optim.OptimizerOptions;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Whole models against Hugging Face Transformers and PEFT: hidden states, logits, loss, the gradient of every trained
 * tensor, ten optimiser steps. Values and batches come from {@code bench/reference/make_golden.py}; those of models in NF4
 * from {@code make_nf4_golden.py}, where {@code _nf4} stands for the checkpoint as bitsandbytes stored it and
 * {@code _quantized} for the plain one that is quantised while it is loaded.
 */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class GoldenRunTest extends DeviceTest {
    private static final int IGNORED = -100;

    GoldenRunTest(Device device) {
        super(device);
    }

    private static Path golden(String model) {
        return Path.of("src/test/resources/golden").resolve(model.replace("_quantized", "_nf4"));
    }

    /** Where the model's plain form is, with its rows, pictures and initial adapter. */
    private static Path plain(String model) {
        return golden(model.replaceAll("_.*", ""));
    }

    /** How a model is loaded: double quantisation for the multimodal one, F32 scales for the other. */
    private static Precision precision(String model, DType dtype) {
        Nf4Options nf4 = new Nf4Options(model.startsWith("multimodal"), List.of());
        return new Precision(dtype, model.endsWith("_quantized") ? nf4 : null, false);
    }

    private static float[] floats(TensorEntry entry) {
        float[] values = new float[(int) (entry.data().byteSize() / 4)];
        for (int i = 0; i < values.length; i++) {
            values[i] = entry.data().getAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i);
        }
        return values;
    }

    private static int[] ints(JsonNode array) {
        int[] values = new int[array.size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = array.get(i).intValue();
        }
        return values;
    }

    /** The golden batch, packed. */
    private static MicroBatch batch(String model) {
        return batch(model, 1);
    }

    /** The golden rows so many times over, packed. */
    private static MicroBatch batch(String model, int times) {
        List<PackedBatch.Row> rows = new ArrayList<>();
        List<Integer> targets = new ArrayList<>();
        Path pixelsFile = plain(model).resolve("pixels.safetensors");
        float[] pixels = new float[0];
        int perImage = 0;
        if (pixelsFile.toFile().exists()) {
            try (Safetensors file = Safetensors.open(pixelsFile)) {
                TensorEntry entry = file.entry("pixel_values");
                pixels = floats(entry);
                perImage = (int) (pixels.length / entry.shape()[0]);
            }
        }
        int image = 0;
        for (JsonNode row : Json.read(plain(model).resolve("batch.json")).node()) {
            List<Pixels> images = new ArrayList<>();
            for (int i = 0; i < row.path("images").asInt(0); i++) {
                images.add(new FloatPixels(Arrays.copyOfRange(pixels, image * perImage, (image + 1) * perImage)));
                image++;
            }
            int[] ids = ints(row.get("ids"));
            int[] types = row.has("types") ? ints(row.get("types")) : new int[ids.length];
            rows.add(new PackedBatch.Row(ids, types, images));
            int[] labels = ints(row.get("labels"));
            for (int t = 1; t <= labels.length; t++) {
                targets.add(t < labels.length ? labels[t] : IGNORED);
            }
        }
        List<PackedBatch.Row> all = new ArrayList<>();
        List<Integer> allTargets = new ArrayList<>();
        for (int i = 0; i < times; i++) {
            all.addAll(rows);
            allTargets.addAll(targets);
        }
        int[] packed = allTargets.stream().mapToInt(Integer::intValue).toArray();
        int trained = (int) allTargets.stream().filter(t -> t != IGNORED).count();
        return new MicroBatch(PackedBatch.of(all), packed.length, packed, trained, List.of());
    }

    private Gemma3 load(String model, DType dtype) {
        Path folder = model.endsWith("_quantized") ? plain(model) : golden(model);
        try (PeftAdapter init = PeftAdapter.open(plain(model).resolve("init"))) {
            Gemma3 loaded = Gemma3.load(folder, device, precision(model, dtype), init.spec(), 1);
            init.copyTo(loaded.parameters(), loaded.frame());
            return loaded;
        }
    }

    private static LinearCrossEntropy crossEntropy(Gemma3 model, Tensor hidden, MicroBatch batch, Gradients grads) {
        return new LinearCrossEntropy(
                hidden,
                model.lmHead(),
                batch.targets(),
                batch.trained(),
                (float) model.config().text().finalLogitSoftcapping(),
                grads);
    }

    private static List<Tensor> trained(Gemma3 model) {
        return model.parameters().stream().map(Parameter::value).toList();
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"multimodal", "text", "multimodal_nf4", "text_nf4", "multimodal_quantized", "text_quantized"})
    void hiddenStatesAndLogits(String name) {
        MicroBatch batch = batch(name);
        try (Gemma3 model = load(name, DType.F32);
                Safetensors golden = Safetensors.open(golden(name).resolve("float32.safetensors"));
                Frame frame = model.frame().child("forward")) {
            Tensor hidden = model.forward(Tape.notRecording(frame), batch.packed(), false);
            assertRelative(floats(golden.entry("normed")), hidden.toFloats(), 1e-5, "normed");
            Tensor logits = frame.empty(DType.F32, hidden.rows(), model.lmHead().rows());
            frame.gemm().linear(logits, hidden, model.lmHead(), Tensor.NONE);
            assertRelative(floats(golden.entry("logits")), logits.toFloats(), 1e-5, "logits");
        }
    }

    @ParameterizedTest
    @CsvSource({
        "multimodal,true",
        "multimodal,false",
        "text,true",
        "text,false",
        "multimodal_nf4,true",
        "multimodal_quantized,false",
        "text_quantized,true",
        "text_nf4,false"
    })
    void lossAndEveryGradient(String name, boolean checkpointing) {
        MicroBatch batch = batch(name);
        JsonNode expected = Json.read(golden(name).resolve("float32.json")).node();
        try (Gemma3 model = load(name, DType.F32);
                Safetensors golden = Safetensors.open(golden(name).resolve("float32.safetensors"));
                Gradients grads = new Gradients(model.frame(), trained(model));
                Frame frame = model.frame().child("step")) {
            Tape tape = Tape.recording(frame, trained(model));
            LinearCrossEntropy loss =
                    crossEntropy(model, model.forward(tape, batch.packed(), checkpointing), batch, grads);
            Tensor value = tape.run(loss);
            assertEquals(expected.get("loss").doubleValue(), value.item(), 1e-5 * value.item(), "loss");
            assertEquals(
                    expected.get("trained_tokens").intValue(), loss.statistics().valid());
            if (expected.has("entropy")) {
                assertEquals(
                        expected.get("entropy").doubleValue(),
                        loss.statistics().entropy() / loss.statistics().valid(),
                        1e-5 * 6,
                        "entropy");
            }
            tape.backward(value, grads);
            for (Parameter parameter : model.parameters()) {
                assertRelative(
                        floats(golden.entry("grad." + parameter.name())),
                        gradient(grads, parameter.value()),
                        1e-4,
                        "gradient of " + parameter.name());
            }
        }
    }

    /** Each row of a batch by itself. */
    private static List<PackedBatch.Row> rows(MicroBatch batch) {
        List<PackedBatch.Row> rows = new ArrayList<>();
        PackedBatch all = batch.packed();
        int image = 0;
        for (int r = 0; r < all.rows(); r++) {
            int[] types = Arrays.copyOfRange(all.tokenTypes(), all.starts()[r], all.starts()[r + 1]);
            int images = 0;
            for (int t = 0; t < types.length; t++) {
                images += types[t] == 1 && (t == 0 || types[t - 1] != 1) ? 1 : 0;
            }
            int[] ids = Arrays.copyOfRange(all.ids(), all.starts()[r], all.starts()[r + 1]);
            rows.add(new PackedBatch.Row(ids, types, all.pixels().subList(image, image + images)));
            image += images;
        }
        return rows;
    }

    /**
     * What {@code --packing} rests on: rows of text, of one picture and of several, laid end to end in any order, give the loss and
     * the gradients that they give one by one. A row sees no other, positions begin again, windows and pictures end with it.
     */
    @ParameterizedTest
    @CsvSource({"multimodal, 1", "multimodal, 2", "text, 3"})
    void packedRowsGiveWhatTheyGiveAlone(String name, int seed) {
        MicroBatch batch = batch(name, 2);
        List<PackedBatch.Row> rows = rows(batch);
        List<int[]> targets = new ArrayList<>();
        for (int r = 0; r < rows.size(); r++) {
            targets.add(Arrays.copyOfRange(
                    batch.targets(), batch.packed().starts()[r], batch.packed().starts()[r + 1]));
        }
        List<Integer> order =
                new ArrayList<>(IntStream.range(0, rows.size()).boxed().toList());
        Collections.shuffle(order, new Random(seed));
        MicroBatch packed = new MicroBatch(
                PackedBatch.padded(order.stream().map(rows::get).toList(), 0),
                0,
                new int[0],
                batch.trained(),
                List.of());
        int[] packedTargets = new int[packed.packed().tokens()];
        Arrays.fill(packedTargets, IGNORED);
        int at = 0;
        for (int r : order) {
            System.arraycopy(targets.get(r), 0, packedTargets, at, targets.get(r).length);
            at += targets.get(r).length;
        }
        try (Gemma3 model = load(name, DType.F32);
                Gradients expected = new Gradients(model.frame(), trained(model));
                Gradients actual = new Gradients(model.frame(), trained(model))) {
            double loss = addGradients(
                    model,
                    new MicroBatch(packed.packed(), at, packedTargets, batch.trained(), List.of()),
                    true,
                    actual);
            double alone = 0;
            for (int r = 0; r < rows.size(); r++) {
                MicroBatch one = new MicroBatch(
                        PackedBatch.of(List.of(rows.get(r))), 0, targets.get(r), batch.trained(), List.of());
                alone += addGradients(model, one, true, expected);
            }
            assertEquals(alone, loss, 1e-6 * alone);
            for (Parameter parameter : model.parameters()) {
                assertRelative(
                        gradient(expected, parameter.value()),
                        gradient(actual, parameter.value()),
                        1e-5,
                        "gradient of " + parameter.name());
            }
        }
    }

    /** The golden rows again and again, which have more pictures than the vision tower runs at a time. */
    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void manyPicturesGiveWhatFewGiveTogether(boolean checkpointing) {
        MicroBatch few = batch("multimodal");
        MicroBatch many = batch("multimodal", 70 / few.packed().pixels().size() + 1);
        try (Gemma3 model = load("multimodal", DType.F32);
                Gradients expected = new Gradients(model.frame(), trained(model));
                Gradients actual = new Gradients(model.frame(), trained(model))) {
            double loss = addGradients(model, few, checkpointing, expected);
            assertEquals(loss, addGradients(model, many, checkpointing, actual), 1e-5 * loss);
            for (Parameter parameter : model.parameters()) {
                assertRelative(
                        gradient(expected, parameter.value()),
                        gradient(actual, parameter.value()),
                        1e-4,
                        "gradient of " + parameter.name());
            }
        }
    }

    private static double addGradients(Gemma3 model, MicroBatch batch, boolean checkpointing, Gradients grads) {
        try (Frame frame = model.frame().child("step")) {
            Tape tape = Tape.recording(frame, trained(model));
            Tensor loss =
                    tape.run(crossEntropy(model, model.forward(tape, batch.packed(), checkpointing), batch, grads));
            tape.backward(loss, grads);
            return loss.item();
        }
    }

    @Test
    void equalPicturesOfDifferentPartsMeetDifferentMasks() {
        Pixels picture = batch("multimodal").packed().pixels().get(0);
        try (PeftAdapter init = PeftAdapter.open(golden("multimodal").resolve("init"))) {
            LoraSpec spec = init.spec();
            LoraSpec dropping = new LoraSpec(spec.r(), spec.alpha(), 0.5, spec.targetModules(), spec.modulesToSave());
            try (Gemma3 model =
                            Gemma3.load(golden("multimodal"), device, precision("multimodal", DType.F32), dropping, 1);
                    Frame frame = model.frame().child("forward")) {
                init.copyTo(model.parameters(), model.frame());
                Tensor features =
                        model.imageFeatures(Tape.notRecording(frame), java.util.Collections.nCopies(65, picture));
                long each = features.rows() / 65;
                float[] first = features.slice(0, each).toFloats();
                float[] last = features.slice(64 * each, 65 * each).toFloats();
                assertFalse(java.util.Arrays.equals(first, last), "the 65th picture begins another part");
                model.dropout().setTraining(false);
                Tensor plain =
                        model.imageFeatures(Tape.notRecording(frame), java.util.Collections.nCopies(65, picture));
                assertRelative(
                        plain.slice(0, each).toFloats(),
                        plain.slice(64 * each, 65 * each).toFloats(),
                        1e-6,
                        "without dropout");
            }
        }
    }

    /** Dense gradient, whichever form it has. */
    private static float[] gradient(Gradients grads, Tensor parameter) {
        Gradients.RowGradient rows = grads.rowsOf(parameter);
        if (rows.slots().isEmpty()) {
            return grads.of(parameter).toFloats();
        }
        int cols = (int) parameter.last();
        float[] dense = new float[(int) parameter.elements()];
        float[] values = rows.rows().toFloats();
        rows.slots().forEach((id, slot) -> System.arraycopy(values, slot * cols, dense, id * cols, cols));
        return dense;
    }

    @ParameterizedTest
    @CsvSource({
        "multimodal,F32,1e-4",
        "text,F32,1e-4",
        "multimodal,BF16,1e-2",
        "text,BF16,1e-2",
        "multimodal_quantized,F32,1e-4",
        "text_nf4,F32,1e-4",
        "multimodal_nf4,BF16,1e-2",
        "text_quantized,BF16,1e-2"
    })
    void tenSteps(String name, DType dtype, double tolerance) {
        MicroBatch batch = batch(name);
        String file = dtype == DType.F32 ? "float32" : "bfloat16";
        JsonNode steps = Json.read(golden(name).resolve(file + ".json")).node().get("steps");
        try (Gemma3 model = load(name, dtype);
                Safetensors golden = Safetensors.open(golden(name).resolve(file + ".safetensors"))) {
            Optimizer optimizer = new Optimizer(model.frame(), model.parameters(), OptimizerOptions.adamw(0), true);
            for (int i = 0; i < steps.size(); i++) {
                JsonNode expected = steps.get(i);
                try (Gradients grads = new Gradients(model.frame(), trained(model));
                        Frame frame = model.frame().child("step " + i)) {
                    Tape tape = Tape.recording(frame, trained(model));
                    Tensor loss =
                            tape.run(crossEntropy(model, model.forward(tape, batch.packed(), false), batch, grads));
                    assertEquals(expected.get("loss").doubleValue(), loss.item(), tolerance * loss.item(), "loss " + i);
                    tape.backward(loss, grads);
                    double norm = optimizer.clip(grads, 1);
                    assertEquals(expected.get("grad_norm").doubleValue(), norm, 2 * tolerance * norm, "grad_norm " + i);
                    optimizer.step(grads, expected.get("learning_rate").floatValue());
                }
            }
            if (dtype == DType.F32) {
                for (Parameter parameter : model.parameters()) {
                    assertRelative(
                            floats(golden.entry("after." + parameter.name())),
                            parameter.value().toFloats(),
                            1e-3,
                            "after ten steps " + parameter.name());
                }
            }
        }
    }

    /** Norm of the difference within {@code tolerance} of the norm. */
    private static void assertRelative(float[] expected, float[] actual, double tolerance, String what) {
        assertEquals(expected.length, actual.length, what + " length");
        double difference = 0;
        double norm = 0;
        for (int i = 0; i < expected.length; i++) {
            difference += Math.pow(expected[i] - actual[i], 2);
            norm += Math.pow(expected[i], 2);
        }
        double relative = Math.sqrt(difference) / Math.max(Math.sqrt(norm), 1e-30);
        assertTrue(relative <= tolerance, what + " differs by " + relative + " of its norm, allowed " + tolerance);
    }
}
