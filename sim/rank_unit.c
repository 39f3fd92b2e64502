/* rank_unit.c: one head's pages in a ranking study: scores, oracles, errors. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/channel_oracle.h"
#include "analysis/correlation.h"
#include "core/half.h"
#include "kernels/ranking_error.h"
#include "sim/cpu_unit.h"
#include "sim/rank_study.h"

/* One (sequence, layer, KV head) and the memory to judge its pages in. */
typedef struct unit {
    kvs_rank_study *study;
    int number, first, last;
    const kvs_rank_options *options;
    const kvs_trace_header *header;
    const kvs_sequence *sequence;
    kvs_window window;
    int group, readers; /* readers: most queries of one page, all heads */
    int32_t *positions;
    float *k, *v, *q, *log_sums, *logits;
    float *base, *boost, *chosen, *probabilities, *outputs, *scratch, *oracle;
    kvs_page_context context;
} unit;

static void close_unit(unit *u) {
    void *all[] = {u->positions, u->k,       u->v,     u->q,      u->log_sums,
                   u->logits,    u->base,    u->boost, u->chosen, u->probabilities,
                   u->outputs,   u->scratch, u->oracle};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static kvs_status allocate(unit *u, kvs_error *error) {
    size_t dim = (size_t)u->header->head_dim, tokens = (size_t)u->sequence->tokens, page = (size_t)u->options->page;
    size_t queries = (size_t)u->sequence->queries * (size_t)u->group, readers = (size_t)u->readers;
    const struct {
        float **array;
        size_t count;
    } arrays[] = {
        {&u->k, tokens * dim},
        {&u->v, tokens * dim},
        {&u->q, queries * dim},
        {&u->log_sums, queries},
        {&u->logits, tokens},
        {&u->base, page * dim},
        {&u->boost, page * dim},
        {&u->chosen, readers * dim},
        {&u->probabilities, readers * page},
        {&u->outputs, readers * dim},
        {&u->scratch, kvs_ranking_scratch((int)page, (int)dim)},
        {&u->oracle, kvs_oracle_scratch((int)page, (int)dim, (int)readers)},
    };
    int good = (u->positions = malloc(((size_t)u->sequence->queries + 1) * sizeof *u->positions)) != NULL;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        good &= (*arrays[i].array = malloc(arrays[i].count * sizeof(float))) != NULL;
    return good ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory for one head");
}

static kvs_status read_rounded(kvs_trace *trace, kvs_page_place place, kvs_tensor tensor, int head, int64_t rows,
                               int head_dim, float *values, kvs_error *error) {
    KVS_TRY(kvs_trace_read_head(trace, place.sequence, tensor, place.layer, head, 0, values, error));
    size_t count = (size_t)(rows * head_dim);
    if (kvs_round_floats_to_half(values, values, count) == count) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, kvs_trace_path(trace), NULL, "sequence %d, layer %d: a value overflows binary16",
                    place.sequence, place.layer);
}

static kvs_status read_unit(unit *u, kvs_trace *trace, kvs_page_place place, kvs_error *error) {
    int dim = u->header->head_dim, queries = u->sequence->queries;
    KVS_TRY(kvs_trace_read_query_pos(trace, place.sequence, u->positions, error));
    KVS_TRY(read_rounded(trace, place, KVS_TENSOR_K, place.kv_head, u->sequence->tokens, dim, u->k, error));
    KVS_TRY(read_rounded(trace, place, KVS_TENSOR_V, place.kv_head, u->sequence->tokens, dim, u->v, error));
    for (int h = 0; h < u->group; h++)
        KVS_TRY(read_rounded(trace, place, KVS_TENSOR_Q, place.kv_head * u->group + h, queries, dim,
                             u->q + (size_t)h * (size_t)queries * (size_t)dim, error));
    u->context = (kvs_page_context){
        .place = place,
        .rope = {u->header->rotary_dim, u->header->rope_interleaved, NULL},
        .softmax_scale = (float)u->header->softmax_scale,
        .queries = {u->group, queries, dim, u->positions, u->q, (int64_t)queries * dim, u->log_sums, queries}};
    for (int h = 0; h < u->group; h++)
        for (int i = 0; i < queries; i++)
            u->log_sums[h * queries + i] =
                kvs_log_sum(u->context.softmax_scale, dim, u->k, kvs_query_at(&u->context.queries, h, i),
                            u->positions[i] + 1, u->logits);
    return KVS_OK;
}

