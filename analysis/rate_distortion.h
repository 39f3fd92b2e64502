/* rate_distortion.h: the least mean squared error at which independent normal components can be stored: reverse
 * water-filling (Cover and Thomas, Elements of Information Theory, section 10.3.3). */
#ifndef KVS_ANALYSIS_RATE_DISTORTION_H
#define KVS_ANALYSIS_RATE_DISTORTION_H

#ifdef __cplusplus
extern "C" {
#endif

/* The sum over components of min(variance, level), where the level is such that the sum of
 * max(0, log2(variance / level) / 2) is `bits` >= 0. variances [count]: at least 0. */
double kvs_rate_distortion(int count, const double *variances, double bits);

#ifdef __cplusplus
}
#endif
#endif
