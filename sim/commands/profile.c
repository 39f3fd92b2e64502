/* profile.c: kvscope profile: kernels over layouts, what the transaction model predicts beside what counters say. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/progress.h"
#include "sim/command.h"
#include "sim/commands/profile.h"
#include "sim/commands/profile_html.h"
#include "sim/profile.h"
#include "sim/profile_exec.h"

enum { MAX_NAMES = 32 };

typedef struct settings {
    kvs_common common;
    const char *kernels, *layouts, *cache, *measured, *output, *html; /* kernels: NULL unless given */
    int64_t pages, page_tokens, head_dim, kv_heads, query_heads, sequences, bits, boost_bits, value_bits;
    int64_t sinks, window, splits, sample_blocks;
    double boost;
    int64_t launches;
    int predict_only, lines, exec;
} settings;

static const kvs_option options[] = {
    {"kernels", KVS_OPTION_TEXT, offsetof(settings, kernels), "K,K", NULL, 0, 0,
     "which kernels (kvscope list kernels); default all, with --exec none"},
    {"layouts", KVS_OPTION_TEXT, offsetof(settings, layouts), "L,L", "all", 0, 0,
     "which page layouts (kvscope list layouts)"},
    {"predict-only", KVS_OPTION_FLAG, offsetof(settings, predict_only), NULL, NULL, 0, 0,
     "predict on the host and measure nothing: needs no GPU"},
    {"measured", KVS_OPTION_TEXT, offsetof(settings, measured), "FILE", NULL, 0, 0,
     "predict the work of an earlier profile (.h5 or .json) and hold it against what that one measured"},
    {"cache", KVS_OPTION_TEXT, offsetof(settings, cache), "STATE", "cold", 0, 0,
     "of L2 when a measured kernel starts: cold (flushed) or warm (after the same launch)"},
    {"pages", KVS_OPTION_INT, offsetof(settings, pages), "N", "0", 0, 1 << 20,
     "full pages of each KV head of a sequence; 0: 4, or as many as the trace has"},
    {"page-tokens", KVS_OPTION_INT, offsetof(settings, page_tokens), "N", "128", 1, 65536, "tokens of a page"},
    {"sequences", KVS_OPTION_INT, offsetof(settings, sequences), "N", "1", 1, 4096,
     "sequences of the batch; of a trace: layers, one after the other"},
    {"head-dim", KVS_OPTION_INT, offsetof(settings, head_dim), "N", "128", 1, 65536, "channels of a generated head"},
    {"kv-heads", KVS_OPTION_INT, offsetof(settings, kv_heads), "N", "8", 1, 4096, "KV heads of generated pages"},
    {"query-heads", KVS_OPTION_INT, offsetof(settings, query_heads), "N", "32", 1, 65536,
     "query heads of generated pages"},
    {"bits", KVS_OPTION_INT, offsetof(settings, bits), "N", "2", 1, 16, "bits of a key's code"},
    {"boost-bits", KVS_OPTION_INT, offsetof(settings, boost_bits), "N", "4", 1, 16, "the same in boosted channels"},
    {"boost", KVS_OPTION_REAL, offsetof(settings, boost), "R", "0.25", 0, 1, "share of the channels that are boosted"},
    {"value-bits", KVS_OPTION_INT, offsetof(settings, value_bits), "N", "2", 1, 16, "bits of a value's code"},
    {"sinks", KVS_OPTION_INT, offsetof(settings, sinks), "N", "32", 0, 65536, "first tokens, in full precision"},
    {"window", KVS_OPTION_INT, offsetof(settings, window), "N", "128", 0, 65536,
     "last tokens of values, in full precision"},
    {"splits", KVS_OPTION_INT, offsetof(settings, splits), "N", "0", 0, 64,
     "blocks that share a sequence in attention; 0: what fills the device (132 multiprocessors without one)"},
    {"sample-blocks", KVS_OPTION_INT, offsetof(settings, sample_blocks), "N", "0", 0, 1 << 30,
     "predict from at most so many blocks of each grid, spread evenly, and scale; 0: from all"},
    {"lines", KVS_OPTION_FLAG, offsetof(settings, lines), NULL, NULL, 0, 0,
     "print every memory instruction of the kernels' sources too"},
    {"exec", KVS_OPTION_FLAG, offsetof(settings, exec), NULL, NULL, 0, 0,
     "profile the kernels of another program, which follows after --"},
    {"launches", KVS_OPTION_INT, offsetof(settings, launches), "N", "4", 0, 1 << 30,
     "how many launches of each of its kernels are counted; 0: all"},
    {"o", KVS_OPTION_TEXT, offsetof(settings, output), "FILE", NULL, 0, 0, "write the profile as .h5, .json or .csv"},
    {"html", KVS_OPTION_TEXT, offsetof(settings, html), "FILE", NULL, 0, 0,
     "write one self-contained page with tables and pictures (needs gnuplot)"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

/* --- what is profiled ----------------------------------------------------------------------------------------------
 */

/* Kernels and layouts by name, each list ended by NULL. */
typedef struct chosen {
    const kvs_workload_kernel *kernels[MAX_NAMES + 1];
    const kvs_layout *layouts[MAX_NAMES + 1];
} chosen;

/* Calls take for each name of a list, or for every registered one. */
static kvs_status each_name(const char *option, const char *list,
                            kvs_status (*take)(chosen *, const char *, kvs_error *), chosen *to, kvs_error *error) {
    char text[1024], *rest = text;
    if (strlen(list) >= sizeof text) return kvs_fail(error, KVS_USAGE, option, NULL, "is too long");
    snprintf(text, sizeof text, "%s", list);
    for (char *name; (name = strsep(&rest, ",")) != NULL;) KVS_TRY(take(to, name, error));
    return KVS_OK;
}

static kvs_status take_kernel(chosen *to, const char *name, kvs_error *error) {
    int count = 0, all = strcmp(name, "all") == 0;
    while (to->kernels[count] != NULL) count++;
    for (int i = 0; kvs_workload_kernels[i] != NULL; i++) {
        if (!all && strcmp(kvs_workload_kernels[i]->name, name) != 0) continue;
        if (count == MAX_NAMES) return kvs_fail(error, KVS_USAGE, "--kernels", name, "too many");
        to->kernels[count++] = kvs_workload_kernels[i];
        if (!all) return KVS_OK;
    }
    if (all) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, "--kernels", name, "unknown kernel; `kvscope list kernels` names them");
}

static kvs_status take_layout(chosen *to, const char *name, kvs_error *error) {
    int count = 0, all = strcmp(name, "all") == 0;
    while (to->layouts[count] != NULL) count++;
    for (int i = 0; kvs_layouts[i] != NULL; i++) {
        if (all ? kvs_layouts[i]->arrange == NULL : strcmp(kvs_layouts[i]->name, name) != 0) continue;
        if (count == MAX_NAMES) return kvs_fail(error, KVS_USAGE, "--layouts", name, "too many");
        to->layouts[count++] = kvs_layouts[i];
        if (!all) return KVS_OK;
    }
    if (all) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, "--layouts", name, "unknown layout; `kvscope list layouts` names them");
}