/* Fills what the oracle reads of the queries that read the page: evenly chosen positions of all heads. */
static int take_readers(unit *u, const kvs_page_context *future) {
    const kvs_query_set *readers = &future->queries;
    int dim = u->header->head_dim, page = u->options->page, taken = 0;
    int count = readers->count < u->options->queries ? readers->count : u->options->queries;
    for (int h = 0; h < readers->heads; h++)
        for (int i = 0; i < count; i++, taken++) {
            int index = (int)((int64_t)(i + 1) * readers->count / count) - 1, seen = readers->positions[index] + 1;
            const float *q = kvs_query_at(readers, h, index);
            float sum = kvs_log_sum(future->softmax_scale, dim, u->k, q, seen, u->logits);
            for (int t = 0; t < seen; t++) u->logits[t] = expf(u->logits[t] - sum);
            memcpy(u->chosen + (size_t)taken * (size_t)dim, q, sizeof *q * (size_t)dim);
            memcpy(u->probabilities + (size_t)taken * (size_t)page, u->logits + future->first_token,
                   sizeof *q * (size_t)page);
            cblas_sgemv(CblasRowMajor, CblasTrans, seen, dim, 1.0f, u->v, dim, u->logits, 1, 0.0f,
                        u->outputs + (size_t)taken * (size_t)dim, 1);
        }
    return taken;
}

/* --- scores --------------------------------------------------------------------------------------------------------
 */

static kvs_status open_unit(unit *u, kvs_rank_study *study, int number, kvs_error *error) {
    const kvs_rank_unit *own = &study->units[number];
    const kvs_rank_page *page = &study->results->pages[own->first];
    const kvs_trace_header *header = kvs_trace_header_of(study->trace);
    *u = (unit){.study = study,
                .number = number,
                .first = own->first,
                .last = own->last,
                .options = study->options,
                .header = header,
                .sequence = kvs_trace_sequence(study->trace, page->sequence),
                .window = kvs_rank_window_of(study->options),
                .group = header->query_heads / header->kv_heads};
    u->readers = u->group * study->options->queries;
    KVS_TRY(allocate(u, error));
    kvs_page_place place = {study->options->seed, page->sequence, page->layer, page->head, 0};
    return read_unit(u, study->trace, place, error);
}

/* Scores of a metric on one page of the unit; the first is NaN where the trace lacks the queries that it needs. */
static void score_page(unit *u, const kvs_ranking *metric, int number, float *scores) {
    kvs_query_needs needs = {metric->queries, metric->attention, u->options->window};
    kvs_page_context context = kvs_page_context_of(&u->context, &u->window, needs, number);
    scores[0] = NAN;
    if (metric->queries != KVS_QUERIES_NONE && context.queries.count == 0) return;
    const float *k = u->k + context.first_token * u->header->head_dim;
    metric->score(&context, u->options->page, u->header->head_dim, k, u->scratch, scores);
}

/* The mean over the sequence's first pages. */
static void score_prefix(unit *u, const kvs_ranking *metric, float *means) {
    int dim = u->header->head_dim, most = u->options->prefix;
    int64_t whole = (u->sequence->tokens - u->options->sink) / u->options->page;
    int pages = whole < most ? (int)whole : most;
    float scores[KVS_MAX_HEAD_DIM];
    double sums[KVS_MAX_HEAD_DIM] = {0};
    for (int page = 0; page < pages; page++) {
        score_page(u, metric, page, scores);
        for (int d = 0; d < dim; d++) sums[d] += (double)scores[d];
    }
    for (int d = 0; d < dim; d++) means[d] = (float)(sums[d] / pages);
}

