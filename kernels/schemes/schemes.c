/* schemes.c: the list of schemes. A new one is a file here and a line in each half of this list. */
#include <stddef.h>

#include "kernels/scheme.h"

extern const kvs_scheme_type kvs_scheme_fp16, kvs_scheme_int, kvs_scheme_kivi, kvs_scheme_kitty;
extern const kvs_scheme_type kvs_scheme_kitty_pro, kvs_scheme_bitdecoding, kvs_scheme_fp8, kvs_scheme_gear;
extern const kvs_scheme_type kvs_scheme_hf_quantized, kvs_scheme_kvquant, kvs_scheme_mixkvq, kvs_scheme_mxfp4;
extern const kvs_scheme_type kvs_scheme_nvfp4, kvs_scheme_polarquant, kvs_scheme_q4_0, kvs_scheme_q8_0;
extern const kvs_scheme_type kvs_scheme_qserve, kvs_scheme_quarot, kvs_scheme_rotatekv, kvs_scheme_skvq;
extern const kvs_scheme_type kvs_scheme_turboquant, kvs_scheme_zipcache, kvs_scheme_tcq;

const kvs_scheme_type *const kvs_scheme_types[] = {
    &kvs_scheme_fp16,         &kvs_scheme_int,         &kvs_scheme_kivi,     &kvs_scheme_kitty,
    &kvs_scheme_kitty_pro,    &kvs_scheme_bitdecoding, &kvs_scheme_fp8,      &kvs_scheme_gear,
    &kvs_scheme_hf_quantized, &kvs_scheme_kvquant,     &kvs_scheme_mixkvq,   &kvs_scheme_mxfp4,
    &kvs_scheme_nvfp4,        &kvs_scheme_polarquant,  &kvs_scheme_q4_0,     &kvs_scheme_q8_0,
    &kvs_scheme_qserve,       &kvs_scheme_quarot,      &kvs_scheme_rotatekv, &kvs_scheme_skvq,
    &kvs_scheme_turboquant,   &kvs_scheme_zipcache,    &kvs_scheme_tcq,      NULL,
};
