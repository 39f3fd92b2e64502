/* attention.h: what the host and the attention kernels must agree on. */
#ifndef KVS_KERNELS_ATTENTION_H
#define KVS_KERNELS_ATTENTION_H

/* Blocks of decode_attention that a multiprocessor holds at once, which bounds their registers: codes in rows need more
 * of those than fragments. */
#define KVS_ATTENTION_RESIDENTS(head_dim, rows) ((head_dim) > 128 ? 2 : (rows) ? 3 : 4)

#endif
