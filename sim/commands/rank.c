/* rank.c: kvscope rank: ranking metrics against oracles, as a table or as JSON. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "sim/command.h"
#include "sim/rank.h"

typedef struct config {
    kvs_common common;
    const char *metrics;
    int64_t sink, page, rank_window, pages, queries;
} config;

static const kvs_option options[] = {
    {"metrics", KVS_OPTION_TEXT, offsetof(config, metrics), "M,M,...", NULL, 0, 0,
     "ranking metrics; without it all of kvscope list metrics"},
    {"sink", KVS_OPTION_INT, offsetof(config, sink), "N", "32", 0, 1e6, "first tokens in full precision"},
    {"page", KVS_OPTION_INT, offsetof(config, page), "N", "128", 1, 4096, "tokens of a page"},
    {"rank-window", KVS_OPTION_INT, offsetof(config, rank_window), "N", "512", 0, 1e6,
     "positions before a page is stored whose queries may rank it; 0: all"},
    {"pages", KVS_OPTION_INT, offsetof(config, pages), "N", "4", 1, 1e6, "pages of each sequence, layer and KV head"},
    {"queries", KVS_OPTION_INT, offsetof(config, queries), "N", "8", 1, 4096, "positions that judge a page"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

static kvs_status choose(const char *names, kvs_rank_options *settings, kvs_error *error) {
    for (int i = 0; names == NULL && kvs_rankings[i] != NULL && i < KVS_RANK_METRICS; i++)
        settings->metrics[settings->metrics_count++] = kvs_rankings[i];
    while (names != NULL) {
        char name[64];
        size_t length = strcspn(names, ",");
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), names);
        const kvs_ranking *metric = kvs_ranking_find(name);
        if (metric == NULL)
            return kvs_fail(error, KVS_USAGE, "--metrics", name, "is no ranking metric; see kvscope list metrics");
        if (settings->metrics_count == KVS_RANK_METRICS)
            return kvs_fail(error, KVS_USAGE, "--metrics", name, "is more than %d", KVS_RANK_METRICS);
        settings->metrics[settings->metrics_count++] = metric;
        names = names[length] == ',' ? names + length + 1 : NULL;
    }
    return KVS_OK;
}

/* --- output --------------------------------------------------------------------------------------------------------
 */

static void add(cJSON *object, const char *name, double value) {
    cJSON_AddItemToObject(object, name, isnan(value) ? cJSON_CreateNull() : cJSON_CreateNumber(value));
}

static void add_ratios(cJSON *object, const char *name, const double values[KVS_RANK_RATIOS]) {
    cJSON *ratios = cJSON_AddObjectToObject(object, name);
    for (int r = 0; r < KVS_RANK_RATIOS; r++) {
        char ratio[32];
        snprintf(ratio, sizeof ratio, "%g", kvs_rank_ratios[r]);
        add(ratios, ratio, values[r]);
    }
}

static cJSON *metric_json(const char *name, const kvs_rank_summary *s) {
    cJSON *metric = cJSON_CreateObject();
    cJSON_AddStringToObject(metric, "metric", name);
    add(metric, "spearman", s->mean.spearman);
    add(metric, "kendall", s->mean.kendall);
    add(metric, "top_k_overlap", s->mean.overlap);
    add_ratios(metric, "error", s->mean.error);
    add_ratios(metric, "static_error", s->mean.static_error);
    add_ratios(metric, "gap_closed", s->gap_closed);
    cJSON *ci95 = isnan(s->ci95[0]) ? cJSON_CreateNull() : cJSON_CreateDoubleArray(s->ci95, 2);
    cJSON_AddItemToObject(metric, "ci95", ci95);
    return metric;
}

static void add_metrics(cJSON *object, const kvs_ranked *ranked, const kvs_rank_options *settings, int layer,
                        int head) {
    cJSON *metrics = cJSON_AddArrayToObject(object, "metrics");
    for (int m = 0; m < settings->metrics_count; m++) {
        kvs_rank_summary s;
        kvs_rank_summarize(ranked, m, layer, head, settings->seed, &s);
        cJSON_AddItemToArray(metrics, metric_json(settings->metrics[m]->name, &s));
    }
}

static void add_oracle(cJSON *object, const kvs_ranked *ranked, const kvs_rank_options *settings, int layer, int head) {
    kvs_rank_summary s;
    kvs_rank_summarize(ranked, 0, layer, head, settings->seed, &s);
    cJSON *oracle = cJSON_AddObjectToObject(object, "oracle");
    cJSON_AddNumberToObject(oracle, "pages", s.pages);
    add_ratios(oracle, "random", s.random);
    add_ratios(oracle, "greedy", s.greedy);
    cJSON *four = cJSON_AddObjectToObject(oracle, "four_of_sixteen");
    add(four, "greedy", s.four[0]);
    add(four, "exhaustive", s.four[1]);
}

