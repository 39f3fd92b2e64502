/* grid.h: lists and ranges of scheme parameters, expanded to schemes.
 *
 *     kitty:boost=[0,0.125,0.25],rank=[magnitude,random],page=[64,128]     every combination, the last key fastest
 *     kitty:boost=[0:0.5:0.125]                                             first:last:step, the last one included
 *
 * A file of a grid holds one of these a line; blank lines and what follows a # do not count. */
#ifndef KVS_SIM_GRID_H
#define KVS_SIM_GRID_H

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_GRID_MOST = 100000 }; /* schemes of one grid */

typedef struct kvs_grid {
    char **specs;
    int count;
} kvs_grid;

/* Adds the schemes of text: a grid as above when it begins with a known scheme's name, or else a file of them. A scheme
 * that is there already is left out. KVS_USAGE names the grid and what is wrong; KVS_INPUT a file that cannot be read.
 * The grid is the caller's, freed with kvs_grid_clear also on failure. */
KVS_MUST_CHECK kvs_status kvs_grid_add(kvs_grid *grid, const char *text, kvs_error *error);
void kvs_grid_clear(kvs_grid *grid);

#ifdef __cplusplus
}
#endif
#endif
