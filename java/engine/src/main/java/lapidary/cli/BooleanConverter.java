package lapidary.cli;

import java.util.Locale;
import java.util.Optional;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** Yes and no as Hugging Face's argument parser takes them, and as YAML does. */
final class BooleanConverter implements ITypeConverter<Boolean> {
    static Optional<Boolean> of(String value) {
        return switch (value.toLowerCase(Locale.ROOT)) {
            case "true", "t", "yes", "y", "on", "1" -> Optional.of(true);
            case "false", "f", "no", "n", "off", "0" -> Optional.of(false);
            default -> Optional.empty();
        };
    }

    @Override
    public Boolean convert(String value) {
        return of(value)
                .orElseThrow(() -> new TypeConversionException("expected true or false (yes and no, on and off, 1 and 0"
                        + " are the same), or no value for true"));
    }
}