static kvs_status parse_cache(const char *text, kvs_cache_state *state, kvs_error *error) {
    for (int i = KVS_CACHE_COLD; i <= KVS_CACHE_WARM; i++)
        if (strcmp(text, kvs_cache_state_names[i]) == 0) {
            *state = (kvs_cache_state)i;
            return KVS_OK;
        }
    return kvs_fail(error, KVS_USAGE, "--cache", text, "is cold or warm");
}

static kvs_status make_request(const settings *s, const kvs_texts *operands, chosen *to, kvs_profile_request *request,
                               kvs_error *error) {
    kvs_workload_input *in = &request->input;
    *request = (kvs_profile_request){.kernels = to->kernels, .layouts = to->layouts, .input = kvs_profile_input};
    KVS_TRY(each_name("--kernels", s->kernels != NULL ? s->kernels : "all", take_kernel, to, error));
    KVS_TRY(each_name("--layouts", s->layouts, take_layout, to, error));
    KVS_TRY(parse_cache(s->cache, &request->cache, error));
    request->trace = operands->count > 0 && !s->exec ? operands->texts[0] : NULL;
    request->boost = s->boost;
    request->sample_blocks = s->sample_blocks;
    request->quiet = s->common.quiet;
    in->shape = (kvs_page_shape){.head_dim = (int)s->head_dim,
                                 .page_tokens = (int)s->page_tokens,
                                 .kv_heads = (int)s->kv_heads,
                                 .bits = (int)s->bits,
                                 .boost_bits = (int)s->boost_bits,
                                 .value_bits = (int)s->value_bits};
    in->query_heads = (int)s->query_heads;
    in->sequences = (int)s->sequences;
    in->pages = (int)s->pages;
    in->sink_tokens = (int)s->sinks;
    in->window_tokens = (int)s->window;
    in->splits = (int)s->splits;
    in->seed = (uint64_t)s->common.seed;
    return KVS_OK;
}

