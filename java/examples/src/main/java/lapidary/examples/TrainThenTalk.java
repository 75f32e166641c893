package lapidary.examples;

import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.request.ChatRequest;
import java.nio.file.Path;
import java.util.List;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.infer.LanguageModel;
import lapidary.infer.LoadOptions;
import lapidary.langchain4j.LapidaryChatModel;
import lapidary.langchain4j.LapidaryChatRequestParameters;
import lapidary.train.Sft;
import lapidary.train.SftConfig;
import lapidary.train.StepMetrics;
import lapidary.train.TrainingListener;

/**
 * {@code TrainThenTalk MODEL DATA OUTPUT QUESTION}: asks a running chat model, trains an adapter beside it, puts the adapter
 * on, and asks again.
 */
public final class TrainThenTalk {
    private TrainThenTalk() {}

    public static void main(String[] args) {
        Path base = Path.of(args[0]);
        Path adapter = Path.of(args[2]);
        try (LanguageModel model = LanguageModel.load(base, LoadOptions.DEFAULT.withDtype(DType.F32))) {
            ChatModel chat = new LapidaryChatModel(model, "base");
            System.out.println("before: " + ask(chat, "base", args[3]));
            SftConfig config = SftConfig.builder(base, args[1], adapter)
                    .dtype(DType.F32)
                    .learningRate(4e-3)
                    .maxSteps(40)
                    .loraModulesToSave(List.of("lm_head", "embed_tokens"))
                    .build();
            try (Device device = CpuDevice.open()) {
                new Sft(config, device, new TrainingListener() {
                            @Override
                            public void onLog(StepMetrics m) {
                                System.out.println("step " + m.step() + ", loss " + m.loss());
                            }
                        })
                        .run();
            }
            model.attach("mine", adapter); // once more under that name swaps it, while chats go on
            System.out.println("after: " + ask(chat, "mine", args[3]));
        }
    }

    private static String ask(ChatModel chat, String modelName, String question) {
        var parameters =
                LapidaryChatRequestParameters.builder().modelName(modelName).maxOutputTokens(40);
        var request = ChatRequest.builder().messages(UserMessage.from(question)).parameters(parameters.build());
        return chat.chat(request.build()).aiMessage().text();
    }
}
