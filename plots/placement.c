#include "plots/placement.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/random.h"

enum { DIRECTIONS = 14, RINGS = 14, CANDIDATES = DIRECTIONS * RINGS, PASSES = 4, ATTEMPTS = 12 };
/* Half the size of a point's mark, the gap between it and its label, and between rings of candidates, in pixels. */
static const double mark = 5, gap = 8, ring = 13;

static int overlap(kvs_box a, kvs_box b) {
    return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

static kvs_box around(double x, double y, double half) {
    return (kvs_box){x - half, y - half, x + half, y + half};
}

/* Does the line from a point to a label's nearest corner or side pass through the box? Looked at every 3 pixels. */
static int line_hits(double x0, double y0, double x1, double y1, kvs_box box) {
    int steps = 1 + (int)(hypot(x1 - x0, y1 - y0) / 3);
    for (int i = 0; i <= steps; i++) {
        double x = x0 + (x1 - x0) * i / steps, y = y0 + (y1 - y0) * i / steps;
        if (x > box.left && x < box.right && y > box.top && y < box.bottom) return 1;
    }
    return 0;
}

static double nearest(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;
}

/* Candidate n of a label: in one of several directions, towards the lower left first (no point on a frontier has
 * another one there), on rings of growing distance. */
static kvs_box candidate(const kvs_placed *label, double height, int n) {
    static const double towards[DIRECTIONS][2] = {{-1, 1}, {-1, 0},   {0, 1},    {1, -1},   {-1, -1},
                                                  {1, 0},  {1, 1},    {0, -1},   {-0.4, 1}, {-1, 0.4},
                                                  {-2, 1}, {0.4, -1}, {1, -0.4}, {2, -1}};
    const double *to = towards[n % DIRECTIONS];
    double distance = gap + ring * (n / DIRECTIONS);
    double x = label->x + to[0] * distance * (to[1] != 0 ? 0.5 : 1), y = label->y + to[1] * distance;
    double left = to[0] < 0 ? x - label->width : to[0] > 0 ? x : x - label->width / 2;
    double top = y - height / 2;
    return (kvs_box){left, top, left + label->width, top + height};
}

/* What covering points and the line costs. */
static double cost_of_obstacles(const kvs_obstacles *obstacles, const kvs_placed *label, kvs_box box, double leader_x,
                                double leader_y) {
    double sum = 0;
    for (int i = 0; i < obstacles->points_count; i++) {
        const double *at = obstacles->points + 2 * i;
        kvs_box point = around(at[0], at[1], mark);
        int is_own = fabs(at[0] - label->x) < 0.5 && fabs(at[1] - label->y) < 0.5;
        if (overlap(box, point)) sum += 40;
        if (!is_own && line_hits(label->x, label->y, leader_x, leader_y, point)) sum += 8;
    }
    for (int i = 1; i < obstacles->line_count; i++) {
        const double *from = obstacles->line + 2 * (i - 1), *to = from + 2;
        if (line_hits(from[0], from[1], to[0], to[1], box)) sum += 25;
    }
    return sum;
}

/* On which side of the line a-b the point c lies: positive, negative, or 0 on it. */
static double side(double ax, double ay, double bx, double by, double cx, double cy) {
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
}

static int leaders_cross(const kvs_placed *label, double x, double y, const kvs_placed *other) {
    double ox = other->leader_x, oy = other->leader_y;
    return side(label->x, label->y, x, y, other->x, other->y) * side(label->x, label->y, x, y, ox, oy) < 0 &&
           side(other->x, other->y, ox, oy, label->x, label->y) * side(other->x, other->y, ox, oy, x, y) < 0;
}

static void put(kvs_placed *label, kvs_box box) {
    label->box = box;
    label->leader_x = nearest(label->x, box.left, box.right);
    label->leader_y = nearest(label->y, box.top, box.bottom);
    label->needs_leader = hypot(label->leader_x - label->x, label->leader_y - label->y) > gap + 4;
}

/* What a place costs by itself. */
static double own_cost(kvs_box panel, const kvs_obstacles *obstacles, const kvs_placed *label) {
    kvs_box box = label->box;
    double sum = hypot(label->leader_x - label->x, label->leader_y - label->y) * 0.3;
    if (box.left < panel.left || box.right > panel.right || box.top < panel.top || box.bottom > panel.bottom)
        sum += 5e3;
    return sum + cost_of_obstacles(obstacles, label, box, label->leader_x, label->leader_y);
}

/* What two labels cost each other. */
static double mutual_cost(const kvs_placed *a, const kvs_placed *b) {
    double sum = 0;
    if (overlap(a->box, b->box)) sum += 2e3;
    if (line_hits(a->x, a->y, a->leader_x, a->leader_y, b->box)) sum += 200;
    if (line_hits(b->x, b->y, b->leader_x, b->leader_y, a->box)) sum += 200;
    if (leaders_cross(a, a->leader_x, a->leader_y, b)) sum += 60;
    return sum;
}

/* The labels being placed, and what each candidate costs by itself, which never changes. */
typedef struct placing {
    kvs_placed labels[KVS_MOST_PLACED];
    int is_placed[KVS_MOST_PLACED], count;
    double own[KVS_MOST_PLACED][CANDIDATES], height;
} placing;

/* Moves a label to where it costs least beside those that are placed; returns that cost. */
static double place(placing *all, int own) {
    kvs_placed *label = &all->labels[own], best = *label;
    double least = DBL_MAX;
    for (int n = 0; n < CANDIDATES; n++) {
        double sum = all->own[own][n];
        if (sum >= least) continue;
        put(label, candidate(label, all->height, n));
        for (int i = 0; i < all->count && sum < least; i++)
            if (i != own && all->is_placed[i]) sum += mutual_cost(label, &all->labels[i]);
        if (sum >= least) continue;
        least = sum;
        best = *label;
    }
    *label = best;
    all->is_placed[own] = 1;
    return least;
}

/* One attempt: all labels in an order of its own, then several times each again. Returns what all places cost. */
static double attempt(placing *all, int number) {
    int order[KVS_MOST_PLACED];
    double sum = 0;
    for (int i = 0; i < all->count; i++) order[i] = number == 1 ? all->count - 1 - i : i;
    for (int i = all->count - 1; number > 1 && i > 0; i--) {
        int k = (int)(kvs_random_bits((uint64_t)number, (uint64_t)i) % (uint64_t)(i + 1)), moved = order[i];
        order[i] = order[k];
        order[k] = moved;
    }
    for (int i = 0; i < all->count; i++) all->is_placed[i] = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        sum = 0;
        for (int i = 0; i < all->count; i++) sum += place(all, order[i]);
    }
    return sum;
}

