package lapidary.springai;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.springframework.ai.chat.prompt.ChatOptions;
import org.springframework.ai.test.options.AbstractChatOptionsTests;

/** Spring AI's own tests of options, and what they do not ask. */
class LapidaryChatOptionsTest extends AbstractChatOptionsTests<LapidaryChatOptions, LapidaryChatOptions.Builder> {
    @Override
    protected Class<LapidaryChatOptions> getConcreteOptionsClass() {
        return LapidaryChatOptions.class;
    }

    @Override
    protected LapidaryChatOptions.Builder readyToBuildBuilder() {
        return LapidaryChatOptions.builder()
                .model("m")
                .frequencyPenalty(0.0)
                .maxTokens(3)
                .presencePenalty(0.0)
                .stopSequences(List.of("x"))
                .temperature(0.5)
                .topK(4)
                .topP(0.9)
                .seed(7L)
                .minP(0.1);
    }

    @Test
    void eachOptionCounts() {
        LapidaryChatOptions all = readyToBuildBuilder().build();
        assertEquals(all, all.mutate().build());
        assertNotEquals(all, all.mutate().seed(8L).build());
        assertNotEquals(all, all.mutate().minP(0.2).build());
        assertNotEquals(all, all.mutate().maxTokens(4).build());
    }

    @Test
    void optionsOfAnyClassCombine() {
        LapidaryChatOptions defaults = readyToBuildBuilder().build();
        ChatOptions plain = ChatOptions.builder().temperature(0.0).build();
        LapidaryChatOptions expected = defaults.mutate().temperature(0.0).build();
        assertEquals(
                expected,
                defaults.mutate().combineWith(LapidaryChatOptions.of(plain)).build());
        assertEquals(expected, defaults.mutate().combineWith(plain.mutate()).build());
        assertEquals(
                9L,
                defaults.mutate()
                        .combineWith(LapidaryChatOptions.builder().seed(9L))
                        .build()
                        .getSeed());
    }
}