/* --- against an earlier profile ------------------------------------------------------------------------------------
 */

static int ends_with(const char *path, const char *extension) {
    size_t length = strlen(path), tail = strlen(extension);
    return length >= tail && strcmp(path + length - tail, extension) == 0;
}

static kvs_status read_profile(const char *path, kvs_profile *profile, kvs_error *error) {
    if (ends_with(path, ".json")) return kvs_profile_read_json(path, profile, error);
    return kvs_profile_read_h5(path, profile, error);
}

static kvs_status compare(const settings *s, kvs_profile_request *request, kvs_profile *profile, kvs_error *error) {
    kvs_profile from;
    KVS_TRY(read_profile(s->measured, &from, error));
    kvs_status status = kvs_profile_compare(request, &from, s->measured, profile, error);
    kvs_profile_clear(&from);
    return status;
}

/* --- what is left of it --------------------------------------------------------------------------------------------
 */

static const struct {
    const char *extension;
    kvs_status (*write)(const kvs_profile *profile, const char *path, kvs_error *error);
} forms[] = {{".h5", kvs_profile_write_h5}, {".json", kvs_profile_write_json}, {".csv", kvs_profile_write_csv}};
enum { FORMS = sizeof forms / sizeof *forms };

static int form_of(const char *path) {
    for (int i = 0; i < FORMS; i++)
        if (ends_with(path, forms[i].extension)) return i;
    return -1;
}

/* Asked before long work. */
static kvs_status check_outputs(const settings *s, kvs_error *error) {
    const char *const paths[] = {s->output, s->html};
    if (s->output != NULL && form_of(s->output) < 0)
        return kvs_fail(error, KVS_USAGE, "-o", s->output, "must end in .h5, .json or .csv");
    for (int i = 0; i < 2; i++) {
        kvs_output output;
        if (paths[i] == NULL) continue;
        KVS_TRY(kvs_output_begin(paths[i], &output, error));
        kvs_output_abandon(&output);
    }
    return KVS_OK;
}

