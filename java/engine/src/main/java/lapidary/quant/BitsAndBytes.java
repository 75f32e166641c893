package lapidary.quant;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import lapidary.device.DType;
import lapidary.device.Nf4Operand;
import lapidary.format.Checkpoint;
import lapidary.format.FormatException;
import lapidary.format.Json;
import lapidary.format.JsonWriter;
import lapidary.format.SafetensorsWriter.Item;
import lapidary.format.TensorEntry;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/**
 * NF4 matrices as bitsandbytes stores them in safetensors. Beside {@code X.weight}, the packed bytes under any dtype, stand
 * {@code X.weight.absmax}, {@code .quant_map}, with double quantisation {@code .nested_absmax} and
 * {@code .nested_quant_map}, and as bytes of JSON {@code .quant_state.bitsandbytes__nf4}.
 *
 * <p>Nothing of it is believed: keys, dtypes, lengths and numbers are checked before use, and every complaint names file and
 * tensor.
 */
public final class BitsAndBytes {
    private static final String STATE = ".quant_state.bitsandbytes__";
    private static final String NF4_STATE = STATE + "nf4";
    private static final List<String> PLAIN = List.of(".absmax", ".quant_map");
    private static final List<String> NESTED = List.of(".nested_absmax", ".nested_quant_map");
    private static final Set<String> STATE_KEYS =
            Set.of("quant_type", "blocksize", "dtype", "shape", "nested_blocksize", "nested_dtype", "nested_offset");

    /** Longest quant_state in bytes: real ones have under 200. */
    private static final int MAX_STATE = 1 << 16;

    private final Checkpoint checkpoint;
    private final Frame frame;

    /** @param frame owns the matrices; the checkpoint stays open for as long, since their bytes are read where they lie */
    public BitsAndBytes(Checkpoint checkpoint, Frame frame) {
        this.checkpoint = checkpoint;
        this.frame = frame;
    }

    /** Whether that tensor of a checkpoint is the packed part of a quantised matrix, of any kind. */
    public static boolean isQuantized(Checkpoint checkpoint, String weight) {
        Set<String> names = checkpoint.names();
        return names.contains(weight + NF4_STATE)
                || names.contains(weight + STATE + "fp4")
                || names.contains(weight + ".absmax")
                || names.contains(weight + ".quant_map")
                || isInt8(checkpoint, weight);
    }

    /** Names of the tensors that belong to a quantised matrix beside its packed bytes. */
    public static Set<String> companions(Checkpoint checkpoint, String weight) {
        Set<String> names = new LinkedHashSet<>();
        for (List<String> suffixes : List.of(PLAIN, NESTED, List.of(NF4_STATE))) {
            suffixes.forEach(suffix -> names.add(weight + suffix));
        }
        names.retainAll(checkpoint.names());
        return names;
    }

    /**
     * Reads a quantised matrix.
     *
     * @param weight name of the packed tensor
     * @throws FormatException where a part is missing, of another length, or not what NF4 is
     */
    public Nf4Tensor read(String weight, long out, long in) {
        TensorEntry packed = checkpoint.entry(weight);
        refuseOtherKinds(packed);
        TensorEntry stateEntry = part(packed, NF4_STATE);
        Json state = state(stateEntry);
        checkState(state, out, in);
        long n = Math.multiplyExact(out, in);
        checkPacked(packed, n);
        checkCodes(part(packed, ".quant_map"));
        Tensor bytes = frame.borrow(packed.data(), DType.U8, Shape.of(Nf4Operand.packedBytes(n)));
        if (!state.has("nested_offset")) {
            refuse(packed, NESTED, "but quant_state has no nested_offset");
            return Nf4Tensor.of(bytes, floats(part(packed, ".absmax"), Nf4Operand.blocks(n)), out, in);
        }
        TensorEntry codes = part(packed, ".absmax");
        requireVector(codes, "U8", Nf4Operand.blocks(n));
        return Nf4Tensor.nested(
                bytes,
                frame.borrow(codes.data(), DType.U8, Shape.of(codes.elements())),
                floats(part(packed, ".nested_absmax"), Nf4Operand.nestedBlocks(n)),
                floats(part(packed, ".nested_quant_map"), Nf4Operand.NESTED_BLOCK),
                (float) state.number("nested_offset"),
                out,
                in);
    }