static void score_pages(unit *u, int metric) {
    const kvs_rank_results *r = u->study->results;
    int dim = r->head_dim;
    for (int page = u->first; page < u->last; page++) {
        float *scores = kvs_rank_scores_of(u->study, metric, page);
        score_page(u, u->options->metrics[metric], r->pages[page].page, scores);
        int ranks[KVS_MAX_HEAD_DIM];
        if (isnan(scores[0])) continue;
        kvs_rank_channels(dim, scores, ranks);
        for (int d = 0; d < dim; d++)
            r->ranks[kvs_rank_row(r, metric, page) * (size_t)dim + (size_t)d] = (int16_t)ranks[d];
    }
    score_prefix(u, u->options->metrics[metric], kvs_rank_fixed_of(u->study, metric, u->number));
}

kvs_status kvs_rank_score_unit(kvs_rank_study *study, int number, kvs_error *error) {
    unit u;
    kvs_status status = open_unit(&u, study, number, error);
    for (int m = 0; status == KVS_OK && m < study->options->metrics_count; m++) score_pages(&u, m);
    close_unit(&u);
    return status;
}

/* --- judgement -----------------------------------------------------------------------------------------------------
 */

/* The errors of a metric's choices on one page. Many ways boost equally many channels: each count is judged once. */
static void judge_choices(unit *u, const kvs_oracle_page *page, int metric, int selection, int index) {
    const kvs_rank_results *r = u->study->results;
    const float *scores = selection == KVS_SELECT_STATIC ? kvs_rank_fixed_of(u->study, metric, u->number)
                                                         : kvs_rank_scores_of(u->study, metric, index);
    int ranks[KVS_MAX_HEAD_DIM];
    double known[KVS_MAX_HEAD_DIM + 1];
    for (int i = 0; i <= page->head_dim; i++) known[i] = NAN;
    if (isnan(scores[0])) return;
    kvs_rank_channels(page->head_dim, scores, ranks);
    for (int budget = 0; budget < KVS_BUDGETS; budget++)
        for (int ratio = 0; r->budgets & 1 << budget && ratio < r->ratios_count; ratio++) {
            int count = kvs_rank_counts_of(u->study, metric, selection, budget, index)[ratio];
            if (count < 0) continue;
            if (isnan(known[count])) known[count] = kvs_oracle_error(page, ranks, count, u->oracle);
            kvs_rank_errors_of(r, metric, selection, budget, index)[ratio] = known[count];
        }
}

static void judge_metric(unit *u, const kvs_oracle_page *page, int metric, int index, const double *truth, int top) {
    const kvs_rank_results *r = u->study->results;
    const float *scores = kvs_rank_scores_of(u->study, metric, index);
    double values[KVS_MAX_HEAD_DIM];
    int dim = page->head_dim;
    if (!isnan(scores[0])) {
        for (int d = 0; d < dim; d++) values[d] = (double)scores[d];
        r->agreements[kvs_rank_row(r, metric, index)] =
            (kvs_rank_agreement){kvs_spearman(values, truth, dim), kvs_kendall(values, truth, dim),
                                 kvs_top_overlap(values, truth, dim, top)};
    }
    for (int selection = 0; selection < KVS_SELECTIONS; selection++) judge_choices(u, page, metric, selection, index);
}

/* The error of chance: the mean of 8 draws. */
static void judge_chance(unit *u, const kvs_oracle_page *page, int index) {
    enum { DRAWS = 8 };
    const kvs_rank_results *r = u->study->results;
    const kvs_ranking *chance = kvs_ranking_find("random");
    double *errors = kvs_rank_errors_of(r, kvs_rank_chance(r), KVS_SELECT_DYNAMIC, KVS_BUDGET_HEAD, index);
    float scores[KVS_MAX_HEAD_DIM];
    int ranks[KVS_MAX_HEAD_DIM];
    for (int ratio = 0; ratio < r->ratios_count; ratio++) errors[ratio] = 0;
    for (int i = 0; i < DRAWS; i++) {
        kvs_page_context context = {.place = u->context.place};
        context.place.seed += (uint64_t)i;
        context.place.page = r->pages[index].page;
        chance->score(&context, page->tokens, page->head_dim, NULL, NULL, scores);
        kvs_rank_channels(page->head_dim, scores, ranks);
        for (int ratio = 0; ratio < r->ratios_count; ratio++)
            errors[ratio] += kvs_oracle_error(page, ranks, r->ratios[ratio].boost_count, u->oracle) / DRAWS;
    }
}

