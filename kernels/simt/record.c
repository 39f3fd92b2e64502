/* Warp instructions out of what single lanes did. Between two meetings of a warp each lane logs its accesses in program
 * order; then the k-th accesses of all lanes from one place of the source, of one kind and width, are one request. So
 * lanes that skip a branch join the others after it, lanes in different branches are apart (different places), and the
 * i-th turns of a loop belong together whatever the number of turns: lockstep with immediate reconvergence. */
#include <stdlib.h>
#include <string.h>

#include "kernels/simt/internal.h"

const char *const kvs_simt_kind_names[KVS_SIMT_KINDS] = {
    [KVS_SIMT_LOAD_GLOBAL] = "ld.global",  [KVS_SIMT_LOAD_GLOBAL_NC] = "ld.global.nc",
    [KVS_SIMT_STORE_GLOBAL] = "st.global", [KVS_SIMT_ATOMIC_GLOBAL] = "atom.global",
    [KVS_SIMT_COPY] = "cp.async",          [KVS_SIMT_LOAD_SHARED] = "ld.shared",
    [KVS_SIMT_STORE_SHARED] = "st.shared", [KVS_SIMT_LDMATRIX] = "ldmatrix",
};

enum { HAND_OVER_AT = 4096, NONE = -1 };

struct kvs_simt_group {
    kvs_simt_entry first; /* place, kind and width of all */
    uint32_t mask;
    int next; /* of the same place: its next occurrence */
    uint64_t address[KVS_SIMT_LANES];
    uint32_t to[KVS_SIMT_LANES];
};

/* A place of the source during one grouping. */
struct kvs_simt_site {
    const kvs_simt_entry *entry; /* NULL: free */
    int first, last, cursor;     /* its groups; cursor: the one that took the lane's last access */
    uint32_t lane;               /* whose cursor it is */
};

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

static struct kvs_simt_site *find_site(kvs_simt_recorder *r, const kvs_simt_entry *entry) {
    uint64_t hash = (uint64_t)entry->place.line * 256 + (uint64_t)entry->place.column;
    hash = (hash * 16 + entry->kind) * 32 + entry->width;
    hash *= 0x9e3779b97f4a7c15u;
    for (size_t i = hash >> 32;; i++) {
        struct kvs_simt_site *site = &r->sites[i & (r->site_capacity - 1)];
        if (site->entry == NULL) *site = (struct kvs_simt_site){entry, NONE, NONE, NONE, KVS_SIMT_LANES};
        if (same_site(site->entry, entry)) return site;
    }
}

/* Adds a lane's next access at a site to the group of that occurrence. Returns the number of groups. */
static int add_access(kvs_simt_recorder *r, struct kvs_simt_site *site, uint32_t lane, const kvs_simt_entry *entry,
                      int groups) {
    int group = site->lane == lane ? r->groups[site->cursor].next : site->first;
    if (group == NONE) {
        group = groups++;
        r->groups[group].first = *entry;
        r->groups[group].mask = 0;
        r->groups[group].next = NONE;
        if (site->last == NONE)
            site->first = group;
        else
            r->groups[site->last].next = group;
        site->last = group;
    }
    site->lane = lane;
    site->cursor = group;
    r->groups[group].mask |= 1u << lane;
    r->groups[group].address[lane] = entry->address;
    r->groups[group].to[lane] = entry->to;
    return groups;
}

static void group_apart(kvs_simt_warp *warp) {
    kvs_simt_recorder *r = &warp->worker->recorder;
    size_t entries = 0;
    for (uint32_t l = 0; l < warp->lane_count; l++) entries += warp->lanes[l].log_count;
    r->sites = grown(warp->lanes, r->sites, &r->site_capacity, 2 * entries, sizeof *r->sites);
    r->groups = grown(warp->lanes, r->groups, &r->group_capacity, entries, sizeof *r->groups);
    memset(r->sites, 0, r->site_capacity * sizeof *r->sites);
    int groups = 0;
    for (uint32_t l = 0; l < warp->lane_count; l++)
        for (uint32_t i = 0; i < warp->lanes[l].log_count; i++) {
            const kvs_simt_entry *entry = &warp->lanes[l].log[i];
            groups = add_access(r, find_site(r, entry), l, entry, groups);
        }
    for (int g = 0; g < groups; g++) {
        kvs_simt_request *request = new_request(warp, &r->groups[g].first);
        request->mask = r->groups[g].mask;
        for (uint32_t l = 0; l < KVS_SIMT_LANES; l++) {
            if (!(request->mask >> l & 1)) continue;
            request->address[l] = r->groups[g].address[l];
            request->to[l] = r->groups[g].to[l];
        }
    }
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