static kvs_status print_json(const kvs_profile *profile, kvs_error *error) {
    cJSON *root = kvs_profile_to_json(profile, 1);
    char *text = root != NULL ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

static kvs_status show(const settings *s, kvs_profile *profile, kvs_error *error) {
    profile->command_line = strdup(kvs_command_line());
    if (profile->command_line == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    if (s->output != NULL) KVS_TRY(forms[form_of(s->output)].write(profile, s->output, error));
    if (s->html != NULL) KVS_TRY(kvs_profile_write_html(profile, s->html, error));
    if (s->common.json)
        KVS_TRY(print_json(profile, error));
    else if (!s->common.quiet)
        kvs_profile_print(profile, s->lines);
    return kvs_profile_check(profile, error);
}

/* --- another program -----------------------------------------------------------------------------------------------
 */

static kvs_status check_operands(const settings *s, const kvs_texts *operands, kvs_error *error) {
    if (s->exec && operands->count == 0)
        return kvs_fail(error, KVS_USAGE, "--exec", NULL, "names no program: kvscope profile --exec -- PROGRAM ARGS");
    if (s->exec && s->measured != NULL)
        return kvs_fail(error, KVS_USAGE, "--measured", s->measured, "does not go together with --exec");
    if (!s->exec && operands->count > 1)
        return kvs_fail(error, KVS_USAGE, operands->texts[1], NULL,
                        "unexpected: one trace, or --exec and a program after --");
    return KVS_OK;
}

/* Reports what was counted, and ends as the program did: with its status where that is not 0. */
static kvs_status profile_program(const settings *s, const kvs_texts *operands, kvs_profile *profile,
                                  kvs_error *error) {
    char **argv = calloc((size_t)operands->count + 1, sizeof *argv);
    kvs_error shown = {.status = KVS_OK};
    int status_of_program = 0;
    if (argv == NULL) return kvs_fail(error, KVS_INPUT, operands->texts[0], NULL, "out of memory");
    for (int i = 0; i < operands->count; i++) argv[i] = (char *)(uintptr_t)operands->texts[i];
    int before = profile->launches_count;
    kvs_status status = kvs_profile_add_program(argv, s->launches, profile, &status_of_program, error);
    free(argv);
    if (status == KVS_OK || profile->launches_count > before) {
        kvs_status printed = show(s, profile, status == KVS_OK ? error : &shown);
        if (status == KVS_OK) status = printed;
    }
    if (status_of_program == 0) return status;
    if (status != KVS_OK) {
        if (error != NULL) error->status = (kvs_status)status_of_program;
        return (kvs_status)status_of_program;
    }
    return kvs_fail(error, (kvs_status)status_of_program, operands->texts[0], NULL,
                    "ended with status %d; the report holds what it launched before", status_of_program);
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    const settings *s = config;
    chosen list = {.kernels = {NULL}};
    kvs_profile_request request;
    kvs_profile profile = {0};
    KVS_TRY(check_operands(s, operands, error));
    KVS_TRY(make_request(s, operands, &list, &request, error));
    KVS_TRY(check_outputs(s, error));
    if (s->predict_only && s->measured != NULL)
        return kvs_fail(error, KVS_USAGE, "--measured", s->measured, "does not go together with --predict-only");
    kvs_interrupt_catch();
    kvs_status status = KVS_OK;
    if (s->measured != NULL)
        status = compare(s, &request, &profile, error);
    else if (!s->exec || s->kernels != NULL)
        status = kvs_profile_run(&request, !s->predict_only, &profile, error);
    if (status == KVS_OK) status = s->exec ? profile_program(s, operands, &profile, error) : show(s, &profile, error);
    kvs_profile_clear(&profile);
    return status;
}

const kvs_command kvs_command_profile = {
    .name = "profile",
    .arguments = "[TRACE | --exec -- PROGRAM ARGS] [--kernels K,K] [--layouts L,L] [--predict-only] [-o FILE]",
    .summary = "how kernels use a GPU's memory: the transaction model's prediction beside the hardware's counters",
    .details =
        "Each kernel runs with each layout on pages of the trace, or on generated ones: on the host, where every\n"
        "access is recorded (predicted), and on the GPU, where CUPTI reads the counters (measured). Exit status 1:\n"
        "requests or sectors differ, or DRAM bytes by more than 5 %. Without a GPU: --predict-only, or --measured.\n"
        "analysis/PROFILE.md explains every metric and the files.\n"
        "--exec counts the kernels of any CUDA program instead, a PyTorch or Triton one say, or beside ours where\n"
        "--kernels is given; its exit status is the program's where that is not 0.\n\n"
        "  kvscope profile --predict-only\n"
        "  kvscope profile trace.h5 --kernels quantize_pack_k,dequantize_k --layouts kitty,fragment --predict-only\n"
        "  kvscope profile --pages 8 -o profile.h5\n"
        "  kvscope profile --pages 4096 --sample-blocks 64 --kernels quantize_pack_v --layouts kitty\n"
        "  kvscope profile --exec --launches 8 -o torch.json -- python3 attention.py\n"
        "  kvscope profile --measured tests/golden/profile-h200.json\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 0,
    .max_operands = -1,
    .run = run,
};
