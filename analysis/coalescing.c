/* What one warp instruction takes: sectors, lines, wavefronts. The rules are in transactions.h. */
#include <string.h>

#include "analysis/transactions.h"

enum { LANES = KVS_SIMT_LANES, BANKS = 32, WORD_BYTES = 4, PIECE_BYTES = 16 };

/* Distinct keys, each with a mask of bits. A request touches at most two sectors a lane. */
typedef struct key_set {
    uint64_t keys[2 * LANES];
    uint32_t masks[2 * LANES];
    int count;
} key_set;

/* The index of the key, which is added if new. */
static int put(key_set *set, uint64_t key) {
    for (int i = set->count - 1; i >= 0; i--) /* neighbours mostly want the last one */
        if (set->keys[i] == key) return i;
    set->keys[set->count] = key;
    set->masks[set->count] = 0;
    return set->count++;
}

static int active(const kvs_simt_request *r, int lane) {
    return (int)(r->mask >> lane & 1);
}

/* --- global memory ---------------------------------------------------------------------------------------------------
 */

/* The distinct sectors of all bytes, the masks telling which of their bytes. */
static void find_sectors(const kvs_simt_request *r, key_set *sectors) {
    sectors->count = 0;
    for (int l = 0; l < LANES; l++) {
        if (!active(r, l)) continue;
        for (uint64_t byte = r->address[l], end = byte + r->width; byte < end;) {
            uint64_t sector = byte / KVS_SECTOR_BYTES, next = (sector + 1) * KVS_SECTOR_BYTES;
            uint64_t stop = end < next ? end : next;
            uint64_t bits = ((uint64_t)1 << (stop - byte)) - 1;
            sectors->masks[put(sectors, sector)] |= (uint32_t)(bits << byte % KVS_SECTOR_BYTES);
            byte = stop;
        }
    }
}

static uint64_t count_lines(const key_set *sectors) {
    key_set lines = {.count = 0};
    for (int i = 0; i < sectors->count; i++) put(&lines, sectors->keys[i] / (KVS_LINE_BYTES / KVS_SECTOR_BYTES));
    return (uint64_t)lines.count;
}

static uint64_t count_bytes(const key_set *sectors) {
    uint64_t bytes = 0;
    for (int i = 0; i < sectors->count; i++) bytes += (uint64_t)__builtin_popcount(sectors->masks[i]);
    return bytes;
}

/* --- asynchronous copies ---------------------------------------------------------------------------------------------
 */

static uint64_t pair(uint64_t global, uint32_t shared) {
    return global << 20 | shared; /* shared memory has fewer than 2^20 sectors and lines */
}

/* Lane `l` and another fill one shared sector with the two halves of one global sector. Returns the other, or -1. */
static int partner(const kvs_simt_request *r, int l) {
    for (int other = 0; other < LANES; other++)
        if (other != l && active(r, other) && r->to[other] == (r->to[l] ^ PIECE_BYTES) &&
            r->address[other] == (r->address[l] ^ PIECE_BYTES))
            return other;
    return -1;
}

static void count_copy(const kvs_simt_request *r, kvs_transaction_counts *counts) {
    key_set lines = {.count = 0};
    uint32_t turns[2 * LANES][KVS_LINE_BYTES / KVS_SECTOR_BYTES];
    uint64_t sectors = 0, halves = 0, wavefronts = 0;
    memset(turns, 0, sizeof turns);
    for (int l = 0; l < LANES; l++) {
        if (!active(r, l)) continue;
        int line = put(&lines, pair(r->address[l] / KVS_LINE_BYTES, r->to[l] / KVS_LINE_BYTES));
        int other = partner(r, l), sector = (int)(r->address[l] / KVS_SECTOR_BYTES % 4);
        if (other >= 0 && other < l) continue; /* counted with the other */
        sectors++;
        turns[line][sector]++; /* one turn serves all sectors of a pair of lines, each once */
        halves += other < 0;
    }
    counts->lines += (uint64_t)lines.count;
    for (int i = 0; i < lines.count; i++) {
        uint32_t most = 0;
        for (int s = 0; s < KVS_LINE_BYTES / KVS_SECTOR_BYTES; s++)
            if (turns[i][s] > most) most = turns[i][s];
        wavefronts += most;
    }
    counts->sectors += sectors;
    counts->wavefronts += halves == 0 ? wavefronts : sectors;
}

/* --- shared memory ---------------------------------------------------------------------------------------------------
 */

/* The wavefronts of lanes [begin, end) in one turn: the most distinct words that one bank must give. */
static uint32_t count_turn(const kvs_simt_request *r, int begin, int end) {
    uint64_t words[BANKS][LANES];
    uint32_t counts[BANKS] = {0}, most = 0;
    for (int l = begin; l < end; l++) {
        if (!active(r, l)) continue;
        for (uint64_t word = r->address[l] / WORD_BYTES; word <= (r->address[l] + r->width - 1) / WORD_BYTES; word++) {
            uint32_t bank = (uint32_t)(word % BANKS), known = 0;
            while (known < counts[bank] && words[bank][known] != word) known++;
            if (known < counts[bank]) continue;
            words[bank][counts[bank]++] = word;
            if (counts[bank] > most) most = counts[bank];
        }
    }
    return most;
}

/* Whether every active lane wants what the lane `distance` (a power of two, by exclusive or) wants, if that is active.
 */
static int equal_pairs(const kvs_simt_request *r, int distance) {
    for (int l = 0; l < LANES; l++)
        if (active(r, l) && active(r, l ^ distance) && r->address[l] != r->address[l ^ distance]) return 0;
    return 1;
}

static void count_shared(const kvs_simt_request *r, kvs_transaction_counts *counts) {
    int turns = r->width <= WORD_BYTES ? 1 : (int)r->width / WORD_BYTES;
    if (turns > 1 && r->kind == KVS_SIMT_LOAD_SHARED && (equal_pairs(r, 1) || equal_pairs(r, 2))) turns /= 2;
    for (int t = 0; t < turns; t++) {
        uint32_t wavefronts = count_turn(r, t * LANES / turns, (t + 1) * LANES / turns);
        counts->wavefronts += wavefronts;
        if (wavefronts > 0) counts->conflicts += wavefronts - 1;
    }
}

void kvs_transactions_count(const kvs_simt_request *r, kvs_transaction_counts *counts) {
    key_set sectors;
    uint64_t lanes = (uint64_t)__builtin_popcount(r->mask);
    find_sectors(r, &sectors);
    counts->requests++;
    counts->lanes += lanes;
    counts->lane_bytes += lanes * r->width;
    counts->useful_bytes += count_bytes(&sectors);
    if (r->kind > KVS_SIMT_COPY) {
        count_shared(r, counts);
    } else if (r->kind == KVS_SIMT_COPY) {
        count_copy(r, counts);
    } else {
        counts->sectors += (uint64_t)sectors.count;
        counts->lines += count_lines(&sectors);
    }
}