/* The greedy oracle over all channels, and how good it is: 4 of the 16 most sensitive, against all 1820 choices. */
static void judge_greedy(unit *u, const kvs_oracle_page *page, int index, const double *truth, int top_count) {
    const kvs_rank_results *r = u->study->results;
    int dim = page->head_dim, all[KVS_MAX_HEAD_DIM], chosen[KVS_MAX_HEAD_DIM], top[16], ranks[KVS_MAX_HEAD_DIM];
    int shared = 0, metric = kvs_rank_greedy(r);
    float order[KVS_MAX_HEAD_DIM];
    double *errors = kvs_rank_greedy_of(u->study, index), four[5];
    for (int d = 0; d < dim; d++) all[d] = d, order[d] = (float)truth[d];
    kvs_oracle_greedy(page, all, dim, 0, u->study->most, u->oracle, chosen, errors);
    r->pages[index].none = errors[0];
    for (int ratio = 0; ratio < r->ratios_count; ratio++)
        kvs_rank_errors_of(r, metric, KVS_SELECT_DYNAMIC, KVS_BUDGET_HEAD, index)[ratio] =
            errors[r->ratios[ratio].boost_count];
    kvs_rank_channels(dim, order, ranks);
    for (int i = 0; i < u->study->most; i++) {
        r->ranks[kvs_rank_row(r, metric, index) * (size_t)dim + (size_t)chosen[i]] = (int16_t)i;
        shared += i < top_count && ranks[chosen[i]] < top_count;
    }
    r->agreements[kvs_rank_row(r, metric, index)].top_k_overlap = (double)shared / top_count;
    for (int d = 0; d < dim; d++)
        if (ranks[d] < 16) top[ranks[d]] = d;
    kvs_oracle_greedy(page, top, 16, 1, 4, u->oracle, chosen, four);
    r->pages[index].four_greedy = four[4];
    r->pages[index].four_exhaustive = kvs_oracle_best_4_of_16(page, top, u->oracle);
}

static void judge_page(unit *u, int index) {
    const kvs_rank_results *r = u->study->results;
    int dim = r->head_dim, tokens = u->options->page;
    int top = r->ratios[kvs_rank_ratio_index(r, kvs_rank_main_ratios[1])].boost_count;
    kvs_page_context future =
        kvs_page_context_of(&u->context, &u->window, (kvs_query_needs){KVS_QUERIES_FUTURE, 0, 0}, r->pages[index].page);
    const float *k = u->k + future.first_token * dim;
    kvs_oracle_page page = {tokens,
                            dim,
                            take_readers(u, &future),
                            u->header->softmax_scale,
                            u->v + future.first_token * dim,
                            u->base,
                            u->boost,
                            u->chosen,
                            u->probabilities,
                            u->outputs};
    kvs_channel_errors(tokens, dim, k, 2, u->scratch, u->base);
    kvs_channel_errors(tokens, dim, k, 4, u->scratch, u->boost);
    double truth[KVS_MAX_HEAD_DIM];
    kvs_oracle_single(&page, u->oracle, truth);
    for (int d = 0; d < dim; d++) r->sensitivity[(size_t)index * (size_t)dim + (size_t)d] = (float)truth[d];
    judge_greedy(u, &page, index, truth, top);
    judge_chance(u, &page, index);
    for (int m = 0; m < u->options->metrics_count; m++) judge_metric(u, &page, m, index, truth, top);
}

kvs_status kvs_rank_judge_unit(kvs_rank_study *study, int number, kvs_error *error) {
    unit u;
    kvs_status status = open_unit(&u, study, number, error);
    for (int page = u.first; status == KVS_OK && page < u.last; page++) judge_page(&u, page);
    close_unit(&u);
    return status;
}
