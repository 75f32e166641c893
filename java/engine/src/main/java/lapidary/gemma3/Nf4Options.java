package lapidary.gemma3;

import java.util.List;

/**
 * How the matrices of linear layers are quantised to NF4 while they are loaded. The output head, which is no linear layer
 * here, and everything else stay as they are.
 *
 * @param doubleQuant whether the scales are quantised too
 * @param skipModules linear layers to leave out: whole names, the beginning of names up to a dot, or ends of names
 */
public record Nf4Options(boolean doubleQuant, List<String> skipModules) {
    public Nf4Options {
        skipModules = List.copyOf(skipModules);
        if (skipModules.stream().anyMatch(String::isBlank)) {
            throw new IllegalArgumentException(
                    "--llm_int8_skip_modules has an empty name, which every layer ends with");
        }
    }

    /** Whether the linear layer of that name becomes NF4. */
    public boolean quantizes(String module) {
        return skipModules.stream().noneMatch(skip -> matches(skip, module));
    }

    /** Whether a name in a skip list means that module, as in Transformers (which also reads it as an expression). */
    static boolean matches(String skip, String module) {
        return module.equals(skip) || module.startsWith(skip + ".") || module.endsWith(skip);
    }
}
