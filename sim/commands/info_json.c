/* info_json.c: kvscope info as one JSON document. */
#include <cjson/cJSON.h>
#include <stdio.h>

#include "core/version.h"
#include "sim/commands/info.h"

static cJSON *header_json(const char *path, double file_bytes, const kvs_trace_header *h) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "path", path);
    cJSON_AddNumberToObject(o, "bytes", file_bytes);
    cJSON_AddStringToObject(o, "model_name", h->model_name);
    cJSON_AddStringToObject(o, "model_family", h->model_family);
    cJSON_AddNumberToObject(o, "layers", h->layers);
    cJSON_AddNumberToObject(o, "query_heads", h->query_heads);
    cJSON_AddNumberToObject(o, "kv_heads", h->kv_heads);
    cJSON_AddNumberToObject(o, "head_dim", h->head_dim);
    cJSON_AddNumberToObject(o, "softmax_scale", h->softmax_scale);
    cJSON_AddBoolToObject(o, "causal", h->causal);
    cJSON_AddBoolToObject(o, "rope_applied", h->rope_applied);
    cJSON_AddNumberToObject(o, "rope_theta", h->rope_theta);
    if (h->rope_scaling[0] != '\0')
        cJSON_AddItemToObject(o, "rope_scaling", cJSON_Parse(h->rope_scaling));
    else
        cJSON_AddNullToObject(o, "rope_scaling");
    cJSON_AddBoolToObject(o, "rope_interleaved", h->rope_interleaved);
    cJSON_AddNumberToObject(o, "rotary_dim", h->rotary_dim);
    cJSON_AddStringToObject(o, "source_dtype", h->source_dtype);
    cJSON_AddStringToObject(o, "recorder", h->recorder);
    cJSON_AddStringToObject(o, "created_utc", h->created_utc);
    cJSON_AddStringToObject(o, "license", h->license);
    return o;
}

static cJSON *sequence_json(const kvs_trace_header *h, const kvs_sequence *s) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "tokens", s->tokens);
    cJSON_AddNumberToObject(o, "prompt_tokens", s->prompt_tokens);
    cJSON_AddNumberToObject(o, "queries", s->queries);
    cJSON_AddStringToObject(o, "task", s->task);
    cJSON_AddStringToObject(o, "k_element", kvs_element_name(s->k_element));
    cJSON_AddStringToObject(o, "v_element", kvs_element_name(s->v_element));
    if (s->queries > 0)
        cJSON_AddStringToObject(o, "q_element", kvs_element_name(s->q_element));
    else
        cJSON_AddNullToObject(o, "q_element");
    cJSON_AddNumberToObject(o, "value_bytes", kvs_info_value_bytes(h, s));
    cJSON_AddBoolToObject(o, "has_token_ids", s->has_token_ids);
    cJSON_AddNumberToObject(o, "source_tokens", s->source_tokens);
    return o;
}

static cJSON *top_json(kvs_layer_channels layer, kvs_channel_measure of, int top) {
    cJSON *array = cJSON_CreateArray();
    for (int n = 0, at = -1; n < top && (at = kvs_info_next(layer, of, at)) >= 0; n++) {
        const kvs_channel *c = &layer.channels[at];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "head", at / layer.columns);
        cJSON_AddNumberToObject(o, "channel", at % layer.columns);
        cJSON_AddNumberToObject(o, "range", kvs_channel_range(c));
        cJSON_AddNumberToObject(o, "mean_magnitude", c->magnitude);
        cJSON_AddNumberToObject(o, "low", (double)c->low);
        cJSON_AddNumberToObject(o, "high", (double)c->high);
        cJSON_AddItemToArray(array, o);
    }
    return array;
}

static cJSON *layer_json(kvs_layer_channels layer, int top) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "mean_magnitude", kvs_info_mean_magnitude(layer));
    cJSON_AddItemToObject(o, "largest_range", top_json(layer, kvs_channel_range, top));
    cJSON_AddItemToObject(o, "largest_mean_magnitude", top_json(layer, kvs_channel_magnitude, top));
    return o;
}

kvs_status kvs_info_print_json(const kvs_trace_info *info, kvs_error *error) {
    static const char *const names[] = {"k_layers", "v_layers"};
    const kvs_trace_header *h = kvs_trace_header_of(info->trace);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "info");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddItemToObject(root, "trace", header_json(kvs_trace_path(info->trace), info->file_bytes, h));
    cJSON *sequences = cJSON_AddArrayToObject(root, "sequences");
    for (int i = 0; i < kvs_trace_sequences(info->trace); i++)
        cJSON_AddItemToArray(sequences, sequence_json(h, kvs_trace_sequence(info->trace, i)));
    for (kvs_tensor t = KVS_TENSOR_K; info->channels[0] != NULL && t <= KVS_TENSOR_V; t++) {
        cJSON *layers = cJSON_AddArrayToObject(root, names[t]);
        for (int l = 0; l < h->layers; l++)
            cJSON_AddItemToArray(layers, layer_json(kvs_info_layer(info, t, l), info->top));
    }
    char *text = root != NULL ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}
