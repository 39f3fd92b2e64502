#include "analysis/transactions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The sectors of one kernel: a table of their numbers, with a bit for each byte read and each byte written. A sector
 * whose both masks are 0 is a free place. */
typedef struct touched_sector {
    uint64_t sector;
    uint32_t read, written;
} touched_sector;

struct kvs_touched {
    const char *kernel;
    touched_sector *sectors;
    size_t count, capacity; /* a power of two, at most three quarters full */
};

static touched_sector *find_place(const struct kvs_touched *t, uint64_t sector) {
    size_t i = (size_t)(sector * 0x9e3779b97f4a7c15u >> 20);
    for (;; i++) {
        touched_sector *place = &t->sectors[i & (t->capacity - 1)];
        if (place->sector == sector || (place->read | place->written) == 0) return place;
    }
}

static int grow(struct kvs_touched *t) {
    struct kvs_touched larger = {t->kernel, NULL, t->count, t->capacity > 0 ? 2 * t->capacity : 1024};
    larger.sectors = calloc(larger.capacity, sizeof *larger.sectors);
    if (larger.sectors == NULL) return 0;
    for (size_t i = 0; i < t->capacity; i++)
        if ((t->sectors[i].read | t->sectors[i].written) != 0)
            *find_place(&larger, t->sectors[i].sector) = t->sectors[i];
    free(t->sectors);
    *t = larger;
    return 1;
}

static int touch(struct kvs_touched *t, uint64_t sector, uint32_t bytes, int read, int write) {
    if (4 * t->count >= 3 * t->capacity && !grow(t)) return 0;
    touched_sector *place = find_place(t, sector);
    if ((place->read | place->written) == 0) t->count++;
    place->sector = sector;
    if (read) place->read |= bytes;
    if (write) place->written |= bytes;
    return 1;
}

/* Adds the bytes of one request to its kernel's footprint. */
static int touch_all(struct kvs_touched *t, const kvs_simt_request *r) {
    int atomic = r->kind == KVS_SIMT_ATOMIC_GLOBAL, write = atomic || r->kind == KVS_SIMT_STORE_GLOBAL;
    int read = atomic || !write;
    for (int l = 0; l < KVS_SIMT_LANES; l++) {
        if (!(r->mask >> l & 1)) continue;
        for (uint64_t byte = r->address[l], end = byte + r->width; byte < end;) {
            uint64_t sector = byte / KVS_SECTOR_BYTES, next = (sector + 1) * KVS_SECTOR_BYTES;
            uint64_t stop = end < next ? end : next, bits = ((uint64_t)1 << (stop - byte)) - 1;
            if (!touch(t, sector, (uint32_t)(bits << byte % KVS_SECTOR_BYTES), read, write)) return 0;
            byte = stop;
        }
    }
    return 1;
}

/* --- the collection --------------------------------------------------------------------------------------------------
 */

void kvs_transactions_begin(kvs_transactions *t) {
    memset(t, 0, sizeof *t);
}

void kvs_transactions_clear(kvs_transactions *t) {
    for (size_t i = 0; i < t->touched_count; i++) free(t->touched[i].sectors);
    free(t->touched);
    free(t->rows);
    memset(t, 0, sizeof *t);
}

/* Names of kernels and files are compared by place first: nearly always that decides. */
static int compare_names(const char *a, const char *b) {
    return a == b ? 0 : strcmp(a, b);
}

static int compare_rows(const void *first, const void *second) {
    const kvs_transaction_row *a = first, *b = second;
    int order = compare_names(a->kernel, b->kernel);
    if (order == 0) order = compare_names(a->file, b->file);
    if (order == 0) order = (a->line > b->line) - (a->line < b->line);
    if (order == 0) order = (a->kind > b->kind) - (a->kind < b->kind);
    if (order == 0) order = (a->width > b->width) - (a->width < b->width);
    return order;
}

/* Room for one more: capacities are powers of two. NULL when memory is short. */
static void *one_more(void *items, size_t count, size_t item_bytes) {
    if ((count & (count - 1)) != 0) return items;
    return realloc(items, (count > 0 ? 2 * count : 1) * item_bytes);
}

