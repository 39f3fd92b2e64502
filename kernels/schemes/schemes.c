/* schemes.c: the list of schemes. A new one is a file here and a line in each half of this list. */
#include <stddef.h>

#include "kernels/scheme.h"

extern const kvs_scheme_type kvs_scheme_fp16, kvs_scheme_int, kvs_scheme_kivi, kvs_scheme_kitty, kvs_scheme_kitty_pro;

const kvs_scheme_type *const kvs_scheme_types[] = {
    &kvs_scheme_fp16, &kvs_scheme_int, &kvs_scheme_kivi, &kvs_scheme_kitty, &kvs_scheme_kitty_pro, NULL,
};
