/* params.h: rows that the parameter tables of many schemes share; each wants an int of that name in CONFIG. */
#ifndef KVS_KERNELS_SCHEMES_PARAMS_H
#define KVS_KERNELS_SCHEMES_PARAMS_H

#include "kernels/scheme.h"

#define KVS_SINK_PARAM(CONFIG, DEFAULT)                                                                                \
    {                                                                                                                  \
        "sink", KVS_PARAM_INT, offsetof(CONFIG, sink), DEFAULT, 0, 1000000, "tokens",                                  \
            "first tokens kept in full precision", NULL                                                                \
    }
#define KVS_RECENT_PARAM(CONFIG, DEFAULT)                                                                              \
    {                                                                                                                  \
        "window", KVS_PARAM_INT, offsetof(CONFIG, window), DEFAULT, 0, 1000000, "tokens",                              \
            "last tokens kept in full precision", NULL                                                                 \
    }
#define KVS_V_RECENT_PARAM(CONFIG, DEFAULT)                                                                            \
    {                                                                                                                  \
        "window", KVS_PARAM_INT, offsetof(CONFIG, window), DEFAULT, 0, 1000000, "tokens",                              \
            "last tokens of V kept in full precision, where the publication has none", NULL                            \
    }
#define KVS_PREFIX_PARAM(CONFIG, DEFAULT, WHAT)                                                                        \
    {                                                                                                                  \
        "prefix", KVS_PARAM_INT, offsetof(CONFIG, prefix), DEFAULT, 1, 1000000, "tokens",                              \
            "first tokens, whose " WHAT " of each head; nothing is stored before they are there", NULL                 \
    }
#define KVS_WIDTH_PARAM(CONFIG, DEFAULT, LOW, HIGH)                                                                    \
    { "bits", KVS_PARAM_INT, offsetof(CONFIG, bits), DEFAULT, LOW, HIGH, "bits", "width of a code", NULL }
#define KVS_GROUP_PARAM(CONFIG, DEFAULT)                                                                               \
    {                                                                                                                  \
        "group", KVS_PARAM_INT, offsetof(CONFIG, group), DEFAULT, 0, KVS_MAX_HEAD_DIM, "channels",                     \
            "channels of a token that share a scale; 0: head_dim", NULL                                                \
    }

#endif