static kvs_transaction_row *find_row(kvs_transactions *t, const kvs_simt_request *r) {
    kvs_transaction_row wanted = {.kernel = r->kernel, .file = r->file, .line = r->line, .kind = r->kind};
    wanted.width = r->width;
    for (size_t i = 0; i < t->row_count; i++)
        if (t->rows[i].line == r->line && compare_rows(&t->rows[i], &wanted) == 0) return &t->rows[i];
    kvs_transaction_row *rows = one_more(t->rows, t->row_count, sizeof *rows);
    if (rows == NULL) return NULL;
    t->rows = rows;
    t->rows[t->row_count] = wanted;
    return &t->rows[t->row_count++];
}

static struct kvs_touched *find_kernel(kvs_transactions *t, const char *kernel) {
    for (size_t i = 0; i < t->touched_count; i++)
        if (compare_names(t->touched[i].kernel, kernel) == 0) return &t->touched[i];
    struct kvs_touched *touched = one_more(t->touched, t->touched_count, sizeof *touched);
    if (touched == NULL) return NULL;
    t->touched = touched;
    t->touched[t->touched_count] = (struct kvs_touched){.kernel = kernel};
    return &t->touched[t->touched_count++];
}

void kvs_transactions_record(void *transactions, const kvs_simt_request *requests, size_t count) {
    kvs_transactions *t = transactions;
    for (size_t i = 0; i < count && !t->out_of_memory; i++) {
        const kvs_simt_request *r = &requests[i];
        kvs_transaction_row *row = find_row(t, r);
        struct kvs_touched *touched = r->kind <= KVS_SIMT_COPY ? find_kernel(t, r->kernel) : NULL;
        t->out_of_memory = row == NULL || (r->kind <= KVS_SIMT_COPY && (touched == NULL || !touch_all(touched, r)));
        if (row != NULL) kvs_transactions_count(r, &row->counts);
    }
}

kvs_status kvs_transactions_finish(kvs_transactions *t, kvs_error *error) {
    if (t->out_of_memory)
        return kvs_fail(error, KVS_INPUT, "transaction model", "", "no memory for %zu rows and their sectors",
                        t->row_count);
    if (t->row_count > 0) qsort(t->rows, t->row_count, sizeof *t->rows, compare_rows);
    return KVS_OK;
}

/* --- sums ------------------------------------------------------------------------------------------------------------
 */

kvs_transaction_counts kvs_transactions_sum(const kvs_transactions *t, const char *kernel, unsigned kinds) {
    kvs_transaction_counts sum = {0};
    for (size_t i = 0; i < t->row_count; i++) {
        const kvs_transaction_row *row = &t->rows[i];
        const kvs_transaction_counts *counts = &row->counts;
        if (!(kinds >> row->kind & 1) || (kernel != NULL && compare_names(row->kernel, kernel) != 0)) continue;
        sum.requests += counts->requests;
        sum.lanes += counts->lanes;
        sum.lane_bytes += counts->lane_bytes;
        sum.useful_bytes += counts->useful_bytes;
        sum.sectors += counts->sectors;
        sum.lines += counts->lines;
        sum.wavefronts += counts->wavefronts;
        sum.conflicts += counts->conflicts;
    }
    return sum;
}

kvs_footprint kvs_transactions_footprint(const kvs_transactions *t, const char *kernel) {
    kvs_footprint sum = {0};
    for (size_t k = 0; k < t->touched_count; k++) {
        const struct kvs_touched *touched = &t->touched[k];
        if (kernel != NULL && compare_names(touched->kernel, kernel) != 0) continue;
        for (size_t i = 0; i < touched->capacity; i++) {
            const touched_sector *s = &touched->sectors[i];
            sum.read_sectors += s->read != 0;
            sum.written_sectors += s->written != 0;
            sum.partial_sectors += s->written != 0 && s->written != UINT32_MAX;
            sum.own_sectors += s->read != 0 && s->written == UINT32_MAX;
            sum.read_bytes += (uint64_t)__builtin_popcount(s->read);
            sum.written_bytes += (uint64_t)__builtin_popcount(s->written);
        }
    }
    return sum;
}

double kvs_sectors_per_request(const kvs_transaction_counts *counts) {
    return counts->requests > 0 ? (double)counts->sectors / (double)counts->requests : NAN;
}

double kvs_bytes_per_sector(const kvs_transaction_counts *counts) {
    return counts->sectors > 0 ? (double)counts->useful_bytes / (double)counts->sectors : NAN;
}
