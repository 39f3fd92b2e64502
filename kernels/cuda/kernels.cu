/* kernels.cu: the kernels of this build, as a table. */
#include "kernels/kernels.h"
#include "kernels/simt/simt.h"

extern "C" {
int KVS_BACKEND(kvs_quantize_pack_k)(const kvs_quantize_args *args, void *stream);
int KVS_BACKEND(kvs_quantize_pack_v)(const kvs_quantize_args *args, void *stream);
int KVS_BACKEND(kvs_dequantize)(const kvs_dequantize_args *args, void *stream);
int KVS_BACKEND(kvs_decode_attention)(const kvs_attention_args *args, void *stream);
int KVS_BACKEND(kvs_decode_attention_fp16)(const kvs_attention_args *args, void *stream);
int KVS_BACKEND(kvs_copy)(const void *source, void *destination, int64_t bytes, void *stream);
int KVS_BACKEND(kvs_read)(const void *source, int64_t bytes, uint32_t *sink, void *stream);
int KVS_BACKEND(kvs_replay_widen)(const kvs_widen_args *args, void *stream);
int KVS_BACKEND(kvs_replay_change)(const kvs_change_args *args, void *stream);
int KVS_BACKEND(kvs_replay_scores)(const kvs_scores_args *args, void *stream);
int KVS_BACKEND(kvs_replay_mix)(const kvs_mix_args *args, void *stream);
int KVS_BACKEND(kvs_replay_softmax)(const kvs_softmax_args *args, void *stream);
int KVS_BACKEND(kvs_replay_softmax_change)(const kvs_softmax_change_args *args, void *stream);
int KVS_BACKEND(kvs_replay_output)(const kvs_output_args *args, void *stream);
int KVS_BACKEND(kvs_model_embed)(const kvs_embed_args *args, void *stream);
int KVS_BACKEND(kvs_model_norm)(const kvs_norm_args *args, void *stream);
int KVS_BACKEND(kvs_model_heads)(const kvs_heads_args *args, void *stream);
int KVS_BACKEND(kvs_model_gather)(const kvs_gather_args *args, void *stream);
int KVS_BACKEND(kvs_model_swiglu)(const kvs_swiglu_args *args, void *stream);
int KVS_BACKEND(kvs_model_narrow)(const kvs_narrow_args *args, void *stream);
int KVS_BACKEND(kvs_model_randomize)(const kvs_random_args *args, void *stream);
}

static const char *text_of(int error) {
    return kvs_launch_text(error);
}

extern "C" const kvs_kernels KVS_BACKEND(kvs_kernels) = {
    KVS_BACKEND_NAME,
    KVS_BACKEND(kvs_quantize_pack_k),
    KVS_BACKEND(kvs_quantize_pack_v),
    KVS_BACKEND(kvs_dequantize),
    KVS_BACKEND(kvs_decode_attention),
    KVS_BACKEND(kvs_decode_attention_fp16),
    KVS_BACKEND(kvs_copy),
    KVS_BACKEND(kvs_read),
    text_of,
    {
        KVS_BACKEND(kvs_replay_widen),
        KVS_BACKEND(kvs_replay_change),
        KVS_BACKEND(kvs_replay_scores),
        KVS_BACKEND(kvs_replay_mix),
        KVS_BACKEND(kvs_replay_softmax),
        KVS_BACKEND(kvs_replay_softmax_change),
        KVS_BACKEND(kvs_replay_output),
    },
    {
        KVS_BACKEND(kvs_model_embed),
        KVS_BACKEND(kvs_model_norm),
        KVS_BACKEND(kvs_model_heads),
        KVS_BACKEND(kvs_model_gather),
        KVS_BACKEND(kvs_model_swiglu),
        KVS_BACKEND(kvs_model_narrow),
        KVS_BACKEND(kvs_model_randomize),
    },
};
