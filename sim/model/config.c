#include "sim/model/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "sim/model/rope.h"

enum { CONFIG_LIMIT_BYTES = 16 << 20, DIMENSION_LIMIT = 1 << 24 };

/* What the forward pass can compute; a new family is a line here if it needs no new arithmetic. */
static const struct {
    const char *architecture, *family;
    int qk_norm;
} families[] = {{"Qwen3ForCausalLM", "qwen3", 1}, {"LlamaForCausalLM", "llama", 0}};

static kvs_status read_family(const char *file, const cJSON *root, kvs_model_config *config, kvs_error *error) {
    const cJSON *names = kvs_json_find(root, "architectures");
    const cJSON *first = cJSON_IsArray(names) ? cJSON_GetArrayItem(names, 0) : NULL;
    if (!cJSON_IsString(first) || cJSON_GetArraySize(names) != 1)
        return kvs_fail(error, KVS_INPUT, file, "architectures", "must be a list of one name");
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (strcmp(families[i].architecture, first->valuestring) != 0) continue;
        snprintf(config->family, sizeof config->family, "%s", families[i].family);
        config->qk_norm = families[i].qk_norm;
        return KVS_OK;
    }
    return kvs_fail(error, KVS_INPUT, file, "architectures",
                    "'%s' is not supported; supported: Qwen3ForCausalLM, LlamaForCausalLM", first->valuestring);
}

static kvs_status read_shape(const char *file, const cJSON *root, kvs_model_config *config, kvs_error *error) {
    KVS_TRY(kvs_json_need_int(file, root, "num_hidden_layers", 1, 4096, &config->layers, error));
    KVS_TRY(kvs_json_need_int(file, root, "hidden_size", 1, DIMENSION_LIMIT, &config->hidden, error));
    KVS_TRY(kvs_json_need_int(file, root, "intermediate_size", 1, DIMENSION_LIMIT, &config->intermediate, error));
    KVS_TRY(kvs_json_need_int(file, root, "num_attention_heads", 1, 4096, &config->query_heads, error));
    KVS_TRY(kvs_json_int(file, root, "num_key_value_heads", 1, 4096, config->query_heads, &config->kv_heads, error));
    KVS_TRY(kvs_json_need_int(file, root, "vocab_size", 1, DIMENSION_LIMIT, &config->vocabulary, error));
    KVS_TRY(
        kvs_json_need_int(file, root, "max_position_embeddings", 1, DIMENSION_LIMIT, &config->max_positions, error));
    if (config->query_heads % config->kv_heads != 0)
        return kvs_fail(error, KVS_INPUT, file, "num_attention_heads", "%d is not a multiple of %d key-value heads",
                        config->query_heads, config->kv_heads);
    if (kvs_json_find(root, "head_dim") == NULL && config->hidden % config->query_heads != 0)
        return kvs_fail(error, KVS_INPUT, file, "head_dim",
                        "is missing and hidden_size is not a multiple of the heads");
    KVS_TRY(kvs_json_int(file, root, "head_dim", 2, KVS_MODEL_MAX_ROTARY, config->hidden / config->query_heads,
                         &config->head_dim, error));
    if (config->head_dim < 2 || config->head_dim > KVS_MODEL_MAX_ROTARY || config->head_dim % 2 != 0)
        return kvs_fail(error, KVS_INPUT, file, "head_dim", "%d is not an even number from 2 to %d", config->head_dim,
                        KVS_MODEL_MAX_ROTARY);
    return KVS_OK;
}

/* Settings that change the arithmetic in ways the forward pass does not follow. */
static kvs_status refuse_unsupported(const char *file, const cJSON *root, kvs_error *error) {
    const char *activation;
    KVS_TRY(kvs_json_text(file, root, "hidden_act", "silu", &activation, error));
    if (strcmp(activation, "silu") != 0)
        return kvs_fail(error, KVS_INPUT, file, "hidden_act", "'%s' is not supported; supported: silu", activation);
    static const char *const switches[] = {"use_sliding_window", "attention_bias", "mlp_bias"};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        int on;
        KVS_TRY(kvs_json_bool(file, root, switches[i], 0, &on, error));
        if (on) return kvs_fail(error, KVS_INPUT, file, switches[i], "true is not supported");
    }
    const cJSON *kinds = kvs_json_find(root, "layer_types");
    for (const cJSON *kind = cJSON_IsArray(kinds) ? kinds->child : NULL; kind != NULL; kind = kind->next)
        if (!cJSON_IsString(kind) || strcmp(kind->valuestring, "full_attention") != 0)
            return kvs_fail(error, KVS_INPUT, file, "layer_types", "'%s' is not supported; supported: full_attention",
                            cJSON_IsString(kind) ? kind->valuestring : "not a text");
    double part;
    KVS_TRY(kvs_json_real(file, root, "partial_rotary_factor", 0, 1, 1, &part, error));
    if (part < 1)
        return kvs_fail(error, KVS_INPUT, file, "partial_rotary_factor", "%g is not supported; supported: 1", part);
    if (kvs_json_find(root, "quantization_config") != NULL)
        return kvs_fail(error, KVS_INPUT, file, "quantization_config", "quantized weights are not supported");
    return KVS_OK;
}

