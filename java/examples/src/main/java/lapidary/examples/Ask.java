package lapidary.examples;

import java.nio.file.Path;
import lapidary.infer.Chat;
import lapidary.infer.LanguageModel;

/** {@code java -cp engine.jar Ask.java MODEL PICTURE QUESTION...}: asks one picture several questions. */
public final class Ask {
    private Ask() {}

    public static void main(String[] args) {
        try (LanguageModel model = LanguageModel.load(Path.of(args[0]))) {
            Chat chat = model.chat(model.defaults().withMaxNewTokens(60));
            for (int i = 2; i < args.length; i++) {
                Path[] pictures = i == 2 ? new Path[] {Path.of(args[1])} : new Path[0];
                chat.send(args[i], pictures).stream(System.out::print);
                System.out.println();
            }
        }
    }
}
