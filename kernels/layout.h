/* layout.h: where the codes, scales, zeros and channel indices of a page lie in memory. */
#ifndef KVS_KERNELS_LAYOUT_H
#define KVS_KERNELS_LAYOUT_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_layout {
    const char *name, *summary;
} kvs_layout;

/* All registered layouts, ended by NULL; and one by its name, or NULL. */
extern const kvs_layout *const kvs_layouts[];
const kvs_layout *kvs_layout_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif
