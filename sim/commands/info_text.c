/* info_text.c: kvscope info for people. */
#include <stdio.h>

#include "sim/commands/info.h"

/* Texts come from the file: control characters must not reach the terminal. */
static void print_text(const char *label, const char *text) {
    printf("%-18s ", label);
    for (; *text != '\0'; text++) putchar((unsigned char)*text < 32 || *text == 127 ? '?' : *text);
    putchar('\n');
}

static void print_header(const char *path, double file_bytes, const kvs_trace_header *h) {
    printf("%s: %.0f bytes\n", path, file_bytes);
    print_text("model", h->model_name);
    print_text("family", h->model_family);
    printf("%-18s %d layers, %d query heads, %d KV heads, head_dim %d\n", "shape", h->layers, h->query_heads,
           h->kv_heads, h->head_dim);
    printf("%-18s %.9g, %s\n", "softmax scale", h->softmax_scale, h->causal ? "causal" : "not causal");
    if (h->rope_theta > 0 || h->rope_applied)
        printf("%-18s %s, theta %.9g, %d of %d channels, %s\n", "rotary embedding",
               h->rope_applied ? "applied" : "not applied", h->rope_theta, h->rotary_dim, h->head_dim,
               h->rope_interleaved ? "pairs 2i, 2i+1" : "pairs i, i + half");
    else
        printf("%-18s none\n", "rotary embedding");
    if (h->rope_scaling[0] != '\0') print_text("rope scaling", h->rope_scaling);
    print_text("computed in", h->source_dtype);
    print_text("recorder", h->recorder);
    print_text("created", h->created_utc);
    print_text("license", h->license);
}

static void print_sequence(const kvs_trace_header *h, const kvs_sequence *s, int index) {
    printf("sequence %06d: %d tokens (%d of the prompt), %d queries, k %s, v %s%s%s, %.0f bytes of values%s\n", index,
           s->tokens, s->prompt_tokens, s->queries, kvs_element_name(s->k_element), kvs_element_name(s->v_element),
           s->queries ? ", q " : "", s->queries ? kvs_element_name(s->q_element) : "", kvs_info_value_bytes(h, s),
           s->has_token_ids ? ", token ids" : "");
    if (s->source_tokens > 0) printf("  cross attention to %d source positions\n", s->source_tokens);
    if (s->task[0] != '\0') print_text("  task", s->task);
}

static void print_top(kvs_layer_channels layer, const char *label, kvs_channel_measure of, int top) {
    printf("  %s", label);
    for (int n = 0, at = -1; n < top && (at = kvs_info_next(layer, of, at)) >= 0; n++)
        printf("  %d/%d: %.4g", at / layer.columns, at % layer.columns, of(&layer.channels[at]));
    putchar('\n');
}

static void print_layer(const char *tensor, int index, kvs_layer_channels layer, int top) {
    printf("%s layer %d: mean |x| %.5g\n", tensor, index, kvs_info_mean_magnitude(layer));
    if (top == 0) return;
    print_top(layer, "largest range (head/channel)   ", kvs_channel_range, top);
    print_top(layer, "largest mean |x| (head/channel)", kvs_channel_magnitude, top);
}

void kvs_info_print_text(const kvs_trace_info *info) {
    const kvs_trace_header *h = kvs_trace_header_of(info->trace);
    print_header(kvs_trace_path(info->trace), info->file_bytes, h);
    for (int i = 0; i < kvs_trace_sequences(info->trace); i++) print_sequence(h, kvs_trace_sequence(info->trace, i), i);
    for (kvs_tensor t = KVS_TENSOR_K; info->channels[0] != NULL && t <= KVS_TENSOR_V; t++)
        for (int l = 0; l < h->layers; l++)
            print_layer(t == KVS_TENSOR_K ? "K" : "V", l, kvs_info_layer(info, t, l), info->top);
}
