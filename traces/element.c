/* element.c: the element types of k, v and q as HDF5 types. */
#include <string.h>

#include "traces/internal.h"

typedef struct {
    kvs_element element;
    const char *name;
    size_t bytes, sign, exponent, exponent_bits, fraction_bits, bias;
} float_layout;

/* IEEE 754 formats as HDF5 describes them: bit positions from the low end. */
static const float_layout layouts[] = {
    {KVS_ELEMENT_BINARY16, "binary16", 2, 15, 10, 5, 10, 15},
    {KVS_ELEMENT_BINARY32, "binary32", 4, 31, 23, 8, 23, 127},
    {KVS_ELEMENT_BFLOAT16, "bfloat16", 2, 15, 7, 8, 7, 127},
};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };

const char *kvs_element_name(kvs_element element) {
    return layouts[element].name;
}

size_t kvs_element_bytes(kvs_element element) {
    return layouts[element].bytes;
}

static int is_layout(hid_t type, const float_layout *layout) {
    size_t sign, exponent, exponent_bits, fraction, fraction_bits;
    return H5Tget_size(type) == layout->bytes && H5Tget_precision(type) == 8 * layout->bytes &&
           H5Tget_offset(type) == 0 &&
           H5Tget_fields(type, &sign, &exponent, &exponent_bits, &fraction, &fraction_bits) >= 0 &&
           sign == layout->sign && exponent == layout->exponent && exponent_bits == layout->exponent_bits &&
           fraction == 0 && fraction_bits == layout->fraction_bits && H5Tget_ebias(type) == layout->bias &&
           H5Tget_norm(type) == H5T_NORM_IMPLIED;
}

/* KVS_OK with *element, or the rule that is broken in *rule. */
static int recognize(kvs_h5_place dataset, hid_t type, kvs_element *element, const char **rule, kvs_error *error) {
    H5T_class_t class = H5Tget_class(type);
    int integers = class == H5T_INTEGER && H5Tget_size(type) == 2 && H5Tget_sign(type) == H5T_SGN_NONE;
    *rule = "has another element type; must be binary16, binary32, or uint16 with encoding = bfloat16";
    if (!integers && class != H5T_FLOAT) return 0;
    if (H5Tget_order(type) != H5T_ORDER_LE) {
        *rule = "has big-endian elements; only little-endian ones are read";
        return 0;
    }
    if (integers) {
        char encoding[16] = "";
        *rule = "has unsigned 16-bit elements without the attribute encoding = bfloat16";
        if (!kvs_h5_has_attribute(dataset, "encoding") ||
            kvs_h5_text(dataset, "encoding", encoding, sizeof encoding, error) != KVS_OK)
            return 0;
        *element = KVS_ELEMENT_BFLOAT16;
        return strcmp(encoding, "bfloat16") == 0;
    }
    for (int i = 0; i < LAYOUTS; i++)
        if (is_layout(type, &layouts[i])) {
            *element = layouts[i].element;
            return 1;
        }
    return 0;
}

kvs_status kvs_element_of(kvs_h5_place dataset, kvs_element *element, kvs_error *error) {
    const char *rule;
    hid_t type = H5Dget_type(dataset.id);
    if (type < 0) return kvs_h5_fail(error, dataset, NULL, "has an unreadable element type");
    int known = recognize(dataset, type, element, &rule, error);
    H5Tclose(type);
    return known ? KVS_OK : kvs_fail(error, KVS_INPUT, dataset.file, dataset.object, "%s", rule);
}

hid_t kvs_element_type(kvs_element element) {
    if (element == KVS_ELEMENT_BFLOAT16) return H5Tcopy(H5T_STD_U16LE);
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    const float_layout *half = &layouts[KVS_ELEMENT_BINARY16];
    if (element == KVS_ELEMENT_BINARY32 || type < 0) return type;
    /* What numpy calls float16: fields first, then the size that holds them. */
    if (H5Tset_fields(type, half->sign, half->exponent, half->exponent_bits, 0, half->fraction_bits) >= 0 &&
        H5Tset_size(type, half->bytes) >= 0 && H5Tset_ebias(type, half->bias) >= 0)
        return type;
    H5Tclose(type);
    return H5I_INVALID_HID;
}

kvs_status kvs_element_parse(const char *text, kvs_element *element, kvs_error *error) {
    for (int i = KVS_ELEMENT_BINARY16; i <= KVS_ELEMENT_BFLOAT16; i++)
        if (strcmp(text, kvs_element_name((kvs_element)i)) == 0) {
            *element = (kvs_element)i;
            return KVS_OK;
        }
    return kvs_fail(error, KVS_USAGE, "element type", NULL, "'%s' is none of binary16, binary32, bfloat16", text);
}
