/* rank.c: kvscope rank: ranking metrics against oracles, as a table, as JSON and into a results file. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/progress.h"
#include "core/version.h"
#include "sim/command.h"
#include "sim/commands/rank_print.h"
#include "sim/rank.h"

typedef struct config {
    kvs_common common;
    const char *metrics, *ratios, *budgets, *output;
    int64_t sink, page, rank_window, prefix, pages, queries;
    int restart;
} config;

static const kvs_option options[] = {
    {"metrics", KVS_OPTION_TEXT, offsetof(config, metrics), "M,M,...", NULL, 0, 0,
     "ranking metrics; without it all of kvscope list metrics"},
    {"ratios", KVS_OPTION_TEXT, offsetof(config, ratios), "R,R,...", NULL, 0, 0,
     "boost ratios besides 0.125 and 0.25, at most 14"},
    {"budget", KVS_OPTION_TEXT, offsetof(config, budgets), "B,B,...", "head,layer,model", 0, 0,
     "who shares boosts: head (a fixed count, always judged), the heads of a layer, the model"},
    {"prefix", KVS_OPTION_INT, offsetof(config, prefix), "N", "1", 1, 1e6,
     "first pages of a sequence that static selection looks at"},
    {"sink", KVS_OPTION_INT, offsetof(config, sink), "N", "32", 0, 1e6, "first tokens in full precision"},
    {"page", KVS_OPTION_INT, offsetof(config, page), "N", "128", 1, 4096, "tokens of a page"},
    {"rank-window", KVS_OPTION_INT, offsetof(config, rank_window), "N", "512", 0, 1e6,
     "positions before a page is stored whose queries may rank it; 0: all"},
    {"pages", KVS_OPTION_INT, offsetof(config, pages), "N", "4", 1, 1e6, "pages of each sequence, layer and KV head"},
    {"queries", KVS_OPTION_INT, offsetof(config, queries), "N", "8", 1, 4096, "positions that judge a page"},
    {"o", KVS_OPTION_TEXT, offsetof(config, output), "RANKING.h5", NULL, 0, 0,
     "a results file for kvscope plot; finished heads are kept in RANKING.journal meanwhile"},
    {"restart", KVS_OPTION_FLAG, offsetof(config, restart), NULL, NULL, 0, 0,
     "forget what an interrupted run left in RANKING.journal"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

/* The next of a list "A,B,..." into name; NULL where it was the last. */
static const char *take_name(const char *names, char *name, size_t name_bytes) {
    size_t length = strcspn(names, ",");
    snprintf(name, name_bytes, "%.*s", (int)(length < name_bytes ? length : name_bytes - 1), names);
    return names[length] == ',' ? names + length + 1 : NULL;
}

static kvs_status choose_metrics(const char *names, kvs_rank_options *settings, kvs_error *error) {
    for (int i = 0; names == NULL && kvs_rankings[i] != NULL && i < KVS_RANK_METRICS; i++)
        settings->metrics[settings->metrics_count++] = kvs_rankings[i];
    while (names != NULL) {
        char name[64];
        names = take_name(names, name, sizeof name);
        const kvs_ranking *metric = kvs_ranking_find(name);
        if (metric == NULL)
            return kvs_fail(error, KVS_USAGE, "--metrics", name, "is no ranking metric; see kvscope list metrics");
        if (settings->metrics_count == KVS_RANK_METRICS)
            return kvs_fail(error, KVS_USAGE, "--metrics", name, "is more than %d", KVS_RANK_METRICS);
        settings->metrics[settings->metrics_count++] = metric;
    }
    return KVS_OK;
}

static kvs_status choose_ratios(const char *texts, kvs_rank_options *settings, kvs_error *error) {
    while (texts != NULL) {
        char text[64], *end;
        texts = take_name(texts, text, sizeof text);
        double ratio = strtod(text, &end);
        if (end == text || *end != '\0' || !(ratio >= 0 && ratio <= 1))
            return kvs_fail(error, KVS_USAGE, "--ratios", text, "is no number from 0 to 1");
        if (settings->ratios_count == KVS_RANK_RATIOS)
            return kvs_fail(error, KVS_USAGE, "--ratios", text, "is more than %d", KVS_RANK_RATIOS);
        settings->ratios[settings->ratios_count++] = ratio;
    }
    return KVS_OK;
}

static kvs_status choose_budgets(const char *names, kvs_rank_options *settings, kvs_error *error) {
    while (names != NULL) {
        char name[64];
        int budget = 0;
        names = take_name(names, name, sizeof name);
        while (budget < KVS_BUDGETS && strcmp(kvs_rank_budget_names[budget], name) != 0) budget++;
        if (budget == KVS_BUDGETS) return kvs_fail(error, KVS_USAGE, "--budget", name, "is not head, layer or model");
        settings->budgets |= 1 << budget;
    }
    return KVS_OK;
}

