/* decode_attention_fragment.cu: decode_attention over pages in the fragment layout. */
#include "kernels/cuda/attention_fragment.cuh"
#include "kernels/cuda/head_dim.cuh"

namespace {

template <int head_dim> int launch(const kvs_attention_args *args, kvs_stream stream) {
    typedef kvs_fragment_pages<head_dim, 1> form;
    if (args->format.shape.page_tokens % 128 == 0) return kvs_launch_pages<form, 8>(args, stream);
    return kvs_launch_pages<form, 2>(args, stream);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_attend_fragments)(const kvs_attention_args *args, void *stream) {
    return kvs_with_head_dim(args->format.shape.head_dim,
                             [=](auto head_dim) { return launch<decltype(head_dim)::value>(args, stream); });
}
