#include "sim/rank.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/progress.h"
#include "kernels/blas.h"
#include "sim/rank_study.h"

/* Pages of a sequence that its last recorded query reads. */
static kvs_status readable(kvs_trace *trace, int sequence, const kvs_rank_options *options, int *pages,
                           kvs_error *error) {
    const kvs_sequence *s = kvs_trace_sequence(trace, sequence);
    *pages = 0;
    if (s->queries == 0) return KVS_OK;
    int32_t *positions = malloc((size_t)s->queries * sizeof *positions);
    if (positions == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    kvs_status status = kvs_trace_read_query_pos(trace, sequence, positions, error);
    kvs_window window = kvs_rank_window_of(options);
    if (status == KVS_OK)
        *pages = (int)((kvs_window_stored_end(&window, positions[s->queries - 1], 0) - options->sink) / options->page);
    free(positions);
    return status;
}

/* Pages of each sequence; their sum over all heads is results->pages_count. */
static kvs_status count_pages(kvs_rank_study *s, int *pages, kvs_error *error) {
    kvs_rank_results *r = s->results;
    double total = 0;
    for (int sequence = 0; sequence < r->sequences; sequence++) {
        KVS_TRY(readable(s->trace, sequence, s->options, &pages[sequence], error));
        total += (double)r->layers * r->kv_heads *
                 (pages[sequence] < s->options->pages ? pages[sequence] : s->options->pages);
    }
    if (total == 0)
        return kvs_fail(error, KVS_INPUT, kvs_trace_path(s->trace), NULL,
                        "no recorded query reads a full page of %d tokens", s->options->page);
    if (total > 1e8) return kvs_fail(error, KVS_USAGE, "--pages", NULL, "%.0f pages are too many to judge", total);
    r->pages_count = (int)total;
    return KVS_OK;
}

static int add_unit(kvs_rank_study *s, int layer, int head, int sequence, int pages, int at) {
    int count = pages < s->options->pages ? pages : s->options->pages;
    if (count == 0) return 0;
    for (int p = 0; p < count; p++) {
        s->unit_of[at + p] = s->units_count;
        s->results->pages[at + p] = (kvs_rank_page){.sequence = sequence,
                                                    .layer = layer,
                                                    .head = head,
                                                    .page = (int)((int64_t)(2 * p + 1) * pages / (2 * count))};
    }
    s->units[s->units_count++] = (kvs_rank_unit){.first = at, .last = at + count};
    return count;
}

static kvs_status name_metrics(kvs_rank_study *s, kvs_error *error) {
    static const char *const uses[] = {
        [KVS_QUERIES_NONE] = "keys", [KVS_QUERIES_PAST] = "past queries", [KVS_QUERIES_FUTURE] = "future queries"};
    kvs_rank_results *r = s->results;
    int failed = 0;
    for (int m = 0; m < r->metrics_count; m++) {
        const kvs_ranking *metric = m < s->options->metrics_count ? s->options->metrics[m] : NULL;
        int greedy = m == kvs_rank_greedy(r);
        r->metrics[m].name = strdup(metric != NULL ? metric->name : greedy ? KVS_RANK_GREEDY : KVS_RANK_CHANCE);
        r->metrics[m].uses = strdup(metric != NULL ? uses[metric->queries] : greedy ? "errors" : "draws");
        failed |= r->metrics[m].name == NULL || r->metrics[m].uses == NULL;
    }
    return failed ? kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory") : KVS_OK;
}

/* Lists the sampled pages and makes room for what is found of them. */
static kvs_status list_pages(kvs_rank_study *s, const int *pages, kvs_error *error) {
    kvs_rank_results *r = s->results;
    KVS_TRY(kvs_rank_results_alloc(r, error));
    KVS_TRY(name_metrics(s, error));
    size_t count = (size_t)r->pages_count, metrics = (size_t)s->options->metrics_count, dim = (size_t)r->head_dim;
    s->units = calloc(count, sizeof *s->units);
    s->unit_of = calloc(count, sizeof *s->unit_of);
    s->scores = calloc(metrics * count * dim, sizeof *s->scores);
    s->fixed = calloc(metrics * count * dim, sizeof *s->fixed); /* there are as many units at most */
    s->counts = calloc(metrics * KVS_SELECTIONS * KVS_BUDGETS * count * (size_t)r->ratios_count, sizeof *s->counts);
    s->greedy = calloc(count * ((size_t)s->most + 1), sizeof *s->greedy);
    if (s->units == NULL || s->unit_of == NULL || s->scores == NULL || s->fixed == NULL || s->counts == NULL ||
        s->greedy == NULL)
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory for %d pages", r->pages_count);
    for (int layer = 0, at = 0; layer < r->layers; layer++)
        for (int head = 0; head < r->kv_heads; head++)
            for (int sequence = 0; sequence < r->sequences; sequence++)
                at += add_unit(s, layer, head, sequence, pages[sequence], at);
    return KVS_OK;
}

/* The ratios asked for and the two that always are, ascending, each once. */
static kvs_status list_ratios(kvs_rank_study *s, kvs_error *error) {
    kvs_rank_results *r = s->results;
    const kvs_rank_options *o = s->options;
    int most = 0;
    for (int i = 0; i < 2 + o->ratios_count; i++) {
        double ratio = i < 2 ? kvs_rank_main_ratios[i] : o->ratios[i - 2];
        int at = r->ratios_count;
        if (kvs_rank_ratio_index(r, ratio) >= 0) continue;
        if (at == KVS_RANK_RATIOS)
            return kvs_fail(error, KVS_USAGE, "--ratios", NULL, "are more than %d", KVS_RANK_RATIOS);
        for (; at > 0 && r->ratios[at - 1].ratio > ratio; at--) r->ratios[at] = r->ratios[at - 1];
        r->ratios[at] = (kvs_rank_ratio){ratio, (int)(r->head_dim * ratio + 1e-6)};
        r->ratios_count++;
        if (r->ratios[at].boost_count > most) most = r->ratios[at].boost_count;
    }
    /* A head may take up to twice its part of a shared budget. */
    s->most = r->budgets == 1 << KVS_BUDGET_HEAD ? most : 2 * most < r->head_dim ? 2 * most : r->head_dim;
    return KVS_OK;
}

static kvs_status describe(kvs_rank_study *s, kvs_error *error) {
    const kvs_trace_header *header = kvs_trace_header_of(s->trace);
    const kvs_rank_options *o = s->options;
    kvs_rank_results *r = s->results;
    const char *path = kvs_trace_path(s->trace);
    *r = (kvs_rank_results){.seed = (int64_t)o->seed,
                            .layers = header->layers,
                            .query_heads = header->query_heads,
                            .kv_heads = header->kv_heads,
                            .head_dim = header->head_dim,
                            .sequences = kvs_trace_sequences(s->trace),
                            .sink = o->sink,
                            .page_tokens = o->page,
                            .rank_window = o->window,
                            .prefix_pages = o->prefix,
                            .pages_per_head = o->pages,
                            .positions_per_page = o->queries,
                            .budgets = o->budgets | 1 << KVS_BUDGET_HEAD,
                            .metrics_count = o->metrics_count + 2};
    if (!header->causal) return kvs_fail(error, KVS_INPUT, path, "causal", "is 0: no query is past or future");
    if (header->head_dim < 16 || header->head_dim > KVS_MAX_HEAD_DIM)
        return kvs_fail(error, KVS_INPUT, path, "head_dim", "is %d, not 16 to %d", header->head_dim, KVS_MAX_HEAD_DIM);
    r->trace_path = strdup(path);
    r->model_name = strdup(header->model_name);
    r->model_family = strdup(header->model_family);
    r->trace_sha256 = calloc(1, 65);
    if (r->trace_path == NULL || r->model_name == NULL || r->model_family == NULL || r->trace_sha256 == NULL)
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    if (o->journal != NULL) KVS_TRY(kvs_file_sha256(path, r->trace_sha256, error));
    KVS_TRY(list_ratios(s, error));
    int *pages = calloc((size_t)r->sequences + 1, sizeof *pages);
    kvs_status status =
        pages != NULL ? count_pages(s, pages, error) : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    if (status == KVS_OK) status = list_pages(s, pages, error);
    free(pages);
    return status;
}

/* --- over the units ------------------------------------------------------------------------------------------------
 */

/* Runs `work` on every unit that is not done, adding it to the journal unless that is NULL. */
static kvs_status for_units(kvs_rank_study *s, const char *label,
                            kvs_status (*work)(kvs_rank_study *study, int unit, kvs_error *error), int judging,
                            kvs_journal *journal, kvs_error *error) {
    kvs_progress progress;
    kvs_status status = KVS_OK;
    int threads = s->options->threads > 0 ? s->options->threads : omp_get_num_procs(), left = 0;
    for (int i = 0; i < s->units_count; i++)
        left += judging && s->units[i].done ? 0 : s->units[i].last - s->units[i].first;
    kvs_progress_begin(&progress, label, "pages", left, s->options->quiet);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int i = 0; i < s->units_count; i++) {
        kvs_rank_unit *unit = &s->units[i];
        int stopped;
#pragma omp atomic read
        stopped = status;
        kvs_error mine = {0};
        if (stopped != KVS_OK || (judging && unit->done)) continue;
        kvs_status done = kvs_interrupted()
                              ? kvs_fail(&mine, KVS_INTERRUPTED, kvs_trace_path(s->trace), NULL, "interrupted")
                              : work(s, i, &mine);
#pragma omp critical(kvs_rank)
        {
            if (done == KVS_OK && journal != NULL) done = kvs_rank_journal_add(s, journal, i, &mine);
            if (done == KVS_OK && judging) unit->done = 1;
            if (done != KVS_OK && status == KVS_OK) {
                status = done;
                if (error != NULL) *error = mine;
            }
        }
        kvs_progress_add(&progress, unit->last - unit->first);
    }
    kvs_progress_end(&progress);
    return status;
}