    /**
     * The tensors that stand for a matrix in a file. The matrix must live until they are written.
     *
     * @param weight name of the packed tensor, which the others' names begin with
     * @param weightDtype BF16 or F32: what the matrix was before it was quantised
     * @throws IllegalArgumentException where the packed bytes do not fill whole elements of the storage
     */
    public static List<Item> items(String weight, Nf4Tensor w, DType weightDtype, QuantStorage storage) {
        Map<String, Object> state = new LinkedHashMap<>();
        state.put("quant_type", "nf4");
        state.put("blocksize", Nf4Operand.BLOCK);
        state.put("dtype", weightDtype == DType.BF16 ? "bfloat16" : "float32");
        state.put("shape", List.of(w.out(), w.in()));
        List<Item> items = new ArrayList<>();
        items.add(new Item(
                weight,
                storage.safetensorsName(),
                new long[] {storage.elements(weight, w.packed().bytes()), 1},
                w.packed()::toHost));
        items.add(Item.of(weight + ".quant_map", new long[] {16}, Nf4.codes()));
        if (w.isNested()) {
            state.put("nested_blocksize", Nf4Operand.NESTED_BLOCK);
            state.put("nested_dtype", "float32");
            state.put("nested_offset", (double) w.nestedOffset());
            items.add(item(weight + ".absmax", "U8", w.absmaxCodes()));
            items.add(item(weight + ".nested_absmax", "F32", w.nestedAbsmax()));
            items.add(item(weight + ".nested_quant_map", "F32", w.nestedMap()));
        } else {
            items.add(item(weight + ".absmax", "F32", w.absmax()));
        }
        byte[] json = JsonWriter.line(state).getBytes(StandardCharsets.UTF_8);
        items.add(Item.of(weight + NF4_STATE, "U8", new long[] {json.length}, MemorySegment.ofArray(json)));
        return items;
    }

    private static Item item(String name, String dtype, Tensor x) {
        return new Item(name, dtype, new long[] {x.elements()}, x::toHost);
    }

    /** LLM.int8 keeps a matrix's row scales as X.SCB beside X.weight. */
    private static boolean isInt8(Checkpoint checkpoint, String weight) {
        return weight.endsWith(".weight")
                && checkpoint.names().contains(weight.substring(0, weight.length() - "weight".length()) + "SCB");
    }

    // ---- checks --------------------------------------------------------------------------------------------------

    private void refuseOtherKinds(TensorEntry packed) {
        String weight = packed.name();
        if (isInt8(checkpoint, weight)) {
            throw packed.error(
                    "is quantised to 8 bits (LLM.int8), expected NF4: this engine quantises to NF4 only; give it"
                            + " the unquantised checkpoint");
        }
        if (checkpoint.names().contains(weight + STATE + "fp4")) {
            throw packed.error("is quantised to FP4, expected NF4: give the unquantised checkpoint or an NF4 one");
        }
    }

    private TensorEntry part(TensorEntry packed, String suffix) {
        String name = packed.name() + suffix;
        if (!checkpoint.names().contains(name)) {
            throw packed.error("is quantised, but tensor \"" + name + "\" is missing");
        }
        return checkpoint.entry(name);
    }

    private void refuse(TensorEntry packed, List<String> suffixes, String why) {
        for (String suffix : suffixes) {
            if (checkpoint.names().contains(packed.name() + suffix)) {
                throw checkpoint.entry(packed.name() + suffix).error("stands in the file, " + why);
            }
        }
    }

