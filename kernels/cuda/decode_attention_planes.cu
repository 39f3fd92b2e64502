/* decode_attention_planes.cu: decode_attention over pages in the layouts with planes: kitty, kitty-inline, permuted. */
#include "kernels/cuda/attention_rows.cuh"

extern "C" int KVS_BACKEND(kvs_attend_planes)(const kvs_attention_args *args, void *stream) {
    return kvs_launch_rows<false>(args, stream);
}