static kvs_status read_rope(const char *file, const cJSON *root, kvs_model_config *config, kvs_error *error) {
    const cJSON *scaling = kvs_json_find(root, "rope_scaling");
    const cJSON *parameters = kvs_json_find(root, "rope_parameters"); /* newer files keep theta in here */
    double theta;
    if (scaling == NULL) scaling = parameters;
    const cJSON *holder = kvs_json_find(root, "rope_theta") == NULL && cJSON_IsObject(parameters) ? parameters : root;
    KVS_TRY(kvs_json_real(file, holder, "rope_theta", 1.0001, 1e12, 10000.0, &theta, error));
    return kvs_rope_read(file, scaling, theta, config->head_dim, config->max_positions, &config->rope, error);
}

/* Says how random weights are drawn; those of files say it themselves. */
static kvs_status read_number(const char *file, const cJSON *root, kvs_model_config *config, kvs_error *error) {
    static const struct {
        const char *name;
        kvs_number number;
    } numbers[] = {{"bfloat16", KVS_NUMBER_BF16}, {"float16", KVS_NUMBER_F16}, {"float32", KVS_NUMBER_F32}};
    const char *name;
    KVS_TRY(kvs_json_text(file, root, "dtype", "bfloat16", &name, error)); /* newer files */
    KVS_TRY(kvs_json_text(file, root, "torch_dtype", name, &name, error));
    config->number = KVS_NUMBER_BF16;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(numbers[i].name, name) == 0) config->number = numbers[i].number;
    return KVS_OK;
}

static kvs_status read_end_tokens(const char *file, const cJSON *root, kvs_model_config *config, kvs_error *error) {
    const cJSON *end = kvs_json_find(root, "eos_token_id");
    const int limit = (int)(sizeof config->end_tokens / sizeof *config->end_tokens);
    config->end_count = 0;
    if (end == NULL) return KVS_OK;
    for (const cJSON *item = cJSON_IsArray(end) ? end->child : end; item != NULL;
         item = cJSON_IsArray(end) ? item->next : NULL) {
        int64_t id;
        if (config->end_count == limit || kvs_json_integer(item, 0, config->vocabulary - 1, &id))
            return kvs_fail(error, KVS_INPUT, file, "eos_token_id", "must be at most %d token ids below %d", limit,
                            config->vocabulary);
        config->end_tokens[config->end_count++] = (int)id;
    }
    return KVS_OK;
}

static kvs_status read_all(const char *file, const cJSON *root, kvs_model_config *config, kvs_error *error) {
    KVS_TRY(read_family(file, root, config, error));
    KVS_TRY(read_shape(file, root, config, error));
    KVS_TRY(refuse_unsupported(file, root, error));
    KVS_TRY(kvs_json_real(file, root, "rms_norm_eps", 0, 1, 1e-6, &config->norm_epsilon, error));
    KVS_TRY(kvs_json_bool(file, root, "tie_word_embeddings", 0, &config->tied, error));
    KVS_TRY(read_rope(file, root, config, error));
    KVS_TRY(read_number(file, root, config, error));
    return read_end_tokens(file, root, config, error);
}

kvs_status kvs_model_config_parse(const char *file, const char *text, unsigned long bytes, kvs_model_config *config,
                                  kvs_error *error) {
    *config = (kvs_model_config){0};
    cJSON *root;
    KVS_TRY(kvs_json_parse(file, text, bytes, &root, error));
    kvs_status status = read_all(file, root, config, error);
    cJSON_Delete(root);
    return status;
}

static void name_of(const char *directory, char *name, size_t bytes) {
    size_t end = strlen(directory);
    while (end > 1 && directory[end - 1] == '/') end--;
    size_t start = end;
    while (start > 0 && directory[start - 1] != '/') start--;
    snprintf(name, bytes, "%.*s", (int)(end - start), directory + start);
}

kvs_status kvs_model_config_read(const char *directory, kvs_model_config *config, kvs_error *error) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/config.json", directory) >= (int)sizeof path)
        return kvs_fail(error, KVS_INPUT, directory, NULL, "the path is too long");
    char *text;
    size_t bytes;
    KVS_TRY(kvs_read_file(path, CONFIG_LIMIT_BYTES, &text, &bytes, error));
    kvs_status status = kvs_model_config_parse(path, text, bytes, config, error);
    free(text);
    name_of(directory, config->name, sizeof config->name);
    return status;
}
