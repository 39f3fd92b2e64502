#include "sim/model/agreement.h"

#include <stdlib.h>

#include "core/progress.h"
#include "sim/model/generate.h"

static void compare(const int32_t *full, const int32_t *other, int count, kvs_agreement *sums) {
    int prefix = 0, equal = 0;
    while (prefix < count && full[prefix] == other[prefix]) prefix++;
    for (int i = 0; i < count; i++) equal += full[i] == other[i];
    sums->common_prefix += prefix;
    sums->equal_share += (double)equal / count;
}

/* One prompt in every run; ids [2][generate]. */
static kvs_status run_prompt(const kvs_model *model, const int32_t *prompt, int number, kvs_scheme *const *schemes,
                             int count, const kvs_agreement_options *o, int32_t *ids, kvs_agreement *sums,
                             double *seconds, kvs_error *error) {
    for (int run = 0; run <= count; run++) {
        kvs_model_pass pass = {.scheme = run > 0 ? schemes[run - 1] : NULL,
                               .prompt_tokens = o->prompt_exact ? o->prompt_tokens : 0,
                               .seed = o->seed,
                               .sequence = number};
        int32_t *made_ids = run == 0 ? ids : ids + o->generate;
        int made;
        double spent;
        KVS_TRY(kvs_generate_greedy(model, &pass, prompt, o->prompt_tokens, o->generate, 0, made_ids, &made, &spent,
                                    error));
        seconds[run] += spent;
        compare(ids, made_ids, made, &sums[run]);
    }
    return KVS_OK;
}

kvs_status kvs_agreement_check(const kvs_model *model, const kvs_tokens *tokens, const kvs_agreement_options *o,
                               kvs_error *error) {
    if (tokens->count < o->prompt_tokens)
        return kvs_fail(error, KVS_INPUT, "token_ids", NULL, "%d tokens do not fill a prompt of %d", tokens->count,
                        o->prompt_tokens);
    return kvs_model_admits(model, (int64_t)o->prompt_tokens + o->generate, error);
}

kvs_status kvs_agreement_run(const kvs_model *model, const kvs_tokens *tokens, kvs_scheme *const *schemes, int count,
                             const kvs_agreement_options *o, kvs_agreement *agreements, kvs_error *error) {
    int64_t last = (int64_t)tokens->count - o->prompt_tokens;
    KVS_TRY(kvs_agreement_check(model, tokens, o, error));
    int32_t *ids = malloc(sizeof *ids * 2 * (size_t)o->generate);
    double *seconds = calloc((size_t)count + 1, sizeof *seconds);
    for (int run = 0; run <= count; run++) agreements[run] = (kvs_agreement){0};
    kvs_progress progress;
    kvs_progress_begin(&progress, "generate", "prompts", o->prompts, o->quiet);
    kvs_status status = ids && seconds ? KVS_OK : kvs_fail(error, KVS_INPUT, model->directory, NULL, "out of memory");
    for (int i = 0; i < o->prompts && status == KVS_OK; i++) {
        const int32_t *prompt = tokens->ids + (o->prompts > 1 ? last * i / (o->prompts - 1) : 0);
        status = run_prompt(model, prompt, i, schemes, count, o, ids, agreements, seconds, error);
        kvs_progress_add(&progress, 1);
    }
    kvs_progress_end(&progress);
    for (int run = 0; run <= count && status == KVS_OK; run++) {
        agreements[run].common_prefix /= o->prompts;
        agreements[run].equal_share /= o->prompts;
        agreements[run].steps_per_s = (double)o->prompts * o->generate / seconds[run];
    }
    free(ids);
    free(seconds);
    return status;
}