static kvs_status judge(kvs_rank_study *s, kvs_error *error) {
    kvs_journal *journal = NULL;
    if (s->options->journal != NULL) KVS_TRY(kvs_rank_journal_open(s, &journal, error));
    kvs_status status = for_units(s, "rank", kvs_rank_judge_unit, 1, journal, error);
    kvs_journal_close(journal);
    if (status != KVS_INTERRUPTED || s->options->journal == NULL) return status;
    int done = 0;
    for (int i = 0; i < s->units_count; i++) done += s->units[i].done;
    return kvs_fail(error, status, s->options->journal, NULL,
                    "interrupted; %d of %d heads are kept, the same command goes on from there", done, s->units_count);
}

kvs_status kvs_rank(kvs_trace *trace, const kvs_rank_options *options, kvs_rank_results *results, kvs_error *error) {
    kvs_rank_study s = {.trace = trace, .options = options, .results = results};
    kvs_status status = kvs_blas_begin(error);
    if (status == KVS_OK) status = describe(&s, error);
    if (status == KVS_OK) status = for_units(&s, "rank: scores", kvs_rank_score_unit, 0, NULL, error);
    if (status == KVS_OK) status = kvs_rank_share(&s, error);
    if (status == KVS_OK) status = judge(&s, error);
    if (status == KVS_OK) status = kvs_rank_share_greedy(&s, error);
    if (status == KVS_OK) status = kvs_rank_summarize(results, error);
    void *all[] = {s.units, s.unit_of, s.scores, s.fixed, s.counts, s.greedy};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    return status;
}
