/* test_pool.c: the block pool against a model that is as slow and plain as the words of the reference page: a free
 * list in an array, a list of (key, block) in order of insertion; on random histories, invariants after every event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "sim/pool.h"

enum { BLOCKS = 48, KEYS = 40, REQUESTS = 12, PAGES = 10 };

/* --- the plain model --------------------------------------------------------------------------------------------- */

typedef struct plain {
    int blocks, caching, may2026;
    int queue[BLOCKS], queued;                 /* head first */
    int refs[BLOCKS], key[BLOCKS];             /* key -1: none */
    int map_key[BLOCKS], map_block[BLOCKS], n; /* in order of insertion */
    long evictions;
} plain;

static void plain_init(plain *p, int blocks, int caching, int may2026) {
    memset(p, 0, sizeof *p);
    p->blocks = blocks;
    p->caching = caching;
    p->may2026 = may2026;
    for (int b = 0; b < blocks; b++) p->key[b] = -1;
    for (int b = 1; b < blocks; b++) p->queue[p->queued++] = b;
}

static void plain_dequeue(plain *p, int b) {
    int at = 0;
    while (p->queue[at] != b) at++;
    for (p->queued--; at < p->queued; at++) p->queue[at] = p->queue[at + 1];
}

static int plain_find(const plain *p, int key) {
    for (int i = 0; i < p->n; i++)
        if (p->map_key[i] == key) return p->map_block[i];
    return -1;
}

static void plain_evict(plain *p, int b) {
    int at = 0;
    if (p->key[b] < 0) return;
    while (p->map_block[at] != b) at++;
    for (p->n--; at < p->n; at++) {
        p->map_key[at] = p->map_key[at + 1];
        p->map_block[at] = p->map_block[at + 1];
    }
    p->key[b] = -1;
    p->evictions++;
}

static int plain_allocate(plain *p) {
    int b = p->queue[0];
    plain_dequeue(p, b);
    plain_evict(p, b);
    p->refs[b] = 1;
    return b;
}

static void plain_touch(plain *p, int b) {
    if (p->refs[b]++ == 0) plain_dequeue(p, b);
}

static void plain_cache(plain *p, int b, int key) {
    if (!p->caching) return;
    p->key[b] = key;
    p->map_key[p->n] = key;
    p->map_block[p->n++] = b;
}

static void plain_release(plain *p, int b) {
    if (--p->refs[b] > 0) return;
    if (p->may2026 && p->key[b] < 0) {
        for (int i = p->queued++; i > 0; i--) p->queue[i] = p->queue[i - 1];
        p->queue[0] = b;
    } else
        p->queue[p->queued++] = b;
}

/* --- random histories on both ------------------------------------------------------------------------------------ */

typedef struct held {
    uint32_t blocks[PAGES];
    int count, cached; /* blocks[0 .. cached) have keys */
    int live;
} held;

typedef struct world {
    kvs_pool pool;
    plain model;
    held requests[REQUESTS];
    uint64_t key, counter;
    long events, hits, twins;
} world;

static int draw(world *w, int below) {
    return (int)(kvs_random_bits(w->key, w->counter++) % (uint64_t)below);
}

/* Keys of a random prefix: few distinct ones, so that prefixes meet and several blocks get one key. */
static int random_keys(world *w, uint32_t *keys) {
    int count = 1 + draw(w, PAGES - 1), family = draw(w, KEYS / PAGES);
    for (int i = 0; i < count; i++) keys[i] = (uint32_t)(family * PAGES + i);
    return count;
}

static void start_request(world *w, held *h) {
    uint32_t keys[PAGES], found[PAGES];
    int count = random_keys(w, keys), model_hits = 0;
    int most = count - draw(w, 2); /* the last full page may not be hit: then its key gets a second holder */
    int64_t hits = w->pool.caching ? kvs_pool_lookup(&w->pool, keys, most, found) : 0;
    while (w->model.caching && model_hits < most && plain_find(&w->model, (int)keys[model_hits]) >= 0) model_hits++;
    assert_int_equal(hits, model_hits);
    int64_t need = count - hits + kvs_pool_count_free(&w->pool, found, hits);
    if (need > w->pool.free) return;
    for (int i = 0; i < hits; i++) {
        assert_int_equal(found[i], plain_find(&w->model, (int)keys[i]));
        plain_touch(&w->model, (int)found[i]);
    }
    kvs_pool_touch(&w->pool, found, hits);
    memcpy(h->blocks, found, sizeof *found * (size_t)hits);
    kvs_pool_allocate(&w->pool, count - hits, h->blocks + hits);
    for (int i = (int)hits; i < count; i++) assert_int_equal(h->blocks[i], plain_allocate(&w->model));
    h->cached = count - draw(w, 2); /* the last page may be partly filled */
    if (h->cached < hits) h->cached = (int)hits;
    kvs_pool_cache(&w->pool, h->blocks + hits, keys + hits, h->cached - hits);
    for (int i = (int)hits; i < h->cached; i++) plain_cache(&w->model, (int)h->blocks[i], (int)keys[i]);
    h->count = count;
    h->live = 1;
    w->hits += hits;
}

static void grow_request(world *w, held *h) {
    if (h->count == PAGES || w->pool.free == 0) return;
    kvs_pool_allocate(&w->pool, 1, h->blocks + h->count);
    assert_int_equal(h->blocks[h->count], plain_allocate(&w->model));
    if (h->cached == h->count && draw(w, 2)) {
        uint32_t key = (uint32_t)draw(w, KEYS);
        kvs_pool_cache(&w->pool, h->blocks + h->count, &key, 1);
        plain_cache(&w->model, (int)h->blocks[h->count], (int)key);
        h->cached++;
    }
    h->count++;
}

