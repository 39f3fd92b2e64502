/* correlation.h: how well two rankings of the same things agree. */
#ifndef KVS_ANALYSIS_CORRELATION_H
#define KVS_ANALYSIS_CORRELATION_H

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_CORRELATION_MOST = 1024 }; /* values */

/* Spearman's rho: Pearson's correlation of the ranks, equal values sharing the mean of their ranks. NaN where one of
 * them is constant. n <= KVS_CORRELATION_MOST. */
double kvs_spearman(const double *a, const double *b, int n);

/* Kendall's tau-b: (concordant - discordant) / sqrt((pairs - ties in a) (pairs - ties in b)). NaN as above. */
double kvs_kendall(const double *a, const double *b, int n);

/* Part of the k highest of a that are among the k highest of b; ties go to the lower index. */
double kvs_top_overlap(const double *a, const double *b, int n, int k);

#ifdef __cplusplus
}
#endif
#endif
