package lapidary.cli;

import java.util.List;
import lapidary.device.DType;
import lapidary.quant.QuantStorage;
import lapidary.train.SftConfig;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** How linear layers are quantised, under TRL's and Transformers' names. */
final class QuantOptions {
    @Option(
            names = "--load_in_4bit",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "Hold every linear layer but the output head in NF4, vision tower included (default: false)."
                    + " A checkpoint that is stored in NF4 is used as it is.")
    private Boolean loadIn4bit;

    @Option(
            names = "--load_in_8bit",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "Refused: NF4 is the one quantisation here.")
    private boolean loadIn8bit;

    @Option(names = "--bnb_4bit_quant_type", paramLabel = "TYPE", description = "nf4; fp4 is refused (default: nf4).")
    private String quantType = "nf4";

    @Option(
            names = "--use_bnb_nested_quant",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "Quantise the scales too: 0.516 instead of 0.5625 bytes a weight (default: false).")
    private Boolean nested;

    @Option(
            names = "--bnb_4bit_compute_dtype",
            paramLabel = "TYPE",
            converter = DTypeConverter.class,
            description = "Of products with NF4 matrices: what --dtype says, and nothing else (default: --dtype).")
    private DType computeDtype;

    @Option(
            names = "--bnb_4bit_quant_storage",
            paramLabel = "TYPE",
            description =
                    "Dtype under which packed bytes are written: uint8, bfloat16, float16, float32, float64 or int8"
                            + " (default: uint8). In memory it makes no difference.")
    private String storage;

    @Option(
            names = "--llm_int8_skip_modules",
            paramLabel = "NAME",
            arity = "1..*",
            split = ",",
            description =
                    "Linear layers that are not quantised: names, beginnings of names up to a dot, or ends of names"
                            + " (default: none; the output head never is).")
    private List<String> skip;

    boolean loadIn4bit() {
        return loadIn4bit != null && loadIn4bit;
    }

    boolean nested() {
        return nested != null && nested;
    }

    List<String> skip() {
        return skip == null ? List.of() : skip;
    }

    void applyTo(SftConfig.Builder builder) {
        builder.loadIn4bit(loadIn4bit()).useBnbNestedQuant(nested()).llmInt8SkipModules(skip());
    }

    QuantStorage storage(CommandLine command) {
        try {
            return storage == null ? QuantStorage.UINT8 : QuantStorage.of(storage);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, "--bnb_4bit_quant_storage: " + e.getMessage(), e);
        }
    }

    /** What may not be asked for, in words that say why. */
    void refuseOthers(CommandLine command, DType dtype) {
        if (loadIn8bit) {
            throw new ParameterException(
                    command,
                    loadIn4bit()
                            ? "--load_in_8bit and --load_in_4bit: a weight has one precision; --load_in_4bit is supported"
                            : "--load_in_8bit is not supported: LLM.int8 needs products of its own, and NF4 takes half its"
                                    + " memory; use --load_in_4bit");
        }
        if (quantType.equals("fp4")) {
            throw new ParameterException(
                    command,
                    "--bnb_4bit_quant_type fp4 is not supported: it takes the memory of nf4 and loses more; use nf4");
        }
        if (!quantType.equals("nf4")) {
            throw new ParameterException(command, "--bnb_4bit_quant_type " + quantType + " is not supported: nf4 is");
        }
        if (computeDtype != null && computeDtype != dtype) {
            throw new ParameterException(
                    command,
                    "--bnb_4bit_compute_dtype " + name(computeDtype) + " differs from --dtype " + name(dtype)
                            + ": products are computed in the dtype of activations, as TRL sets it");
        }
        storage(command);
        if (skip().stream().anyMatch(String::isBlank)) {
            throw new ParameterException(
                    command, "--llm_int8_skip_modules has an empty name, which every layer ends with");
        }
    }

    /** For a command that always quantises. */
    void refuseNotQuantising(CommandLine command) {
        if (loadIn4bit != null && !loadIn4bit) {
            throw new ParameterException(command, "--load_in_4bit false has no place here: this command quantises");
        }
    }

    /** An option that would have no effect is a mistake. */
    void refuseWithoutLoadIn4bit(CommandLine command) {
        String given = nested()
                ? "--use_bnb_nested_quant"
                : computeDtype != null
                        ? "--bnb_4bit_compute_dtype"
                        : storage != null ? "--bnb_4bit_quant_storage" : skip != null ? "--llm_int8_skip_modules" : "";
        if (!loadIn4bit() && !given.isEmpty()) {
            throw new ParameterException(command, given + " has no effect without --load_in_4bit");
        }
    }

    private static String name(DType dtype) {
        return dtype == DType.BF16 ? "bfloat16" : "float32";
    }
}