static void end_request(world *w, held *h) {
    kvs_pool_release(&w->pool, h->blocks, h->count);
    for (int i = h->count - 1; i >= 0; i--) plain_release(&w->model, (int)h->blocks[i]);
    h->live = h->count = h->cached = 0;
}

static void compare(world *w) {
    kvs_error error = {0};
    if (kvs_pool_check(&w->pool, &error) != KVS_OK) fail_msg("%s: %s", error.object, error.rule);
    assert_int_equal(w->pool.free, w->model.queued);
    assert_int_equal(w->pool.evictions, w->model.evictions);
    assert_int_equal(w->pool.cached, w->model.n);
    uint32_t b = w->pool.block[0].next;
    for (int i = 0; i < w->model.queued; i++, b = w->pool.block[b].next) assert_int_equal(b, w->model.queue[i]);
    for (int i = 1; i < w->model.blocks; i++) assert_int_equal(w->pool.block[i].refs, w->model.refs[i]);
    for (int key = 0; key < KEYS; key++) {
        uint32_t holder = w->pool.block_of_key[key];
        w->twins += holder != KVS_POOL_NONE && (holder & KVS_POOL_TWINS) != 0;
    }
}

static void random_history(world *w, int blocks, int caching, kvs_free_order order, uint64_t seed, long events) {
    kvs_error error;
    memset(w, 0, sizeof *w);
    w->key = kvs_random_key(seed, 5);
    assert_int_equal(kvs_pool_create(&w->pool, blocks, KEYS, caching, order, &error), KVS_OK);
    plain_init(&w->model, blocks, caching, order == KVS_FREE_MAY2026);
    for (; w->events < events; w->events++) {
        held *h = &w->requests[draw(w, REQUESTS)];
        if (!h->live)
            start_request(w, h);
        else if (draw(w, 3) == 0)
            end_request(w, h);
        else
            grow_request(w, h);
        compare(w);
    }
    for (int i = 0; i < REQUESTS; i++)
        if (w->requests[i].live) end_request(w, &w->requests[i]);
    compare(w);
    assert_int_equal(w->pool.free, blocks - 1); /* no leak */
    kvs_pool_destroy(&w->pool);
}

static void a_million_random_events_agree_with_the_plain_model(void **state) {
    (void)state;
    static world w;
    long events = 0, hits = 0, twins = 0, evictions = 0;
    for (int caching = 0; caching < 2; caching++)
        for (int order = 0; order < 2; order++)
            for (uint64_t seed = 0; seed < 16; seed++) {
                random_history(&w, 2 + (int)(seed * 3), caching, (kvs_free_order)order, seed, 17000);
                events += w.events;
                hits += w.hits;
                twins += w.twins;
                evictions += w.model.evictions;
                if (!caching) assert_int_equal(w.hits, 0);
            }
    /* The histories must have met what they are for. */
    assert_true(events >= 1000000);
    assert_true(hits > 10000);
    assert_true(twins > 10000);
    assert_true(evictions > 10000);
}

/* A check that cannot fail proves nothing: break each invariant by hand. */
static void the_check_sees_every_kind_of_damage(void **state) {
    (void)state;
    kvs_pool pool;
    kvs_error error;
    uint32_t blocks[3], keys[3] = {0, 1, 2};
    assert_int_equal(kvs_pool_create(&pool, 8, 4, 1, KVS_FREE_V019, &error), KVS_OK);
    kvs_pool_allocate(&pool, 3, blocks);
    kvs_pool_cache(&pool, blocks, keys, 3);
    assert_int_equal(kvs_pool_check(&pool, &error), KVS_OK);
    pool.block[1].refs = 0; /* leaked: neither used nor queued */
    assert_int_equal(kvs_pool_check(&pool, &error), KVS_CHECK);
    pool.block[1].refs = 1;
    pool.block[5].refs = 1; /* used and queued */
    assert_int_equal(kvs_pool_check(&pool, &error), KVS_CHECK);
    pool.block[5].refs = 0;
    pool.block[5].previous = 6;
    assert_int_equal(kvs_pool_check(&pool, &error), KVS_CHECK);
    pool.block[5].previous = 4;
    pool.block_of_key[3] = 2; /* finds a block of another key */
    assert_int_equal(kvs_pool_check(&pool, &error), KVS_CHECK);
    pool.block_of_key[3] = KVS_POOL_NONE;
    pool.block[2].key = 0; /* two holders, one entry */
    assert_int_equal(kvs_pool_check(&pool, &error), KVS_CHECK);
    pool.block[2].key = 1;
    pool.block[0].key = 1;
    assert_int_equal(kvs_pool_check(&pool, &error), KVS_CHECK);
    pool.block[0].key = KVS_POOL_NONE;
    assert_int_equal(kvs_pool_check(&pool, &error), KVS_OK);
    kvs_pool_destroy(&pool);
}

static void impossible_sizes_are_refused(void **state) {
    (void)state;
    kvs_pool pool;
    kvs_error error;
    assert_int_equal(kvs_pool_create(&pool, 1, 0, 1, KVS_FREE_V019, &error), KVS_INPUT);
    assert_int_equal(kvs_pool_create(&pool, 2, UINT32_MAX, 1, KVS_FREE_V019, &error), KVS_INPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_random_events_agree_with_the_plain_model),
        cmocka_unit_test(the_check_sees_every_kind_of_damage),
        cmocka_unit_test(impossible_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
