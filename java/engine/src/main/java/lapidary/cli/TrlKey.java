package lapidary.cli;

import java.util.Map;
import java.util.TreeMap;
import java.util.function.Predicate;

/**
 * A name that TRL, PEFT or bitsandbytes knows and {@code engine train} has no option for: what becomes of it.
 *
 * @param accepts which values ask for nothing that is not done anyway; of a list each, of a mapping its JSON
 * @param isSaid whether an accepted value is told to have no meaning, with the reason
 * @param reason why it has no meaning, or why other values are refused
 */
record TrlKey(Predicate<String> accepts, boolean isSaid, String reason) {
    private static final String PACKED = "batches are packed, there is no padding";
    private static final String ONE_DEVICE = "a run has one device";
    private static final String LOADING = "rows are read and decoded on threads of this process";
    private static final String NO_TORCH = "there is no PyTorch here";
    private static final String LOGS = "metrics.jsonl in the output folder has every number";
    private static final String REFUSED = "";

    /** By name, sorted. */
    static final Map<String, TrlKey> ALL = all();

    private static Map<String, TrlKey> all() {
        Map<String, TrlKey> all = new TreeMap<>();
        hugging(all);
        trl(all);
        peft(all);
        otherNames(all);
        return Map.copyOf(all);
    }

    /** Transformers' TrainingArguments, of version 5 and before. */
    private static void hugging(Map<String, TrlKey> all) {
        idle(all, LOADING, "dataloader_pin_memory", "dataloader_num_workers", "dataloader_persistent_workers");
        idle(all, LOADING, "dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order");
        idle(all, ONE_DEVICE, "average_tokens_across_devices", "log_on_each_node", "save_on_each_node", "local_rank");
        idle(all, ONE_DEVICE, "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers");
        idle(all, ONE_DEVICE, "ddp_static_graph", "ddp_backend", "ddp_timeout", "log_level_replica");
        idle(all, NO_TORCH, "torch_compile", "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps");
        idle(all, NO_TORCH, "jit_mode_eval", "half_precision_backend");
        idle(all, "no code of a checkpoint is run", "trust_remote_code");
        idle(all, "the kernels here are fused as they are", "use_liger_kernel", "liger_kernel_config");
        idle(all, "products run in what --dtype says", "tf32", "bf16_full_eval");
        idle(all, "training keeps no cache of keys and values", "use_cache");
        idle(all, "a run is the same each time without it", "full_determinism");
        idle(all, "columns are taken as --dataset_format says", "remove_unused_columns", "label_names");
        idle(all, "an evaluation holds sums alone, whatever its size", "prediction_loss_only", "batch_eval_metrics");
        idle(all, "an evaluation holds sums alone, whatever its size", "eval_accumulation_steps");
        idle(all, "an evaluation holds sums alone, whatever its size", "eval_do_concat_batches");
        idle(all, "an evaluation holds sums alone, whatever its size", "eval_use_gather_object", "include_for_metrics");
        idle(all, LOGS, "run_name", "project", "trackio_space_id", "trackio_bucket_id");
        idle(all, LOGS, "trackio_static_space_id", "include_num_input_tokens_seen", "skip_memory_metrics");
        idle(all, "the console shows what a terminal can", "log_level", "disable_tqdm", "debug");
        idle(all, "train trains, and evaluates as --eval_strategy says", "do_train", "do_eval", "do_predict");
        idle(all, "SIGTERM and Ctrl-C save a checkpoint always", "enable_jit_checkpoint");
        idle(all, "nothing is pickled, every file is safetensors or JSON", "save_safetensors");
        idle(
                all,
                "a checkpoint is left out while another is published, unless --hub_strategy wants all",
                "hub_always_push");
        idle(all, "a checkpoint holds all that the run depends on", "restore_callback_states_from_checkpoint");
        idle(all, "rows are not sorted by length", "length_column_name");
        all.put(
                "gradient_checkpointing_kwargs",
                new TrlKey(
                        json -> json.matches("null|\\s*\\{\\s*(\"use_reentrant\"\\s*:\\s*(true|false)\\s*)?}\\s*"),
                        true,
                        "recomputing has one form; of these arguments use_reentrant alone is taken"));
        only(all, "0|0\\.0*", "targets are not smoothed", "label_smoothing_factor");
        only(all, "0|0\\.0*", "the first evaluation is where --eval_strategy says", "eval_delay");
        only(all, "steps", "it logs every --logging_steps steps", "logging_strategy");
        only(all, "random", "rows are drawn at random", "train_sampling_strategy");
        only(all, "false", "rows are drawn at random", "group_by_length");
        only(all, "false", "the last batch is always trained on", "dataloader_drop_last");
        only(all, "false", "the first evaluation is where --eval_strategy says", "eval_on_start");
        only(all, "false", "a checkpoint holds all that the run depends on", "save_only_model");
        only(all, "false", "a resumed run goes on where it was", "ignore_data_skip");
        only(all, "false", "choose --per_device_train_batch_size", "auto_find_batch_size");
        only(all, "false", "Gemma 3 overflows in float16; use --dtype bfloat16", "fp16", "fp16_full_eval");
        idle(all, "a run ends at a loss that is not finite", "logging_nan_inf_filter");
        only(all, REFUSED, "noise on embeddings is not there", "neftune_noise_alpha");
        only(all, REFUSED, "--adam_beta1, --adam_beta2 and --adam_epsilon are there", "optim_args");
        only(all, REFUSED, "the optimisers of --optim train whole tensors", "optim_target_modules");
        only(all, REFUSED, ONE_DEVICE, "fsdp", "fsdp_config", "deepspeed", "parallelism_config", "accelerator_config");
        only(all, REFUSED, ONE_DEVICE, "accelerate_config"); // of TRL's launcher, as the next
        only(all, "1", ONE_DEVICE, "num_processes", "num_machines");
        only(all, REFUSED, "the adapter is published on the main branch", "hub_revision");
        only(all, REFUSED, "a token belongs in HF_TOKEN or engine login, not in a file or a command", "hub_token");
        only(
                all,
                REFUSED,
                "a token belongs in HF_TOKEN or engine login, not in a file or a command",
                "push_to_hub_token");
    }

