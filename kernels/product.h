/* product.h: the two matrix products of attention, for few rows and many keys, in binary32.
 *
 * Keys are packed once and then read by every block of queries. Where the processor has AVX-512 the products are our
 * own (OpenBLAS 0.3.21 does not know the newer ones and halves their speed); elsewhere they are OpenBLAS's. Sums may
 * use fused operations: results are compared within a tolerance, never bit for bit. */
#ifndef KVS_KERNELS_PRODUCT_H
#define KVS_KERNELS_PRODUCT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_PRODUCT_PANEL = 32 }; /* keys that are packed together; packing may begin anew at multiples of it */

typedef struct kvs_product {
    const char *name;
    /* Packs keys [columns][dim] into packed [kvs_product_packed_floats], aligned to 64 bytes. A prefix of the columns
     * may be used. */
    void (*pack)(const float *keys, int64_t columns, int dim, float *packed);
    /* c [rows][stride] = alpha a keys^T, or += with add; a is [rows][dim]. Columns of c beyond `columns` stay. */
    void (*scores)(int rows, int64_t columns, int dim, float alpha, const float *a, const float *packed, int add,
                   float *c, int64_t stride);
    /* c [rows][dim] = weights values, or += with add; weights [rows][stride], values [columns][dim]. */
    void (*mix)(int rows, int64_t columns, int dim, const float *weights, int64_t stride, const float *values, int add,
                float *c);
} kvs_product;

/* The fastest one here; and all, ended by NULL, those that this processor lacks left out. Both products are safe from
 * several threads at once: OpenBLAS is held to one thread of its own. */
const kvs_product *kvs_product_best(void);
const kvs_product *const *kvs_products(void);

size_t kvs_product_packed_floats(int64_t columns, int dim);

#ifdef __cplusplus
}
#endif
#endif
