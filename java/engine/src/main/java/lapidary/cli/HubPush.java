package lapidary.cli;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import lapidary.device.DType;
import lapidary.format.AtomicFile;
import lapidary.format.Json;
import lapidary.hub.Hub;
import lapidary.hub.HubException;
import lapidary.hub.ModelCard;
import lapidary.hub.Push;
import lapidary.hub.RepoId;
import lapidary.train.SftConfig;
import picocli.CommandLine;

/** Publishes the output folder of a run, with a card that says what was trained. */
final class HubPush {
    private static final String MESSAGE = "End of training";

    private final RepoId repo;

    HubPush(RepoId repo) {
        this.repo = repo;
    }

    /**
     * Writes README.md and uploads.
     *
     * @param dataset as the user gave it
     * @throws HubException what was trained is not published; the message says how to try again
     */
    void finish(SftConfig config, String dataset, CommandLine command) {
        Path folder = config.outputDir();
        AtomicFile.writeString(
                folder.resolve("README.md"), card(config, dataset).text());
        try (Hub hub = HubOptions.hub(command)) {
            String address = hub.upload(repo, Push.files(folder), MESSAGE);
            PrintWriter out = command.getOut();
            out.println("Published as " + address);
            out.flush();
        } catch (HubException e) {
            throw new HubException(
                    "the adapter is in " + folder + ", but not published: " + e.getMessage()
                            + "; try again with: engine upload " + repo + " " + folder,
                    e);
        }
    }

    private ModelCard card(SftConfig config, String dataset) {
        String base = config.baseModelName();
        return new ModelCard(
                repo.name().substring(repo.name().indexOf('/') + 1),
                repo,
                HubOptions.isLocal(base) ? "" : base,
                HubOptions.isLocal(dataset) ? "" : dataset,
                options(config),
                Info.Version.version(),
                history(Json.read(config.outputDir().resolve("trainer_state.json"))));
    }

    private static Map<String, Object> options(SftConfig config) {
        Map<String, Object> options = new LinkedHashMap<>();
        Json adapter = Json.read(config.outputDir().resolve("adapter_config.json"));
        options.put("learning_rate", config.learningRate());
        options.put("lr_scheduler_type", config.lrSchedulerType());
        if (!config.lrSchedulerKwargs().isEmpty()) {
            options.put("lr_scheduler_kwargs", config.lrSchedulerKwargs());
        }
        options.put("warmup_steps", config.warmupSteps());
        options.put("per_device_train_batch_size", config.perDeviceTrainBatchSize());
        options.put("gradient_accumulation_steps", config.gradientAccumulationSteps());
        options.put("num_train_epochs", config.numTrainEpochs());
        options.put("max_steps", config.maxSteps());
        options.put("optim", config.optimizer().optim());
        options.put("adam_beta1", config.optimizer().beta1());
        options.put("adam_beta2", config.optimizer().beta2());
        options.put("adam_epsilon", config.optimizer().epsilon());
        options.put("weight_decay", config.optimizer().weightDecay());
        options.put("max_grad_norm", config.maxGradNorm());
        options.put("seed", config.seed());
        if (config.loadIn4bit()) {
            options.put("load_in_4bit", true);
            options.put("use_bnb_nested_quant", config.useBnbNestedQuant());
        }
        options.put("dtype", config.dtype() == DType.F32 ? "float32" : "bfloat16");
        for (String key : List.of("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save")) {
            if (adapter.has(key)) {
                JsonNode value = adapter.get(key).node();
                options.put(key.equals("r") ? "lora_r" : key, value.isTextual() ? value.textValue() : value);
            }
        }
        return options;
    }

    private static List<Map<String, Object>> history(Json state) {
        List<Map<String, Object>> history = new ArrayList<>();
        for (Json entry : state.get("log_history").elements()) {
            Map<String, Object> values = new LinkedHashMap<>();
            entry.node().properties().forEach(field -> {
                JsonNode value = field.getValue();
                if (value.isNumber()) {
                    values.put(field.getKey(), value.numberValue());
                }
            });
            history.add(values);
        }
        return history;
    }
}
