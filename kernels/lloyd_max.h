/* lloyd_max.h: codebooks of least mean squared error (Lloyd 1957/1982, Max 1960), computed where they are used.
 *
 * A codebook is ascending levels; a value gets the nearest one. Optimal: each level is the centroid of the values that
 * get it, each border halfway between two levels. */
#ifndef KVS_KERNELS_LLOYD_MAX_H
#define KVS_KERNELS_LLOYD_MAX_H

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_LLOYD_MAX_BITS = 8 };

/* levels [2^bits] for a standard normal variable, 1 <= bits <= 8; symmetric around 0, within 1e-6. */
void kvs_lloyd_max_normal(int bits, double *levels);

/* The same for a coordinate of a point that is uniform on the sphere of radius sqrt(dim) in dim >= 4 dimensions: what a
 * rotation by chance makes of any vector of that length. The density is proportional to (1 - x^2 / dim)^((dim-3)/2). */
void kvs_lloyd_max_sphere(int dim, int bits, double *levels);

/* levels [count] for a sample: values ascending [samples], weights [samples] of at least 0, some above 0; k-means by
 * Lloyd's iteration from evenly weighted quantiles, until nothing moves or `rounds` rounds. A level that no value gets
 * stays where it is. */
void kvs_lloyd_max_sample(int samples, const double *values, const double *weights, int count, int rounds,
                          double *levels);

#ifdef __cplusplus
}
#endif
#endif
