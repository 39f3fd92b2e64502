/* placement.h: where the labels of points go, so that they cover neither points nor one another. */
#ifndef KVS_PLOTS_PLACEMENT_H
#define KVS_PLOTS_PLACEMENT_H

#include "plots/style.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_placed {
    double x, y;      /* the point it names, in pixels */
    double width;     /* of the text */
    kvs_box box;      /* out: where the text goes */
    int needs_leader; /* out: far enough from its point to want a line to it, which ends at: */
    double leader_x, leader_y;
} kvs_placed;

/* What labels keep clear of: points, and a line through some of them; x and y in turn, in pixels. */
typedef struct kvs_obstacles {
    const double *points, *line;
    int points_count, line_count;
} kvs_obstacles;

enum { KVS_MOST_PLACED = 96 };

/* Places at most KVS_MOST_PLACED labels where together they cost least: leaving the panel, covering a label and
 * crossing its leader cost most, then covering a point or the line, then distance. It tries several orders in which
 * each label in turn takes the best place beside the others; the same input gives the same places. text_height: in
 * pixels. */
void kvs_place_labels(kvs_box panel, double text_height, const kvs_obstacles *obstacles, kvs_placed *labels,
                      int labels_count);

/* Writes a placed label in the shade of a family's colour, and its leader if it needs one. */
void kvs_placed_write(kvs_figure *figure, const kvs_placed *label, int family, const char *text);

#ifdef __cplusplus
}
#endif
#endif
