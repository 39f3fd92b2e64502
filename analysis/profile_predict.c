#include "analysis/profile_predict.h"

#include <stdlib.h>
#include <string.h>

#include "analysis/profile_internal.h"
#include "analysis/transactions.h"

/* Counters that are sums of a field of the counts of some kinds of instructions. */
static const struct prediction {
    kvs_counter counter;
    unsigned kinds;
    size_t field; /* of kvs_transaction_counts */
} predictions[] = {
#define PREDICTION(counter, kinds, field)                                                                              \
    { counter, kinds, offsetof(kvs_transaction_counts, field) }
    PREDICTION(KVS_COUNTER_L2_READ_SECTORS, KVS_KINDS_READ, sectors),
    PREDICTION(KVS_COUNTER_L2_WRITE_SECTORS, KVS_KINDS_STORE, sectors),
    PREDICTION(KVS_COUNTER_LOAD_REQUESTS, KVS_KINDS_LOAD, requests),
    PREDICTION(KVS_COUNTER_LOAD_SECTORS, KVS_KINDS_LOAD, sectors),
    PREDICTION(KVS_COUNTER_LOAD_USEFUL_BYTES, KVS_KINDS_LOAD, useful_bytes),
    PREDICTION(KVS_COUNTER_STORE_REQUESTS, KVS_KINDS_STORE, requests),
    PREDICTION(KVS_COUNTER_STORE_SECTORS, KVS_KINDS_STORE, sectors),
    PREDICTION(KVS_COUNTER_STORE_USEFUL_BYTES, KVS_KINDS_STORE, useful_bytes),
    PREDICTION(KVS_COUNTER_COPY_REQUESTS, KVS_KINDS_COPY, requests),
    PREDICTION(KVS_COUNTER_COPY_SECTORS, KVS_KINDS_COPY, sectors),
    PREDICTION(KVS_COUNTER_COPY_USEFUL_BYTES, KVS_KINDS_COPY, useful_bytes),
    PREDICTION(KVS_COUNTER_SHARED_LOAD_CONFLICTS, 1u << KVS_SIMT_LOAD_SHARED | 1u << KVS_SIMT_LDMATRIX, conflicts),
    PREDICTION(KVS_COUNTER_SHARED_STORE_CONFLICTS, 1u << KVS_SIMT_STORE_SHARED, conflicts),
    /* no instruction of these kinds is in the source */
    PREDICTION(KVS_COUNTER_BULK_COPY_BYTES, 0, useful_bytes),
    PREDICTION(KVS_COUNTER_LOCAL_LOAD_SECTORS, 0, sectors),
    PREDICTION(KVS_COUNTER_LOCAL_STORE_SECTORS, 0, sectors),
};

static void fill_counters(const kvs_transactions *t, kvs_profile_launch *launch) {
    double scale = launch->recorded_blocks > 0 ? (double)launch->blocks / (double)launch->recorded_blocks : 1;
    for (size_t i = 0; i < sizeof predictions / sizeof *predictions; i++) {
        kvs_transaction_counts sum = kvs_transactions_sum(t, NULL, predictions[i].kinds);
        launch->predicted[predictions[i].counter] =
            scale * (double)*(const uint64_t *)(const void *)((const char *)&sum + predictions[i].field);
    }
    kvs_footprint footprint = kvs_transactions_footprint(t, NULL);
    launch->predicted[KVS_COUNTER_DRAM_READ_BYTES] =
        scale * KVS_SECTOR_BYTES * (double)(footprint.read_sectors - footprint.own_sectors);
    launch->compulsory_written_bytes = scale * KVS_SECTOR_BYTES * (double)footprint.written_sectors;
}

static kvs_status fill_lines(const kvs_transactions *t, int launch, kvs_profile *profile, kvs_error *error) {
    for (size_t i = 0; i < t->row_count; i++) {
        const kvs_transaction_row *from = &t->rows[i];
        kvs_profile_line *line = kvs_profile_new_line(profile, error);
        if (line == NULL) return KVS_INPUT;
        line->launch = launch;
        line->file = strdup(from->file);
        line->instruction = strdup(kvs_simt_kind_names[from->kind]);
        line->line = from->line;
        line->width = (int)from->width;
        line->requests = (int64_t)from->counts.requests;
        line->sectors = (int64_t)from->counts.sectors;
        line->lines = (int64_t)from->counts.lines;
        line->useful_bytes = (int64_t)from->counts.useful_bytes;
        line->wavefronts = (int64_t)from->counts.wavefronts;
        line->conflicts = (int64_t)from->counts.conflicts;
        if (line->file == NULL || line->instruction == NULL)
            return kvs_fail(error, KVS_INPUT, "profile", "lines", "out of memory");
    }
    return KVS_OK;
}

kvs_status kvs_profile_predict(kvs_profile *profile, int launch, const kvs_workload *workload, kvs_error *error) {
    kvs_transactions t;
    kvs_simt_options *settings = kvs_simt_settings(), before = *settings;
    kvs_transactions_begin(&t);
    *settings = (kvs_simt_options){.record = kvs_transactions_record, .record_context = &t, .threads = before.threads};
    settings->sample_blocks = (uint64_t)profile->sample_blocks;
    settings->sample_only = profile->sample_blocks > 0;
    kvs_status status = kvs_workload_launch(workload, NULL, error);
    *settings = before;
    if (status == KVS_OK) status = kvs_transactions_finish(&t, error);
    if (status == KVS_OK) {
        kvs_profile_launch *l = &profile->launches[launch];
        uint64_t blocks = kvs_simt_last_report()->blocks;
        l->blocks = (int64_t)blocks;
        l->recorded_blocks = (int64_t)kvs_simt_sampled(blocks, (uint64_t)profile->sample_blocks);
        l->splits = kvs_workload_splits(workload);
        l->operations = kvs_workload_operations(workload);
        fill_counters(&t, l);
        status = fill_lines(&t, launch, profile, error);
    }
    kvs_transactions_clear(&t);
    return status;
}