void kvs_place_labels(kvs_box panel, double text_height, const kvs_obstacles *obstacles, kvs_placed *labels,
                      int labels_count) {
    placing all = {.count = labels_count, .height = text_height};
    assert(labels_count <= KVS_MOST_PLACED);
    if (labels_count == 0) return;
    memcpy(all.labels, labels, sizeof *labels * (size_t)labels_count);
    for (int own = 0; own < labels_count; own++)
        for (int n = 0; n < CANDIDATES; n++) {
            put(&all.labels[own], candidate(&all.labels[own], text_height, n));
            all.own[own][n] = own_cost(panel, obstacles, &all.labels[own]);
        }
    double least = DBL_MAX;
    for (int number = 0; number < ATTEMPTS; number++) {
        double sum = attempt(&all, number);
        if (sum >= least) continue;
        least = sum;
        memcpy(labels, all.labels, sizeof *labels * (size_t)labels_count);
    }
}

void kvs_placed_write(kvs_figure *figure, const kvs_placed *label, int family, const char *text) {
    char color[16];
    snprintf(color, sizeof color, "#%06x", (unsigned)kvs_style_shade(family));
    kvs_style_label(figure, label->box.left, (label->box.top + label->box.bottom) / 2, KVS_LEFT, KVS_FONT_SMALL, color,
                    text);
    if (label->needs_leader)
        kvs_style_line(figure, label->x, label->y, label->leader_x, label->leader_y, "lw 0.7 lc rgb '#aaaaaa'");
}
