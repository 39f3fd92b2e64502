/* head_dim.cuh: the head dimensions that kernels are made for. */
#ifndef KVS_KERNELS_CUDA_HEAD_DIM_CUH
#define KVS_KERNELS_CUDA_HEAD_DIM_CUH

template <int number> struct kvs_constant { static const int value = number; };

/* Calls `launch` with the kvs_constant of head_dim, which kvs_format_make has checked. */
template <class Launch> int kvs_with_head_dim(int head_dim, Launch launch) {
    switch (head_dim) {
    case 64:
        return launch(kvs_constant<64>());
    case 96:
        return launch(kvs_constant<96>());
    case 128:
        return launch(kvs_constant<128>());
    default:
        return launch(kvs_constant<256>());
    }
}

#endif
