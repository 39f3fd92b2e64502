/* launch.h: what CUPTI's callbacks give as the parameters of launches. generated_cuda_meta.h of CUDA declares them, but
 * does not compile beside cuda.h. */
#ifndef KVS_ANALYSIS_CUPTI_LAUNCH_H
#define KVS_ANALYSIS_CUPTI_LAUNCH_H

#if defined(KVS_HAVE_CUPTI) && !defined(__cplusplus)

#include <cuda.h>

/* Of cuLaunchKernel, and of cuLaunchCooperativeKernel up to params. */
typedef struct kvs_launch_params {
    CUfunction function;
    unsigned grid[3], block[3], shared_bytes;
    CUstream stream;
    void **params, **extra;
} kvs_launch_params;

/* Of cuLaunchKernelEx. */
typedef struct kvs_launch_ex_params {
    const CUlaunchConfig *config;
    CUfunction function;
    void **params, **extra;
} kvs_launch_ex_params;

#endif
#endif
