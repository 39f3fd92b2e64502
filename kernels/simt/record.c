/* Warp instructions out of what single lanes did. Between two meetings of a warp each lane logs its accesses in program
 * order. A schedule then takes lane by lane's next access: one lane leads, and all whose next access is from the same
 * place of the source, of the same kind and width, make one request with it. Who leads decides how lanes that diverged
 * come together again. A device's compiler sees to that as early as it can, in two ways that we imitate:
 *   - least address: who is at the earliest instruction (of the host's code) leads, so that branches and inner loops
 *     are over before what follows them begins;
 *   - longest way: who has the most accesses before the next meeting leads, so that lanes that have left out the end of
 *     a loop's body wait for the others before its next turn.
 * The schedule with fewer requests is taken, the former if they are equal. */
#include <stdlib.h>
#include <string.h>

#include "kernels/simt/internal.h"

const char *const kvs_simt_kind_names[KVS_SIMT_KINDS] = {
    [KVS_SIMT_LOAD_GLOBAL] = "ld.global",  [KVS_SIMT_LOAD_GLOBAL_NC] = "ld.global.nc",
    [KVS_SIMT_STORE_GLOBAL] = "st.global", [KVS_SIMT_ATOMIC_GLOBAL] = "atom.global",
    [KVS_SIMT_COPY] = "cp.async",          [KVS_SIMT_LOAD_SHARED] = "ld.shared",
    [KVS_SIMT_STORE_SHARED] = "st.shared", [KVS_SIMT_LDMATRIX] = "ldmatrix",
};

enum { HAND_OVER_AT = 4096 };

/* Memory for at least `wanted` items of what *memory points to. */
static void *grown(kvs_simt_lane *lane, void *memory, size_t *capacity, size_t wanted, size_t item_bytes) {
    if (wanted <= *capacity) return memory;
    size_t larger = *capacity > 0 ? *capacity : 64;
    while (larger < wanted) larger *= 2;
    void *moved = realloc(memory, larger * item_bytes);
    if (moved == NULL) kvs_simt_raise(lane, KVS_SIMT_BAD_LAUNCH, lane->place, "no memory for %zu records", larger);
    *capacity = larger;
    return moved;
}

void kvs_simt_log(kvs_simt_lane *lane, const kvs_simt_entry *entry) {
    size_t capacity = lane->log_capacity;
    lane->log = grown(lane, lane->log, &capacity, (size_t)lane->log_count + 1, sizeof *lane->log);
    lane->log_capacity = (uint32_t)capacity;
    lane->log[lane->log_count++] = *entry;
}

static int same_site(const kvs_simt_entry *a, const kvs_simt_entry *b) {
    return a->place.line == b->place.line && a->place.column == b->place.column && a->kind == b->kind &&
           a->width == b->width && (a->place.file == b->place.file || strcmp(a->place.file, b->place.file) == 0);
}

static kvs_simt_request *new_request(kvs_simt_warp *warp, const kvs_simt_entry *entry) {
    kvs_simt_worker *worker = warp->worker;
    kvs_simt_recorder *r = &worker->recorder;
    if (r->count == HAND_OVER_AT) kvs_simt_hand_over(worker);
    r->requests = grown(warp->lanes, r->requests, &r->capacity, r->count + 1, sizeof *r->requests);
    kvs_simt_request *request = &r->requests[r->count++];
    request->kernel = worker->grid->kernel;
    request->file = entry->place.file;
    request->line = entry->place.line;
    request->column = entry->place.column;
    request->kind = (kvs_simt_kind)entry->kind;
    request->width = entry->width;
    request->mask = 0;
    request->warp = warp->number;
    request->block = worker->block;
    memset(request->address, 0, sizeof request->address);
    memset(request->to, 0, sizeof request->to);
    return request;
}

/* The usual case: lanes that made accesses at all made the same ones. Returns 0 when they did not. */
static int group_alike(kvs_simt_warp *warp) {
    const kvs_simt_lane *model = NULL;
    for (uint32_t l = 0; l < warp->lane_count; l++) {
        const kvs_simt_lane *lane = &warp->lanes[l];
        if (lane->log_count == 0) continue;
        if (model == NULL) model = lane;
        if (lane->log_count != model->log_count) return 0;
        for (uint32_t i = 0; i < lane->log_count; i++)
            if (!same_site(&lane->log[i], &model->log[i])) return 0;
    }
    for (uint32_t i = 0; model != NULL && i < model->log_count; i++) {
        kvs_simt_request *request = new_request(warp, &model->log[i]);
        for (uint32_t l = 0; l < warp->lane_count; l++) {
            if (warp->lanes[l].log_count == 0) continue;
            request->mask |= 1u << l;
            request->address[l] = warp->lanes[l].log[i].address;
            request->to[l] = warp->lanes[l].log[i].to;
        }
    }
    return 1;
}

enum leader { LEAST_ADDRESS, LONGEST_WAY };

/* The lane that leads, or NULL when all logs are used up. */
static kvs_simt_lane *find_leader(kvs_simt_warp *warp, const uint32_t next[KVS_SIMT_LANES], enum leader how) {
    kvs_simt_lane *leader = NULL;
    uint32_t longest = 0;
    const char *least = NULL;
    for (uint32_t l = 0; l < warp->lane_count; l++) {
        kvs_simt_lane *lane = &warp->lanes[l];
        uint32_t left = lane->log_count - next[l];
        if (left == 0) continue;
        const char *code = lane->log[next[l]].code;
        int earlier = leader == NULL || code < least;
        int better = how == LEAST_ADDRESS ? earlier : left > longest || (left == longest && earlier);
        if (!better) continue;
        leader = lane;
        longest = left;
        least = code;
    }
    return leader;
}

/* Goes through all logs; returns the number of requests, which are made when emit is not 0. */
static size_t schedule(kvs_simt_warp *warp, enum leader how, int emit) {
    uint32_t next[KVS_SIMT_LANES] = {0};
    size_t requests = 0;
    for (kvs_simt_lane *leader; (leader = find_leader(warp, next, how)) != NULL; requests++) {
        const kvs_simt_entry *lead = &leader->log[next[leader->lane]];
        kvs_simt_request *request = emit ? new_request(warp, lead) : NULL;
        for (uint32_t l = 0; l < warp->lane_count; l++) {
            const kvs_simt_lane *lane = &warp->lanes[l];
            if (next[l] == lane->log_count || !same_site(&lane->log[next[l]], lead)) continue;
            const kvs_simt_entry *entry = &lane->log[next[l]++];
            if (request == NULL) continue;
            request->mask |= 1u << l;
            request->address[l] = entry->address;
            request->to[l] = entry->to;
        }
    }
    return requests;
}

static void group_apart(kvs_simt_warp *warp) {
    enum leader how = schedule(warp, LONGEST_WAY, 0) < schedule(warp, LEAST_ADDRESS, 0) ? LONGEST_WAY : LEAST_ADDRESS;
    schedule(warp, how, 1);
}

void kvs_simt_group_log(kvs_simt_warp *warp) {
    if (!group_alike(warp)) group_apart(warp);
    for (uint32_t l = 0; l < warp->lane_count; l++) warp->lanes[l].log_count = 0;
}

void kvs_simt_hand_over(kvs_simt_worker *worker) {
    const kvs_simt_options *options = &worker->grid->options;
    if (worker->recorder.count == 0) return;
#pragma omp critical(kvs_simt_record)
    options->record(options->record_context, worker->recorder.requests, worker->recorder.count);
    worker->recorder.count = 0;
}