    /** TRL's own: SFTConfig, ModelConfig, ScriptArguments. */
    private static void trl(Map<String, TrlKey> all) {
        idle(all, PACKED, "padding_free", "pad_to_multiple_of", "pad_token");
        idle(all, "Gemma 3 has no experts", "router_aux_loss_coef");
        idle(all, "attention has one form, exact and with Gemma's masks", "attn_implementation");
        idle(all, LOADING, "dataset_num_proc", "dataset_batch_size");
        idle(all, ONE_DEVICE, "ignore_bias_buffers");
        idle(all, "one device, whose memory the weights go to", "device_map");
        all.put(
                "dataset_kwargs",
                new TrlKey(
                        json -> json.matches(
                                "null|\\s*\\{\\s*(\"skip_prepare_dataset\"\\s*:\\s*(true|false)\\s*)?}\\s*"),
                        true,
                        "rows are prepared as they are read; of these arguments skip_prepare_dataset alone is taken"));
        only(all, "true", "adapters are what is trained", "use_peft");
        only(all, "false", "rows are looked at before training, they are not streamed", "dataset_streaming");
        only(all, "false", "the order is drawn anew in each epoch from --seed", "shuffle_dataset");
        only(all, "false", "evaluation is not packed", "eval_packing");
        only(
                all,
                "false",
                "activations stay where they are; --gradient_checkpointing saves memory",
                "activation_offloading");
        only(all, "bfd", "rows are never cut to be packed", "packing_strategy");
        only(all, "keep_start", "see --max_length_policy", "truncation_mode");
        only(all, "chunked_nll|nll", "the loss is cross-entropy", "loss_type");
        only(all, "text", "rows are conversations, see --dataset_format", "dataset_text_field");
        only(all, "causal_lm", "a causal language model is trained", "lora_task_type", "task_type");
        only(all, "\\{\\s*}", "the options here say how the model is loaded", "model_init_kwargs");
        only(all, REFUSED, "the chat template is the checkpoint's", "chat_template_path");
        only(all, REFUSED, "the end of a turn is the chat template's", "eos_token");
        only(all, REFUSED, "one data set is trained on, --dataset_name", "datasets", "streaming", "test_split_size");
        only(all, REFUSED, "a running program cannot set its environment; export the variables before it", "env");
    }

