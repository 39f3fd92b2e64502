/* engine_settings.h: the options that `kvscope alloc` and `kvscope serve` share: model, device, engine, clock. */
#ifndef KVS_SIM_COMMANDS_ENGINE_SETTINGS_H
#define KVS_SIM_COMMANDS_ENGINE_SETTINGS_H

#include "sim/command.h"
#include "sim/engine.h"
#include "sim/step_time.h"

typedef struct kvs_engine_settings {
    const char *model_shape, *device, *free_order, *kernels;
    kvs_texts schemes, kv_efficiency;
    int64_t page_tokens, block_tokens, num_blocks, max_batched_tokens, max_seqs;
    double watermark, utilization, weight_efficiency, compute_efficiency, overhead_ms, step_ms;
    int caching, reserve, skip_bad, check;
} kvs_engine_settings;

/* The rows of an option table; `at` is offsetof(settings, engine). */
#define KVS_ENGINE_AT(member) (KVS_ENGINE_BASE + offsetof(kvs_engine_settings, member))
/* clang-format off */
#define KVS_ENGINE_OPTIONS \
    {"scheme", KVS_OPTION_LIST, KVS_ENGINE_AT(schemes), "S", NULL, 0, 0, \
     "how the cache is stored; repeat for several"}, \
    {"model-shape", KVS_OPTION_TEXT, KVS_ENGINE_AT(model_shape), "NAME", "qwen3-8b", 0, 0, \
     "qwen3-8b, llama3-8b, llama3-70b or a JSON file"}, \
    {"device", KVS_OPTION_TEXT, KVS_ENGINE_AT(device), "NAME", "a100-80gb", 0, 0, \
     "a100-80gb, h100, h200 or a JSON file"}, \
    {"memory-utilization", KVS_OPTION_REAL, KVS_ENGINE_AT(utilization), "X", "0.92", 0.01, 1, \
     "share of the device's memory for weights and cache"}, \
    {"page-tokens", KVS_OPTION_INT, KVS_ENGINE_AT(page_tokens), "N", "0", 0, 1 << 20, \
     "tokens of a page; 0: --block-tokens, or the scheme's own, or 16"}, \
    {"block-tokens", KVS_OPTION_INT, KVS_ENGINE_AT(block_tokens), "N", "0", 0, 1 << 20, \
     "the same, and what an id of a jsonl trace covers (then 16 unless given)"}, \
    {"num-blocks", KVS_OPTION_INT, KVS_ENGINE_AT(num_blocks), "N", "0", 0, 2147483646, \
     "pages of the pool with its null block; 0: as many as the memory holds"}, \
    {"max-batched-tokens", KVS_OPTION_INT, KVS_ENGINE_AT(max_batched_tokens), "N", "8192", 1, 1 << 24, \
     "tokens of one step: longer prompts are cut in chunks"}, \
    {"max-seqs", KVS_OPTION_INT, KVS_ENGINE_AT(max_seqs), "N", "1024", 1, 1 << 20, \
     "sequences that run at once"}, \
    {"watermark", KVS_OPTION_REAL, KVS_ENGINE_AT(watermark), "X", "0", 0, 1, \
     "share of the pages that admission leaves free while others run"}, \
    {"reserve-full-input", KVS_OPTION_SWITCH, KVS_ENGINE_AT(reserve), "[on|off]", "on", 0, 0, \
     "admit only when the whole input fits, not just its first chunk"}, \
    {"free-order", KVS_OPTION_TEXT, KVS_ENGINE_AT(free_order), "ORDER", "may2026", 0, 0, \
     "v019: freed blocks go to the tail; may2026: to the head unless cached"}, \
    {"caching", KVS_OPTION_SWITCH, KVS_ENGINE_AT(caching), "[on|off]", "on", 0, 0, \
     "prefix caching"}, \
    {"kv-efficiency", KVS_OPTION_LIST, KVS_ENGINE_AT(kv_efficiency), "[S=]X", NULL, 0, 0, \
     "share of the bandwidth at which the cache (of S) is read; else 0.8 in full precision, 0.5 quantized"}, \
    {"kernels", KVS_OPTION_TEXT, KVS_ENGINE_AT(kernels), "FILE", NULL, 0, 0, \
     "take the schemes' efficiencies from a bench result (JSON) instead"}, \
    {"weight-efficiency", KVS_OPTION_REAL, KVS_ENGINE_AT(weight_efficiency), "X", "0.8", 0.001, 1, \
     "share of the bandwidth at which the weights are read"}, \
    {"compute-efficiency", KVS_OPTION_REAL, KVS_ENGINE_AT(compute_efficiency), "X", "0.5", 0.001, 1, \
     "share of the operations a second that a prompt reaches"}, \
    {"overhead-ms", KVS_OPTION_REAL, KVS_ENGINE_AT(overhead_ms), "MS", "5", 0, 1e6, \
     "of every step: launches, scheduler, sampling"}, \
    {"step-ms", KVS_OPTION_REAL, KVS_ENGINE_AT(step_ms), "MS", "0", 0, 1e6, \
     "every step takes just this; 0: a model"}, \
    {"skip-bad", KVS_OPTION_FLAG, KVS_ENGINE_AT(skip_bad), NULL, NULL, 0, 0, \
     "count and leave out bad lines and requests that can never fit"}, \
    {"check-invariants", KVS_OPTION_FLAG, KVS_ENGINE_AT(check), NULL, NULL, 0, 0, \
     "verify the allocator after every event (slow)"}
/* clang-format on */

/* The settings resolved. */
typedef struct kvs_engine_setup {
    kvs_model_shape shape;
    kvs_device device;
    kvs_free_order order;
    double cache_bytes; /* of the device, left beside the weights; may be negative */
} kvs_engine_setup;

KVS_MUST_CHECK kvs_status kvs_engine_setup_get(const kvs_engine_settings *settings, kvs_engine_setup *setup,
                                               kvs_error *error);

/* Fails with KVS_INPUT when the weights alone do not fit in what the device may use. */
KVS_MUST_CHECK kvs_status kvs_engine_setup_memory(const kvs_engine_setup *setup, const kvs_engine_settings *settings,
                                                  kvs_error *error);

kvs_engine_options kvs_engine_settings_options(const kvs_engine_settings *settings);

/* Tokens of a page as asked for; 0: the scheme decides. */
int kvs_engine_page_tokens(const kvs_engine_settings *settings);

/* The clock of one scheme. `note` (may be NULL, 128 bytes) says where its efficiency comes from. */
KVS_MUST_CHECK kvs_status kvs_engine_step_model(const kvs_engine_settings *settings, const kvs_engine_setup *setup,
                                                const char *scheme, kvs_step_model *model, char *note,
                                                kvs_error *error);

/* Everything that decides the numbers of a run besides trace, scheme, allocator and memory, in one line. */
void kvs_engine_settings_text(const kvs_engine_settings *settings, char *text, size_t text_bytes);

/* A word of a NULL-terminated list as its index; fails with KVS_USAGE and lists the words. */
KVS_MUST_CHECK kvs_status kvs_choose(const char *option, const char *text, const char *const *words, int *index,
                                     kvs_error *error);

#endif
