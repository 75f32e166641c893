package lapidary.infer;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import lapidary.device.DType;
import lapidary.gemma3.Message;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** A model with a device of its own, which goes with it: freed twice, or under work, it takes the whole JVM along. */
final class LanguageModelClosingTest {
    private static final GenerationOptions GREEDY = GenerationOptions.GREEDY.withMaxNewTokens(4);

    private static LanguageModel load() {
        return LanguageModel.load(DemoModel.BASE, LoadOptions.DEFAULT.withDtype(DType.F32));
    }

    @Test
    void closesOnceHoweverManyAskForIt() {
        for (int round = 0; round < 3; round++) {
            LanguageModel model = load();
            model.generate("Hello", GREEDY).answer();
            Generation running = model.generate("Go on", GREEDY.withMaxNewTokens(1000));
            CountDownLatch start = new CountDownLatch(1);
            List<CompletableFuture<Void>> closing = new ArrayList<>();
            for (int i = 0; i < 4; i++) {
                closing.add(CompletableFuture.runAsync(
                        () -> {
                            await(start);
                            model.close();
                        },
                        Thread::startVirtualThread));
            }
            start.countDown();
            closing.forEach(CompletableFuture::join);
            model.close();
            assertEquals(true, running.isDone());
            assertThrows(IllegalStateException.class, () -> model.generate("Hello", GREEDY));
        }
    }

    private static void await(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    private enum Deed {
        ASK(model -> model.generate("Hello", GREEDY).answer()),
        ATTACH(model -> model.attach("trained", DemoModel.ADAPTER)),
        LOSS(model -> model.loss(List.of(Message.of("user", "a"), Message.of("assistant", "b")))),
        CLOSE(LanguageModel::close);

        private final Consumer<LanguageModel> deed;

        Deed(Consumer<LanguageModel> deed) {
            this.deed = deed;
        }
    }

    /** What waits for the model's thread would wait for ever in it. */
    @ParameterizedTest
    @EnumSource
    void whatDependsOnAnAnswerMayUseTheModel(Deed next) throws Exception {
        LanguageModel model = load();
        model.generate("Hello", GREEDY)
                .whenDone()
                .thenAccept(answer -> next.deed.accept(model))
                .toCompletableFuture()
                .get(60, TimeUnit.SECONDS);
        model.close();
    }
}
