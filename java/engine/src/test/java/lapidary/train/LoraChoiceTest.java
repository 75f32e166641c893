package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.List;
import java.util.function.UnaryOperator;
import lapidary.gemma3.PeftAdapter;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** The golden adapter has rank 4, alpha 8, every linear layer of the decoder, and both tables. */
final class LoraChoiceTest {
    private static final Path ADAPTER = Path.of("src/test/resources/golden/text/init");

    private interface Options extends UnaryOperator<SftConfig.Builder> {}

    private static LoraChoice choice(PeftAdapter init, Options options) {
        return LoraChoice.of(
                options.apply(SftConfig.builder(Path.of("model"), "data", Path.of("out")))
                        .build(),
                init);
    }

    @Test
    void withoutAnAdapterTheDefaultsAreTrls() {
        LoraChoice choice = choice(null, options -> options);
        assertEquals(16, choice.spec().r());
        assertEquals(32, choice.spec().alpha());
        assertEquals(List.of("all-linear"), choice.spec().targetModules());
        assertEquals(List.of(), choice.spec().modulesToSave());
        assertEquals("", choice.taken());
    }

    @Test
    void whatIsNotGivenComesFromTheAdapterAndIsSaid() {
        try (PeftAdapter init = PeftAdapter.open(ADAPTER)) {
            LoraChoice choice = choice(init, options -> options.loraDropout(0.25));
            assertEquals(4, choice.spec().r());
            assertEquals(8, choice.spec().alpha());
            assertEquals(0.25, choice.spec().dropout());
            String taken = choice.taken();
            assertTrue(taken.startsWith("From the adapter in " + ADAPTER + ": lora_r 4, lora_alpha 8, "), taken);
            assertTrue(
                    taken.contains("lora_target_modules down_proj,gate_proj,up_proj,k_proj,o_proj,q_proj,v_proj"),
                    taken);
            assertTrue(taken.endsWith("lora_modules_to_save lm_head,embed_tokens"), taken);
        }
    }

    @Test
    void optionsThatSayTheSameAreTaken() {
        try (PeftAdapter init = PeftAdapter.open(ADAPTER)) {
            LoraChoice choice = choice(init, options -> options.loraR(4)
                    .loraAlpha(8.0)
                    .loraTargetModules(List.of("all-linear"))
                    .loraModulesToSave(List.of("embed_tokens", "lm_head")));
            assertEquals("", choice.taken());
            choice.requireTargets(init.spec().targetModules());
        }
    }

    static List<Arguments> contradictions() {
        return List.of(
                Arguments.of((Options) o -> o.loraR(8), List.of("--lora_r is 8", "has 4;")),
                Arguments.of((Options) o -> o.loraAlpha(16.0), List.of("--lora_alpha is 16,", "has 8;")),
                Arguments.of(
                        (Options) o -> o.loraModulesToSave(List.of("lm_head")),
                        List.of("[lm_head]", "[lm_head, embed_tokens]")),
                Arguments.of((Options) o -> o.loraModulesToSave(List.of()), List.of("--lora_modules_to_save is []")),
                Arguments.of(
                        (Options) o -> o.loraTargetModules(List.of("q_proj", "v_proj")),
                        List.of("--lora_target_modules is [q_proj, v_proj]", "has [down_proj, ")),
                Arguments.of((Options) o -> o.loraTargetModules(List.of("nothing")), List.of("[nothing]")));
    }

    @ParameterizedTest
    @MethodSource("contradictions")
    void aContradictionNamesBothValues(Options options, List<String> parts) {
        try (PeftAdapter init = PeftAdapter.open(ADAPTER)) {
            OptionConflictException e = assertThrows(OptionConflictException.class, () -> choice(init, options));
            parts.forEach(part -> assertTrue(e.getMessage().contains(part), e.getMessage()));
            assertTrue(e.getMessage().contains(ADAPTER.toString()), e.getMessage());
        }
    }

    @Test
    void namesThatSelectALayerWithoutAnAdapterAreRefused() {
        try (PeftAdapter init = PeftAdapter.open(ADAPTER)) {
            LoraChoice choice = choice(init, options -> options.loraTargetModules(List.of("all-linear")));
            OptionConflictException e = assertThrows(
                    OptionConflictException.class,
                    () -> choice.requireTargets(List.of("model.vision_tower.encoder.layers.0.mlp.fc1")));
            assertTrue(e.getMessage().contains("and not model.vision_tower.encoder.layers.0.mlp.fc1"), e.getMessage());
        }
    }

    /** The adapter of another program's checkpoint is none that the user has named as such. */
    @Test
    void aCheckpointsAdapterIsNotCalledAnInitialOne() {
        try (PeftAdapter init = PeftAdapter.open(ADAPTER)) {
            String message = assertThrows(OptionConflictException.class, () -> choice(init, o -> o.loraR(8)))
                    .getMessage();
            assertEquals(
                    "--lora_r is 8, but the adapter in " + ADAPTER + " has 4; leave --lora_r out to go on with the"
                            + " adapter's",
                    message);
            message = assertThrows(
                            OptionConflictException.class,
                            () -> choice(init, o -> o.loraR(8).initAdapter(ADAPTER)))
                    .getMessage();
            assertEquals(
                    "--lora_r is 8, but the adapter of --init_adapter " + ADAPTER
                            + " has 4; leave --lora_r out to go on"
                            + " with the adapter's, or start without --init_adapter",
                    message);
        }
    }
}
