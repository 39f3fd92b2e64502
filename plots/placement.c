#include "plots/placement.h"

#include <float.h>
#include <math.h>

enum { DIRECTIONS = 8, RINGS = 14 };
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

/* Candidate n of a label: in one of eight directions, the lower left first (no point on a frontier has another one
 * there), on rings of growing distance. */
static kvs_box candidate(const kvs_placed *label, double height, int n) {
    static const int towards[DIRECTIONS][2] = {{-1, 1}, {-1, 0}, {0, 1}, {1, -1}, {-1, -1}, {1, 0}, {1, 1}, {0, -1}};
    const int *to = towards[n % DIRECTIONS];
    double distance = gap + ring * (n / DIRECTIONS);
    double x = label->x + to[0] * (distance * (to[1] ? 0.5 : 1)), y = label->y + to[1] * distance;
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

static double cost(kvs_box panel, const kvs_obstacles *obstacles, const kvs_placed *labels, int own, kvs_box box) {
    const kvs_placed *label = &labels[own];
    double x = nearest(label->x, box.left, box.right), y = nearest(label->y, box.top, box.bottom);
    double sum = hypot(x - label->x, y - label->y) * 0.3;
    if (box.left < panel.left || box.right > panel.right || box.top < panel.top || box.bottom > panel.bottom)
        sum += 5e3;
    sum += cost_of_obstacles(obstacles, label, box, x, y);
    for (int i = 0; i < own; i++) {
        const kvs_placed *other = &labels[i];
        if (overlap(box, other->box)) sum += 2e3;
        if (line_hits(label->x, label->y, x, y, other->box)) sum += 200;
        if (line_hits(other->x, other->y, other->leader_x, other->leader_y, box)) sum += 200;
    }
    return sum;
}

void kvs_place_labels(kvs_box panel, double text_height, const kvs_obstacles *obstacles, kvs_placed *labels,
                      int labels_count) {
    for (int own = 0; own < labels_count; own++) {
        kvs_placed *label = &labels[own];
        double least = DBL_MAX;
        for (int n = 0; n < DIRECTIONS * RINGS; n++) {
            kvs_box box = candidate(label, text_height, n);
            double sum = cost(panel, obstacles, labels, own, box);
            if (sum >= least) continue;
            least = sum;
            label->box = box;
        }
        label->leader_x = nearest(label->x, label->box.left, label->box.right);
        label->leader_y = nearest(label->y, label->box.top, label->box.bottom);
        label->needs_leader = hypot(label->leader_x - label->x, label->leader_y - label->y) > gap + 4;
    }
}
