/* hd.h: one spelling for functions that gcc and nvcc both compile. The only file that mentions __CUDACC__. */
#ifndef KVS_CORE_HD_H
#define KVS_CORE_HD_H

#ifdef __CUDACC__
#define KVS_HD static __host__ __device__ __forceinline__
#else
#define KVS_HD static inline
#endif

#endif
