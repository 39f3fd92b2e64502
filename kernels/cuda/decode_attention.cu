/* decode_attention.cu: attention over packed pages: which kernel reads which layout. */
#include "kernels/kernels.h"
#include "kernels/simt/simt.h"

extern "C" {
int KVS_BACKEND(kvs_attend_fragments)(const kvs_attention_args *args, void *stream);
int KVS_BACKEND(kvs_attend_planes)(const kvs_attention_args *args, void *stream);
int KVS_BACKEND(kvs_attend_scattered)(const kvs_attention_args *args, void *stream);
}

extern "C" int KVS_BACKEND(kvs_decode_attention)(const kvs_attention_args *args, void *stream) {
    if (args->format.keys == KVS_KEYS_FRAGMENT) return KVS_BACKEND(kvs_attend_fragments)(args, stream);
    if (args->format.keys == KVS_KEYS_PLANES) return KVS_BACKEND(kvs_attend_planes)(args, stream);
    return KVS_BACKEND(kvs_attend_scattered)(args, stream);
}
