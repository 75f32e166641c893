package lapidary.cli;

import lapidary.device.DType;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** {@code --dtype} as TRL spells it. */
final class DTypeConverter implements ITypeConverter<DType> {
    @Override
    public DType convert(String value) {
        return switch (value) {
            case "float32" -> DType.F32;
            case "bfloat16" -> DType.BF16;
            case "float16" -> throw new TypeConversionException(
                    "float16 is not supported: Gemma 3 overflows in it; use bfloat16 or float32");
            default -> throw new TypeConversionException("'" + value + "' is not one of float32, bfloat16");
        };
    }
}
