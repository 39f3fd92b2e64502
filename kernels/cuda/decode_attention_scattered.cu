/* decode_attention_scattered.cu: decode_attention over pages in the mixed-scattered layout. */
#include "kernels/cuda/attention_rows.cuh"

extern "C" int KVS_BACKEND(kvs_attend_scattered)(const kvs_attention_args *args, void *stream) {
    return kvs_launch_rows<true>(args, stream);
}
