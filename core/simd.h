/* simd.h: a function marked KVS_SIMD is compiled for several vector widths and chosen when the program starts. */
#ifndef KVS_CORE_SIMD_H
#define KVS_CORE_SIMD_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(KVS_NO_CLONES)
#define KVS_SIMD __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define KVS_SIMD /* sanitizers run before ifuncs are resolved, and clang 14 has no such clones */
#endif

#endif
