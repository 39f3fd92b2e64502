#include "sim/rank.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/channel_oracle.h"
#include "analysis/correlation.h"
#include "core/half.h"
#include "core/progress.h"
#include "kernels/ranking_error.h"
#include "kernels/scheme.h"
#include "sim/cpu_unit.h"

const double kvs_rank_ratios[KVS_RANK_RATIOS] = {0.125, 0.25};

/* One (sequence, layer, KV head) and the memory to judge its pages in. */
typedef struct unit {
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

static int boost_count(const unit *u, int ratio) {
    return (int)(u->header->head_dim * kvs_rank_ratios[ratio] + 1e-6);
}

/* Scores of a metric on one page of the unit; 0 where the trace lacks the queries that it needs. */
static int score_page(unit *u, const kvs_ranking *metric, int number, float *scores) {
    kvs_query_needs needs = {metric->queries, metric->attention, u->options->window};
    kvs_page_context context = kvs_page_context_of(&u->context, &u->window, needs, number);
    if (metric->queries != KVS_QUERIES_NONE && context.queries.count == 0) return 0;
    const float *k = u->k + context.first_token * u->header->head_dim;
    metric->score(&context, u->options->page, u->header->head_dim, k, u->scratch, scores);
    return 1;
}

static void errors_of(unit *u, const kvs_oracle_page *page, const float *scores, double errors[KVS_RANK_RATIOS]) {
    int ranks[KVS_MAX_HEAD_DIM];
    kvs_rank_channels(page->head_dim, scores, ranks);
    for (int r = 0; r < KVS_RANK_RATIOS; r++) errors[r] = kvs_oracle_error(page, ranks, boost_count(u, r), u->oracle);
}

static void judge_metric(unit *u, const kvs_oracle_page *page, const kvs_ranking *metric, int number,
                         const double *truth, kvs_rank_score *score) {
    int dim = page->head_dim;
    float scores[KVS_MAX_HEAD_DIM];
    double values[KVS_MAX_HEAD_DIM];
    *score = (kvs_rank_score){NAN, NAN, NAN, {NAN, NAN}, {NAN, NAN}};
    if (score_page(u, metric, number, scores)) {
        for (int d = 0; d < dim; d++) values[d] = (double)scores[d];
        score->spearman = kvs_spearman(values, truth, dim);
        score->kendall = kvs_kendall(values, truth, dim);
        score->overlap = kvs_top_overlap(values, truth, dim, boost_count(u, KVS_RANK_RATIOS - 1));
        errors_of(u, page, scores, score->error);
    }
    if (score_page(u, metric, 0, scores)) errors_of(u, page, scores, score->static_error);
}

/* The error of chance: the mean of 8 draws. */
static void judge_chance(unit *u, const kvs_oracle_page *page, int number, kvs_rank_page *out) {
    enum { DRAWS = 8 };
    const kvs_ranking *chance = kvs_ranking_find("random");
    float scores[KVS_MAX_HEAD_DIM];
    int ranks[KVS_MAX_HEAD_DIM];
    for (int i = 0; i < DRAWS; i++) {
        kvs_page_context context = {.place = u->context.place};
        context.place.seed += (uint64_t)i;
        context.place.page = number;
        chance->score(&context, page->tokens, page->head_dim, NULL, NULL, scores);
        kvs_rank_channels(page->head_dim, scores, ranks);
        for (int r = 0; r < KVS_RANK_RATIOS; r++)
            out->random[r] += kvs_oracle_error(page, ranks, boost_count(u, r), u->oracle) / DRAWS;
    }
}

static void judge_page(unit *u, int number, kvs_rank_page *out) {
    int dim = u->header->head_dim, tokens = u->options->page, ranks[KVS_MAX_HEAD_DIM];
    kvs_page_context future =
        kvs_page_context_of(&u->context, &u->window, (kvs_query_needs){KVS_QUERIES_FUTURE, 0, 0}, number);
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
    double truth[KVS_MAX_HEAD_DIM], errors[KVS_MAX_HEAD_DIM + 1];
    float order[KVS_MAX_HEAD_DIM];
    int all[KVS_MAX_HEAD_DIM], chosen[KVS_MAX_HEAD_DIM], top[16];
    kvs_oracle_single(&page, u->oracle, truth);
    for (int d = 0; d < dim; d++) all[d] = d, order[d] = (float)truth[d];
    kvs_oracle_greedy(&page, all, dim, 0, boost_count(u, KVS_RANK_RATIOS - 1), u->oracle, chosen, errors);
    out->none = errors[0];
    for (int r = 0; r < KVS_RANK_RATIOS; r++) out->greedy[r] = errors[boost_count(u, r)];
    kvs_rank_channels(dim, order, ranks);
    for (int d = 0; d < dim; d++)
        if (ranks[d] < 16) top[ranks[d]] = d;
    kvs_oracle_greedy(&page, top, 16, 1, 4, u->oracle, chosen, errors);
    out->four[0] = errors[4];
    out->four[1] = kvs_oracle_best_4_of_16(&page, top, u->oracle);
    judge_chance(u, &page, number, out);
    for (int m = 0; m < u->options->metrics_count; m++)
        judge_metric(u, &page, u->options->metrics[m], number, truth, &out->scores[m]);
}

/* --- over the trace ------------------------------------------------------------------------------------------------
 */

static kvs_window window_of(const kvs_rank_options *options) {
    return (kvs_window){.sink_tokens = options->sink, .page_tokens = options->page};
}

/* Pages of a sequence that its last recorded query reads. */
static kvs_status readable(kvs_trace *trace, int sequence, const kvs_rank_options *options, int *pages,
                           kvs_error *error) {
    const kvs_sequence *s = kvs_trace_sequence(trace, sequence);
    *pages = 0;
    if (s->queries == 0) return KVS_OK;
    int32_t *positions = malloc((size_t)s->queries * sizeof *positions);
    if (positions == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    kvs_status status = kvs_trace_read_query_pos(trace, sequence, positions, error);
    kvs_window window = window_of(options);
    if (status == KVS_OK)
        *pages = (int)((kvs_window_stored_end(&window, positions[s->queries - 1], 0) - options->sink) / options->page);
    free(positions);
    return status;
}

/* Lists the sampled pages. */
static kvs_status plan(kvs_trace *trace, const kvs_rank_options *options, kvs_ranked *ranked, kvs_error *error) {
    const kvs_trace_header *header = kvs_trace_header_of(trace);
    int sequences = kvs_trace_sequences(trace);
    size_t units = (size_t)header->layers * (size_t)header->kv_heads * (size_t)sequences;
    size_t most = units * (size_t)options->pages;
    ranked->pages = calloc(most, sizeof *ranked->pages);
    ranked->scores = calloc(most * (size_t)options->metrics_count, sizeof *ranked->scores);
    if (ranked->pages == NULL || ranked->scores == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (size_t i = 0; i < units; i++) {
        int sequence = (int)(i % (size_t)sequences), head = (int)(i / (size_t)sequences), pages;
        KVS_TRY(readable(trace, sequence, options, &pages, error));
        int count = pages < options->pages ? pages : options->pages;
        for (int p = 0; p < count; p++, ranked->count++)
            ranked->pages[ranked->count] =
                (kvs_rank_page){.sequence = sequence,
                                .layer = head / header->kv_heads,
                                .head = head % header->kv_heads,
                                .page = (int)((int64_t)(2 * p + 1) * pages / (2 * count)),
                                .scores = ranked->scores + (size_t)ranked->count * (size_t)options->metrics_count};
    }
    if (ranked->count == 0)
        return kvs_fail(error, KVS_INPUT, kvs_trace_path(trace), NULL,
                        "no recorded query reads a full page of %d tokens", options->page);
    return KVS_OK;
}

/* Judges pages [first, last), which are of one unit. */
static kvs_status judge_unit(kvs_trace *trace, const kvs_rank_options *options, kvs_ranked *ranked, int first, int last,
                             kvs_error *error) {
    const kvs_rank_page *page = &ranked->pages[first];
    const kvs_trace_header *header = kvs_trace_header_of(trace);
    unit u = {.options = options,
              .header = header,
              .sequence = kvs_trace_sequence(trace, page->sequence),
              .window = window_of(options),
              .group = header->query_heads / header->kv_heads};
    u.readers = u.group * options->queries;
    kvs_status status = allocate(&u, error);
    kvs_page_place place = {options->seed, page->sequence, page->layer, page->head, 0};
    if (status == KVS_OK) status = read_unit(&u, trace, place, error);
    for (int i = first; status == KVS_OK && i < last; i++) judge_page(&u, ranked->pages[i].page, &ranked->pages[i]);
    close_unit(&u);
    return status;
}

static int unit_end(const kvs_ranked *ranked, int first) {
    int last = first;
    const kvs_rank_page *a = &ranked->pages[first];
    while (last < ranked->count && ranked->pages[last].sequence == a->sequence &&
           ranked->pages[last].layer == a->layer && ranked->pages[last].head == a->head)
        last++;
    return last;
}

kvs_status kvs_rank(kvs_trace *trace, const kvs_rank_options *options, kvs_ranked *ranked, kvs_error *error) {
    const kvs_trace_header *header = kvs_trace_header_of(trace);
    *ranked = (kvs_ranked){0};
    if (!header->causal)
        return kvs_fail(error, KVS_INPUT, kvs_trace_path(trace), "causal", "is 0: no query is past or future");
    if (header->head_dim < 16 || header->head_dim > KVS_MAX_HEAD_DIM)
        return kvs_fail(error, KVS_INPUT, kvs_trace_path(trace), "head_dim", "is %d, not 16 to %d", header->head_dim,
                        KVS_MAX_HEAD_DIM);
    KVS_TRY(plan(trace, options, ranked, error));
    kvs_progress progress;
    kvs_progress_begin(&progress, "rank", "pages", ranked->count, options->quiet);
    openblas_set_num_threads(1);
    kvs_status status = KVS_OK;
    int threads = options->threads > 0 ? options->threads : omp_get_num_procs();
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int first = 0; first < ranked->count; first++) {
        if (first > 0 && unit_end(ranked, first - 1) != first) continue; /* not the first page of a unit */
        int last = unit_end(ranked, first), stopped;
#pragma omp atomic read
        stopped = status;
        kvs_error mine = {0};
        if (stopped != KVS_OK) continue;
        kvs_status done = kvs_interrupted()
                              ? kvs_fail(&mine, KVS_INTERRUPTED, kvs_trace_path(trace), NULL, "interrupted")
                              : judge_unit(trace, options, ranked, first, last, &mine);
#pragma omp critical(kvs_rank)
        {
            if (done != KVS_OK && status == KVS_OK) {
                status = done;
                if (error != NULL) *error = mine;
            }
        }
        kvs_progress_add(&progress, last - first);
    }
    kvs_progress_end(&progress);
    return status;
}

void kvs_ranked_clear(kvs_ranked *ranked) {
    free(ranked->pages);
    free(ranked->scores);
    *ranked = (kvs_ranked){0};
}