    private static Json state(TensorEntry entry) {
        if (!entry.dtype().equals("U8") || entry.shape().length != 1 || entry.elements() > MAX_STATE) {
            throw entry.error("expected U8 [bytes of JSON], at most " + MAX_STATE);
        }
        Json state = Json.parse(
                entry.file() + ": tensor \"" + entry.name() + "\"", entry.data().toArray(ValueLayout.JAVA_BYTE));
        for (String key : state.keys()) {
            if (!STATE_KEYS.contains(key)) {
                throw state.get(key).error("is not a key of NF4's quant_state, which has " + sorted(STATE_KEYS));
            }
        }
        return state;
    }

    private static List<String> sorted(Set<String> keys) {
        return keys.stream().sorted().toList();
    }

    private static void checkState(Json state, long out, long in) {
        if (!state.string("quant_type").equals("nf4")) {
            throw state.get("quant_type").error("is \"" + state.string("quant_type") + "\", expected \"nf4\"");
        }
        if (state.integer("blocksize") != Nf4Operand.BLOCK) {
            throw state.get("blocksize").error("is " + state.integer("blocksize") + ", expected " + Nf4Operand.BLOCK);
        }
        if (!Set.of("bfloat16", "float16", "float32").contains(state.string("dtype"))) {
            throw state.get("dtype")
                    .error("is \"" + state.string("dtype") + "\", expected bfloat16, float16 or float32");
        }
        List<Long> shape =
                state.get("shape").elements().stream().map(Json::integer).toList();
        if (!shape.equals(List.of(out, in))) {
            throw state.get("shape").error("is " + shape + ", expected " + List.of(out, in) + " from config.json");
        }
        boolean nested = state.has("nested_offset");
        if (nested != state.has("nested_blocksize") || nested != state.has("nested_dtype")) {
            throw state.error("has some of nested_offset, nested_blocksize and nested_dtype, expected all or none");
        }
        if (nested) {
            if (state.integer("nested_blocksize") != Nf4Operand.NESTED_BLOCK) {
                throw state.get("nested_blocksize")
                        .error("is " + state.integer("nested_blocksize") + ", expected " + Nf4Operand.NESTED_BLOCK);
            }
            if (!state.string("nested_dtype").equals("float32")) {
                throw state.get("nested_dtype").error("is \"" + state.string("nested_dtype") + "\", expected float32");
            }
            if (!Float.isFinite((float) state.number("nested_offset"))) {
                throw state.get("nested_offset").error("is not a finite F32 number");
            }
        }
    }

    private static void checkPacked(TensorEntry packed, long n) {
        if (!QuantStorage.isKnown(packed.dtype())) {
            throw packed.error("is quantised, expected one of the storage dtypes " + QuantStorage.names());
        }
        if (packed.data().byteSize() != Nf4Operand.packedBytes(n)) {
            throw packed.error("has " + packed.data().byteSize() + " packed bytes, expected "
                    + Nf4Operand.packedBytes(n) + " for " + n + " values of four bits");
        }
    }

    /** The map that a file carries is what other programs decode with; kernels have NF4's own, so it must be that. */
    private static void checkCodes(TensorEntry map) {
        requireVector(map, "F32", 16);
        float[] codes = Nf4.codes();
        for (int i = 0; i < codes.length; i++) {
            float code = map.data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
            if (code != codes[i]) {
                throw map.error("entry " + i + " is " + code + ", expected " + codes[i] + " as in NF4");
            }
        }
    }

    private Tensor floats(TensorEntry entry, long length) {
        requireVector(entry, "F32", length);
        MemorySegment data = entry.data();
        for (long i = 0; i < length; i++) {
            float value = data.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * i);
            if (!Float.isFinite(value)) {
                throw entry.error("entry " + i + " is " + value + ", expected finite numbers");
            }
        }
        Shape shape = Shape.of(length);
        return data.address() % 4 == 0 ? frame.borrow(data, DType.F32, shape) : frame.upload(data, DType.F32, shape);
    }

    private static void requireVector(TensorEntry entry, String dtype, long length) {
        if (!entry.dtype().equals(dtype) || entry.elements() != length || entry.shape().length != 1) {
            throw entry.error("expected " + dtype + " [" + length + "]");
        }
    }
}