/* --- output --------------------------------------------------------------------------------------------------------
 */

/* Whether the file can be written, asked before long work; and its journal's path, the caller's. */
static kvs_status check_output(const char *output, char **journal, kvs_error *error) {
    size_t length = strlen(output);
    kvs_output file;
    if (length < 4 || strcmp(output + length - 3, ".h5") != 0)
        return kvs_fail(error, KVS_USAGE, "-o", output, "must end in .h5");
    KVS_TRY(kvs_output_begin(output, &file, error));
    kvs_output_abandon(&file);
    *journal = malloc(length + sizeof ".journal");
    if (*journal == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    memcpy(*journal, output, length - 3);
    memcpy(*journal + length - 3, ".journal", sizeof ".journal");
    return KVS_OK;
}

static kvs_status print_json(const kvs_rank_results *results, kvs_error *error) {
    cJSON *root = kvs_rank_results_to_json(results);
    char *text = root != NULL ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

static kvs_status write_and_print(const config *c, kvs_rank_results *results, const char *journal, kvs_error *error) {
    results->version = strdup(KVS_VERSION);
    results->command_line = strdup(kvs_command_line());
    if (results->version == NULL || results->command_line == NULL)
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    if (c->output != NULL) {
        KVS_TRY(kvs_rank_results_write_h5(results, c->output, error));
        unlink(journal); /* everything in it is written now */
    }
    if (c->common.json) return print_json(results, error);
    if (!c->common.quiet) kvs_rank_print(results);
    return KVS_OK;
}

static kvs_status rank_trace(const config *c, const char *path, const kvs_rank_options *settings, kvs_error *error) {
    kvs_trace *trace = NULL;
    kvs_rank_results results = {0};
    KVS_TRY(kvs_trace_open(path, &trace, error));
    kvs_status status = kvs_rank(trace, settings, &results, error);
    if (status == KVS_OK) status = write_and_print(c, &results, settings->journal, error);
    kvs_rank_results_clear(&results);
    kvs_trace_close(trace);
    return status;
}

static kvs_status run(const void *configuration, const kvs_texts *operands, kvs_error *error) {
    const config *c = configuration;
    kvs_rank_options settings = {.prefix = (int)c->prefix,
                                 .sink = (int)c->sink,
                                 .page = (int)c->page,
                                 .window = (int)c->rank_window,
                                 .pages = (int)c->pages,
                                 .queries = (int)c->queries,
                                 .seed = (uint64_t)c->common.seed,
                                 .threads = (int)c->common.threads,
                                 .quiet = c->common.quiet,
                                 .restart = c->restart};
    char *journal = NULL;
    KVS_TRY(choose_metrics(c->metrics, &settings, error));
    KVS_TRY(choose_ratios(c->ratios, &settings, error));
    KVS_TRY(choose_budgets(c->budgets, &settings, error));
    if (c->output != NULL) KVS_TRY(check_output(c->output, &journal, error));
    settings.journal = journal;
    kvs_interrupt_catch();
    kvs_status status = rank_trace(c, operands->texts[0], &settings, error);
    free(journal);
    return status;
}

const kvs_command kvs_command_rank = {
    .name = "rank",
    .arguments = "TRACE [--metrics M,M,...] [-o RANKING.h5]",
    .summary = "ranking metrics against oracles of the attention error",
    .details =
        "Each sampled page of K is stored alone, 2 bits a channel and 4 where boosted, with V in full precision. The\n"
        "single-channel oracle is the error of one channel alone at 2 bits; greedy boosts channel by channel what\n"
        "leaves the least error. Overlap is of the top quarter, stable its part that was chosen on the page before;\n"
        "static selection keeps the channels chosen on the sequence's first page (--prefix: pages). A shared budget\n"
        "boosts the highest scores of all heads whose pages are stored in one step, as many as a fixed count would.\n"
        "Metrics see past queries only, except future_...\n\n"
        "  kvscope rank traces/sample/qwen3-7m.h5 --pages 2 --queries 4\n"
        "  kvscope rank TRACE --metrics magnitude,query_error --json\n"
        "  kvscope rank TRACE --ratios 0.0625,0.1875,0.375,0.5 -o ranking.h5\n"
        "  kvscope plot ranking.h5 --kind all -o plots\n",
    .options = options,
    .config_bytes = sizeof(config),
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