    /** PEFT's LoraConfig and bitsandbytes' configuration. */
    private static void peft(Map<String, TrlKey> all) {
        only(
                all,
                "false",
                "the scale is lora_alpha / lora_r; lora_alpha times the root of lora_r does it",
                "use_rslora");
        only(all, "false", "weights are not decomposed", "use_dora");
        only(all, "false", "adapters have no bias", "lora_bias");
        only(all, "none", "biases are not trained", "bias");
        only(all, "lora", "LoRA is the one adapter", "peft_type");
        only(all, "true", "A is drawn as PEFT draws it by default, B is zero", "init_lora_weights");
        only(all, "false", "linear layers have one layout", "fan_in_fan_out");
        only(all, "false", "a trained head and embedding are copies of their own", "ensure_weight_tying");
        only(all, REFUSED, "adapters go on linear layers whole", "lora_target_parameters", "target_parameters");
        only(all, REFUSED, "choose with --lora_target_modules", "exclude_modules", "layers_to_transform");
        only(all, REFUSED, "choose with --lora_target_modules", "layers_pattern", "layer_replication");
        only(all, "\\{\\s*}", "all adapters have --lora_r and --lora_alpha", "rank_pattern", "alpha_pattern");
        only(all, REFUSED, "a table is trained whole, see --lora_modules_to_save", "trainable_token_indices");
        only(all, "\\{\\s*}", "A is drawn as PEFT draws it by default, B is zero", "loftq_config");
        only(all, REFUSED, "A is drawn as PEFT draws it by default, B is zero", "eva_config", "corda_config");
        only(
                all,
                REFUSED,
                "plain LoRA is the one adapter",
                "use_bdlora",
                "arrow_config",
                "lora_ga_config",
                "kasa_config");
        only(all, REFUSED, "plain LoRA is the one adapter", "monteclora_config", "velora_config", "megatron_config");
        only(all, REFUSED, "plain LoRA is the one adapter", "alora_invocation_tokens", "auto_mapping");
        only(all, "false", "plain LoRA is the one adapter", "use_qalora");
        only(all, "false", "adapters are trained", "inference_mode");
        idle(
                all,
                "plain LoRA is the one adapter",
                "qalora_group_size",
                "megatron_core",
                "runtime_config",
                "peft_version");
        only(all, "6(\\.0*)?", "NF4 is the one quantisation here", "llm_int8_threshold");
        only(all, "false", "NF4 is the one quantisation here", "llm_int8_has_fp16_weight");
        only(all, "false", "weights stay on one device", "llm_int8_enable_fp32_cpu_offload");
        only(all, REFUSED, "say --load_in_4bit and --use_bnb_nested_quant", "quantization_config");
    }

    private static void otherNames(Map<String, TrlKey> all) {
        called(all, "r", "lora_r");
        called(all, "target_modules", "lora_target_modules");
        called(all, "modules_to_save", "lora_modules_to_save");
        called(all, "bnb_4bit_use_double_quant", "use_bnb_nested_quant");
        called(all, "torch_dtype", "dtype");
        called(all, "evaluation_strategy", "eval_strategy");
        called(all, "max_seq_length", "max_length");
        called(all, "push_to_hub_model_id", "hub_model_id");
        called(all, "revision", "model_revision");
        called(all, "base_model_name_or_path", "model_name_or_path");
        called(all, "no_cuda", "use_cpu");
        called(all, "per_gpu_train_batch_size", "per_device_train_batch_size");
        called(all, "per_gpu_eval_batch_size", "per_device_eval_batch_size");
    }

    /** Names whose every value is as good as none. */
    private static void idle(Map<String, TrlKey> all, String reason, String... names) {
        for (String name : names) {
            all.put(name, new TrlKey(value -> true, true, reason));
        }
    }

    /** Names that have one value here, besides null; {@code values} is a pattern. */
    private static void only(Map<String, TrlKey> all, String values, String reason, String... names) {
        for (String name : names) {
            all.put(name, new TrlKey(value -> value.equals("null") || value.matches(values), false, reason));
        }
    }

    private static void called(Map<String, TrlKey> all, String name, String here) {
        all.put(name, new TrlKey(value -> false, false, "it is called " + here + " here, as in TRL's newest"));
    }
}