static kvs_status print_json(const kvs_ranked *ranked, const kvs_rank_options *settings, const char *path, int layers,
                             int heads, kvs_error *error) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "rank");
    cJSON_AddStringToObject(root, "trace", path);
    add_metrics(root, ranked, settings, -1, -1);
    add_oracle(root, ranked, settings, -1, -1);
    cJSON *sampling = cJSON_AddObjectToObject(root, "sampling");
    cJSON_AddNumberToObject(sampling, "pages_per_head", settings->pages);
    cJSON_AddNumberToObject(sampling, "positions_per_page", settings->queries);
    cJSON_AddNumberToObject(sampling, "rank_window", settings->window);
    cJSON *each = cJSON_AddArrayToObject(root, "heads");
    for (int i = 0; i < layers * heads; i++) {
        cJSON *head = cJSON_CreateObject();
        cJSON_AddItemToArray(each, head);
        cJSON_AddNumberToObject(head, "layer", i / heads);
        cJSON_AddNumberToObject(head, "head", i % heads);
        add_metrics(head, ranked, settings, i / heads, i % heads);
        add_oracle(head, ranked, settings, i / heads, i % heads);
    }
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    free(text);
    return KVS_OK;
}

static void print_table(const kvs_ranked *ranked, const kvs_rank_options *settings) {
    printf("%d pages, judged alone; gap: (random - e) / (random - greedy) with its 95 %% interval at 0.25\n\n",
           ranked->count);
    printf("%-26s %8s %8s %8s %10s %10s %10s %7s %7s %15s\n", "metric", "spearman", "kendall", "overlap", "e 0.125",
           "e 0.25", "static", "gap", "gap", "ci95");
    kvs_rank_summary s = {0};
    for (int m = 0; m < settings->metrics_count; m++) {
        kvs_rank_summarize(ranked, m, -1, -1, settings->seed, &s);
        printf("%-26s %8.3f %8.3f %8.3f %10.3e %10.3e %10.3e %7.3f %7.3f  [%.3f, %.3f]\n", settings->metrics[m]->name,
               s.mean.spearman, s.mean.kendall, s.mean.overlap, s.mean.error[0], s.mean.error[1],
               s.mean.static_error[1], s.gap_closed[0], s.gap_closed[1], s.ci95[0], s.ci95[1]);
    }
    printf("%-26s %26s %10.3e %10.3e\n", "chance, 8 draws", "", s.random[0], s.random[1]);
    printf("%-26s %26s %10.3e %10.3e\n", "greedy oracle", "", s.greedy[0], s.greedy[1]);
    printf("4 of 16 channels: greedy %.4e, best of all 1820 %.4e\n", s.four[0], s.four[1]);
}

static kvs_status run(const void *configuration, const kvs_texts *operands, kvs_error *error) {
    const config *c = configuration;
    kvs_rank_options settings = {.sink = (int)c->sink,
                                 .page = (int)c->page,
                                 .window = (int)c->rank_window,
                                 .pages = (int)c->pages,
                                 .queries = (int)c->queries,
                                 .seed = (uint64_t)c->common.seed,
                                 .threads = (int)c->common.threads,
                                 .quiet = c->common.quiet};
    KVS_TRY(choose(c->metrics, &settings, error));
    kvs_interrupt_catch();
    kvs_trace *trace = NULL;
    kvs_ranked ranked = {0};
    KVS_TRY(kvs_trace_open(operands->texts[0], &trace, error));
    const kvs_trace_header *header = kvs_trace_header_of(trace);
    kvs_status status = kvs_rank(trace, &settings, &ranked, error);
    if (status == KVS_OK && c->common.json)
        status = print_json(&ranked, &settings, operands->texts[0], header->layers, header->kv_heads, error);
    else if (status == KVS_OK && !c->common.quiet)
        print_table(&ranked, &settings);
    kvs_ranked_clear(&ranked);
    kvs_trace_close(trace);
    return status;
}

const kvs_command kvs_command_rank = {
    .name = "rank",
    .arguments = "TRACE [--metrics M,M,...]",
    .summary = "ranking metrics against oracles of the attention error",
    .details =
        "Each sampled page of K is stored alone, 2 bits a channel and 4 where boosted, with V in full precision. The\n"
        "single-channel oracle is the error of one channel alone at 2 bits; greedy boosts channel by channel what\n"
        "leaves the least error. Overlap is of the top quarter; static is\n"
        "the error at 0.25 with the channels chosen on the sequence's first page. Metrics see past queries only, "
        "except future_...\n\n"
        "  kvscope rank traces/sample/qwen3-7m.h5 --pages 2 --queries 4\n"
        "  kvscope rank TRACE --metrics magnitude,query_error --json\n",
    .options = options,
    .config_bytes = sizeof(config),
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
