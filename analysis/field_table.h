/* field_table.h: the entries of a table of fields whose names are those of the struct's members (field.h). A table is
 * written between `#define ROW the_struct` and `#undef ROW`, and ends with END. For sources that hold such tables only:
 * the names are short. */
#ifndef KVS_ANALYSIS_FIELD_TABLE_H
#define KVS_ANALYSIS_FIELD_TABLE_H

#include <stddef.h>

#include "analysis/field.h"

#define REAL(member, unit)                                                                                             \
    { #member, KVS_FIELD_REAL, offsetof(ROW, member), unit, 0 }
#define INT(member, unit)                                                                                              \
    { #member, KVS_FIELD_INT, offsetof(ROW, member), unit, 0 }
#define LONG(member, unit)                                                                                             \
    { #member, KVS_FIELD_LONG, offsetof(ROW, member), unit, 0 }
#define TEXT(member)                                                                                                   \
    { #member, KVS_FIELD_TEXT, offsetof(ROW, member), "", 0 }
#define END                                                                                                            \
    { NULL, KVS_FIELD_TEXT, 0, NULL, 0 }

#endif
